"""Read the JSON that jax.profiler writes for Perfetto and Chrome: `*.trace.json.gz`.

Source: the Trace Event Format; `ts` and `dur` are microseconds. jax.profiler makes this file of an xplane profile, so
that a process is a plane, a thread is a line, and the arguments of an event are its statistics. The file holds no HLO,
and at most a million events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from costax.measure.traces import xplane
from costax.measure.traces.records import Event, ModuleRun, Trace, checked_times, damaged, numbered


class _Slice(NamedTuple):
    """A complete event of the JSON, with times in picoseconds."""

    name: str
    arguments: Mapping[str, Any]
    start: int
    duration: int


def read(contents: bytes, where: str, process: str) -> Trace:
    """Return the trace in a JSON file. process: a name for its process. Raises TraceError for another text."""
    lines = _lines(_events(contents, where), where)
    events: list[Event] = []
    runs: list[ModuleRun] = []
    by_plane: dict[str, dict[str, list[_Slice]]] = {}
    for (plane, line), slices in lines.items():
        by_plane.setdefault(plane, {})[line] = slices
    for plane, own in by_plane.items():
        device = f"{process} {plane}".strip()
        if plane.startswith("/device:GPU:"):
            streams = {line: slices for line, slices in own.items() if line not in xplane.DERIVED_NAMES}
            chosen = streams or {line: slices for line, slices in own.items() if line == xplane.XLA_OPS}
            for line, slices in chosen.items():
                events += [_event(item, device, line, with_name=line == xplane.XLA_OPS) for item in slices]
        elif plane.startswith("/device:"):
            core_runs = [
                ModuleRun(numbered(item.name), str(item.arguments.get("run_id", "")), device, item.start, item.duration)
                for item in own.get(xplane.XLA_MODULES, ())
            ]
            runs += core_runs
            for line, slices in own.items():
                if line == xplane.XLA_OPS or line in xplane.IN_FLIGHT:
                    made = [_event(item, device, line, with_name=True) for item in slices]
                    events += xplane.placed(made, core_runs)
    if not any(event.instruction for event in events):
        for plane, own in by_plane.items():
            if plane.startswith("/host:") or not plane.startswith("/device:"):
                for line, slices in own.items():
                    for item in slices:
                        if "hlo_op" in item.arguments and "correlation_id" not in item.arguments:
                            ordinal = item.arguments.get("device_ordinal", 0)
                            events.append(_event(item, f"{process} {plane}:{ordinal}".strip(), line))
    return Trace("Chrome JSON", events, runs)


def _event(item: _Slice, device: str, line: str, *, with_name: bool = False) -> Event:
    arguments = item.arguments
    named = str(arguments.get("hlo_op", "")).rpartition("::")[2] or (
        item.name.partition(" = ")[0].strip() if with_name else ""
    )
    program = arguments.get("program_id")
    module = numbered(str(arguments.get("hlo_module", "")), "" if program is None else str(program))
    in_flight = line in xplane.IN_FLIGHT
    instruction, run = named.removeprefix("%"), str(arguments.get("run_id", ""))
    return Event(module, instruction, item.name, run, device, line, item.start, item.duration, in_flight)


def _events(contents: bytes, where: str) -> list[Any]:
    try:
        document = json.loads(contents)
    except (ValueError, RecursionError) as fault:
        raise damaged(f"The file is not JSON, or it is cut off: {fault}", where) from fault
    # The list of events may stand alone, without an object around it.
    listed = cast("dict[str, Any]", document).get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise damaged("The JSON has no list `traceEvents`", where, "Pass a trace that jax.profiler wrote.")
    return cast("list[Any]", listed)


def _lines(listed: list[Any], where: str) -> dict[tuple[str, str], list[_Slice]]:
    """Return the complete events by (name of the process, name of the thread)."""
    processes: dict[Any, str] = {}
    threads: dict[tuple[Any, Any], str] = {}
    for item in _objects(listed):
        if item.get("ph") == "M" and isinstance(item.get("args"), dict):
            name = str(item["args"].get("name", ""))
            if item.get("name") == "process_name":
                processes[_key(item.get("pid"))] = name
            elif item.get("name") == "thread_name":
                threads[_key(item.get("pid")), _key(item.get("tid"))] = name
    lines: dict[tuple[str, str], list[_Slice]] = {}
    for item in _objects(listed):
        if item.get("ph") != "X":
            continue
        process, thread = _key(item.get("pid")), _key(item.get("tid"))
        plane = processes.get(process, f"process {process}")
        # Two threads may have the same name, so that the number of a thread of the host is part of it.
        line = threads.get((process, thread), f"thread {thread}")
        if not plane.startswith("/device:"):
            line = f"{line} {thread}"
        start, duration = _picoseconds(item.get("ts"), where), _picoseconds(item.get("dur", 0), where)
        arguments = item.get("args")
        known = cast("Mapping[str, Any]", arguments if isinstance(arguments, dict) else {})
        times = checked_times(start, duration, where)
        lines.setdefault((plane, line), []).append(_Slice(str(item.get("name", "")), known, *times))
    return lines


def _objects(listed: list[Any]) -> Iterator[dict[str, Any]]:
    return (cast("dict[str, Any]", item) for item in listed if isinstance(item, dict))


def _key(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else repr(value)


def _picoseconds(value: Any, where: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError) as fault:
        raise damaged(f"An event has the time {value!r}, which is not a number of microseconds", where) from fault
    if not math.isfinite(number) or abs(number) > 1e15:
        raise damaged(f"An event has the time {value!r} microseconds", where)
    return round(number * 1e6)
