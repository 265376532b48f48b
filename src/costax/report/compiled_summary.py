"""The part of a record by which `costax diff` compares compiled programs: their counts by layer, and their buffers."""

from __future__ import annotations

from typing import Any

from costax.analysis.compiled_counts import COMPILED
from costax.analysis.compiled_summary import BufferPlace, BufferSum, CompiledSummary
from costax.errors import RecordError
from costax.hlo.loops import Loop
from costax.report.record_reader import RecordReader

KEY = "by_layer"
"""The key of a record."""


def to_record(summary: CompiledSummary) -> dict[str, Any]:
    """Return the summary of a compiled program as a dictionary for JSON."""
    return {
        "module": summary.name,
        "extent": summary.extent,
        "memory_source": summary.memory_source,
        "unknown_loops": [{"name": x.name, "scope": x.scope, "source": x.source} for x in summary.unknown_loops],
        "counts": {
            scope: {name: counts.get(name, 0) for name in COMPILED} for scope, counts in summary.by_scope.items()
        },
        "buffers": [
            {**place._asdict(), "count": buffers.number, "bytes": buffers.nbytes}
            for place, buffers in summary.buffers.items()
        ],
    }


def of(program: Any) -> dict[str, Any]:
    """Return the summary of a program under its key; None for a module whose memory and kernels were not asked for."""
    known = program.by_layer if hasattr(program, "by_layer") else getattr(program, "summary", None)
    return {KEY: None if known is None else to_record(known)}


def saved(summary: CompiledSummary | None, name: str) -> CompiledSummary:
    """Return the summary of a record. Raises RecordError for a record without one, which an older costax saved."""
    if summary is None:
        raise RecordError(
            f"The record of `{name}` has no bytes, temporaries and kernels by layer of the compiled program.",
            why="An older costax saved it: `costax diff` compares compiled programs by these counts.",
            cure="Save it again: costax analyze FILE.hlo.pb --save FILE.json, or costax compare TARGET --save "
            "FILE.json.",
        )
    return summary


class SummaryReader(RecordReader):
    """Reads the summary in a record of a compiled program."""

    def summary(self, record: Any) -> CompiledSummary | None:
        """Return the summary of a record; None for a record without one. Raises RecordError."""
        if record.get(KEY) is None:
            return None
        entry, place = self._object(record, KEY), f"{KEY}."
        counts = self._object(entry, "counts", place)
        name, extent, source = (self._get(entry, key, str, place) for key in ("module", "extent", "memory_source"))
        return CompiledSummary(
            name,
            extent,
            source,
            tuple(
                Loop(*self._three_texts(x, ("name", "scope", "source"), f"{place}unknown_loops"), None)
                for x in self._list(entry, "unknown_loops", place)
            ),
            {scope: self._of_layer(counts, scope, f"{place}counts.") for scope in counts},
            dict(self._buffers(x, f"{place}buffers.") for x in self._list(entry, "buffers", place)),
        )

    def _of_layer(self, counts: Any, scope: str, place: str) -> dict[str, int]:
        layer = self._object(counts, scope, place)
        return {name: self._get(layer, name, int, f"{place}{scope}.") for name in COMPILED}

    def _buffers(self, x: Any, place: str) -> tuple[BufferPlace, BufferSum]:
        where = BufferPlace(*self._three_texts(x, BufferPlace._fields, place))
        return where, BufferSum(self._get(x, "count", int, place), self._get(x, "bytes", int, place))

    def _three_texts(self, x: Any, keys: tuple[str, ...], place: str) -> tuple[str, str, str]:
        first, second, third = (self._get(self._typed(x, dict, place), key, str, place) for key in keys)
        return first, second, third
