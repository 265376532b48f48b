"""Read an XSpace, the profile that jax.profiler and XProf write as `*.xplane.pb`.

An XSpace has planes (a device or the host), a plane has lines (a stream, a thread, or a view such as `XLA Ops`), a line
has events. Names and values that repeat are stored once per plane. Source of the schema and the names:
tsl/profiler/protobuf/xplane.proto and xla/tsl/profiler/utils/xplane_schema.cc; the field numbers never change.

Repeated messages have the type `bytes` and are decoded one at a time, so that a hostile file cannot expand two bytes
into a large message a million times.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from costax.core.protobuf import message_classes
from costax.measure.traces.records import Event, ModuleName, ModuleRun, Trace, checked_times, damaged, numbered

_MESSAGES: Final = message_classes(
    "costax.measure.xplane",
    {
        "Space": {"planes": (1, "bytes*"), "hostnames": (4, "bytes*")},
        "Plane": {
            "name": (2, "bytes"),
            "lines": (3, "bytes*"),
            "event_metadata": (4, "bytes*"),
            "stat_metadata": (5, "bytes*"),
        },
        "EventEntry": {"key": (1, "int"), "value": (2, "EventMetadata")},
        "StatEntry": {"key": (1, "int"), "value": (2, "StatMetadata")},
        "EventMetadata": {"name": (2, "bytes"), "display_name": (4, "bytes"), "stats": (5, "bytes*")},
        "StatMetadata": {"name": (2, "bytes")},
        "Line": {
            "id": (1, "int"),
            "name": (2, "bytes"),
            "timestamp_ns": (3, "int"),
            "events": (4, "bytes*"),
        },
        "Event": {
            "metadata_id": (1, "int"),
            "offset_ps": (2, "int"),
            "duration_ps": (3, "int"),
            "stats": (4, "bytes*"),
        },
        "Stat": {
            "metadata_id": (1, "int"),
            "double": (2, "double"),
            "uint": (3, "uint"),
            "int": (4, "int"),
            "text": (5, "bytes"),
            "bytes": (6, "bytes"),
            "ref": (7, "uint"),
        },
    },
)
_TEXTS: Final = frozenset({"hlo_op", "hlo_module"})
_NUMBERS: Final = frozenset(
    {"program_id", "run_id", "correlation_id", "device_ordinal", "device_offset_ps", "device_duration_ps"}
)
_HLO: Final = ("Hlo Proto", "hlo_proto")
_METADATA: Final = "/host:metadata"
_TENSOR_CORE: Final = re.compile(r"/device:(?!GPU:|CUSTOM:)\w+:\d+")
_SPARSE_CORE: Final = re.compile(r"/device:TPU:\d+ SparseCore \d+")
XLA_OPS: Final = "XLA Ops"
XLA_MODULES: Final = "XLA Modules"
IN_FLIGHT: Final = frozenset({"Async XLA Ops", "Sparse Core Ops"})
"""Lines of operations that run beside those of `XLA Ops`."""
# A device has a plane or two, and a process has at most some hundred devices.
_MOST_PLANES: Final = 10_000
# XProf adds lines to the plane of a GPU that show the same kernels again, by step, module, scope ...: their ids begin
# here (xla/tsl/profiler/utils/xplane_schema.h, kThreadIdDerivedMin).
_DERIVED: Final = 0xDEADBEEF
DERIVED_NAMES: Final = frozenset(
    {"Steps", XLA_MODULES, XLA_OPS, "XLA TraceMe", "Framework Name Scope", "Framework Ops", "Launch Stats"}
    | {"TensorFlow Name Scope", "TensorFlow Ops", "Source code", "Async XLA Ops", "Host Offload Ops"}
)


def read(contents: bytes, where: str, process: str) -> Trace:
    """Return the trace in an XSpace. process: a name for its process. Raises TraceError for other bytes."""
    space = _decoded("Space", contents, where)
    if len(space.planes) > _MOST_PLANES:
        raise damaged(f"The file claims {len(space.planes):,} planes, more than {_MOST_PLANES:,}", where)
    planes = [_Plane(raw, where, process) for raw in space.planes]
    if not any(plane.name for plane in planes):
        raise damaged("The file has no plane of an xplane profile", where)
    modules: dict[ModuleName, bytes] = {}
    for plane in planes:
        if plane.name == _METADATA:
            modules.update(plane.hlo())
    events: list[Event] = []
    runs: list[ModuleRun] = []
    launches: dict[int, tuple[str, ModuleName]] = {}
    for plane in planes:
        if plane.name.startswith("/host:"):
            launches.update(plane.launches())
    for plane in planes:
        if plane.name.startswith("/device:GPU:"):
            events += plane.kernels(launches)
        elif _TENSOR_CORE.fullmatch(plane.name):
            core_runs = list(plane.module_runs())
            runs += core_runs
            events += plane.operations(core_runs)
        elif _SPARSE_CORE.fullmatch(plane.name):
            events += plane.operations([])
    if not any(event.instruction for event in events):
        # The runtime of a CPU executes instructions on threads of the host. With an accelerator, the events of the
        # host that name an instruction are the launches of its kernels.
        events += [event for plane in planes if plane.name.startswith("/host:") for event in plane.thunks()]
    return Trace("xplane", events, runs, modules)


def _decoded(message: str, raw: bytes, where: str) -> Any:
    try:
        return _MESSAGES[message].FromString(raw)
    except DecodeError as fault:
        raise damaged(f"The file is not an xplane profile, or it is cut off ({message.lower()}: {fault})", where) from (
            fault
        )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class _Name(NamedTuple):
    """What the plane stores of an event once: its name, its short name, and the statistics that all its events have."""

    name: str = ""
    display: str = ""
    stats: Mapping[str, Any] = {}

    @property
    def instruction(self) -> str:
        """The HLO instruction that an event of a TPU names: `fusion.3`, or `%fusion.3 = f32[8] fusion(...)`."""
        return self.display or self.name.partition(" = ")[0].strip().removeprefix("%")


class _Plane:
    """One plane. Its tables of names are decoded at the start, its lines on demand."""

    def __init__(self, raw: bytes, where: str, process: str) -> None:
        plane = _decoded("Plane", raw, where)
        self.name = _text(plane.name)
        self._where = f"{where}, plane {self.name}" if self.name else where
        self._device = f"{process} {self.name}".strip()
        self._raw = plane
        self._stat_names: dict[int, str] = {}
        for entry in plane.stat_metadata:
            decoded = _decoded("StatEntry", entry, self._where)
            self._stat_names[decoded.key] = _text(decoded.value.name)
        self._names: dict[int, _Name] = {}

    def _event_names(self) -> dict[int, _Name]:
        if not self._names:
            for entry in self._raw.event_metadata:
                decoded = _decoded("EventEntry", entry, self._where)
                value = decoded.value
                stats = self._stats(value.stats) if value.stats else {}
                self._names[decoded.key] = _Name(_text(value.name), _text(value.display_name), stats)
        return self._names

    def _stats(self, raw: Sequence[bytes]) -> dict[str, Any]:
        """Return the statistics that a join needs, by name."""
        stats: dict[str, Any] = {}
        for serialized in raw:
            stat = _decoded("Stat", serialized, self._where)
            name = self._stat_names.get(stat.metadata_id, "")
            if name in _TEXTS:
                stats[name] = self._stat_names.get(stat.ref, "") if stat.ref else _text(stat.text)
            elif name in _NUMBERS:
                # A proto does not write a 0. Old profiles have numbers as texts.
                text = self._stat_names.get(stat.ref, "") if stat.ref else _text(stat.text)
                stats[name] = stat.int or stat.uint or (int(text) if re.fullmatch(r"-?\d{1,19}", text) else 0)
        return stats

    def hlo(self) -> Iterator[tuple[ModuleName, bytes]]:
        """Yield the modules that the profile embeds, as serialised HloProto."""
        for entry in self._raw.event_metadata:
            decoded = _decoded("EventEntry", entry, self._where)
            for serialized in decoded.value.stats:
                stat = _decoded("Stat", serialized, self._where)
                if self._stat_names.get(stat.metadata_id) in _HLO and stat.bytes:
                    yield numbered(_text(decoded.value.name), str(decoded.key & (2**64 - 1))), stat.bytes

    def _lines(self) -> Iterator[Any]:
        for raw in self._raw.lines:
            yield _decoded("Line", raw, self._where)

    def _events(self, line: Any) -> Iterator[tuple[_Name, Any, dict[str, Any], int, int]]:
        """Yield (name, event, statistics, start, duration) of each event of a line."""
        names, base = self._event_names(), line.timestamp_ns * 1000
        for raw in line.events:
            event = _decoded("Event", raw, self._where)
            name = names.get(event.metadata_id)
            if name is None:
                raise damaged(f"An event has the unknown name {event.metadata_id}", self._where)
            stats = self._stats(event.stats) if event.stats else {}
            # The clock of the device, where the profiler gives it, is more exact than that of the host.
            start = base + (stats.get("device_offset_ps") or event.offset_ps)
            duration = stats.get("device_duration_ps") or event.duration_ps
            yield name, event, stats, *checked_times(start, duration, self._where)

    def kernels(self, launches: Mapping[int, tuple[str, ModuleName]]) -> list[Event]:
        """Return the kernels of a GPU: the events of its streams, or of XProf's line of operations without streams."""
        lines = list(self._lines())
        streams = [line for line in lines if not _is_derived(line)]
        if not any(line.events for line in streams):
            streams = [line for line in lines if _text(line.name) == XLA_OPS]
        events: list[Event] = []
        for line in streams:
            label = _text(line.name) or str(line.id)
            for name, _, stats, start, duration in self._events(line):
                instruction, module = _instruction(stats), _module(stats)
                if not instruction and not module.name:
                    instruction, module = launches.get(stats.get("correlation_id", 0), (instruction, module))
                if not instruction and _text(line.name) == XLA_OPS:
                    instruction = name.instruction
                kernel = name.display or name.name
                run = _run(stats)
                events.append(Event(module, instruction, kernel, run, self._device, label, start, duration))
        return events

    def module_runs(self) -> Iterator[ModuleRun]:
        """Yield the runs of modules on a core."""
        for line in self._lines():
            if _text(line.name) == XLA_MODULES:
                for name, _, stats, start, duration in self._events(line):
                    program = str(stats["program_id"]) if stats.get("program_id") else ""
                    yield ModuleRun(
                        numbered(name.display or name.name, program), _run(stats), self._device, start, duration
                    )

    def operations(self, runs: Sequence[ModuleRun]) -> list[Event]:
        """Return the operations of a core; the run of a module in which an operation starts names its module."""
        events: list[Event] = []
        for line in self._lines():
            label = _text(line.name)
            if label != XLA_OPS and label not in IN_FLIGHT:
                continue
            in_flight = label in IN_FLIGHT
            for name, _, event_stats, start, duration in self._events(line):
                stats = {**name.stats, **event_stats}
                instruction = name.instruction or _instruction(stats)
                module, run = _module(stats), _run(stats)
                events.append(
                    Event(module, instruction, instruction, run, self._device, label, start, duration, in_flight)
                )
        return placed(events, runs)

    def launches(self) -> Iterator[tuple[int, tuple[str, ModuleName]]]:
        """Yield the instruction of each launch of a kernel, by its correlation id."""
        if "correlation_id" not in self._stat_names.values():
            return
        for line in self._lines():
            for _, _, stats, _, _ in self._events(line):
                if stats.get("correlation_id") and (stats.get("hlo_op") or stats.get("hlo_module")):
                    yield stats["correlation_id"], (_instruction(stats), _module(stats))

    def thunks(self) -> Iterator[Event]:
        """Yield the instructions that the runtime of a CPU executed."""
        if "hlo_op" not in self._stat_names.values():
            return
        for line in self._lines():
            label = f"{_text(line.name)} {line.id}"
            for name, _, stats, start, duration in self._events(line):
                if stats.get("hlo_op") and "correlation_id" not in stats:
                    device = f"{self._device}:{stats.get('device_ordinal', 0)}"
                    yield Event(
                        _module(stats), _instruction(stats), name.name, _run(stats), device, label, start, duration
                    )


