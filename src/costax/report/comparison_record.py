"""A saved comparison, read from its record without jax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, cast

from costax.analysis.compiled_summary import CompiledSummary
from costax.compare.base_comparison import BaseComparison, required_bytes
from costax.compare.causes import Delta
from costax.compare.replication import Repeated, Replication
from costax.hlo.collectives import Collective, Share
from costax.hlo.loops import Conditional, Loop
from costax.report.compiled_summary import SummaryReader, saved

FAMILY: Final = "costax/comparison/"
NEWEST: Final = 2


class SavedCounts(NamedTuple):
    """The three properties that XLA reports, as exact integers or as XLA's float32."""

    flops: Any
    transcendentals: Any
    bytes: Any


@dataclass(frozen=True)
class SavedStage:
    """XLA's numbers for one stage, `lowered` or `compiled`, and costax's replay of them."""

    stage: str
    total: SavedCounts
    float32: SavedCounts
    executed: SavedCounts
    xla: Mapping[str, float] | None
    matches_xla: bool | None
    attributed: float
    opaque: Mapping[str, int]
    collectives: Sequence[Collective]
    devices: int
    memory: Mapping[str, int]
    fits: bool | None
    seconds: float
    note: str = ""
    unknown_loops: Sequence[Loop] = ()
    conditionals: Sequence[Conditional] = ()

    @property
    def exact(self) -> bool:
        """Whether `executed` is exact: every trip count, the branch of every conditional and every call are known."""
        return not self.unknown_loops and not self.conditionals and not self.opaque

    @property
    def held(self) -> int:
        """Bytes that one device holds at once."""
        return required_bytes(self.memory)


