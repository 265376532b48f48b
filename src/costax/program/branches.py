"""Which of several branches is charged: the costliest, the cheapest, each as often, or the one that the user names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, cast

from costax.core.cost import Cost, Count
from costax.core.polynomial import Polynomial, at_least, magnitude, rational
from costax.errors import BranchError

Branches = str | Mapping[str, int | str]
_WORDS: Final = ("max", "min", "mean")


def checked_branches(branches: Any) -> dict[str, int | str]:
    """Return the answers by place. Raises BranchError for one that is neither a word nor an index."""
    answers = cast("Mapping[Any, Any]", branches) if isinstance(branches, Mapping) else {"*": branches}
    for place, how in answers.items():
        index = isinstance(how, int) and not isinstance(how, bool) and how >= 0
        if how not in _WORDS and not index:
            where = f"branches[{place!r}]" if isinstance(branches, Mapping) else "branches"
            raise BranchError(
                f"{where} = {how!r} chooses no branch.",
                why="A cond or switch runs one of its branches.",
                cure='Give "max", "min", "mean", or the index of a branch by its place: {"router/cond": 1}.',
            )
    # "max" is what happens without an answer
    return {} if answers == {"*": "max"} else dict(answers)


def chosen(costs: Sequence[Cost], how: int | str, place: str) -> tuple[list[Count], dict[str, Count]]:
    """Return how often each of several alternatives runs: 0 or 1, or 1/n for their mean; and what that presumes.

    The costliest is the one of most operations, then of most bytes. Where that depends on symbols, it is the one that
    is costliest when they are large, and what must not be negative for it to be so is returned with the words for it.
    Raises BranchError for an index that is too large.
    """
    if how == "mean":
        return [rational(Fraction(1, len(costs)))] * len(costs), {}
    if isinstance(how, int):
        if how >= len(costs):
            raise BranchError(
                f"branches[{place!r}] = {how} names no branch: there are {len(costs)}, numbered from 0.",
                why="It says which branch runs.",
                cure=f"Give an index from 0 to {len(costs) - 1}.",
            )
        return [int(number == how) for number in range(len(costs))], {}
    best = 0
    presumed: list[Count] = []
    for number in range(1, len(costs)):
        high, low = (costs[number], costs[best]) if how == "max" else (costs[best], costs[number])
        better, difference = _exceeds(high, low)
        if difference is not None:
            presumed.append(difference if better else -difference)
        if better:
            best = number
    word = "costliest" if how == "max" else "cheapest"
    return [int(number == best) for number in range(len(costs))], {
        f"{difference} >= 0, so that branch {best} of {place} is the {word},": difference for difference in presumed
    }


def _exceeds(one: Cost, other: Cost) -> tuple[bool, Count | None]:
    """Return whether one cost is above another; and, where that depends on symbols, by what."""
    for difference in (one.ops - other.ops, one.bytes_unfused - other.bytes_unfused):
        if not isinstance(difference, Polynomial):
            if difference:
                return difference > 0, None
        elif at_least(difference, 0):
            return True, None
        elif at_least(-difference, 0):
            return False, None
        else:
            return magnitude(difference) > 0, difference
    return False, None


def check_used(places: Collection[str], used: Collection[str], branches: Mapping[str, int | str]) -> None:
    """Raise BranchError for an answer that no equation has asked for."""
    unused = [place for place in branches if place not in used and place != "*"]
    if unused:
        raise BranchError(
            f"Nothing that takes branches is called {', '.join(map(repr, unused))}.",
            where=f"branches are taken in: {', '.join(sorted(places)) or 'none'}",
            why="The answer would change nothing.",
            cure=nearest(unused[0], places) or "Name a place of that list, or a pattern such as '*/cond'.",
        )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a question with the nearest of some names, or nothing where none is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""
