"""The analysis of an HLO module: its table, with XLA's own numbers where there are any, and its JSON record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table as RichTable

from costax.core import units
from costax.core.printable import printable
from costax.errors import InputError
from costax.hlo.module_analysis import BY, HloCost
from costax.report import compiled_summary
from costax.report.tables import Line, Table, short_place
from costax.report.text import footer, one_line, rich_table

if TYPE_CHECKING:
    from costax.hlo.module_analysis import ModuleAnalysis
    from costax.report.module_record import SavedModule

SCHEMA: Final = "costax/hlo/1"
PROPERTIES: Final = ("flops", "transcendentals", "bytes accessed")
SORTS: Final = ("flops", "transcendentals", "bytes", "name")
_READABLE_LINES: Final = 40


def render(
    module: ModuleAnalysis | SavedModule, *, by: str = "scope", depth: int | None = None, sort: str | None = None
) -> RenderableType:
    """Return the totals, one table and its notes, for rich. Raises InputError for an unknown `by` or `sort`."""
    shown = table(module, by, depth, sort)
    return Group(*_alarm(module), _header(module), rich_table(shown), footer(notes(module, shown)))


def table(
    module: ModuleAnalysis | SavedModule, by: str = "scope", depth: int | None = None, sort: str | None = None
) -> Table:
    """Return one line for each scope, opcode, source line or computation, by default sorted by FLOPs.

    depth: the number of levels of scopes, by default as many as fit in 40 lines.
    """
    lines, depth, full = sums(module, by, depth, sort)
    whole = HloCost(module.total, module.executed)
    shown = tuple(_line(name, cost, module.total.flops) for name, cost in lines)
    columns = ("FLOPs", "transc.", "bytes", "executed FLOPs", "% FLOPs")
    return Table(by, columns, shown, _line("total", whole, module.total.flops), depth, full)


def sums(
    module: ModuleAnalysis | SavedModule, by: str = "scope", depth: int | None = None, sort: str | None = None
) -> tuple[list[tuple[str, HloCost]], int, int]:
    """Return the label and the cost of each line of the table, and how many levels of scopes it and the module have."""
    _check("by", by, BY)
    if sort is not None:
        _check("sort", sort, SORTS)
    full = max((name.count("/") + 1 for name in module.by_scope()), default=1) if by == "scope" else 0
    if by == "scope" and depth is None:
        fitting = [d for d in range(1, full + 1) if len(module.by_scope(d)) <= _READABLE_LINES]
        depth = max(fitting, default=1)
    costs: Mapping[str, HloCost] = module.by_scope(depth) if by == "scope" else getattr(module, f"by_{by}")()
    lines = sorted(costs.items(), key=lambda item: _key(item[1], item[0], sort))
    label = short_place if by == "source" else str
    return [(label(name) or f"(no {by})", cost) for name, cost in lines], min(depth or full, full), full


def _key(cost: HloCost, name: str, sort: str | None) -> tuple[Any, ...]:
    counted, executed = cost
    if sort == "name":
        return (name,)
    first = {"transcendentals": counted.transcendentals, "bytes": counted.bytes}.get(sort or "", 0)
    return (-first, -counted.flops, -executed.flops, -counted.transcendentals, -counted.bytes, name)


def _line(label: str, cost: HloCost, whole: int) -> Line:
    counted, executed = cost
    cells = (
        units.short(counted.flops),
        units.short(counted.transcendentals),
        units.short_bytes(counted.bytes),
        units.short(executed.flops),
        units.share(counted.flops, whole),
    )
    return Line(0, printable(label), cells)


def _header(module: ModuleAnalysis | SavedModule) -> Group:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    headings = ["counted", "executed", *(["XLA reports"] if module.xla is not None else [])]
    for _ in headings:
        grid.add_column(no_wrap=True, justify="right")
    grid.add_row("", *(one_line(heading, style="bold") for heading in headings))
    for i, name in enumerate(("FLOPs", "transcendentals", "bytes accessed")):
        reported = [] if module.xla is None else [_printed(module.xla.get(PROPERTIES[i], 0.0))]
        grid.add_row(name, units.exact(module.total[i]), units.exact(module.executed[i]), *reported)
    size = f"{module.computations:,} computations, {module.instructions:,} instructions"
    of = f"; the figures are of {module.extent}" if module.extent != "one device" else ""
    return Group(one_line(module.name, style="bold"), one_line(f"an HLO module: {size}{of}"), grid)


def _printed(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else repr(value)


def _alarm(module: ModuleAnalysis | SavedModule) -> list[RenderableType]:
    if module.matches_xla is not False:
        return []
    replayed = ", ".join(f"{_printed(value)} {name}" for value, name in zip(module.float32, PROPERTIES, strict=True))
    sentence = f"The replay does not give XLA's numbers; it gives {replayed}."
    return [footer([f"{sentence} This is a bug of costax: please report it.", ""], style="bold red")]


def notes(module: ModuleAnalysis | SavedModule, shown: Table) -> list[str]:
    """Return sentences about what the numbers include, and about what is not known."""
    lines = ["Counted as XLA's cost analysis counts: the body of a loop once, a library call as -1."]
    if module.matches_xla is not None:
        verdict = "equal bit for bit" if module.matches_xla else "NOT equal"
        lines.append(f"Replay of XLA's float32 sum: {verdict} (jaxlib {module.versions.get('jaxlib', '')}).")
    elif module.total.flops != module.float32.flops:
        lines.append(f"XLA adds up in float32 and reports {_printed(module.float32.flops)} FLOPs.")
    known = [loop for loop in module.loops if loop.trips is not None]
    if known:
        each = ", ".join(f"{loop.scope or loop.name} x {loop.trips:,}" for loop in known[:5])
        lines.append(f"Executed, with trip counts: {each}{_more(known)}.")
    if module.unknown_loops:
        each = ", ".join(_place(loop.name, loop.source) for loop in module.unknown_loops[:5])
        option = f"set it with --trips {module.unknown_loops[0].name}=N"
        lines.append(f"Unknown trip count, executed once: {each}{_more(module.unknown_loops)}; {option}.")
    if module.conditionals:
        each = ", ".join(_place(x.name, x.source) for x in module.conditionals[:5])
        lines.append(f"Conditional, of which the branch with most work counts: {each}{_more(module.conditionals)}.")
    if module.opaque:
        calls = ", ".join(f"{target} x {count}" for target, count in sorted(module.opaque.items()))
        lines.append(f"Not in the executed work, because the work of these library calls is unknown: {calls}.")
    if shown.heading == "scope" and module.merged:
        each = f"{', '.join(module.merged[:5])}{_more(module.merged)}"
        lines.append(f"Functions with too many calls to tell apart; their work has the scope that all share: {each}.")
    if shown.heading == "scope" and shown.depth < shown.full_depth:
        lines.append(
            f"Scopes are cut at depth {shown.depth} of {shown.full_depth}; --depth {shown.full_depth} shows all."
        )
    return [printable(line) for line in lines]


def _place(name: str, source: str) -> str:
    return f"{name} ({short_place(source)})" if source else name


def _more(names: Sequence[Any]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""


def gaps(module: ModuleAnalysis | SavedModule) -> list[str]:
    """Return sentences that say why the numbers of a module are not exact."""
    lines: list[str] = []
    if module.matches_xla is False:
        lines.append("The replay does not give XLA's numbers.")
    lines += [f"The trip count of {_place(loop.name, loop.source)} is unknown." for loop in module.unknown_loops]
    lines += [
        f"The branch of the conditional {_place(x.name, x.source)} depends on data: the branch with most work counts."
        for x in module.conditionals
    ]
    lines += [f"The work of {target} is unknown ({count} calls)." for target, count in module.opaque.items()]
    return lines


def to_record(module: ModuleAnalysis | SavedModule) -> dict[str, Any]:
    """Return the record: plain dictionaries, lists, strings and numbers, as `hlo.schema.json` describes them."""
    return {
        "schema": SCHEMA,
        "name": module.name,
        "versions": dict(module.versions),
        "computations": module.computations,
        "instructions": module.instructions,
        "extent": module.extent,
        "total": module.total._asdict(),
        "float32": module.float32._asdict(),
        "executed": module.executed._asdict(),
        "xla": None if module.xla is None else {name: module.xla.get(name, 0.0) for name in PROPERTIES},
        "matches_xla": module.matches_xla,
        "exact": module.exact,
        "loops": [
            {"name": loop.name, "scope": loop.scope, "source": loop.source, "trips": loop.trips}
            for loop in module.loops
        ],
        "conditionals": [{"name": x.name, "scope": x.scope, "source": x.source} for x in module.conditionals],
        "opaque": module.opaque,
        "by_scope": _costs(module.by_scope()),
        "by_opcode": _costs(module.by_opcode()),
        "by_source": _costs(module.by_source()),
        "by_computation": _costs(module.by_computation()),
        **compiled_summary.of(module),
    }


def as_json(module: ModuleAnalysis | SavedModule) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(module), indent=1) + "\n"


def _costs(costs: Mapping[str, HloCost]) -> dict[str, Any]:
    return {
        name: {"charged": cost.counted._asdict(), "executed": cost.executed._asdict()} for name, cost in costs.items()
    }


def _check(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            f"For an HLO module, {option} must be one of {', '.join(choices)}, got {value!r}.",
            why="An HLO module has opcodes and computations, but no primitives and no parameters.",
            cure=f"Pass --{option} {choices[0]}.",
        )
