"""Place: an instruction in one version of a module."""

from __future__ import annotations

from typing import NamedTuple

from costax.hlo.records import Instruction
from costax.hlo.replay import Properties


class Place(NamedTuple):
    """An instruction in a version: its computation, its cost without what it calls, and its name of jax."""

    ins: Instruction
    computation: int
    cost: Properties
    name: str

    @property
    def content(self) -> tuple[str, Properties]:
        """Opcode and cost."""
        return self.ins.opcode, self.cost

    @property
    def computes(self) -> bool:
        """Whether it has FLOPs or transcendentals."""
        return bool(self.cost[0] or self.cost[1])
