"""A saved comparison: what `compare` found, read back from its record without jax.

It has the names that the tables of a `costax.Comparison` ask for, and none of the programs behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from costax.analysis import Analysis
from costax.cost import Count
from costax.report.reading import Reader
from costax.tree import Scope

FAMILY: Final = "costax/comparison/"
NEWEST: Final = 1
_UNEXPLAINED: Final = "unexplained"


class Counts(NamedTuple):
    """The three properties that XLA reports: exact integers, or XLA's own float32."""

    flops: Any
    transcendentals: Any
    bytes: Any


@dataclass(frozen=True, slots=True)
class SavedDelta:
    """One named part of the difference between our count and XLA's, as in `costax.reconcile.Delta`."""

    cause: str
    stage: str
    flops: Count
    transcendentals: Count
    equation: str
    scope: Scope
    source: str
    count: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A collective of a compiled program, as in `costax.communication.Collective`."""

    name: str
    opcode: str
    bytes: Count
    sent: Count | None
    groups: tuple[tuple[int, ...], ...]
    axes: tuple[str, ...]
    executed: Count
    scope: str
    source: str


@dataclass(frozen=True)
class SavedStage:
    """What XLA says of one stage, `lowered` or `compiled`, and what we replayed of it."""

    stage: str
    total: Counts
    float32: Counts
    executed: Counts
    xla: Mapping[str, float] | None
    matches_xla: bool | None
    attributed: float
    opaque: Mapping[str, int]
    collectives: Sequence[Exchange]
    devices: int
    memory: Mapping[str, int]
    fits: bool | None
    seconds: float

    @property
    def held(self) -> int:
        """Bytes that one device holds at once."""
        found = {name: self.memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
        return found["argument"] + found["output"] + found["temp"] - found["alias"]


@dataclass(frozen=True)
class SavedComparison:
    """A program in three ledgers, as it was saved: the analysis, the deltas, and what each stage of XLA says."""

    jaxpr: Analysis
    lowered: SavedStage
    compiled: SavedStage
    deltas: Sequence[SavedDelta] = field(repr=False)
    marked: bool
    target: str

    @property
    def xla(self) -> Mapping[str, float]:
        """XLA's dictionary for the compiled program; keys that XLA leaves out are 0."""
        return self.compiled.xla or {}

    @cached_property
    def unexplained(self) -> Sequence[SavedDelta]:
        """The deltas that no evidence explains."""
        return tuple(delta for delta in self.deltas if delta.cause == _UNEXPLAINED)

    @property
    def matches_xla(self) -> bool:
        """Say whether the replay of both stages equals XLA's own numbers, bit for bit, where XLA gives any."""
        return all(stage.matches_xla is not False for stage in (self.lowered, self.compiled))

    def save(self, path: str | Path) -> None:
        """Write the comparison to a file; the suffix names the format. Raises RecordError for a suffix nobody knows."""
        from costax.report import save

        save(self, path)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.waterfall import render

        return render(self)

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        from costax.report.notebook import as_html

        return as_html(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)


class ComparisonReader(Reader):
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
        )

    def _delta(self, x: Any, place: str) -> SavedDelta:
        cause, stage, equation, source, evidence = (
            self._get(x, key, str, place) for key in ("cause", "stage", "equation", "source", "evidence")
        )
        flops, transcendentals, count = (self._get(x, key, int, place) for key in ("flops", "transcendentals", "count"))
        scope = self._scope(x, "scope", place)
        return SavedDelta(cause, stage, flops, transcendentals, equation, scope, source, count, evidence)

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
                self._exchange(self._typed(x, dict, f"{place}collectives[{i}]"), f"{place}collectives[{i}].")
                for i, x in enumerate(self._list(stage, "collectives", place))
            ),
            devices=self._get(stage, "devices", int, place),
            memory={name: self._get(memory, name, int, f"{place}memory.") for name in memory},
            fits=self._maybe(stage, "fits", place),
            seconds=self._number(stage, "seconds", place),
        )

    def _exchange(self, x: Any, place: str) -> Exchange:
        name, opcode, scope, source = (self._get(x, key, str, place) for key in ("name", "opcode", "scope", "source"))
        axes = tuple(self._typed(axis, str, f"{place}axes[{i}]") for i, axis in enumerate(self._list(x, "axes", place)))
        groups = tuple(
            self._devices(group, f"{place}groups[{i}]") for i, group in enumerate(self._list(x, "groups", place))
        )
        sent = None if x.get("sent", ...) is None else self._get(x, "sent", int, place)
        size, executed = self._get(x, "bytes", int, place), self._get(x, "executed", int, place)
        return Exchange(name, opcode, size, sent, groups, axes, executed, scope, source)

    def _devices(self, group: Any, place: str) -> tuple[int, ...]:
        return tuple(self._typed(device, int, place) for device in cast(list[Any], self._typed(group, list, place)))

    def _three(self, stage: Any, key: str, place: str) -> Counts:
        values = self._floats(stage, key, place)
        return Counts(*(values.get(name, 0) for name in Counts._fields))

    def _floats(self, stage: Any, key: str, place: str) -> dict[str, Any]:
        found = self._object(stage, key, place)
        return {name: self._number(found, name, f"{place}{key}.") for name in found}

    def _number(self, entry: Any, key: str, place: str) -> Any:
        value = entry.get(key, ...)
        return value if isinstance(value, float) else self._get(entry, key, int, place)

    def _maybe(self, entry: Any, key: str, place: str) -> bool | None:
        return None if entry.get(key, ...) is None else self._get(entry, key, bool, place)