def placed(events: Sequence[Event], runs: Sequence[ModuleRun]) -> list[Event]:
    """Return the operations of a core with their module and run: those of the run in which an operation starts.

    The position of a run in the list is its name where the trace gives it none.
    """
    ordered = sorted(runs, key=lambda run: run.start)
    starts = [run.start for run in ordered]
    found: list[Event] = []
    for event in events:
        position = bisect_right(starts, event.start) - 1
        run = ordered[position] if position >= 0 else None
        if run is not None and event.start < run.start + max(run.duration, 1):
            event = event._replace(module=run.module, run=event.run or run.run or str(position))
        found.append(event)
    return found


def _is_derived(line: Any) -> bool:
    return ((line.id & (2**64 - 1)) >= _DERIVED and line.id > 0) or _text(line.name) in DERIVED_NAMES


def _instruction(stats: Mapping[str, Any]) -> str:
    # Nested annotations are joined: a command buffer and the instruction inside it, `command_buffer::fusion.3`.
    return stats.get("hlo_op", "").rpartition("::")[2].removeprefix("%")


def _module(stats: Mapping[str, Any]) -> ModuleName:
    program = stats.get("program_id")
    # A proto has the number of a program as int64 or as uint64.
    return numbered(stats.get("hlo_module", ""), "" if program is None else str(program & (2**64 - 1)))


def _run(stats: Mapping[str, Any]) -> str:
    return str(stats["run_id"]) if "run_id" in stats else ""
