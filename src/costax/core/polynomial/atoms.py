"""Atoms of polynomials: symbols, and functions of polynomials that are not polynomials themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from costax.core.polynomial import logarithms

Number = int | Fraction
# The value of `Atom.bound` before `bounds` computes it.
NOT_COMPUTED: Final = object()
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/")


def _floordiv(a: int, b: int) -> int:
    return a // b


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "floordiv": _floordiv,
    "max": max,
    "min": min,
    "ceil_log2": logarithms.ceil_log2,
    "ceil_log2_of_power": logarithms.ceil_log2_of_power,
}


class Atom:
    """A symbol with its lower bound `least`, or a function of operands. Atoms with equal texts are equal.

    bound: a lower bound >= 0 of the atom, or None; `bounds` computes it when it is first needed.
    """

    __slots__ = ("_hash", "bound", "function", "least", "operands", "text")

    def __init__(self, text: str, least: int = 1, function: str = "", operands: tuple[Any, ...] = ()) -> None:
        """Take the parts; the functions `symbol` and `apply_function` build atoms."""
        self.text: str = text
        self.least: int = least
        self.function: str = function
        self.operands: tuple[Any, ...] = operands
        self.bound: Any = NOT_COMPUTED
        self._hash = hash(text)

    def __hash__(self) -> int:
        """Hash the text."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return self is other or (isinstance(other, Atom) and self.text == other.text)

    def __repr__(self) -> str:
        """Show the text."""
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the parts."""
        return Atom, (self.text, self.least, self.function, self.operands)


Monomial = tuple[tuple[Atom, int], ...]
Terms = dict[Monomial, Number]


def quoted(name: str) -> str:
    """Return a name as a formula writes it: in quotes if the bare name would not be parsed as one symbol."""
    bare = name and not name[0].isdigit() and "//" not in name and set(name) <= _BARE and name not in FUNCTIONS
    return name if bare else f'"{name}"'


def unquoted(text: str) -> str:
    """Return the name of a symbol from its text in a formula."""
    return text[1:-1] if text.startswith('"') else text
