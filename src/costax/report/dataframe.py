"""An analysis as a pandas data frame."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from costax.analysis.analysis import Analysis
from costax.errors import ExtraError
from costax.report.formats import HEADINGS, lines


def frame(analysis: Analysis) -> Any:
    """Return the rows of an analysis as a pandas data frame; its columns are `costax.report.formats.HEADINGS`.

    Counts stay Python integers, because a count may exceed 64 bits. Raises ExtraError if pandas is not installed.
    """
    try:
        pandas: Any = import_module("pandas")
    except ImportError as error:
        raise ExtraError("pandas", "A data frame") from error
    return pandas.DataFrame(lines(analysis), columns=list(HEADINGS), dtype=object)
