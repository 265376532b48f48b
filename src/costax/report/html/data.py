"""The data of the HTML report, a dictionary for its script: trees, tables, predictions, memory, the waterfall."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core import units
from costax.core.cost import Cost, Count
from costax.core.polynomial import magnitude
from costax.core.size import Size
from costax.report import notes
from costax.report.html.sections import LayerTimes, number, sections
from costax.report.shown import analysis_of
from costax.report.tables import short_place

if TYPE_CHECKING:
    from costax.compare.causes import Delta
    from costax.performance.prediction import Prediction
    from costax.program.tree import Scope
    from costax.report.shown import Shown

# Heading, format of the number, count.
_COLUMNS: Final[Sequence[tuple[str, str, Callable[[Cost], Count]]]] = (
    ("FLOPs", "count", lambda cost: cost.flops),
    ("MACs", "count", lambda cost: cost.macs),
    ("transc.", "count", lambda cost: cost.transcendentals),
    ("OPs", "count", lambda cost: cost.ops),
    ("traffic", "bytes", lambda cost: cost.bytes_unfused),
)
# The largest number of differences per bar of the waterfall, and of lines per table: more would make the page slow.
_DELTAS: Final = 100
_LINES: Final = 200
# The value of a symbol when the page opens: usual sizes of a batch and of a sequence, where its name says so.
_BATCH: Final = frozenset({"b", "n", "batch", "batch_size", "bs"})
_LENGTH: Final = frozenset({"s", "t", "l", "seq", "length", "seq_len", "tokens"})
# Of a loop of unknown length, the name is a place in the program.
_USUAL: Final = {"batch": 8, "length": 1024, "trips": 10, "other": 64}

_NUMBER: Final = re.compile(r"\d+")

Amounts = list[Any]


def contents(account: Shown, prediction: Prediction | None = None) -> dict[str, Any]:
    """Return the data of the page for an analysis or a comparison. prediction: shown before those of `DEVICES`."""
    analysis = analysis_of(account)
    program_sections, gaps = sections(analysis, prediction)
    devices: dict[str, Any] = program_sections.get("devices", {})
    # Minor columns are the first to go where the screen is narrow.
    columns: list[dict[str, Any]] = [
        {"name": name, "format": form, "everywhere": True, "minor": name in ("transc.", "OPs")}
        for name, form, _ in _COLUMNS
    ]
    with_params = analysis.parameters is not None
    if with_params:
        columns.append({"name": "params", "format": "count", "everywhere": False, "minor": True})
    times = LayerTimes(devices)
    if devices:
        # One column for all devices; the page shows the seconds of the selected device.
        columns.append({"name": "seconds", "format": "seconds", "everywhere": False, "device": True})
        program_sections |= {"bounds": times.bounds, "hues": times.hues}
    names = views.merged_names(analysis)
    merged = views.view(analysis, names)
    directions = list(dict.fromkeys(row.direction for row in analysis.rows))
    data: dict[str, Any] = {
        "cards": _cards(analysis, program_sections),
        "notes": [*notes.footing(analysis), *gaps, *_NOTES],
        "columns": columns,
        "directions": directions,
        "trees": {
            "merged": _tree(merged, times.renamed(names), directions, with_params),
            "full": _tree(analysis, times, directions, with_params),
        },
        "tables": _tables(analysis),
        **program_sections,
    }
    if not isinstance(account, Analysis):
        data["waterfall"] = _waterfall(account)
    return {**data, **_symbols(analysis)}


_NOTES: Final = ("Bytes are binary, 1 GiB = 2^30 B; rates are decimal, as on data sheets.",)


def _amounts(cost: Cost, params: Size | None = None, seconds: Sequence[float] = ()) -> Amounts:
    sizes = [] if params is None else [number(params.elements)]
    return [*(number(of(cost)) for _, _, of in _COLUMNS), *sizes, *seconds]


def _tree(analysis: Analysis, times: LayerTimes, directions: Sequence[str], with_params: bool) -> dict[str, Any]:
    """Return the tree of layers: n, the name; t, the amounts; b, what bounds it on each device; d, OPs by direction."""
    root = scope_tree(analysis)
    operations: dict[Scope, list[Count]] = {}
    for row, cost in analysis.rows.items():
        operations.setdefault(row.scope, [0] * len(directions))[directions.index(row.direction)] += cost.ops
    nothing: list[Count] = [0] * len(directions)

    def entry(name: str, cost: Cost, size: Size, parts: Sequence[float], ops: Sequence[Count]) -> dict[str, Any]:
        bounds = {"b": times.dominant(parts)} if times.bounds else {}
        amounts = _amounts(cost, size if with_params else None, times.per_device(parts))
        return {"n": name, "t": amounts, **bounds, "d": list(map(number, ops))}

    def tree(node: ScopeNode) -> tuple[dict[str, Any], list[float], list[Count]]:
        parts, ops = times.of(node.scope), operations.get(node.scope, nothing)
        own = entry("(own)", node.own, node.own_params, parts, ops)
        children: list[dict[str, Any]] = []
        for below, its_parts, its_ops in map(tree, node.children):
            children.append(below)
            parts = [a + b for a, b in zip(parts, its_parts, strict=True)]
            ops = [a + b for a, b in zip(ops, its_ops, strict=True)]
        whole = entry(node.name, node.total, node.params, parts, ops)
        if children:
            whole["c"] = [own, *children] if any(own["t"]) else children
        return whole, parts, ops

    return tree(root)[0]


def _cards(analysis: Analysis, program_sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the totals in the order in which people ask for them, without those that are zero."""
    total = analysis.total
    memory = program_sections.get("memory", {})
    account = next(iter(memory), "")
    peak = f"peak memory, {'fused estimate' if account == 'fused' else 'without fusion'}"
    cards: list[dict[str, Any]] = [
        {"label": label, "amount": number(count), "format": form}
        for label, count, form in (
            ("FLOPs", total.flops, "count"),
            ("MACs", total.macs, "count"),
            # Elsewhere they are few beside the FLOPs.
            ("transcendentals", 0 if total.macs else total.transcendentals, "count"),
        )
        if count
    ]
    if analysis.params:
        size = f"{units.short_bytes(analysis.param_bytes or 0)}; {units.exact(analysis.params)}"
        cards.append({"label": "parameters", "amount": number(analysis.params), "format": "count", "exact": size})
    if "devices" in program_sections:
        cards.append({"label": "predicted time per call", "format": "seconds", "device": True})
    if account:
        cards.append({"label": peak, "format": "bytes", "account": account})
    cards.append({"label": "traffic, unfused", "amount": number(total.bytes_unfused), "format": "bytes"})
    if total.collective_bytes:
        cards.append({"label": "sent by collectives", "amount": number(total.collective_bytes), "format": "bytes"})
    if not analysis.exact:
        cards.append({"label": "exact", "value": "no", "exact": notes.exactness(analysis)})
    return cards


