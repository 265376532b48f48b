"""Choice of the branch that counts: the costliest, the cheapest, the mean, or the branch that the user chooses."""

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
    """Return the choices by scope path or pattern. Raises BranchError for a choice that is not a word or an index."""
    choices = cast("Mapping[Any, Any]", branches) if isinstance(branches, Mapping) else {"*": branches}
    for path, choice in choices.items():
        index = isinstance(choice, int) and not isinstance(choice, bool) and choice >= 0
        if choice not in _WORDS and not index:
            argument = f"branches[{path!r}]" if isinstance(branches, Mapping) else "branches"
            raise BranchError(
                f"{argument} must be 'max', 'min', 'mean' or an index, got {choice!r}.",
                why="A cond or switch runs one of its branches, and `branches` decides which of them counts.",
                cure='Pass, for example, branches="mean", or an index by scope path: branches={"router/cond": 1}.',
            )
    # "max" is the default
    return {} if choices == {"*": "max"} else dict(choices)


def chosen(costs: Sequence[Cost], how: int | str, path: str) -> tuple[list[Count], dict[str, Count]]:
    """Return how often each branch counts (0 or 1, or 1/n for the mean), and the conditions of this choice.

    how: "max", "min", "mean" or an index. path: the scope path of the `cond` or `switch`, for messages. The costliest
    branch has the most operations; among branches with equal operations, the most bytes. If the order depends on
    symbols, the order at large values counts. The conditions then map a text to a polynomial that must not be
    negative. Raises BranchError for an index that is too large.
    """
    if how == "mean":
        return [rational(Fraction(1, len(costs)))] * len(costs), {}
    if isinstance(how, int):
        if how >= len(costs):
            raise BranchError(
                f"branches[{path!r}] = {how} is too large: there are {len(costs)} branches, numbered from 0.",
                why="The index decides which branch counts.",
                cure=f"Pass an index from 0 to {len(costs) - 1}.",
            )
        return [int(number == how) for number in range(len(costs))], {}
    best = 0
    # Differences that must not be negative for the choice to be right.
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
        f"{difference} >= 0, which makes branch {best} of {path} the {word},": difference for difference in presumed
    }


def _exceeds(one: Cost, other: Cost) -> tuple[bool, Count | None]:
    """Return whether one cost is larger than another, and the difference if the answer depends on symbols."""
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


def check_used(paths: Collection[str], used: Collection[str], branches: Mapping[str, int | str]) -> None:
    """Raise BranchError for a choice that no equation has used."""
    unused = [path for path in branches if path not in used and path != "*"]
    if unused:
        raise BranchError(
            f"No cond or switch matches {', '.join(map(repr, unused))}.",
            where=f"equations with branches: {', '.join(sorted(paths)) or 'none'}",
            why="A choice without its equation has no effect.",
            cure=nearest(unused[0], paths) or "Use a scope path of that list, or a pattern such as '*/cond'.",
        )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the question "Did you mean ...?" with the most similar name, or "" if no name is similar."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean {matches[0]!r}?" if matches else ""
