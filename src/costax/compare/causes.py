"""Deltas: the named differences between our count and XLA's, their causes, and the two numbers that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from costax.core.cost import Count
from costax.program.tree import Scope

CONVENTION: Final = "counted by another convention"
PADDING: Final = "padding taps"
LOOP: Final = "loop body counted once"
DEVICES: Final = "one device's share"
BRANCH: Final = "branch maximum"
EXPANSION: Final = "expanded into several operations"
DEFECT: Final = "known defect of XLA's count"
LIBRARY: Final = "library call reported as -1"
MERGED: Final = "merged with an equal equation"
REMAT: Final = "rematerialisation removed"
FOLDED: Final = "folded to a constant"
SIMPLIFIED: Final = "simplified away"
RECOMPUTED: Final = "recomputed in fusions"
UPCAST: Final = "upcast"
TREE: Final = "reduction tree"
REWRITTEN: Final = "rewritten"
CONTROL: Final = "loop control"
MADE: Final = "made by the compiler"
ROUNDING: Final = "float32 rounding"
UNEXPLAINED: Final = "unexplained"


@dataclass(frozen=True, slots=True)
class Delta:
    """One named part of the difference between our count and XLA's.

    stage: "jaxpr", "lowered", "compiled" or "xla": between which the difference arises. count: how many instructions
    or equations it gathers. evidence: what the claim rests on.
    """

    cause: str
    stage: str
    flops: Count
    transcendentals: Count
    equation: str
    scope: Scope
    source: str
    count: int
    evidence: str


class Pair(NamedTuple):
    """FLOPs and transcendentals of something."""

    flops: Count = 0
    transcendentals: Count = 0

    @property
    def work(self) -> Count:
        """Both together."""
        return self.flops + self.transcendentals

    def minus(self, other: tuple[Count, Count]) -> Pair:
        """Return the difference."""
        return Pair(self.flops - other[0], self.transcendentals - other[1])

    def times(self, factor: Count) -> Pair:
        """Return both so many times."""
        return self if factor == 1 else Pair(self.flops * factor, self.transcendentals * factor)


def unexplained(deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """Return the deltas that no evidence explains."""
    return tuple(delta for delta in deltas if delta.cause == UNEXPLAINED)
