"""The difference of two compiled programs, layer by layer: work, traffic, collectives, temporaries and kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from costax.analysis.changes import Change, merged_names
from costax.analysis.compiled_counts import COMPILED
from costax.analysis.compiled_summary import BufferSum, Summarised
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.core.listing import listed


@dataclass(frozen=True, slots=True)
class ModuleLayer:
    """A scope of two modules, with the counts of `COMPILED` before and after; all 0 where it does not exist."""

    scope: str
    before: Mapping[str, Count]
    after: Mapping[str, Count]

    def change(self, field: str) -> Change:
        """Return the change of a field of `COMPILED`."""
        return Change(self.before.get(field, 0), self.after.get(field, 0))

    @property
    def changed(self) -> bool:
        """Whether any field differs."""
        return any(self.change(field).delta for field in COMPILED)


@dataclass(frozen=True, slots=True)
class BufferChange:
    """Buffers alive at the peak, of one layer, source line and array: their number and bytes in both modules."""

    scope: str
    source: str
    array: str
    count: Change
    nbytes: Change


@dataclass(frozen=True, repr=False)
class ModuleDiff(Displayed):
    """Two compiled programs compared layer by layer; the layers of any depth sum to the totals, in every field.

    before, after: modules, comparisons, or their saved records. The temporaries of a layer are those alive at the peak;
    what no buffer fills there belongs to the layer "".
    """

    before: Summarised
    after: Summarised

    @property
    def total(self) -> ModuleLayer:
        """The whole modules as one layer."""
        return ModuleLayer("total", self.before.summary.compiled_counts(), self.after.summary.compiled_counts())

    @listed
    def layers(self, depth: int | None = None) -> list[ModuleLayer]:
        """Return the layers of both modules in program order, with paths of at most `depth` parts."""
        before, after = (program.summary.counts_by_scope(depth) for program in (self.before, self.after))
        empty: Mapping[str, Count] = {}
        return [
            ModuleLayer(scope, before.get(scope, empty), after.get(scope, empty))
            for scope in merged_names(list(before), list(after))
        ]

    @cached_property
    def buffers(self) -> tuple[BufferChange, ...]:
        """What grew or shrank of the buffers alive at the peak, the largest change first."""
        before, after = self.before.summary.buffers, self.after.summary.buffers
        changes: list[BufferChange] = []
        for place in dict.fromkeys((*before, *after)):
            old, new = before.get(place, BufferSum()), after.get(place, BufferSum())
            changes.append(BufferChange(*place, Change(old.number, new.number), Change(old.nbytes, new.nbytes)))
        return tuple(sorted((c for c in changes if c.nbytes.delta), key=lambda c: -abs(c.nbytes.delta)))
