"""Deltas: the parts of the difference between the counts of costax and of XLA, each with its cause."""

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
    """One part of the difference between the counts of costax and of XLA.

    stage: the stage that made the difference: "jaxpr" (XLA's rules for the same equations), "lowered", "compiled" or
    "xla" (rounding). flops, transcendentals: what XLA counts more. count: how many instructions or equations it
    contains. evidence: the observation that the cause was concluded from.
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
    """A number of FLOPs and a number of transcendentals."""

    flops: Count = 0
    transcendentals: Count = 0

    @property
    def work(self) -> Count:
        """FLOPs plus transcendentals."""
        return self.flops + self.transcendentals

    def minus(self, other: tuple[Count, Count]) -> Pair:
        """Return the difference."""
        return Pair(self.flops - other[0], self.transcendentals - other[1])

    def times(self, factor: Count) -> Pair:
        """Return both multiplied by a factor."""
        return self if factor == 1 else Pair(self.flops * factor, self.transcendentals * factor)


def unexplained(deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """Return the deltas without a known cause."""
    return tuple(delta for delta in deltas if delta.cause == UNEXPLAINED)
