"""Flame graphs: an analysis as weighted stacks for speedscope and pprof. The weights are FLOPs, MACs, bytes ...

A stack is the scope path, outermost first, with the primitive as its leaf; where a program has several directions, the
direction is its root. The weights of all stacks sum to the total.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from costax.analysis.analysis import Analysis
from costax.core.cost import Cost, Count
from costax.core.open_symbols import check_numbers
from costax.core.printable import printable

_WIDTHS: Final = "A flame graph draws each count as a width, which is a number."
# The weights by name: the unit in pprof, the unit in speedscope (which has none for counts), the count.
WEIGHTS: Final[Mapping[str, tuple[str, str, Callable[[Cost], Count]]]] = {
    "FLOPs": ("count", "none", lambda cost: cost.flops),
    "MACs": ("count", "none", lambda cost: cost.macs),
    "transcendentals": ("count", "none", lambda cost: cost.transcendentals),
    "OPs": ("count", "none", lambda cost: cost.ops),
    "bytes, unfused": ("bytes", "bytes", lambda cost: cost.bytes_unfused),
}
_INT64: Final = 2**63
_VARINT: Final = 0
_BYTES: Final = 2


class StackFrame(NamedTuple):
    """One frame of a stack: its name, and for a leaf the file and the line."""

    name: str
    file: str = ""
    line: int = 0


def stacks(analysis: Analysis) -> Iterator[tuple[tuple[StackFrame, ...], Cost]]:
    """Yield the stack and the cost of each row, outermost frame first."""
    several = len(analysis.by_direction()) > 1
    for row, cost in analysis.rows.items():
        file, _, line = row.source.rpartition(":")
        leaf = StackFrame(row.primitive, file, int(line)) if line.isdecimal() else StackFrame(row.primitive)
        root = (StackFrame(row.direction),) if several else ()
        yield (*root, *map(StackFrame, row.scope), leaf), cost


def prediction_as_speedscope(prediction: Any) -> str:
    """Return a speedscope file of a prediction: stacks of scopes and kernels, weighted by their predicted seconds."""
    frames: dict[StackFrame, int] = {}
    samples: list[tuple[list[int], Any]] = []
    for part in prediction.parts:
        stack = (*map(StackFrame, part.kernel.scope), StackFrame(part.kernel.name))
        samples.append(([frames.setdefault(frame, len(frames)) for frame in stack], part.seconds))
    name = f"{prediction.analysis.name} on {prediction.device.name}"
    return _speedscope(prediction.analysis, frames, [_profile(name, "seconds", samples)])


def join_as_speedscope(join: Any) -> str:
    """Return a speedscope file of a join: stacks of scopes and instructions, weighted by their measured seconds."""
    frames: dict[StackFrame, int] = {}
    samples: list[tuple[list[int], Any]] = []
    for row in join.rows:
        file, _, line = row.source.rpartition(":")
        leaf = StackFrame(row.name, file, int(line)) if line.isdecimal() else StackFrame(row.name)
        stack = (*map(StackFrame, row.place.scope), leaf)
        samples.append(([frames.setdefault(frame, len(frames)) for frame in stack], row.seconds))
    return _speedscope(join.analysis, frames, [_profile(f"{join.name}, measured", "seconds", samples)])


def prediction_as_perfetto(prediction: Any) -> str:
    """Return a trace for Perfetto: the kernels of a prediction one after the other, as long as each is expected to run.

    Source: the Trace Event Format (JSON), complete events; microseconds.
    """
    start = prediction.dispatch * 1e6
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": printable(prediction.device.name)}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": printable(prediction.analysis.name)}},
    ]
    if start:
        events.append({"ph": "X", "name": "(dispatch)", "pid": 1, "tid": 1, "ts": 0.0, "dur": start})
    for part in prediction.parts:
        kernel = part.kernel
        details = {
            "scope": printable("/".join(kernel.scope)),
            "bound by": part.timing.bound,
            "runs": kernel.times,
            "FLOPs": kernel.flops * kernel.times,
            "bytes": kernel.moved * kernel.times,
        }
        length = part.seconds * 1e6
        events.append(
            {"ph": "X", "name": printable(kernel.name), "cat": kernel.direction or "forward", "pid": 1, "tid": 1}
            | {"ts": start, "dur": length, "args": details}
        )
        start += length
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n"


def as_speedscope(analysis: Analysis) -> str:
    """Return a speedscope file: one profile per weight, with shared frames. Source: its file-format-schema.json."""
    check_numbers(analysis, _WIDTHS)
    frames: dict[StackFrame, int] = {}
    samples: list[tuple[list[int], Cost]] = []
    for stack, cost in stacks(analysis):
        samples.append(([frames.setdefault(frame, len(frames)) for frame in stack], cost))
    profiles = [
        _profile(f"{analysis.name}, {name}", unit, [(stack, of(cost)) for stack, cost in samples])
        for name, (_, unit, of) in WEIGHTS.items()
        if of(analysis.total)
    ]
    return _speedscope(analysis, frames, profiles)


def _speedscope(analysis: Analysis, frames: dict[StackFrame, int], profiles: list[dict[str, Any]]) -> str:
    record = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": printable(analysis.name),
        "exporter": f"costax {analysis.versions.get('costax', '')}".rstrip(),
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in frames]},
        "profiles": profiles,
    }
    return json.dumps(record) + "\n"


def _frame(frame: StackFrame) -> dict[str, Any]:
    place = {"file": printable(frame.file), "line": frame.line} if frame.file else {}
    return {"name": printable(frame.name), **place}


def _profile(name: str, unit: str, samples: list[tuple[list[int], Count]]) -> dict[str, Any]:
    weighty = [(stack, weight) for stack, weight in samples if weight]
    return {
        "type": "sampled",
        "name": printable(name),
        "unit": unit,
        "startValue": 0,
        "endValue": sum(weight for _, weight in weighty),
        "samples": [stack for stack, _ in weighty],
        "weights": [weight for _, weight in weighty],
    }


def as_pprof(analysis: Analysis) -> bytes:
    """Return a gzipped profile for pprof, with one sample type per weight. Source: pprof's profile.proto.

    pprof's values are 64-bit integers. Weights whose total is larger are divided by 1000, 1000^2 ..., and their names
    say so: `FLOPs x 1,000`.
    """
    check_numbers(analysis, _WIDTHS)
    strings: dict[str, int] = {"": 0}
    locations: dict[StackFrame, int] = {}
    scales = {name: _scale(of(analysis.total)) for name, (_, _, of) in WEIGHTS.items()}
    # Fields of the message Profile: 1 sample_type, 2 sample, 4 location, 5 function, 6 string_table,
    # 14 default_sample_type. A stack is one sample, whose locations are innermost first; a location holds one function.
    message = bytearray()
    for name, (unit, _, _) in WEIGHTS.items():
        scale = f" x {scales[name]:,}" if scales[name] > 1 else ""
        kind = _field(1, _number(strings, name + scale)) + _field(2, _number(strings, unit))
        message += _field(1, kind)
    for stack, cost in stacks(analysis):
        ids = [locations.setdefault(frame, len(locations) + 1) for frame in reversed(stack)]
        values = [of(cost) // scales[name] for name, (_, _, of) in WEIGHTS.items()]
        message += _field(2, _field(1, _packed(ids)) + _field(2, _packed(values)))
    for frame, number in locations.items():
        line = _field(1, number) + (_field(2, frame.line) if frame.line else b"")
        message += _field(4, _field(1, number) + _field(4, line))
        name, file = _number(strings, frame.name), _number(strings, frame.file)
        message += _field(5, _field(1, number) + _field(2, name) + _field(3, name) + _field(4, file))
    default = _number(strings, next(iter(WEIGHTS)))
    for text in strings:
        message += _field(6, printable(text).encode())
    message += _field(14, default)
    return gzip.compress(bytes(message), mtime=0)


def _scale(total: Count) -> int:
    scale = 1
    while total // scale >= _INT64:
        scale *= 1000
    return scale


def _number(strings: dict[str, int], text: str) -> int:
    return strings.setdefault(text, len(strings))


def _field(number: int, value: int | bytes) -> bytes:
    """Return one field of a protocol-buffer message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _packed(values: list[int]) -> bytes:
    return b"".join(map(_varint, values))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
