"""An HLO module for people and for programs: what XLA charges, beside XLA's own dictionary, and its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from costax.core import units
from costax.errors import InputError
from costax.hlo.errors import printable
from costax.hlo.module_analysis import BY, Account
from costax.report.tables import Line, Table, short_place
from costax.report.text import rich_table

if TYPE_CHECKING:
    from costax.hlo.module_analysis import ModuleAnalysis

SCHEMA: Final = "costax/hlo/1"
PROPERTIES: Final = ("flops", "transcendentals", "bytes accessed")
SORTS: Final = ("flops", "transcendentals", "bytes", "name")
_READABLE_LINES: Final = 40


def render(
    found: ModuleAnalysis, *, by: str = "scope", depth: int | None = None, sort: str | None = None
) -> RenderableType:
    """Return the totals, one table, and what is not known. Raises InputError for an unknown `by` or `sort`."""
    shown = table(found, by, depth, sort)
    return Group(*_alarm(found), _header(found), rich_table(shown), Text("\n".join(notes(found, shown))))


def table(found: ModuleAnalysis, by: str = "scope", depth: int | None = None, sort: str | None = None) -> Table:
    """Return one line for each scope, opcode, source line or computation, those with most FLOPs first.

    depth: how many levels of scopes, as many as fit by default.
    """
    _check("by", by, BY)
    if sort is not None:
        _check("sort", sort, SORTS)
    full = max((name.count("/") + 1 for name in found.by_scope()), default=1) if by == "scope" else 0
    if by == "scope" and depth is None:
        fitting = [d for d in range(1, full + 1) if len(found.by_scope(d)) <= _READABLE_LINES]
        depth = max(fitting, default=1)
    accounts: Mapping[str, Account] = found.by_scope(depth) if by == "scope" else getattr(found, f"by_{by}")()
    lines = sorted(accounts.items(), key=lambda item: _key(item[1], item[0], sort))
    whole = Account(found.total, found.executed)
    label = short_place if by == "source" else str
    shown = tuple(_line(label(name) or f"(no {by})", account, found.total.flops) for name, account in lines)
    columns = ("FLOPs", "transc.", "bytes", "executed FLOPs", "% FLOPs")
    return Table(by, columns, shown, _line("total", whole, found.total.flops), min(depth or full, full), full)


def _key(account: Account, name: str, sort: str | None) -> tuple[Any, ...]:
    charged, executed = account
    if sort == "name":
        return (name,)
    first = {"transcendentals": charged.transcendentals, "bytes": charged.bytes}.get(sort or "", 0)
    return (-first, -charged.flops, -executed.flops, -charged.transcendentals, -charged.bytes, name)


def _line(label: str, account: Account, whole: int) -> Line:
    charged, executed = account
    cells = (
        units.short(charged.flops),
        units.short(charged.transcendentals),
        units.short_bytes(charged.bytes),
        units.short(executed.flops),
        units.share(charged.flops, whole),
    )
    return Line(0, printable(label), cells)


def _header(found: ModuleAnalysis) -> Group:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    headings = ["charged", "executed", *(["XLA says"] if found.xla is not None else [])]
    grid.add_row("", *(Text(heading, style="bold") for heading in headings))
    for _ in headings:
        grid.add_column(no_wrap=True, justify="right")
    for i, name in enumerate(("FLOPs", "transcendentals", "bytes accessed")):
        theirs = [] if found.xla is None else [_printed(found.xla.get(PROPERTIES[i], 0.0))]
        grid.add_row(name, units.exact(found.total[i]), units.exact(found.executed[i]), *theirs)
    size = f"{len(found.replay.module.computations):,} computations, {found.instructions:,} instructions"
    return Group(Text(printable(found.name), style="bold"), Text(f"an HLO module: {size}"), grid)


def _printed(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else repr(value)


def _alarm(found: ModuleAnalysis) -> list[RenderableType]:
    if found.matches_xla is not False:
        return []
    mine = ", ".join(f"{_printed(value)} {name}" for value, name in zip(found.float32, PROPERTIES, strict=True))
    return [Text(f"The replay is not XLA's: ours {mine}. This is a bug of costax.\n", style="bold red")]


def notes(found: ModuleAnalysis, shown: Table) -> list[str]:
    """Return what the numbers include, and what is not known, as sentences."""
    lines = ["Charged is what XLA's cost analysis counts: loop bodies once, library calls -1."]
    if found.matches_xla is not None:
        verdict = "equal bit for bit" if found.matches_xla else "NOT equal"
        lines.append(f"Replay of XLA's own sum, in float32: {verdict} (jaxlib {found.versions.get('jaxlib', '')}).")
    elif found.total.flops != found.float32.flops:
        lines.append(f"XLA adds up in float32 and prints {_printed(found.float32.flops)} FLOPs.")
    known = [loop for loop in found.loops if loop.trips is not None]
    if known:
        each = ", ".join(f"{loop.scope or loop.name} x {loop.trips:,}" for loop in known[:5])
        lines.append(f"Executed, loops as often as they run: {each}{_more(known)}.")
    if found.unknown_loops:
        each = ", ".join(_place(loop.name, loop.source) for loop in found.unknown_loops[:5])
        answer = f"--trips {found.unknown_loops[0].name}=N says so"
        lines.append(f"Not known how often they run, executed once: {each}{_more(found.unknown_loops)}; {answer}.")
    if found.opaque:
        calls = ", ".join(f"{target} x {count}" for target, count in sorted(found.opaque.items()))
        lines.append(f"Not in what is executed, for nothing tells their work: {calls}.")
    if shown.heading == "scope" and shown.depth < shown.full_depth:
        lines.append(
            f"Scopes are cut at depth {shown.depth} of {shown.full_depth}; --depth {shown.full_depth} shows all."
        )
    return [printable(line) for line in lines]


def _place(name: str, source: str) -> str:
    return f"{name} ({short_place(source)})" if source else name


def _more(found: Any) -> str:
    return f" and {len(found) - 5} more" if len(found) > 5 else ""


def gaps(found: ModuleAnalysis) -> list[str]:
    """Return what keeps a module from being exact, as sentences."""
    lines: list[str] = []
    if found.matches_xla is False:
        lines.append("The replay is not XLA's own number.")
    lines += [f"How often {_place(loop.name, loop.source)} runs is not known." for loop in found.unknown_loops]
    lines += [f"Nothing tells the work of {target} ({count} calls)." for target, count in found.opaque.items()]
    return lines


def to_record(found: ModuleAnalysis) -> dict[str, Any]:
    """Return the record: plain dictionaries, lists, strings and numbers, as `hlo.schema.json` describes them."""
    return {
        "schema": SCHEMA,
        "name": found.name,
        "versions": dict(found.versions),
        "computations": len(found.replay.module.computations),
        "instructions": found.instructions,
        "total": found.total._asdict(),
        "float32": found.float32._asdict(),
        "executed": found.executed._asdict(),
        "xla": None if found.xla is None else {name: found.xla.get(name, 0.0) for name in PROPERTIES},
        "matches_xla": found.matches_xla,
        "exact": found.exact,
        "loops": [
            {"name": loop.name, "scope": loop.scope, "source": loop.source, "trips": loop.trips} for loop in found.loops
        ],
        "opaque": found.opaque,
        "by_scope": _accounts(found.by_scope()),
        "by_opcode": _accounts(found.by_opcode()),
        "by_source": _accounts(found.by_source()),
        "by_computation": _accounts(found.by_computation()),
    }


def as_json(found: ModuleAnalysis) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(found), indent=1) + "\n"


def _accounts(found: Mapping[str, Account]) -> dict[str, Any]:
    return {
        name: {"charged": account.charged._asdict(), "executed": account.executed._asdict()}
        for name, account in found.items()
    }


def _check(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            f"{option}={value!r} names no table of an HLO module.",
            why=f"A module has no jaxpr; its table goes {option} one of: {', '.join(choices)}.",
            cure=f"Give --{option} {choices[0]}.",
        )
