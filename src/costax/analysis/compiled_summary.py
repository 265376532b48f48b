"""CompiledSummary: what a diff compares of a compiled program: its counts by layer, and its buffers at the peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from costax.analysis.compiled_counts import COMPILED
from costax.core.cost import Count
from costax.core.display import Printed
from costax.core.listing import listed
from costax.hlo.loops import Loop


class BufferPlace(NamedTuple):
    """The layer, the source line and the array of buffers, such as ("encoder", "model.py:41", "f32[8,128]")."""

    scope: str
    source: str
    array: str


class BufferSum(NamedTuple):
    """Some buffers: their number, and their bytes together."""

    number: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class CompiledSummary(Printed):
    """The counts of a compiled program by layer, and its buffers alive at the peak; of one device.

    name: of the module. extent: what the figures are of, such as "one of 8 devices". memory_source: the origin of
    `temp_bytes` and of the buffers. unknown_loops: loops without a known trip count; what runs in them counts once.
    by_scope: the counts of `costax.analysis.compiled_counts.COMPILED` of each scope; "" has what is in none. buffers:
    those alive at the peak, the largest first.
    """

    name: str
    extent: str
    memory_source: str
    unknown_loops: Sequence[Loop] = ()
    by_scope: Mapping[str, Mapping[str, Count]] = field(default_factory=dict[str, Mapping[str, Count]], repr=False)
    buffers: Mapping[BufferPlace, BufferSum] = field(default_factory=dict[BufferPlace, BufferSum], repr=False)

    @property
    def summary(self) -> CompiledSummary:
        """The summary itself."""
        return self

    def compiled_counts(self) -> dict[str, Count]:
        """Return the counts of the whole program."""
        sums = self.counts_by_scope(0).get("", {})
        return {name: sums.get(name, 0) for name in COMPILED}

    @listed
    def counts_by_scope(self, depth: int | None = None) -> dict[str, dict[str, Count]]:
        """Return the counts of each scope of at most `depth` parts; they sum to those of the program."""
        sums: dict[str, Counter[str]] = {}
        for scope, counts in self.by_scope.items():
            sums.setdefault("/".join(scope.split("/")[:depth]), Counter()).update(counts)  # type: ignore[arg-type]
        return {scope: dict(counts) for scope, counts in sums.items()}


class Summarised(Protocol):
    """A compiled program whose counts can be compared: a module, a comparison, or the record of either."""

    @property
    def name(self) -> str:
        """The name of the program."""
        ...

    @property
    def summary(self) -> CompiledSummary:
        """The counts by layer, and the buffers alive at the peak."""
        ...
