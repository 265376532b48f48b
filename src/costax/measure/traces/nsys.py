"""Read what nsys-jax writes: the times of NVTX ranges projected to the GPU, as parquet, and the dumped HLO modules.

`nvtx_gpu_proj_trace/trace.parquet` has a row for each range, with the time from the first to the last kernel that the
range launched, in nanoseconds. XLA opens a range for each run of a module (`XlaModule:#hlo_module=jit_f,program_id=3#`)
and for each instruction (`Thunk:#name=jit(f)/dot_general,hlo_op=fusion.1#`). nsys-jax-combine makes a folder of
`trace.parquet`, with a file for each process. Source: nsys_jax/data_loaders.py of NVIDIA/JAX-Toolbox, which knows three
versions of the columns.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

from costax.errors import ExtraError
from costax.measure.traces.records import Event, ModuleName, ModuleRun, Trace, checked_times, damaged

TRACE: Final = re.compile(r"(?:.*/)?nvtx_gpu_proj_trace/trace\.parquet(?:/[^/]+)?")
"""The path of a table of ranges in a folder or archive of nsys-jax."""

# The quantity -> its name in the versions of the table.
_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "name": ("Name", "Text"),
    "start": ("Projected Start", "Start"),
    "duration": ("Projected Duration", "End"),
    "id": ("RangeId", "Range ID"),
    "parent": ("ParentId", "Parent ID"),
    "thread": ("TID",),
}
# A profile of some steps has 10^4 to 10^6 ranges.
_MOST_RANGES: Final = 5_000_000
_MODULE: Final = re.compile(r"(?:TSL:)?XlaModule:#(?:.*,)?hlo_module=([^,#]+)(?:,program_id=(\d+))?.*#")
_THUNK: Final = re.compile(r"(?:TSL:)?Thunk:#(?:.*,)?hlo_op=([^,#]+).*#")


class _Range(NamedTuple):
    name: str
    start: int
    duration: int
    parent: int | None
    thread: int


def read(table: bytes, where: str, process: str) -> Trace:
    """Return the trace in a table of ranges. Raises TraceError for other bytes, ExtraError without pyarrow."""
    ranges = _ranges(table, where)
    parents = {item.parent for item in ranges.values() if _THUNK.fullmatch(item.name)}
    events: list[Event] = []
    runs: list[ModuleRun] = []
    modules: dict[int, ModuleName] = {}
    for number, item in ranges.items():
        match = _MODULE.fullmatch(item.name)
        if match:
            modules[number] = ModuleName(match[1], match[2] or "")
            device = f"{process} thread {item.thread}".strip()
            runs.append(ModuleRun(modules[number], str(number), device, item.start, item.duration))
    for number, item in ranges.items():
        match = _THUNK.fullmatch(item.name)
        # The time of a range around others, such as that of a loop or a CUDA graph, is the time of those inside.
        if match is None or number in parents:
            continue
        outer = _outer(item, ranges, modules, where)
        module = modules[outer] if outer is not None else ModuleName("")
        device = f"{process} thread {item.thread}".strip()
        run = str(outer) if outer is not None else ""
        # Kernels of several streams lie on one thread; only the parents say what is inside what.
        events.append(Event(module, match[1], match[1], run, device, str(number), item.start, item.duration))
    return Trace("nsys-jax", events, runs)


def _outer(item: _Range, ranges: Mapping[int, _Range], modules: Mapping[int, ModuleName], where: str) -> int | None:
    """Return the id of the innermost run of a module around a range; None for a range outside of all."""
    seen: set[int] = set()
    parent = item.parent
    while parent is not None and parent not in modules:
        if parent in seen:
            raise damaged(f"The range {parent} is inside itself", where)
        seen.add(parent)
        parent = ranges[parent].parent if parent in ranges else None
    return parent


def _ranges(table: bytes, where: str) -> dict[int, _Range]:
    columns = _columns(table, where)
    ranges: dict[int, _Range] = {}
    for name, start, duration, number, parent, thread in zip(
        *(columns[key] for key in ("name", "start", "duration", "id", "parent", "thread")), strict=True
    ):
        # A row without a number sums the kernels outside of all ranges.
        if number is None or name is None or number != number:
            continue
        if int(number) in ranges:
            raise damaged(
                f"Two ranges have the number {int(number)}",
                where,
                "Nsight Systems 2024.5 and 2024.6 do so with CUDA graphs. Profile again with "
                "XLA_FLAGS=--xla_gpu_enable_command_buffer= or with another version.",
            )
        if start is None or duration is None or start != start or duration != duration:
            raise damaged(f"The range {int(number)} has no time", where)
        times = checked_times(int(start) * 1000, int(duration) * 1000, where)
        above = None if parent is None or parent != parent else int(parent)
        ranges[int(number)] = _Range(str(name), *times, above, int(thread or 0))
    return ranges


def _columns(table: bytes, where: str) -> dict[str, list[Any]]:
    """Return the columns that a join needs, as lists."""
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ExtraError("pyarrow", "A trace of nsys-jax", "traces") from error
    faults = (arrow.ArrowException, OSError, ValueError, TypeError, ArithmeticError, MemoryError)
    try:
        file = parquet.ParquetFile(io.BytesIO(table))
        names: list[str] = file.schema_arrow.names
        rows: int = file.metadata.num_rows
    except faults as fault:
        raise damaged(f"The table of ranges is not parquet, or it is cut off: {fault}", where) from fault
    if rows > _MOST_RANGES:
        raise damaged(f"The table claims {rows:,} ranges, more than {_MOST_RANGES:,}", where, "Profile fewer steps.")
    chosen = {key: next((name for name in known if name in names), None) for key, known in _COLUMNS.items()}
    missing = [_COLUMNS[key][0] for key, name in chosen.items() if name is None]
    if missing:
        what = f"The table has no column {', '.join(missing)}; it has {', '.join(names[:20])}"
        raise damaged(what, where, "Pass a folder or zip that nsys-jax wrote.")
    wanted = dict.fromkeys(filter(None, chosen.values()))
    try:
        content = file.read(columns=[*wanted, *(["Domain"] if "Domain" in names else [])])
        columns = {key: content.column(name).to_pylist() for key, name in chosen.items()}
        if chosen["duration"] == "End":
            columns["duration"] = [b - a for a, b in zip(columns["start"], columns["duration"], strict=True)]
        if "Domain" in names:
            domains = content.column("Domain").to_pylist()
            columns["name"] = [f"{a}:{b}" if a else b for a, b in zip(domains, columns["name"], strict=True)]
    except faults as fault:
        raise damaged(f"The table of ranges is damaged: {fault}", where) from fault
    return columns
