# ruff: noqa: E501 - the lines of HLO text are as long as XLA prints them
"""Writers of small traces in every format, and the module whose instructions they time.

The writers know nothing of costax: they follow xplane.proto, the Trace Event Format and the columns of nsys-jax. Times
are written in nanoseconds. Every trace has two runs of the module: in the second each instruction takes twice as long.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from costax import _jax

N = 64
DOT = 2 * N**3
TRIPS = 4
STEP = """HloModule jit_step, is_scheduled=true

%fused (p0: f32[64,64], p1: f32[64,64]) -> f32[64,64] {
  %p0 = f32[64,64] parameter(0)
  %p1 = f32[64,64] parameter(1)
  ROOT %dot.inner = f32[64,64] dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (s: (s32[], f32[64,64])) -> (s32[], f32[64,64]) {
  %s = (s32[], f32[64,64]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[64,64] get-tuple-element(%s), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %tanh.5 = f32[64,64] tanh(%x), metadata={op_name="jit(step)/jvp(net)/layer_1/while/body/tanh"}
  ROOT %t = (s32[], f32[64,64]) tuple(%next, %tanh.5)
}

%cond (s: (s32[], f32[64,64])) -> pred[] {
  %s = (s32[], f32[64,64]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] constant(4)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[64,64], b: f32[64,64]) -> (f32[64,64], f32[128,64]) {
  %a = f32[64,64] parameter(0)
  %b = f32[64,64] parameter(1)
  %loop_fusion.3 = f32[64,64] fusion(%a, %b), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/jvp(net)/layer_0/dot_general" source_file="/home/user/net.py" source_line=7}
  %zero = s32[] constant(0)
  %init = (s32[], f32[64,64]) tuple(%zero, %loop_fusion.3)
  %all-gather-start = (f32[64,64], f32[128,64]) all-gather-start(%b), dimensions={0}, replica_groups={{0,1}}, metadata={op_name="jit(step)/all_gather"}
  %while.1 = (s32[], f32[64,64]) while(%init), condition=%cond, body=%body, metadata={op_name="jit(step)/jvp(net)/layer_1/while"}, backend_config={"known_trip_count":{"n":"4"}}
  %y = f32[64,64] get-tuple-element(%while.1), index=1
  %dot.2 = f32[64,64] dot(%y, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(step)/transpose(jvp(net))/layer_0/dot_general" source_file="/home/user/net.py" source_line=7}
  %all-gather-done = f32[128,64] all-gather-done(%all-gather-start)
  ROOT %out = (f32[64,64], f32[128,64]) tuple(%dot.2, %all-gather-done)
}
"""
# The condition of the loop looks at the data, so that the module does not say how often it runs.
OPEN = STEP.replace(', backend_config={"known_trip_count":{"n":"4"}}', "").replace(
    "  %n = s32[] constant(4)\n  ROOT %lt = pred[] compare(%i, %n), direction=LT",
    "  %x = f32[64,64] get-tuple-element(%s), index=1\n  %e = f32[1,1] slice(%x), slice={[0:1], [0:1]}\n"
    "  %r = f32[] reshape(%e)\n  %n = f32[] constant(4)\n  ROOT %lt = pred[] compare(%r, %n), direction=LT",
)
PROGRAM = 15
# Instruction: nanoseconds in the first run.
FIRST = {"loop_fusion.3": 3000, "tanh.5": 100, "dot.2": 2000, "all-gather-start": 5000}


@cache
def step_module() -> bytes:
    """Return the module, serialised."""
    return _jax.hlo_from_text(STEP)


# Protobuf, by hand.


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


class Plane:
    """An XPlane in the making."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[bytes] = []
        self.names: dict[str, int] = {}
        self.stats: dict[str, int] = {}
        self.metadata: list[bytes] = []

    def stat(self, name: str, value: int | str | bytes) -> bytes:
        """A text is stored once, as the name of a statistic that others refer to, as XLA does."""
        key = self.stats.setdefault(name, len(self.stats) + 1)
        if isinstance(value, str):
            return field(1, key) + field(7, self.stats.setdefault(value, len(self.stats) + 1))
        return field(1, key) + field(6 if isinstance(value, bytes) else 4, value)

    def event(self, name: str, start_ns: int, ns: int, **stats: int | str) -> bytes:
        key = self.names.setdefault(name, len(self.names) + 1)
        listed = b"".join(field(4, self.stat(stat, value)) for stat, value in stats.items())
        return field(1, key) + field(2, start_ns * 1000) + field(3, ns * 1000) + listed

    def line(self, name: str, events: list[bytes], number: int = 0, start_ns: int = 0) -> None:
        head = field(1, number or len(self.lines) + 1) + field(2, name) + field(3, start_ns)
        self.lines.append(head + b"".join(field(4, event) for event in events))

    def embed(self, name: str, program: int, hlo: bytes) -> None:
        # An HloProto: field 1 is the module.
        stat = self.stat("Hlo Proto", field(1, hlo))
        self.metadata.append(field(1, program) + field(2, field(1, program) + field(2, name) + field(5, stat)))

    def bytes(self) -> bytes:
        events = [field(1, key) + field(2, field(1, key) + field(2, name)) for name, key in self.names.items()]
        stats = [field(1, key) + field(2, field(1, key) + field(2, name)) for name, key in self.stats.items()]
        parts = [(3, self.lines), (4, [*self.metadata, *events]), (5, stats)]
        return field(2, self.name) + b"".join(field(number, raw) for number, raws in parts for raw in raws)


def space(*planes: Plane) -> bytes:
    return b"".join(field(1, plane.bytes()) for plane in planes)


def metadata(hlo: bytes | None = None, name: str = "jit_step", program: int = PROGRAM) -> Plane:
    plane = Plane("/host:metadata")
    plane.embed(f"{name}({program})", program, hlo or step_module())
    return plane


def gpu_xplane(*, hlo: bytes | None = None, devices: int = 1, name: str = "jit_step", program: int = PROGRAM) -> bytes:
    """Kernels on two streams, a copy without a module, the launches on the host, and a line that XProf adds."""
    planes = [metadata(hlo, name, program)]
    for device in range(devices):
        plane = Plane(f"/device:GPU:{device}")
        compute, collective, derived = [], [], []
        for run in range(2):
            at, scale = 100_000 * run, run + 1
            known: dict[str, Any] = {"hlo_module": name, "program_id": program, "correlation_id": 7}
            first, tanh = FIRST["loop_fusion.3"] * scale, FIRST["tanh.5"] * scale
            compute.append(plane.event("loop_fusion_3", at, first, hlo_op="loop_fusion.3", **known))
            compute += [
                plane.event("tanh_5", at + 10_000 + 1000 * trip, tanh, hlo_op="tanh.5", **known)
                for trip in range(TRIPS)
            ]
            compute.append(plane.event("cutlass", at + 20_000, FIRST["dot.2"] * scale, hlo_op="dot.2", **known))
            gathered = FIRST["all-gather-start"] * scale
            collective.append(plane.event("ncclKernel", at + 10_000, gathered, hlo_op="all-gather-start", **known))
            derived.append(plane.event("loop_fusion.3", at, 90_000, **known))
        compute.append(plane.event("MemcpyD2H", 250_000, 700))
        plane.line("Stream #1(Compute)", compute, start_ns=1000)
        plane.line("Stream #2(Compute)", collective, start_ns=1000)
        plane.line("XLA Ops", derived, number=0xDEADBEEF + 3, start_ns=1000)
        planes.append(plane)
    host = Plane("/host:CPU")
    host.line("python", [host.event("cuLaunchKernel", 0, 50, correlation_id=7, hlo_op="dot.2", hlo_module=name)])
    return space(*planes, host)


def tpu_xplane() -> bytes:
    """One core: the event of a loop holds those of its body; the collective is in flight beside them."""
    plane = Plane("/device:TPU:0")
    modules, operations, flights = [], [], []
    for run in range(2):
        at, scale = 100_000 * run, run + 1
        modules.append(plane.event(f"jit_step({PROGRAM})", at, 30_000 * scale, run_id=70 + run))
        text = "%loop_fusion.3 = f32[64,64]{1,0} fusion(%a, %b), kind=kLoop, calls=%fused"
        operations.append(plane.event(text, at, FIRST["loop_fusion.3"] * scale))
        operations.append(plane.event("%all-gather-start = (f32[64,64]) all-gather-start(%b)", at + 9000, 10 * scale))
        operations.append(plane.event("%while.1 = (s32[]) while(%init)", at + 10_000, 2000 * scale))
        for trip in range(TRIPS):
            start = at + 10_000 + 300 * trip * scale
            operations.append(plane.event("%tanh.5 = f32[64,64] tanh(%x)", start, FIRST["tanh.5"] * scale))
        operations.append(plane.event("%dot.2 = f32[64,64] dot(%y, %b)", at + 20_000, FIRST["dot.2"] * scale))
        operations.append(plane.event("%all-gather-done = f32[128,64] all-gather-done(%s)", at + 26_000, 40 * scale))
        flights.append(plane.event("%all-gather-start = (f32[64,64]) all-gather-start(%b)", at + 9000, 17_000 * scale))
    plane.line("Steps", [plane.event("0", 0, 300_000)])
    plane.line("XLA Modules", modules)
    plane.line("XLA Ops", operations)
    plane.line("Async XLA Ops", flights)
    return space(metadata(), plane)


def cpu_xplane() -> bytes:
    """Threads of the host: the body of the loop runs on another thread than the loop."""
    plane = Plane("/host:CPU")
    first, second = [], []
    for run in range(2):
        at, scale = 100_000 * run, run + 1
        known: dict[str, Any] = {"hlo_module": "jit_step", "program_id": PROGRAM, "run_id": -5 + run}

        def event(name: str, start: int, ns: int, known: dict[str, Any] = known) -> bytes:
            return plane.event(name, start, ns, hlo_op=name, **known)

        first.append(plane.event("ThunkExecutor::Execute", at, 90_000))
        first.append(event("loop_fusion.3", at, FIRST["loop_fusion.3"] * scale))
        first.append(event("while.1", at + 10_000, 2000 * scale))
        second += [event("tanh.5", at + 10_000 + 300 * trip * scale, FIRST["tanh.5"] * scale) for trip in range(TRIPS)]
        first.append(event("dot.2", at + 20_000, FIRST["dot.2"] * scale))
        first.append(event("all-gather-start", at + 30_000, FIRST["all-gather-start"] * scale))
    plane.line("tf_XLAEigen/1", first)
    plane.line("tf_XLAEigen/2", second)
    return space(metadata(), plane)


def chrome_json(kind: str) -> bytes:
    """The trace of a GPU, TPU or CPU as jax.profiler writes it for Chrome."""
    events: list[dict[str, Any]] = []
    process = {"gpu": "/device:GPU:0", "tpu": "/device:TPU:0", "cpu": "/host:CPU"}[kind]
    events.append({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": process}})
    threads = {"gpu": ["Stream #1", "Stream #2"], "tpu": ["XLA Modules", "XLA Ops"], "cpu": ["a", "b"]}[kind]
    events += [
        {"ph": "M", "pid": 1, "tid": i, "name": "thread_name", "args": {"name": name}} for i, name in enumerate(threads)
    ]
    for run in range(2):
        at, scale = 100.0 * run, run + 1

        def add(name: str, thread: int, ts: float, ns: int, run: int = run, scale: int = scale) -> None:
            args = {"hlo_op": name, "hlo_module": "jit_step"}
            args |= {"cpu": {"run_id": str(run)}, "gpu": {"correlation_id": "7"}, "tpu": {}}[kind]
            args = {"long_name": f"%{name} = ..."} if kind == "tpu" else args
            event = {"ph": "X", "pid": 1, "tid": thread, "ts": ts, "dur": ns * scale / 1000, "name": name, "args": args}
            events.append(event)

        if kind == "tpu":
            module = {"ph": "X", "pid": 1, "tid": 0, "ts": at, "dur": 30.0 * scale, "name": f"jit_step({PROGRAM})"}
            events.append({**module, "args": {"run_id": str(run)}})
        line = 1 if kind == "tpu" else 0
        add("loop_fusion.3", line, at, FIRST["loop_fusion.3"])
        for trip in range(TRIPS):
            add("tanh.5", 1, at + 10 + 0.3 * trip * scale, FIRST["tanh.5"])
        if kind != "gpu":
            add("while.1", line, at + 10, 2000)
        add("dot.2", line, at + 20, FIRST["dot.2"])
        add("all-gather-start", 1, at + 22 + 2 * scale, FIRST["all-gather-start"])
    events.append({})
    return gzip.compress(json.dumps({"displayTimeUnit": "ns", "traceEvents": events}).encode(), mtime=0)


def nsys_table(version: int = 0) -> bytes:
    """The ranges of nsys-jax as parquet, in one of three versions of the columns."""
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, Any]] = [{"Name": None, "Start": 0, "Duration": 10**6, "Id": None, "Parent": None}]

    def add(name: str, start: int, ns: int, parent: int | None) -> int:
        rows.append({"Name": f"TSL:{name}", "Start": start, "Duration": ns, "Id": len(rows), "Parent": parent})
        return len(rows) - 1

    for run in range(2):
        at, scale = 100_000 * run, run + 1
        module = add(f"XlaModule:#prefix=jit(step),hlo_module=jit_step,program_id={PROGRAM}#", at, 30_000 * scale, None)
        add("Thunk:#name=jit(step)/jvp(net)/layer_0/dot_general,hlo_op=loop_fusion.3#", at, 3000 * scale, module)
        loop = add("Thunk:#name=while,hlo_op=while.1#", at + 10_000, 2000 * scale, module)
        for trip in range(TRIPS):
            add("Thunk:#hlo_op=tanh.5#", at + 10_000 + 300 * trip * scale, FIRST["tanh.5"] * scale, loop)
        add("Thunk:#hlo_op=dot.2#", at + 20_000, FIRST["dot.2"] * scale, module)
        gather = add("Thunk:#hlo_op=all-gather-start#", at + 9_000, FIRST["all-gather-start"] * scale, module)
        add("ncclGroupEnd", at + 9_000, 100, gather)
    names = {
        0: {"Name": "Name", "Start": "Projected Start", "Duration": "Projected Duration", "Id": "RangeId"},
        1: {"Name": "Text", "Start": "Start", "Duration": "End", "Id": "Range ID"},
    }
    renamed = names[min(version, 1)] | {"Parent": "ParentId" if version == 0 else "Parent ID"}
    table: dict[str, list[Any]] = {renamed[key]: [row[key] for row in rows] for key in renamed}
    if version:
        table["End"] = [row["Start"] + row["Duration"] for row in rows]
        table["Text"] = [name and name.removeprefix("TSL:") for name in table["Text"]]
    if version == 2:
        table["Domain"] = ["TSL"] * len(rows)
    table["TID"] = [5] * len(rows)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(table), file)
    return file.getvalue()


def nsys_zip(tables: int = 1) -> bytes:
    """An archive of nsys-jax with the module, or of nsys-jax-combine with several ranks."""
    files = {f"dump/module_{PROGRAM:04}.jit_step.sm_9.0_gpu_after_optimizations.hlo.pb": field(1, step_module())}
    path = "nvtx_gpu_proj_trace/trace.parquet"
    files |= {path: nsys_table()} if tables == 1 else {f"{path}/rank{i}": nsys_table() for i in range(tables)}
    return zipped(files)


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, contents in files.items():
            archive.writestr(path, contents)
    return file.getvalue()


def csv_table(unit: str = "ns", scale: float = 1.0) -> bytes:
    lines = [f"{name},{ns * (TRIPS if name == 'tanh.5' else 1) * scale:g}" for name, ns in FIRST.items()]
    return "\n".join([f"hlo_op,{unit}", *lines, ""]).encode()


def written(folder: Path, name: str, contents: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path
