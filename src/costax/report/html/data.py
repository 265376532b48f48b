"""The data of the HTML report, a dictionary for its script: trees, tables, predictions, memory, the waterfall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core.cost import Cost, Count
from costax.core.polynomial import magnitude
from costax.core.size import Size
from costax.report import notes
from costax.report.html.sections import sections
from costax.report.shown import analysis_of
from costax.report.tables import short_place

if TYPE_CHECKING:
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
# The value of every symbol when the page opens.
_START: Final = 64


def contents(account: Shown) -> dict[str, Any]:
    """Return the data of the page for an analysis or a comparison."""
    analysis = analysis_of(account)
    program_sections, gaps = sections(analysis)
    devices: dict[str, Any] = program_sections.get("devices", {})
    columns = [{"name": name, "format": form, "everywhere": True} for name, form, _ in _COLUMNS]
    if analysis.parameters is not None:
        columns.append({"name": "params", "format": "count", "everywhere": False})
    if devices:
        # One column for all devices; the page shows the seconds of the selected device.
        columns.append({"name": "seconds", "format": "seconds", "everywhere": False, "device": True})
    times = [_by_scope(device["parts"]) for device in devices.values()]
    full = scope_tree(analysis)
    names = views.merged_names(analysis)
    merged = scope_tree(views.view(analysis, names))
    in_merged = [_renamed(seconds, names) for seconds in times]
    with_params = analysis.parameters is not None
    data: dict[str, Any] = {
        "cards": _cards(analysis, program_sections),
        "notes": [*notes.footing(analysis), *gaps],
        "columns": columns,
        "trees": {"merged": _tree(merged, in_merged, with_params), "full": _tree(full, times, with_params)},
        "tables": _tables(analysis),
        **program_sections,
    }
    if not isinstance(account, Analysis):
        data["waterfall"] = _waterfall(account)
    return {**data, **_symbols(analysis)}


def _number(count: Any) -> Any:
    """Return a count for JSON: a number, or the formula of a polynomial as a string."""
    return count if isinstance(count, int | float) else str(count)


def _amounts(cost: Cost, params: Size | None = None, seconds: Sequence[float] = ()) -> list[Any]:
    sizes = [] if params is None else [_number(params.elements)]
    return [*(_number(of(cost)) for _, _, of in _COLUMNS), *sizes, *seconds]


def _tree(root: ScopeNode, times: Sequence[Mapping[tuple[str, ...], float]], with_params: bool) -> dict[str, Any]:
    # Children come before their parents, so that the sums of a node are those of its children and its own seconds.
    sums: dict[int, list[float]] = {}
    for _, node in reversed(list(root.walk())):
        own = [seconds.get(node.scope, 0.0) for seconds in times]
        below = [sums[id(child)] for child in node.children]
        sums[id(node)] = [sum(column) for column in zip(own, *below, strict=True)]

    def tree(node: ScopeNode) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "n": node.name,
            "t": _amounts(node.total, node.params if with_params else None, sums[id(node)]),
        }
        if node.children:
            own = [seconds.get(node.scope, 0.0) for seconds in times]
            amounts = _amounts(node.own, node.own_params if with_params else None, own)
            outside = [{"n": "(own)", "t": amounts}] if any(amounts) else []
            entry["c"] = [*outside, *(tree(child) for child in node.children)]
        return entry

    return tree(root)


def _by_scope(parts: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for part in parts:
        scope = tuple(name for name in part["scope"].split("/") if name)
        sums[scope] = sums.get(scope, 0.0) + part["seconds"]
    return sums


def _renamed(
    seconds: Mapping[tuple[str, ...], float], names: Mapping[tuple[str, ...], tuple[str, ...]]
) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for scope, part in seconds.items():
        name = names.get(scope, scope)
        sums[name] = sums.get(name, 0.0) + part
    return sums


def _cards(analysis: Analysis, program_sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    total = analysis.total
    cards: list[dict[str, Any]] = [
        {"label": label, "amount": _number(count), "format": form}
        for label, count, form in (
            ("MACs", total.macs, "count"),
            ("FLOPs", total.flops, "count"),
            ("transcendentals", total.transcendentals, "count"),
            ("OPs", total.ops, "count"),
            ("traffic, unfused", total.bytes_unfused, "bytes"),
        )
    ]
    if total.collective_bytes:
        cards.append({"label": "sent by collectives", "amount": _number(total.collective_bytes), "format": "bytes"})
    if analysis.params is not None and analysis.param_bytes is not None:
        cards.append({"label": "parameters", "amount": _number(analysis.params), "format": "count"})
        cards.append({"label": "parameter bytes", "amount": _number(analysis.param_bytes), "format": "bytes"})
    if "memory" in program_sections:
        cards.append(
            {
                "label": "peak memory, fused estimate",
                "amount": program_sections["memory"]["fused"]["peak"],
                "format": "bytes",
            }
        )
    cards.append({"label": "exact", "value": "yes" if analysis.exact else "no", "exact": notes.exactness(analysis)})
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


def _grouped(deltas: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the differences, largest first; those with the same equation, source line and evidence share an entry."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for delta in deltas:
        groups.setdefault((delta.equation, delta.source, delta.evidence), []).append(delta)
    lines = [
        {
            "equation": equation,
            "count": len(members),
            "flops": sum(delta.flops for delta in members),
            "transcendentals": sum(delta.transcendentals for delta in members),
            "scope": "/".join(members[0].scope) + (f" and {len(members) - 1} more" if len(members) > 1 else ""),
            "source": short_place(source),
            "evidence": evidence,
        }
        for (equation, source, evidence), members in groups.items()
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
            {"name": name, "least": atom.least, "value": max(atom.least, _START)} for name, atom in atoms.items()
        ],
        "formulas": [{"name": name, "format": form, "formula": _number(count)} for name, form, count in formulas],
    }
