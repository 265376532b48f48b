"""Replication: how much of a sharded program several devices repeat, as values that a record has too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costax.core.cost import Count

# A ratio that is larger by less than this is that of arrays that do not divide evenly, or of a few scalars.
NOTICEABLE = 1.01


@dataclass(frozen=True, slots=True)
class Repeated:
    """An equation, or a layer, and how often its work is computed.

    scope: the layer. equation: the name of the primitive, "" for a layer. source: the line of the equation. program:
    FLOPs and transcendentals of the program, all devices together, by XLA's rules. executed: those that all devices
    execute. axes: the mesh axes along which devices compute the same, if one set of axes has that many devices; of a
    layer, those that its repeated equations agree on. sizes: the sizes of these axes.
    """

    scope: str
    equation: str
    source: str
    program: Count
    executed: Count
    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def factor(self) -> float:
        """How many devices compute the same, on average: work that all devices execute over that of the program."""
        return self.executed / self.program if self.program else 1.0

    @property
    def repeated(self) -> bool:
        """Whether more than one device computes the same."""
        return self.factor >= NOTICEABLE

    def __str__(self) -> str:
        """Return `replicated 4x over axis tensor: computed on 4 of 4 tensor shards`."""
        if not self.repeated:
            return "computed once"
        if not self.axes and not is_whole(self.factor):
            # 60 rows on 8 devices are 8 rows on each.
            return f"{self.factor:.3g}x the work: in parts replicated, or padded where arrays do not divide evenly"
        times = f"replicated {self.factor:.3g}x"
        if len(self.axes) != 1:
            return f"{times} over axes {', '.join(self.axes)}" if self.axes else times
        (axis,), (size,) = self.axes, self.sizes
        in_part = size % round(self.factor) if self.equation else size != round(self.factor)
        if in_part or not is_whole(self.factor):
            # Some equations of the layer are computed once.
            return f"{times} on average, in parts over axis {axis}"
        return f"{times} over axis {axis}: computed on {round(self.factor)} of {size} {axis} shards"


@dataclass(frozen=True, slots=True)
class Replication:
    """What all devices execute, over the program's own count.

    devices: how many. program: FLOPs of the program by costax's count. executed: FLOPs that all devices execute.
    layers: each layer whose work could be compared, the most repeated work first. equations: those that are computed
    more than once, the most repeated work first. compared: the share of the program's work that could be compared.
    """

    devices: int
    program: Count
    executed: Count
    layers: Sequence[Repeated]
    equations: Sequence[Repeated]
    compared: float

    @property
    def ratio(self) -> float:
        """FLOPs that all devices execute over those of the program: 1 where nothing is repeated, added or removed."""
        return self.executed / self.program if self.program else 1.0


def is_whole(factor: float) -> bool:
    """Return whether a factor is a whole number of devices; uneven arrays make it a little larger."""
    return abs(factor - round(factor)) <= 0.02 * factor