@dataclass(frozen=True, repr=False)
class SavedComparison(BaseComparison[SavedStage]):
    """A comparison that was saved: it has the tables of a `costax.Comparison`, but not the programs.

    passes_record: what each pass of the compiler did, as the record of `costax.read_passes` has it; None if it was not
    read.
    """

    passes_record: Mapping[str, Any] | None = field(default=None, repr=False)
    replication: Replication | None = None
    by_layer: CompiledSummary | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name of the program."""
        return self.jaxpr.name

    @property
    def summary(self) -> CompiledSummary:
        """The counts of the compiled program by layer. Raises RecordError for a record without them."""
        return saved(self.by_layer, self.name)


class ComparisonReader(SummaryReader):
    """Reads one record of a comparison."""

    def comparison(self, record: Any) -> SavedComparison:
        """Return the comparison that a record holds. Raises RecordError."""
        self.check_schema(record, FAMILY, NEWEST)
        return SavedComparison(
            jaxpr=self.analysis(self._get(record, "jaxpr", dict)),
            lowered=self._stage(record, "lowered"),
            compiled=self._stage(record, "compiled"),
            deltas=tuple(self._delta(x, place) for place, x in self._entries(record, "deltas")),
            marked=self._get(record, "marked", bool),
            target=self._get(record, "target", str),
            xla_flags=self._flags(record) if "xla_flags" in record else {},
            passes_record=self._object(record, "passes") if record.get("passes") is not None else None,
            replication=self._replication(record) if record.get("replication") is not None else None,
            by_layer=self.summary(record),
        )

    def _replication(self, record: Any) -> Replication:
        entry, place = self._object(record, "replication"), "replication."
        layers, equations = (
            tuple(self._repeated(x, where) for where, x in self._entries(entry, key)) for key in ("layers", "equations")
        )
        devices, program, executed = (self._get(entry, key, int, place) for key in ("devices", "program", "executed"))
        return Replication(devices, program, executed, layers, equations, float(self._number(entry, "compared", place)))

    def _repeated(self, x: Any, place: str) -> Repeated:
        scope, equation, source = (self._get(x, key, str, place) for key in ("scope", "equation", "source"))
        program, executed = (self._get(x, key, int, place) for key in ("program", "executed"))
        axes = tuple(self._typed(axis, str, place) for axis in self._list(x, "axes", place))
        sizes = tuple(self._typed(size, int, place) for size in self._list(x, "sizes", place))
        return Repeated(scope, equation, source, program, executed, axes, sizes)

    def _flags(self, record: Any) -> dict[str, str]:
        flags = self._object(record, "xla_flags")
        return {name: self._get(flags, name, str, "xla_flags.") for name in flags}

    def _delta(self, x: Any, place: str) -> Delta:
        cause, stage, equation, source, evidence = (
            self._get(x, key, str, place) for key in ("cause", "stage", "equation", "source", "evidence")
        )
        flops, transcendentals, count = (self._get(x, key, int, place) for key in ("flops", "transcendentals", "count"))
        scope = self._scope(x, "scope", place)
        # Records of schema 1 have no passes.
        passed = (
            (self._get(x, "pass_name", str, place), self._get(x, "run", int, place)) if "pass_name" in x else ("", 0)
        )
        marks = self._list(x, "address", place) if "address" in x else []
        address = tuple(self._typed(mark, int, f"{place}address[{i}]") for i, mark in enumerate(marks))
        return Delta(cause, stage, flops, transcendentals, equation, scope, source, count, evidence, *passed, address)

    def _stage(self, record: Any, key: str) -> SavedStage:
        stage, place = self._object(record, key), f"{key}."
        opaque, memory = self._object(stage, "opaque", place), self._object(stage, "memory", place)
        return SavedStage(
            stage=key,
            total=self._three(stage, "total", place),
            float32=self._three(stage, "float32", place),
            executed=self._three(stage, "executed", place),
            xla=None if stage.get("xla", ...) is None else self._floats(stage, "xla", place),
            matches_xla=self._maybe(stage, "matches_xla", place),
            attributed=self._number(stage, "attributed", place),
            opaque={name: self._get(opaque, name, int, f"{place}opaque.") for name in opaque},
            collectives=tuple(
                self._collective(self._typed(x, dict, f"{place}collectives[{i}]"), f"{place}collectives[{i}].")
                for i, x in enumerate(self._list(stage, "collectives", place))
            ),
            devices=self._get(stage, "devices", int, place),
            memory={name: self._get(memory, name, int, f"{place}memory.") for name in memory},
            fits=self._maybe(stage, "fits", place),
            seconds=self._number(stage, "seconds", place),
            note=self._get(stage, "note", str, place) if "note" in stage else "",
            unknown_loops=tuple(Loop(*place, None) for place in self._places(stage, "unknown_loops")),
            conditionals=tuple(Conditional(*place) for place in self._places(stage, "conditionals")),
        )

    def _places(self, stage: Any, key: str) -> Iterator[tuple[str, str, str]]:
        """Yield name, scope and source line of each entry of a list, which older records do not have."""
        for where, x in self._entries(stage, key) if key in stage else ():
            name, scope, source = (self._get(x, field, str, where) for field in ("name", "scope", "source"))
            yield name, scope, source

    def _collective(self, x: Any, place: str) -> Collective:
        name, opcode, scope, source = (self._get(x, key, str, place) for key in ("name", "opcode", "scope", "source"))
        axes = tuple(self._typed(axis, str, f"{place}axes[{i}]") for i, axis in enumerate(self._list(x, "axes", place)))
        groups = tuple(
            self._devices(group, f"{place}groups[{i}]") for i, group in enumerate(self._list(x, "groups", place))
        )
        sent = None if x.get("sent", ...) is None else self._get(x, "sent", int, place)
        size, executed = self._get(x, "bytes", int, place), self._get(x, "executed", int, place)
        direction, link = (self._get(x, key, str, place) if key in x else "" for key in ("direction", "link"))
        names = self._list(x, "between", place) if "between" in x else []
        between = tuple(self._typed(each, str, place) for each in names)
        found = Collective(name, opcode, size, sent, groups, axes, executed, scope, source, direction, link, between)
        return replace(
            found, shares=tuple([self._share(*each) for each in self._entries(x, "shares")] if "shares" in x else ())
        )

    def _share(self, where: str, x: Any) -> Share:
        scope, direction = (self._get(x, key, str, where) for key in ("scope", "direction"))
        sent = None if x.get("sent", ...) is None else self._get(x, "sent", int, where)
        return Share(scope, direction, self._get(x, "bytes", int, where), sent)

    def _devices(self, group: Any, place: str) -> tuple[int, ...]:
        return tuple(self._typed(device, int, place) for device in cast(list[Any], self._typed(group, list, place)))

    def _three(self, stage: Any, key: str, place: str) -> SavedCounts:
        values = self._floats(stage, key, place)
        return SavedCounts(*(values.get(name, 0) for name in SavedCounts._fields))
