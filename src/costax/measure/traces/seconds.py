"""Read a table of measured times, as CSV: one line for each instruction, whose time any other profiler gave.

A column `instruction` (or `hlo_op`, `name`) names the HLO instruction. A column of times names its unit: `seconds`,
`ms`, `us`, `ns` or `ps`, `nanoseconds_median`, `duration_us` ... Optional columns: `module`, `run`, `device`, and the
`min` and `max` of the time in the same unit. Without `run` a line holds the time of one run, such as the median, and
an instruction has one line. With `run`, several lines of an instruction in a run are its executions, and are summed.
"""

from __future__ import annotations

import csv
import io
import math
import re
from typing import Final

from costax.errors import TraceError
from costax.measure.traces.records import Event, ModuleName, Trace, checked_times, damaged, numbered

_NAMES: Final = ("instruction", "hlo_op", "hlo_instruction", "op", "name")
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 10**12),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 10**9),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 10**6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 10**3),
    **dict.fromkeys(("ps", "picosecond", "picoseconds"), 1),
}
# Words of a heading beside the unit; of several columns the first kind in this order is the time.
_KINDS: Final = ("median", "mean", "", "total", "time", "duration", "self", "min", "max")


def read(contents: bytes, where: str) -> Trace:
    """Return the trace in a CSV table. Raises TraceError for a table without instructions or without a unit of time."""
    try:
        text = contents.decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except (UnicodeDecodeError, csv.Error) as fault:
        raise damaged(f"The file is not a table of comma-separated values: {fault}", where, _CURE) from fault
    if not lines:
        raise damaged("The file is empty", where, _CURE)
    headings = [heading.strip().lower() for heading in lines[0]]
    name = next((headings.index(known) for known in _NAMES if known in headings), None)
    if name is None:
        raise damaged(f"No column of the table names the instruction: {', '.join(headings)[:200]}", where, _CURE)
    column, unit = _times(headings, where)
    fastest, slowest = (_extreme(headings, kind) for kind in ("min", "max"))
    optional = {key: headings.index(key) for key in ("module", "hlo_module", "run", "device") if key in headings}
    module_column = optional.get("module", optional.get("hlo_module"))
    events: list[Event] = []
    lines_of: dict[tuple[ModuleName, str, str], int] = {}
    spreads: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line or not any(line):
            continue
        place = f"{where}, line {number}"
        if len(line) != len(headings):
            raise damaged(f"The line has {len(line)} values, the heading {len(headings)}", place, _CURE)
        duration = _value(line[column], unit, place)
        instruction = line[name].strip().removeprefix("%")
        module = numbered(line[module_column].strip()) if module_column is not None else ModuleName("")
        run, device = (line[optional[key]].strip() if key in optional else "" for key in ("run", "device"))
        if "run" not in optional and lines_of.setdefault((module, device, instruction), number) != number:
            raise TraceError(
                f"The table has two lines for `{instruction[:200]}`.",
                where=f"{where}, lines {lines_of[module, device, instruction]} and {number}",
                why="They may be two runs, whose median is the time, or two executions in one run, whose sum it is.",
                cure="Add a column `run`, or write one line with the time of a run.",
            )
        events.append(Event(module, instruction, instruction, run or "0", device, "", 0, duration))
        if fastest is not None and slowest is not None:
            spreads[instruction] = (
                _value(line[fastest[0]], fastest[1], place),
                _value(line[slowest[0]], slowest[1], place),
            )
    return Trace("CSV", events, timed=False, spreads=spreads)


_CURE: Final = "Write a line `instruction,nanoseconds` and then one line for each instruction: fusion.3,1250"


def _unit(heading: str) -> tuple[int, str] | None:
    """Return (picoseconds of the unit, the other words) of a heading such as `ns_median`; None without a unit."""
    words = re.split(r"[_\s()\[\]/]+", heading.strip("_ ()[]"))
    units = [word for word in words if word in _UNITS]
    return (_UNITS[units[0]], " ".join(word for word in words if word != units[0])) if len(units) == 1 else None


def _times(headings: list[str], where: str) -> tuple[int, int]:
    """Return the column of the times, and its unit in picoseconds."""
    found = {i: parsed for i, heading in enumerate(headings) if (parsed := _unit(heading)) and parsed[1] in _KINDS}
    if not found:
        raise TraceError(
            f"No column of the table has a time with its unit: {', '.join(headings)[:200]}",
            where=where,
            why="A time without a unit could be nanoseconds as well as microseconds, a factor of a thousand.",
            cure="Name the column after its unit: seconds, ms, us or ns, for example `ns_median`.",
        )
    chosen = min(found, key=lambda i: (_KINDS.index(found[i][1]), i))
    return chosen, found[chosen][0]


def _extreme(headings: list[str], kind: str) -> tuple[int, int] | None:
    return next(((i, u[0]) for i, heading in enumerate(headings) if (u := _unit(heading)) and u[1] == kind), None)


def _value(text: str, unit: int, where: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number * unit < 2**63:
        raise damaged(f"{text[:60]!r} is not a time", where, _CURE)
    return checked_times(0, round(number * unit), where)[1]