def _tables(analysis: Analysis) -> dict[str, Any]:
    tables = {
        "primitive": analysis.by_primitive(),
        "source": {short_place(place) or "(no source)": cost for place, cost in analysis.by_source().items()},
        "dtype": analysis.by_dtype(),
        "direction": analysis.by_direction(),
    }
    return {by: [{"n": name, "t": _amounts(cost)} for name, cost in _largest(costs)] for by, costs in tables.items()}


def _largest(costs: Mapping[str, Cost]) -> list[tuple[str, Cost]]:
    entries = [(name, cost) for name, cost in costs.items() if cost]
    entries.sort(key=lambda entry: tuple(-magnitude(n) for n in (entry[1].flops, entry[1].ops, entry[1].bytes_unfused)))
    return entries[:_LINES]


def _waterfall(comparison: Any) -> list[dict[str, Any]]:
    from costax.report.waterfall import waterfall_rows

    bars: list[dict[str, Any]] = []
    for row in waterfall_rows(comparison):
        bar: dict[str, Any] = {
            "label": row.label,
            "sum": row.is_sum,
            "flops": row.flops,
            "transcendentals": row.transcendentals,
        }
        if row.deltas is not None:
            bar["stage"] = row.deltas[0].stage
            grouped = _grouped(row.deltas)
            bar["deltas"], bar["more"] = grouped[:_DELTAS], max(0, len(grouped) - _DELTAS)
        bars.append(bar)
    return bars


def _grouped(deltas: Sequence[Delta]) -> list[dict[str, Any]]:
    """Return the differences, largest first.

    Those with the same equation and source line share an entry if their evidence differs only in the numbers of
    instructions, as in "add.12 became add.7".
    """
    groups: dict[tuple[str, str, str], list[Delta]] = {}
    for delta in deltas:
        groups.setdefault((delta.equation, delta.source, _NUMBER.sub("#", delta.evidence)), []).append(delta)
    lines = [
        {
            "equation": equation,
            "count": len(members),
            "flops": sum(delta.flops for delta in members),
            "transcendentals": sum(delta.transcendentals for delta in members),
            "scope": "/".join(members[0].scope) + (f" and {len(members) - 1} more" if len(members) > 1 else ""),
            "source": short_place(source),
            "evidence": members[0].evidence
            + (f", and {others} similar" if (others := len({delta.evidence for delta in members}) - 1) else ""),
        }
        for (equation, source, _), members in groups.items()
    ]
    return sorted(lines, key=lambda line: -abs(line["flops"]) - abs(line["transcendentals"]))


def _symbols(analysis: Analysis) -> dict[str, Any]:
    """Return the symbols that counts depend on, and the formulas; an empty dictionary if every count is a number."""
    atoms = analysis.atoms
    if not atoms:
        return {}
    total = analysis.total
    formulas = [(name, form, of(total)) for name, form, of in _COLUMNS]
    if analysis.params is not None:
        formulas.append(("params", "count", analysis.params))
    return {
        "symbols": [
            {"name": name, "least": atom.least, "value": max(atom.least, _usual(name))} for name, atom in atoms.items()
        ],
        "formulas": [{"name": name, "format": form, "formula": number(count)} for name, form, count in formulas],
    }


def _usual(name: str) -> int:
    kinds = {"trips": "/" in name, "batch": name in _BATCH, "length": name in _LENGTH, "other": True}
    return _USUAL[next(kind for kind, applies in kinds.items() if applies)]
