"""An analysis as a pandas data frame."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from costax.analysis.analysis import Analysis
from costax.errors import ExtraError
from costax.report.formats import HEADINGS, lines


def frame(analysis: Analysis) -> Any:
    """Return the rows of an analysis as a data frame. Counts are Python integers: they may be beyond 64 bits."""
    try:
        pandas: Any = import_module("pandas")
    except ImportError as error:
        raise ExtraError("pandas", "A data frame") from error
    return pandas.DataFrame(lines(analysis), columns=list(HEADINGS), dtype=object)
