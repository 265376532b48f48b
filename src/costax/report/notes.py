"""The lines around a table: what the numbers are of, what they include, and what they leave out."""

from __future__ import annotations

from typing import Final

from costax.analysis.analysis import Analysis
from costax.core import units
from costax.core.cost import Cost
from costax.core.equation import Operand
from costax.core.polynomial import Polynomial
from costax.report.tables import Table, short_place

# The arguments that a header names one by one.
_ARGUMENTS_SHOWN: Final = 6


def heading(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return (what, in short, exactly) for each line of the header below the name."""
    total = analysis.total
    lines = [("inputs", "", inputs(analysis))]
    for label, count in (
        ("MACs", total.macs),
        ("FLOPs", total.flops),
        ("transcendentals", total.transcendentals),
        ("OPs", total.ops),
    ):
        lines.append((label, units.short(count), units.exact(count)))
    lines.append(("traffic, unfused", units.short_bytes(total.bytes_unfused), units.exact(total.bytes_unfused, "B")))
    if total.collective_bytes:
        sent = total.collective_bytes
        lines.append(("sent by collectives", units.short_bytes(sent), units.exact(sent, "B")))
    if analysis.params is not None and analysis.param_bytes is not None:
        size = units.short_bytes(analysis.param_bytes)
        lines.append(("parameters", units.short(analysis.params), f"{units.exact(analysis.params)} in {size}"))
    lines.append(("exact", "yes" if analysis.exact else "no", "" if analysis.exact else "see below"))
    return lines


def inputs(analysis: Analysis) -> str:
    """Return the arguments in a line: arrays by their shapes, trees by how many arrays they hold."""
    arguments: dict[str, list[Operand]] = {}
    for path, operand in analysis.inputs:
        parts = path.split("/")
        # Paths start with 0 for positional arguments, 1 for keywords; those of a bare jaxpr are one number.
        arguments.setdefault("/".join(parts[:2]) if len(parts) > 1 else path, []).append(operand)
    texts = [_argument(name, operands) for name, operands in arguments.items()]
    hidden = len(texts) - _ARGUMENTS_SHOWN
    shown = texts if hidden <= 1 else [*texts[:_ARGUMENTS_SHOWN], f"{hidden} more"]
    return ", ".join(shown) or "none"


def _argument(name: str, operands: list[Operand]) -> str:
    keyword = f"{name[2:]}=" if name.startswith("1/") else ""
    if len(operands) == 1:
        return f"{keyword}{operands[0]}"
    return f"{keyword}{len(operands)} arrays of {units.short_bytes(sum(x.nbytes for x in operands))}"


def footing(analysis: Analysis, table: Table | None = None) -> list[str]:
    """Return what the numbers include and what they do not, one sentence a line."""
    dead = _sizes(analysis.dead_code)
    dropped = [f"Not in the numbers, dropped by jit as dead code: {dead}."] if dead else []
    return [*_conventions(analysis), *gaps(analysis), *dropped, *_cut(table)]


def _conventions(analysis: Analysis) -> list[str]:
    total = analysis.total
    notes = ["FLOPs = 2 x MACs + elementwise arithmetic; transcendentals are counted apart."]
    if total.padding_macs:
        notes.append(f"MACs include {units.exact(total.padding_macs)} taps on padding.")
    if total.collective_bytes or analysis.devices > 1:
        one = analysis.per_device
        notes.append(
            f"Numbers are for all {analysis.devices} devices together; "
            f"one device: {units.short(one.macs, 'MAC')}, {units.short(one.flops, 'FLOP')}."
        )
    notes += _formulas(analysis)
    notes += [
        f"{u.place} ({short_place(u.source)}) runs {units.exact(u.assumed)} times, as told."
        for u in analysis.unknowns
        if u.answered
    ]
    return notes


def _formulas(analysis: Analysis) -> list[str]:
    """Return what the symbols stand for, and how the formulas came about."""
    notes = open_loops(analysis)
    loops = {u.place for u in analysis.unknowns if not u.answered}
    sizes = [name for name in analysis.symbols if name not in loops]
    if sizes and analysis.exact_by == "interpolation":
        notes.append(f"Formulas of {', '.join(sizes)} by exact interpolation: {analysis.reason}")
    if analysis.conditions:
        notes.append(f"They hold where {'; '.join(c.text.rstrip(',:') for c in analysis.conditions)}.")
    if analysis.point:
        notes.append(f"At {', '.join(f'{name} = {value}' for name, value in analysis.point.items())}.")
    return notes


def open_loops(analysis: Analysis) -> list[str]:
    """Return the loops whose length is a symbol, one sentence each."""
    return [
        f"Length not in the program, kept as a symbol: {u.place} ({short_place(u.source)}); "
        f"say it with --trips '{u.place}=N'."
        for u in analysis.unknowns
        if isinstance(u.assumed, Polynomial)
    ]


def gaps(analysis: Analysis) -> list[str]:
    """Return what keeps the numbers from being exact: things not counted, loops of unknown length."""
    notes: list[str] = []
    for m in analysis.uncounted:
        times = f"{m.count} x " if m.count > 1 else ""
        reason = f": it {m.reason}" if m.reason else ""
        notes.append(f"Not counted: {times}{m.primitive} ({short_place(m.where)}){reason}.")
    for unknown in analysis.unknowns:
        if not unknown.answered and not isinstance(unknown.assumed, Polynomial):
            times = {0: "never", 1: "once"}.get(unknown.assumed, f"{unknown.assumed} times")
            notes.append(
                f"Length unknown, counted {times}: {unknown.place} ({short_place(unknown.source)}); "
                f"say it with --trips '{unknown.place}=N'."
            )
    return notes


def _cut(table: Table | None) -> list[str]:
    if table is None:
        return []
    notes: list[str] = []
    if table.direction:
        notes.append(f"The table holds the {table.direction} part alone.")
    if table.merged:
        notes.append("Equal layers share a line, which is their sum; --no-merge shows each.")
    if table.depth < table.full_depth:
        full = table.full_depth
        notes.append(f"Scopes are cut at depth {table.depth} of {full}; --depth {full} shows all.")
    return notes


def _sizes(cost: Cost) -> str:
    parts = [
        units.short(cost.macs, "MAC") if cost.macs else "",
        units.short(cost.flops, "FLOP") if cost.flops else "",
        units.short(cost.ops, "OP") if cost.ops and not cost.flops else "",
        units.short_bytes(cost.bytes_unfused) + " of traffic" if cost.bytes_unfused else "",
    ]
    return ", ".join(part for part in parts if part)
