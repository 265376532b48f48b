"""The tables and the JSON record of a trace joined with its module."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group
from rich.table import Table as RichTable

from costax.core import units
from costax.core.printable import printable
from costax.errors import InputError
from costax.measure.join.result import BY, Join, JoinRow, Spread, Sum
from costax.program.tree import DIRECTIONS
from costax.report.join_tree import JoinNode, join_tree
from costax.report.tables import Line, Table, short_place
from costax.report.text import footer, one_line, rich_table

SCHEMA: Final = "costax/join/1"
# A run that is busy for a smaller share of its time has a note.
_BUSY: Final = 0.5
_READABLE_LINES: Final = 40
_LISTED: Final = 5


def render(
    join: Join, *, by: str = "scope", depth: int | None = None, top: int | None = None, direction: str | None = None
) -> Group:
    """Return the times of a run, one table, and what the numbers include, for rich."""
    shown = table(join, by, depth, top, direction)
    alarms = [one_line(alarm, style="bold red") for alarm in (another_device(join),) if alarm]
    return Group(_header(join), *alarms, rich_table(shown), footer(notes(join, shown)[len(alarms) :]))


def table(
    join: Join, by: str = "scope", depth: int | None = None, top: int | None = None, direction: str | None = None
) -> Table:
    """Return one line for each scope, direction, primitive, source line, opcode or instruction, the longest first.

    depth: the number of levels of scopes, by default as many as fit in 40 lines. top: the number of lines. direction:
    only this part of a training step. Raises InputError for an unknown `by` or `direction`.
    """
    _check("by", by, BY)
    rows = join.rows
    if direction is not None:
        _check("direction", direction, DIRECTIONS)
        rows = [row for row in rows if row.place.direction == direction]
    whole = _sum(rows)
    columns = _columns(join, by)
    if by == "scope":
        return _by_scope(rows, whole, columns, depth, top, direction)
    sums: dict[str, Sum] = {}
    for row in rows:
        name = _KEYS[by](row)
        sums[name] = sums.get(name, Sum()).plus(row)
    ordered = sorted(sums.items(), key=lambda item: (-item[1].seconds, -item[1].cost.flops, item[0]))
    label = short_place if by == "source" else str
    absent = f"(no {by})"
    count = top or (_READABLE_LINES if by in ("instruction", "source") else len(ordered))
    lines = [_line(0, label(name) or absent, entry, whole, columns) for name, entry in ordered[:count]]
    if len(ordered) > count:
        rest = Sum()
        for row in rows:
            if _KEYS[by](row) in {name for name, _ in ordered[count:]}:
                rest = rest.plus(row)
        lines.append(_line(0, f"({len(ordered) - count} more)", rest, whole, columns))
    return Table(by, tuple(columns), tuple(lines), _line(0, "total", whole, whole, columns), direction=direction)


_KEYS: Final[Mapping[str, Callable[[JoinRow], str]]] = {
    "direction": lambda row: row.place.direction,
    "primitive": lambda row: row.place.primitive,
    "source": lambda row: row.source,
    "opcode": lambda row: row.opcode,
    "instruction": lambda row: row.name,
}


def _sum(rows: Sequence[JoinRow]) -> Sum:
    whole = Sum()
    for row in rows:
        whole = whole.plus(row)
    return whole


def _by_scope(
    rows: Sequence[JoinRow],
    whole: Sum,
    columns: Mapping[str, Callable[[Sum, Sum], str]],
    depth: int | None,
    top: int | None,
    direction: str | None,
) -> Table:
    tree = join_tree(rows)
    full = tree.height
    if depth is None:
        fitting = [d for d in range(1, full + 1) if tree.lines(d) <= _READABLE_LINES]
        depth = max(fitting, default=1)
    lines: list[Line] = []

    def add(node: JoinNode, level: int) -> None:
        children = node.children if level < depth else []
        shown = children[:top] if top else children
        for child in shown:
            lines.append(_line(level, child.name or "(no scope)", child.total, whole, columns))
            add(child, level + 1)
        if len(shown) < len(children):
            rest = Sum()
            for child in children[len(shown) :]:
                rest = rest.joined(child.total)
            lines.append(_line(level, f"({len(children) - len(shown)} more)", rest, whole, columns))

    add(tree, 0)
    total = _line(0, "total", whole, whole, columns)
    return Table("layer", tuple(columns), tuple(lines), total, min(depth, full), full, direction=direction)


def _columns(join: Join, by: str) -> dict[str, Callable[[Sum, Sum], str]]:
    """Return the heading and the text of each column; those of a device are left out without one."""
    columns: dict[str, Callable[[Sum, Sum], str]] = {
        "time": lambda part, whole: units.seconds(part.seconds),
        "%": lambda part, whole: _percent(part.seconds / whole.seconds)[:-1] if whole.seconds else "-",
        **({"FLOPs": lambda part, whole: units.short(part.cost.flops)} if join.device is None else {}),
        "FLOP/s": lambda part, whole: _rate(part.flops_per_second),
        "B/s": lambda part, whole: _rate(part.bytes_per_second),
    }
    if join.device is not None:
        columns["MFU"] = lambda part, whole: _percent(part.utilisation(part.timed_model_flops, join.peak))
        columns["roofline"] = lambda part, whole: _percent(part.roofline)
        columns["predicted"] = lambda part, whole: "-" if part.predicted is None else units.seconds(part.predicted)
    if by in ("instruction", "opcode"):
        columns["times"] = lambda part, whole: f"{part.executions:,}"
        columns["in all"] = lambda part, whole: units.seconds(part.seconds_in_all)
    return columns


def _percent(share: float | None) -> str:
    return "-" if share is None else "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _timed(join: Join) -> str:
    # Not all is not 100.0 %.
    return _percent(min(join.timed_share, 0.999))


def _rate(value: float | None) -> str:
    return "-" if value is None else units.rate(value)


def _line(depth: int, label: str, part: Sum, whole: Sum, columns: Mapping[str, Callable[[Sum, Sum], str]]) -> Line:
    return Line(depth, printable(label), tuple(text(part, whole) for text in columns.values()))


def _header(join: Join) -> Group:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for figure in heading(join):
        grid.add_row(one_line(figure.name), one_line(figure.value + figure.more))
    return Group(one_line(join.name, style="bold"), one_line(origin(join)), grid)


def origin(join: Join) -> str:
    """Return where the times are from: the format, the runs, and the device."""
    runs = f"{join.runs} run{'s' * (join.runs != 1)} on {join.devices} device{'s' * (join.devices != 1)}"
    processes = f" of {join.processes} processes" if join.processes > 1 else ""
    where = f", {join.device.name}" if join.device else ""
    return f"joined with a trace: {join.form}, {runs}{processes}{where}"


class JoinFigure(NamedTuple):
    """A figure of a run: its name, its value, and what completes the value to a sentence."""

    name: str
    value: str
    more: str = ""


def heading(join: Join) -> list[JoinFigure]:
    """Return the figures of a run."""
    total, entry = join.total, join.entry
    figures: list[JoinFigure] = []
    if join.step is not None:
        figures.append(_spread("one run", join.step))
    inside = f", {units.seconds(entry.seconds)} of it in the entry" if entry.seconds != total.seconds else ""
    figures.append(JoinFigure("instructions", units.seconds(total.seconds), inside))
    if join.busy is not None:
        figures.append(_spread("device busy", join.busy))
    nbytes = units.short_bytes(total.cost.bytes)
    figures.append(
        JoinFigure("executed", units.short(join.flops, "FLOP"), f" ({units.exact(join.flops)}), {nbytes} on one device")
    )
    if join.seconds:
        moved = units.rate(join.achieved_bytes / join.seconds, "B/s")
        figures.append(JoinFigure("achieved", units.rate(join.achieved_flops / join.seconds, "FLOP/s"), f", {moved}"))
    if join.mfu is not None and join.hfu is not None and join.peak is not None:
        unit, peak = join.peak[0], units.rate(join.peak[1], "FLOP/s")
        only = "" if join.timed_share == 1 else f"; {_timed(join)} of the FLOPs have a time"
        figures.append(JoinFigure("MFU", _percent(join.mfu), f", HFU {_percent(join.hfu)} of {peak} ({unit}){only}"))
    if total.predicted is not None:
        gap = "" if total.gap is None else f" for these instructions; measured is {total.gap:.2f} times as long"
        figures.append(JoinFigure("predicted", units.seconds(total.predicted), gap))
    if join.expected_step is not None and total.predicted is not None and join.expected_step != total.predicted:
        hidden = " predicted for the whole program, where kernels hide collectives"
        figures.append(JoinFigure("with overlap", units.seconds(join.expected_step), hidden))
    waiting = f"; {len(join.waiting)} only wait" if join.waiting else ""
    share = f" of the instructions of the entry, {join.joined:,} of {join.expected:,}{waiting}"
    return [*figures, JoinFigure("joined", f"{join.coverage:.1%}", share)]


def _spread(name: str, spread: Spread) -> JoinFigure:
    same = spread.fastest == spread.slowest
    more = "" if same else f"   [{units.seconds(spread.fastest)} to {units.seconds(spread.slowest)}]"
    return JoinFigure(name, units.seconds(spread.median), more)


def another_device(join: Join) -> str:
    """Return a sentence if the trace is of another kind of device than the one whose peaks are used, else ""."""
    if join.device is None or not join.kind or join.kind == join.device.family:
        return ""
    return (
        f"The trace is of a {join.kind.upper()}, and {join.device.name} is a {join.device.family.upper()}: MFU, "
        "roofline and predicted compare two machines."
    )


def notes(join: Join, shown: Table) -> list[str]:
    """Return sentences about what the numbers include, and about what is not joined."""
    lines = [another_device(join)] if another_device(join) else []
    lines.append("Time: of the median run, without the instructions that an instruction runs. Work: of one device.")
    if join.step is None:
        lines.append("The trace has no clock for a whole run: MFU and HFU are of the sum of all instructions.")
    elif join.total.seconds > join.step.median:
        # Only a trace with a clock says what ran at the same time.
        side_by_side = join.busy is not None and join.total.seconds > (1 + 1e-6) * join.busy.median
        reason = "a run, because some of them run side by side" if side_by_side else "the step that was given"
        lines.append(f"The instructions take longer than {reason}.")
    if join.busy is not None and join.step is not None and join.busy.median < _BUSY * join.step.median:
        idle = units.seconds(join.step.median - join.busy.median)
        lines.append(
            f"No instruction of the trace runs during {idle} of a run: the device waits, or the profiler does not see "
            "all of its work, such as a sort by several threads of a CPU. The lines have the time that it sees."
        )
    if join.timed_share < 1:
        rest = "" if join.achieved_flops == join.flops else ", and so are those of the run"
        lines.append(
            f"{_timed(join)} of the FLOPs have a time: FLOP/s, B/s, MFU and the roofline of a line are of "
            f"the instructions with a time{rest}."
        )
    too_fast = sum(row.seconds for row in join.rows if row.bound is not None and row.bound > 1.1 * row.seconds)
    if join.device is not None and too_fast > 0.1 * join.total.seconds:
        time, name = units.seconds(too_fast), join.device.name
        lines.append(f"{time} are faster than the peaks of {name} allow: was the profile made on another device?")
    if not join.analysis.exact:
        lines += [f"Not exact: {gap}" for gap in _gaps(join)]
    if join.unjoined:
        listed = [f"{item.name[:60]} ({units.seconds(item.seconds)}, {item.reason})" for item in join.unjoined]
        seconds = units.seconds(sum(item.seconds for item in join.unjoined))
        lines.append(f"Time without an instruction, {seconds} in all runs: {_some(listed)}.")
    if join.untimed:
        lines.append(f"Without a time: {_some([f'{row.name} ({row.opcode})' for row in join.untimed])}.")
    if join.others:
        listed = [f"{other.name} ({units.seconds(other.seconds)})" for other in join.others]
        lines.append(f"Other modules of the trace: {_some(listed)}; choose one with --module.")
    if shown.heading == "layer" and shown.depth < shown.full_depth:
        full = shown.full_depth
        lines.append(f"Layers are cut at depth {shown.depth} of {full}; --depth {full} shows all.")
    return [printable(line) for line in (*lines, *join.notes)]


def _gaps(join: Join) -> list[str]:
    from costax.report.hlo_module import gaps

    means = [
        f"{name} ran differently often; its body counts {mean:.4g} times, as in the median run."
        for name, mean in join.analysis.mean_trips.items()
    ]
    means += [
        f"{name} took different branches; those of the median run count: {_times(counts)}."
        for name, counts in join.analysis.mixed_branches.items()
    ]
    return [*means, *gaps(join.analysis)][:_LISTED]


def _times(counts: Sequence[int]) -> str:
    ran = [f"branch {branch} ({times:,} x)" for branch, times in enumerate(counts) if times]
    return ", ".join(ran) or "none"


def _some(listed: Sequence[str]) -> str:
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{', '.join(listed[:_LISTED])}{more}"


def to_record(join: Join) -> dict[str, Any]:
    """Return the record: plain dictionaries, lists, strings and numbers, as `join.schema.json` describes them."""
    return {
        "schema": SCHEMA,
        "name": join.name,
        "versions": dict(join.analysis.versions),
        "format": join.form,
        "runs": join.runs,
        "devices": join.devices,
        "processes": join.processes,
        "device": None if join.device is None else join.device.id,
        "peak": None if join.peak is None else {"unit": join.peak[0], "flops_per_second": join.peak[1]},
        "step": _seconds(join.step),
        "busy": _seconds(join.busy),
        "mfu": join.mfu,
        "hfu": join.hfu,
        "model_flops": join.model_flops,
        "timed_share": join.timed_share,
        "expected_step_seconds": join.expected_step,
        "exact": join.analysis.exact,
        "total": _counts(join.total, join),
        "entry": _counts(join.entry, join),
        "joined": {"instructions": join.joined, "of": join.expected, "share": join.coverage},
        **{
            f"by_{by}": {name: _counts(part, join) for name, part in sums().items()} for by, sums in join.tables.items()
        },
        "by_scope_and_direction": {scope: _sums(parts, join) for scope, parts in join.by_scope_and_direction().items()},
        "instructions": [_instruction(row) for row in join.rows],
        "untimed": [row.name for row in join.untimed],
        "waiting": [row.name for row in join.waiting],
        "unjoined": [item._asdict() for item in join.unjoined],
        "other_modules": [
            {"name": str(other.name), "seconds": other.seconds, "executions": other.executions} for other in join.others
        ],
        "notes": list(join.notes),
    }


def _seconds(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else spread._asdict()


def _sums(sums: Mapping[str, Sum], join: Join) -> dict[str, Any]:
    return {name: _counts(part, join) for name, part in sums.items()}


def _counts(part: Sum, join: Join) -> dict[str, Any]:
    return {
        "seconds": part.seconds,
        "total_seconds": part.seconds_in_all,
        "executions": part.executions,
        **part.cost._asdict(),
        "flops_per_second": part.flops_per_second,
        "bytes_per_second": part.bytes_per_second,
        "bound_seconds": part.bound,
        "roofline": part.roofline,
        "predicted_seconds": part.predicted,
        "gap": part.gap,
        "model_flops": part.model_flops,
        "timed_flops": part.timed.flops,
        "timed_bytes": part.timed.bytes,
        "mfu": part.utilisation(part.timed_model_flops, join.peak),
        "hfu": part.utilisation(part.timed.flops, join.peak),
    }


def _instruction(row: JoinRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "opcode": row.opcode,
        "computation": row.computation,
        "scope": "/".join(row.place.scope),
        "direction": row.place.direction,
        "primitive": row.place.primitive,
        "source": row.source,
        "seconds": None if row.measured is None else row.measured.run._asdict(),
        "total_seconds": None if row.measured is None else row.measured.total,
        "executions": None if row.measured is None else row.measured.executions,
        "in_flight": _seconds(row.in_flight),
        **row.cost._asdict(),
        "bound_seconds": row.bound,
        "predicted_seconds": row.predicted,
    }


def as_json(join: Join) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(join), indent=1) + "\n"


def _check(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(
            f"{option} must be one of {', '.join(choices)}, got {value!r}.",
            why="The tables of a join have these lines.",
            cure=f"Pass --{option} {choices[0]}.",
        )
