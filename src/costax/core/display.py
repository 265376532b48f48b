"""Display: the one hook through which values reach the package that shows them.

A value (an analysis, a prediction, a diff) does not know how it is shown. It inherits `Displayed`, and `report`, which
stands above it, provides the functions. `costax` says once which package that is; it is imported when the first value
is shown, so that counting loads neither rich nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_reporter: str = ""


def report_with(package: str) -> None:
    """Name the package whose functions show values. It must have those of `Displayed`, and the plots."""
    global _reporter
    _reporter = package


def reporter(name: str) -> Callable[..., Any]:
    """Return a function of the package that shows values, by name."""
    return getattr(import_module(_reporter), name)


class Displayed:
    """A value that can be printed, shown in a notebook and saved.

    The package that shows values chooses how, by the type of the value.
    """

    __slots__ = ()

    def save(self, path: str | Path) -> None:
        """Write the value to a file; the suffix names the format.

        Raises RecordError for a suffix that this type of value has no format for, or where the file cannot be written.
        """
        reporter("save")(self, path)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        return reporter("renderable")(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        return reporter("plain_text")(self)

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        return reporter("notebook_html")(self)
