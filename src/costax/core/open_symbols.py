"""The gate for open symbols: what needs numbers asks here; the error names the symbols and how to give them values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from costax.core.hints import hint
from costax.errors import SymbolError


class Open(Protocol):
    """Counts that may be formulas."""

    @property
    def name(self) -> str:
        """The name of the program."""
        ...

    @property
    def symbols(self) -> Sequence[str]:
        """The names of the symbols without a value."""
        ...


def check_numbers(analysis: Open, why: str, *, only_sizes: bool = False) -> None:
    """Raise SymbolError if counts are formulas of symbols. why: what needs numbers, a sentence.

    only_sizes: symbols of loops of unknown length do no harm, because an array's size does not depend on them.
    """
    loops = {unknown.place for unknown in getattr(analysis, "unknowns", ())}
    symbols = [name for name in analysis.symbols if not (only_sizes and name in loops)]
    if symbols:
        raise SymbolError(
            f"The counts of `{analysis.name}` depend on symbols ({described(symbols, loops)}).",
            why=why,
            cure=f"Give them values: {given(symbols)}.",
        )


def described(symbols: Sequence[str], loops: Any) -> str:
    """Return the symbols, and which of them are trip counts of loops."""
    return ", ".join(f"{name}, a trip count" if name in loops else name for name in symbols)


def given(symbols: Sequence[str]) -> str:
    """Return how to give symbols values.

    >>> given(["b", "solver/while"])
    'analysis.evaluate({"solver/while": 8}, b=8)'
    """
    paths = ", ".join(f'"{name}": 8' for name in symbols if not name.isidentifier())
    names = [f"{name}=8" for name in symbols if name.isidentifier()]
    python = f"analysis.evaluate({', '.join([f'{{{paths}}}', *names] if paths else names)})"
    return hint(python, f"--at '{','.join(f'{name}=8' for name in symbols)}'")
