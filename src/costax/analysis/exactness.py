"""Exactness: one word for how far the counts of an analysis can be trusted, and the sentence that gives the reason.

| word | meaning |
|---|---|
| `exact` | Every count is an exact integer, or an exact formula in the sizes that you named. |
| `symbolic` | Every count is exact as a formula, but it contains trip counts that the program does not fix. |
| `upper bound` | The program does not fix which of some branches runs, and the costliest is counted. |
| `lower bound` | The cheapest of such branches is counted, as `branches="min"` asks. |
| `estimate` | The mean of such branches is counted, or bounds of both kinds, or a loop of unknown length once. |
| `incomplete` | The work of some primitives is not counted, and they are listed. |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from costax.core.polynomial import Polynomial
from costax.errors import Missing
from costax.program.tree import Choice, Unknown

EXACT: Final = "exact"
SYMBOLIC: Final = "symbolic"
UPPER_BOUND: Final = "upper bound"
LOWER_BOUND: Final = "lower bound"
ESTIMATE: Final = "estimate"
INCOMPLETE: Final = "incomplete"
WORDS: Final = (EXACT, SYMBOLIC, UPPER_BOUND, LOWER_BOUND, ESTIMATE, INCOMPLETE)

_BY_CHOICE: Final = {"max": UPPER_BOUND, "min": LOWER_BOUND, "mean": ESTIMATE}
# So many places are named; the notes below a table name all of them.
_SHOWN: Final = 2


def exactness(unknowns: Sequence[Unknown], uncounted: Sequence[Missing], choices: Sequence[Choice]) -> str:
    """Return the word for counts with these unknown trip counts, uncounted primitives and undecided branches."""
    if uncounted:
        return INCOMPLETE
    bounds = {_BY_CHOICE[choice.how] for choice in choices}
    if len(bounds) > 1 or _fixed(unknowns):
        return ESTIMATE
    return bounds.pop() if bounds else SYMBOLIC if _open(unknowns) else EXACT


def reason(
    unknowns: Sequence[Unknown],
    uncounted: Sequence[Missing],
    choices: Sequence[Choice],
    word: str,
    places: Sequence[str],
) -> str:
    """Return the word and the reason: "symbolic: exact in 1 symbol", "upper bound: branch 1 of 2 at model.py:41".

    The text is "" for exact counts. word: that of `exactness`. places: the source lines of the uncounted primitives and
    then of the choices, as text.
    """
    symbols = _counted(len(_open(unknowns)), "symbol")
    if word in (EXACT, SYMBOLIC):
        return f"{word}: exact in {symbols}" if word == SYMBOLIC else ""
    parts = [
        f"{f'{missing.count} x ' if missing.count > 1 else ''}{missing.primitive} at {place}"
        for missing, place in zip(uncounted, places, strict=False)
    ]
    if word != INCOMPLETE:
        parts = [f"loop {unknown.place} counted {unknown.assumed} x" for unknown in _fixed(unknowns)]
        parts += [f"{choice} at {place}" for choice, place in zip(choices, places[len(uncounted) :], strict=False)]
    hidden = len(parts) - _SHOWN
    listed = ", ".join(parts if hidden <= 0 else [*parts[:_SHOWN], f"{hidden} more"])
    within = f" in {symbols}" if _open(unknowns) else ""
    return f"{word}{within}: {'not counted ' if word == INCOMPLETE else ''}{listed}"


def _open(unknowns: Sequence[Unknown]) -> list[Unknown]:
    """Return the loops whose trip count is a symbol."""
    return [unknown for unknown in unknowns if not unknown.answered and isinstance(unknown.assumed, Polynomial)]


def _fixed(unknowns: Sequence[Unknown]) -> list[Unknown]:
    """Return the loops of unknown length that are counted a fixed number of times."""
    return [unknown for unknown in unknowns if not unknown.answered and not isinstance(unknown.assumed, Polynomial)]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
