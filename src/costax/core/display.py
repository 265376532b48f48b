"""Display: the one hook between results and the package that renders them.

A result (an analysis, a prediction, a diff) does not know how it is rendered. It inherits `Printed` or `Displayed`,
whose methods call the package `costax.report`, a higher layer. `costax/__init__.py` registers that package by name. It
is imported when the first result is shown, so that counting loads neither rich nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

_reporter: str = ""


def report_with(package: str) -> None:
    """Register the package that renders values; it must have the functions that they call, and the plots."""
    global _reporter
    _reporter = package


def reporter(name: str) -> Callable[..., Any]:
    """Return a function of the package that renders values, by name."""
    return getattr(import_module(_reporter), name)


class Printed:
    """A value that can be printed and shown in a notebook; how depends on its type."""

    __slots__ = ()

    internals: ClassVar[frozenset[str]] = frozenset({"internals"})
    """Names that other packages of costax use and that tab completion leaves out."""

    def __dir__(self) -> list[str]:
        """List the names for tab completion: those that answer questions."""
        return [name for name in super().__dir__() if name not in self.internals]

    def __rich__(self) -> Any:
        """Return a renderable for rich."""
        return reporter("renderable")(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        return reporter("plain_text")(self)

    def __repr__(self) -> str:
        """Return the answer in a sentence, at most five lines."""
        return reporter("summary")(self)

    def _repr_html_(self) -> str:
        """Return the tables as HTML, for a notebook."""
        return reporter("notebook_html")(self)


class Displayed(Printed):
    """A value that can be saved too, in the formats of its type."""

    __slots__ = ()

    def save(self, path: str | Path) -> None:
        """Write the value to a file in the format of its suffix.

        Args:
            path: The file; the suffix selects the format, such as .json, .html or .csv.

        Raises RecordError if this type of value has no format with that suffix, or if the file cannot be written.
        """
        reporter("save")(self, path)
