"""Deltas: the parts of the difference between the counts of costax and of XLA, each with its cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from costax.core.address import Address
from costax.core.cost import Count
from costax.program.tree import Scope

CONVENTION: Final = "counted by another convention"
PADDING: Final = "products with padding"
LOOP: Final = "loop body counted once"
DEVICES: Final = "one device's share"
BRANCH: Final = "branch maximum"
EXPANSION: Final = "expanded into several operations"
DEFECT: Final = "known defect of XLA's count"
LIBRARY: Final = "library call reported as -1"
CONTROL: Final = "loop control"
CONVERTED: Final = "folded in the conversion to HLO"
COMPILED: Final = "changed by the compiler"
ROUNDING: Final = "float32 rounding"
UNEXPLAINED: Final = "unexplained"


@dataclass(frozen=True, slots=True)
class Delta:
    """One part of the difference between the counts of costax and of XLA.

    stage: the stage that made the difference: "jaxpr" (XLA's rules for the same equations), "lowered" (what jax emits),
    "converted" (from StableHLO to HLO), "compiled" (the passes of the compiler) or "xla" (rounding).
    flops, transcendentals: what XLA counts more. count: how many instructions or equations it contains.
    evidence: the observation that the cause was concluded from. pass_name: XLA's name of the pass that made it; "" for
    the other stages. run: which step of the compiler it was, from 1. address: of the equation, the marks of the calls
    around it and its own; () for none.
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
    pass_name: str = ""
    run: int = 0
    address: Address = ()


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

    @classmethod
    def sum(cls, pairs: Iterable[tuple[Count, Count]]) -> Pair:
        """Return the sum of some pairs."""
        flops = transcendentals = 0
        for pair in pairs:
            flops += pair[0]
            transcendentals += pair[1]
        return cls(flops, transcendentals)


def unexplained(deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """Return the deltas without a known cause."""
    return tuple(delta for delta in deltas if delta.cause == UNEXPLAINED)
