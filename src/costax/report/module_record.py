"""Saved records of HLO modules, `costax/hlo/1`: their tables, without the module itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from costax.analysis.compiled_summary import CompiledSummary
from costax.core.display import Displayed
from costax.hlo.loops import Conditional, Loop
from costax.hlo.module_analysis import HloCost
from costax.hlo.replay import Float32, Properties
from costax.report.compiled_summary import SummaryReader, saved

FAMILY: Final = "costax/hlo/"
NEWEST: Final = 1
_KINDS: Final = ("charged", "executed")
_BY: Final = ("by_scope", "by_opcode", "by_source", "by_computation")


@dataclass(frozen=True)
class SavedModule(Displayed):
    """The analysis of a module that was saved: it has the tables of a ModuleAnalysis, but not the module."""

    name: str
    computations: int
    instructions: int
    extent: str
    total: Properties
    float32: Float32
    executed: Properties
    xla: Mapping[str, float] | None
    matches_xla: bool | None
    loops: tuple[Loop, ...]
    conditionals: tuple[Conditional, ...]
    opaque: Mapping[str, int]
    versions: Mapping[str, str]
    sums: Mapping[str, Mapping[str, HloCost]] = field(repr=False)
    by_layer: CompiledSummary | None = field(default=None, repr=False)
    merged: tuple[str, ...] = ()

    @property
    def summary(self) -> CompiledSummary:
        """The counts by layer and the buffers at the peak. Raises RecordError for a record without them."""
        return saved(self.by_layer, self.name)

    @property
    def unknown_loops(self) -> tuple[Loop, ...]:
        """The loops without a known trip count."""
        return tuple(loop for loop in self.loops if loop.trips is None)

    @property
    def exact(self) -> bool:
        """Whether `executed` is exact."""
        return not self.unknown_loops and not self.opaque and not self.conditionals

    def by_scope(self, depth: int | None = None) -> dict[str, HloCost]:
        """Return the cost of each scope, of at most `depth` parts."""
        sums: dict[str, HloCost] = {}
        for scope, cost in self.sums["by_scope"].items():
            name = "/".join(scope.split("/")[:depth])
            sums[name] = sums[name].plus(cost) if name in sums else cost
        return sums

    def by_opcode(self) -> dict[str, HloCost]:
        """Return the cost of each opcode."""
        return dict(self.sums["by_opcode"])

    def by_source(self) -> dict[str, HloCost]:
        """Return the cost of each source line."""
        return dict(self.sums["by_source"])

    def by_computation(self) -> dict[str, HloCost]:
        """Return the cost of each computation."""
        return dict(self.sums["by_computation"])


class ModuleRecordReader(SummaryReader):
    """Reads one record of a module."""

    def module(self, record: Any) -> SavedModule:
        """Return the analysis that a record holds. Raises RecordError."""
        self.check_schema(record, FAMILY, NEWEST)
        total, executed = self._properties(record, "total"), self._properties(record, "executed")
        sums = {key: self._costs(record, key) for key in _BY}
        for key, costs in sums.items():
            if self._sum(costs) != HloCost(total, executed):
                raise self._wrong(f"the sum of {key} is not the total")
        summary = self.summary(record)
        if summary is not None:
            counts = summary.compiled_counts()
            if (counts["executed_flops"], counts["hbm_bytes"]) != (executed.flops, executed.bytes):
                raise self._wrong("the sum of by_layer is not the total")
        float32, opaque = self._object(record, "float32"), self._object(record, "opaque")
        return SavedModule(
            name=self._get(record, "name", str),
            computations=self._get(record, "computations", int),
            instructions=self._get(record, "instructions", int),
            extent=self._get(record, "extent", str) if "extent" in record else "one device",
            total=total,
            float32=Float32(*(self._number(float32, name, "float32.") for name in Float32._fields)),
            executed=executed,
            xla=None if record.get("xla", ...) is None else self._floats(record, "xla", ""),
            matches_xla=self._maybe(record, "matches_xla", ""),
            loops=tuple(self._loop(x, place) for place, x in self._entries(record, "loops")),
            conditionals=tuple(
                Conditional(*(self._get(x, key, str, place) for key in ("name", "scope", "source")))
                for place, x in (self._entries(record, "conditionals") if "conditionals" in record else ())
            ),
            opaque={name: self._get(opaque, name, int, "opaque.") for name in opaque},
            versions=self._versions(record),
            sums=sums,
            by_layer=summary,
        )

    def _loop(self, x: Any, place: str) -> Loop:
        name, scope, source = (self._get(x, key, str, place) for key in ("name", "scope", "source"))
        return Loop(name, scope, source, None if x.get("trips", ...) is None else self._get(x, "trips", int, place))

    def _properties(self, entry: Any, key: str, place: str = "") -> Properties:
        counts = self._object(entry, key, place)
        return Properties(*(self._get(counts, name, int, f"{place}{key}.") for name in Properties._fields))

    def _costs(self, record: Any, key: str) -> dict[str, HloCost]:
        costs = self._object(record, key)
        return {
            name: HloCost(
                *(self._properties(self._typed(cost, dict, f"{key}.{name}"), kind, f"{key}.{name}.") for kind in _KINDS)
            )
            for name, cost in costs.items()
        }

    @staticmethod
    def _sum(costs: Mapping[str, HloCost]) -> HloCost:
        whole = HloCost()
        for cost in costs.values():
            whole = whole.plus(cost)
        return whole
