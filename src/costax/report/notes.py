"""The lines above and below a table: the inputs, the totals, what the numbers include and what they leave out."""

from __future__ import annotations

from typing import Final

from costax.analysis.analysis import Analysis
from costax.analysis.exactness import reason
from costax.core import units
from costax.core.cost import Cost
from costax.core.equation import Operand
from costax.core.hints import hint
from costax.core.polynomial import Polynomial
from costax.report.tables import Table, short_place

# The header lists this many arguments; the others are a number.
_ARGUMENTS_SHOWN: Final = 6


def heading(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return (label, rounded, exact) for each line of the header below the name."""
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
    lines.append(("exact", "yes" if analysis.exact else "no", exactness(analysis)))
    return lines


def exactness(analysis: Analysis) -> str:
    """Return why the counts are not exact, as one line; "" if they are."""
    places = [short_place(x.where) for x in analysis.uncounted] + [short_place(x.source) for x in analysis.choices]
    word = analysis.exactness
    return reason(analysis.unknowns, analysis.uncounted, analysis.choices, word, places)


def inputs(analysis: Analysis) -> str:
    """Return the arguments on one line: an array by its shape, a pytree by the number and the bytes of its arrays."""
    arguments: dict[str, list[Operand]] = {}
    for path, operand in analysis.inputs:
        parts = path.split("/")
        # A path starts with 0 for a positional argument and with 1 for a keyword; in a bare jaxpr it is one number.
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
    """Return what the numbers include and what they do not, one sentence per line."""
    dead = _sizes(analysis.dead_code)
    dropped = [f"Not included, because jit removes it as dead code: {dead}."] if dead else []
    return [*_conventions(analysis), *gaps(analysis), *dropped, *_cut(analysis, table)]


def _conventions(analysis: Analysis) -> list[str]:
    total = analysis.total
    notes = ["FLOPs = 2 x MACs + elementwise arithmetic; transcendentals are counted separately."]
    if total.padding_macs:
        notes.append(f"{units.exact(total.padding_macs)} of the MACs multiply padding.")
    if total.collective_bytes or analysis.devices > 1:
        one = analysis.per_device
        least = "at least " if analysis.even_share else ""
        notes.append(
            f"Numbers are for all {analysis.devices} devices together; "
            f"for one device: {least}{units.short(one.macs, 'MAC')}, {units.short(one.flops, 'FLOP')}."
        )
        if analysis.even_share:
            notes.append(
                "That is an even share. Which devices repeat work, and which collectives are added, is decided when "
                "XLA partitions the program: costax compare shows it."
            )
    notes += _formulas(analysis)
    notes += [
        f"{u.place} ({short_place(u.source)}) runs {units.exact(u.assumed)} times, as set by trips."
        for u in analysis.unknowns
        if u.answered
    ]
    return notes


def _formulas(analysis: Analysis) -> list[str]:
    """Return the loops that are symbols, how the formulas were found, and where they hold."""
    notes = open_loops(analysis)
    loops = {u.place for u in analysis.unknowns if not u.answered}
    sizes = [name for name in analysis.symbols if name not in loops]
    if sizes and analysis.exact_by == "interpolation":
        notes.append(f"Formulas of {', '.join(sizes)} come from exact interpolation: {analysis.reason}")
    if analysis.conditions:
        notes.append(f"The formulas hold where {'; '.join(c.text.rstrip(',:') for c in analysis.conditions)}.")
    if analysis.point:
        notes.append(f"At {', '.join(f'{name} = {value}' for name, value in analysis.point.items())}.")
    return notes


def open_loops(analysis: Analysis) -> list[str]:
    """Return the loops whose trip count is a symbol, one sentence each."""
    return [
        f"Unknown trip count, kept as a symbol: {u.place} ({short_place(u.source)}); set it with {_trips(u.place)}."
        for u in analysis.unknowns
        if isinstance(u.assumed, Polynomial)
    ]


def _trips(place: str) -> str:
    return hint(f"trips={{'{place}': N}}", f"--trips '{place}=N'")


def _branches(place: str) -> str:
    return hint(f"branches={{'{place}': N}}", f"--branches '{place}=N'")


def gaps(analysis: Analysis) -> list[str]:
    """Return why the numbers are not exact: uncounted primitives, unknown trip counts, undecided branches."""
    notes: list[str] = []
    for missing in analysis.uncounted:
        times = f"{missing.count} x " if missing.count > 1 else ""
        reason = f": it {missing.reason}" if missing.reason else ""
        notes.append(f"Not counted: {times}{missing.primitive} ({short_place(missing.where)}){reason}.")
    for unknown in analysis.unknowns:
        if not unknown.answered and not isinstance(unknown.assumed, Polynomial):
            times = {0: "never", 1: "once"}.get(unknown.assumed, f"{unknown.assumed} times")
            notes.append(
                f"Unknown trip count, counted {times}: {unknown.place} ({short_place(unknown.source)}); "
                f"set it with {_trips(unknown.place)}."
            )
    words = {"max": "the costliest", "min": "the cheapest", "mean": "the mean"}
    notes += [
        f"The program does not fix which branch runs: {choice.place} ({short_place(choice.source)}); counted is "
        f"{words[choice.how]}, {choice}; choose one with {_branches(choice.place)}."
        for choice in analysis.choices
    ]
    return notes


def _cut(analysis: Analysis, table: Table | None) -> list[str]:
    if table is None:
        return []
    notes: list[str] = []
    if analysis.symbols and table.lines and not any(name.startswith("%") for name in table.columns):
        notes.append(
            "The share of each line depends on the symbols: "
            + hint("evaluate(name=N) gives them values.", "--at name=N gives them values.")
        )
    if table.direction:
        notes.append(f"The table shows only the {table.direction} part.")
    if table.merged:
        notes.append(
            "Equal layers share one line, which is their sum; "
            + hint("merge=False shows each layer.", "--no-merge shows each layer.")
        )
    if table.depth < table.full_depth:
        full = table.full_depth
        notes.append(f"Scopes are cut at depth {table.depth} of {full}; {hint('depth=', '--depth ')}{full} shows all.")
    return notes


def _sizes(cost: Cost) -> str:
    parts = [
        units.short(cost.macs, "MAC") if cost.macs else "",
        units.short(cost.flops, "FLOP") if cost.flops else "",
        units.short(cost.ops, "OP") if cost.ops and not cost.flops else "",
        units.short_bytes(cost.bytes_unfused) + " of traffic" if cost.bytes_unfused else "",
    ]
    return ", ".join(part for part in parts if part)
