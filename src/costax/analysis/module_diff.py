"""The difference of two compiled modules, layer by layer: work, traffic, collectives, temporaries and kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from costax.analysis.changes import Change, merged_names
from costax.analysis.compiled_counts import COMPILED
from costax.analysis.compiled_module import CompiledModule
from costax.core.cost import Count
from costax.core.display import Displayed

_Key = tuple[str, str, str]


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
    """Two compiled modules compared layer by layer; the layers of any depth sum to the totals, in every field.

    The temporaries of a layer are those alive at the peak; what no buffer fills there belongs to the layer "".
    """

    before: CompiledModule
    after: CompiledModule

    @property
    def total(self) -> ModuleLayer:
        """The whole modules as one layer."""
        return ModuleLayer("total", self.before.compiled_counts(), self.after.compiled_counts())

    def layers(self, depth: int | None = None) -> list[ModuleLayer]:
        """Return the layers of both modules in program order, with paths of at most `depth` parts."""
        before, after = (module.counts_by_scope(depth) for module in (self.before, self.after))
        empty: Mapping[str, Count] = {}
        return [
            ModuleLayer(scope, before.get(scope, empty), after.get(scope, empty))
            for scope in merged_names(list(before), list(after))
        ]

    @cached_property
    def buffers(self) -> tuple[BufferChange, ...]:
        """What grew or shrank of the buffers alive at the peak, the largest change first."""
        counts = Counter[_Key](), Counter[_Key]()
        sizes = Counter[_Key](), Counter[_Key]()
        for module, count, size in zip((self.before, self.after), counts, sizes, strict=True):
            for b in module.live_at_peak(None):
                key = b.scope, b.source, f"{b.dtype}[{','.join(map(str, b.shape))}]"
                count[key] += 1
                size[key] += b.nbytes
        changes = [
            BufferChange(*key, Change(counts[0][key], counts[1][key]), Change(sizes[0][key], sizes[1][key]))
            for key in dict.fromkeys((*counts[0], *counts[1]))
        ]
        return tuple(sorted((c for c in changes if c.nbytes.delta), key=lambda c: -abs(c.nbytes.delta)))
