"""Mappings, lists and tuples of results: their `repr` is short, however many entries they have; `print` shows all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from costax.core.display import Printed

_K = TypeVar("_K")
_V = TypeVar("_V")
_P = ParamSpec("_P")
_R = TypeVar("_R")

# A `repr` has at most so many characters: five lines of a terminal.
_MOST = 400
_OF_ONE = 90
# The `repr` of a longer value is not cut: the keys alone are shown.
_LONGEST_CUT = 130


class Entries(dict[_K, _V], Printed):
    """A dictionary with a short `repr`; `print` shows a line for each entry."""

    def __repr__(self) -> str:
        """Return the dictionary, or its first entries and how many more it has."""
        first = repr(next(iter(self.values()), None))
        if len(first) > _LONGEST_CUT or "\n" in first:
            return shortened("", map(repr, self), "{}", counted=len(self))
        return shortened(super().__repr__(), (f"{key!r}: {_cut(repr(value))}" for key, value in self.items()), "{}")

    def __str__(self) -> str:
        """Return a table with a line for each entry."""
        return Printed.__str__(self)


class Items(list[_V], Printed):
    """A list with a short `repr`; `print` shows a line for each item."""

    def __repr__(self) -> str:
        """Return the list, or its first items and how many more it has."""
        return shortened(super().__repr__(), (_cut(repr(value)) for value in self), "[]")

    def __str__(self) -> str:
        """Return a table with a line for each item."""
        return Printed.__str__(self)


class Values(tuple[_V, ...], Printed):
    """A tuple with a short `repr`; `print` shows a line for each value."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the tuple, or its first values and how many more it has."""
        return shortened(super().__repr__(), (_cut(repr(value)) for value in self), "()")

    def __str__(self) -> str:
        """Return a table with a line for each value."""
        return Printed.__str__(self)


def listed(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Give the mapping or the sequence that a method returns a short `repr` and a table."""

    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return shown(method(*args, **kwargs))

    return call


def shown(found: _V) -> _V:
    """Return a mapping or a sequence as one with a short `repr` and a table, and any other value as it is."""
    value: Any = found
    if isinstance(value, Mapping) and not isinstance(value, Printed):
        return cast("_V", Entries(cast("Mapping[Any, Any]", value)))
    if isinstance(value, list) and not isinstance(value, Printed):
        return cast("_V", Items(cast("Sequence[Any]", value)))
    if type(value) is tuple:
        return cast("_V", Values(cast("tuple[Any, ...]", value)))
    return found


def shortened(whole: str, parts: Iterable[str], brackets: str, *, counted: int = 0) -> str:
    """Return a text of entries, or as many of them as fit in five lines and the number of the others.

    counted: the number of the entries, where the parts are keys alone.

    >>> shortened("[1, 2]", ["1", "2"], "[]")
    '[1, 2]'
    """
    if whole and len(whole) <= _MOST:
        return whole
    entries = list(parts)
    visible: list[str] = []
    for entry in entries:
        if visible and sum(len(each) + 2 for each in visible) + len(entry) > _MOST - _OF_ONE:
            break
        visible.append(entry)
    more = len(entries) - len(visible)
    tail = f", ... {more} more; print() shows all" if more else "; print() shows the table" if counted else ""
    head = f"{counted} entries: " if counted else ""
    return f"{brackets[0]}{head}{', '.join(visible)}{tail}{brackets[1]}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _OF_ONE else f"{text[: _OF_ONE - 4]} ..."
