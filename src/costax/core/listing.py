"""Mappings and lists of results whose `repr` is short, however many entries they have; `print` shows all as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from costax.core.display import Displayed

_K = TypeVar("_K")
_V = TypeVar("_V")

# A `repr` has at most so many characters: five lines of a terminal.
_MOST = 400
_OF_ONE = 90


class Entries(dict[_K, _V], Displayed):
    """A dictionary with a short `repr`; `print` shows a line for each entry."""

    def __repr__(self) -> str:
        """Return the dictionary, or its first entries and how many more it has."""
        return shortened(super().__repr__(), (f"{key!r}: {_cut(repr(value))}" for key, value in self.items()), "{}")

    def __str__(self) -> str:
        """Return a table with a line for each entry."""
        return Displayed.__str__(self)


class Items(list[_V], Displayed):
    """A list with a short `repr`; `print` shows a line for each item."""

    def __repr__(self) -> str:
        """Return the list, or its first items and how many more it has."""
        return shortened(super().__repr__(), (_cut(repr(value)) for value in self), "[]")

    def __str__(self) -> str:
        """Return a table with a line for each item."""
        return Displayed.__str__(self)


def shortened(whole: str, parts: Iterable[str], brackets: str) -> str:
    """Return a text of entries, or as many of them as fit in five lines and the number of the others.

    >>> shortened("[1, 2]", ["1", "2"], "[]")
    '[1, 2]'
    """
    if len(whole) <= _MOST:
        return whole
    entries = list(parts)
    shown: list[str] = []
    for entry in entries:
        if shown and sum(map(len, shown)) + len(entry) > _MOST - _OF_ONE:
            break
        shown.append(entry)
    more = len(entries) - len(shown)
    tail = f", ... {more} more; print() shows all" if more else ""
    return f"{brackets[0]}{', '.join(shown)}{tail}{brackets[1]}"


def _cut(text: str) -> str:
    return text if len(text) <= _OF_ONE else f"{text[: _OF_ONE - 4]} ..."
