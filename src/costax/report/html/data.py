"""What the HTML report holds, as a dictionary for its script: trees, tables, predictions, memory, the waterfall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core.cost import Cost, Count
from costax.core.polynomial import weight
from costax.core.size import Size
from costax.report import notes
from costax.report.html.sections import sections
from costax.report.shown import analysis_of
from costax.report.tables import short_place

if TYPE_CHECKING:
    from costax.report.shown import Shown

# Name, how it is written, what it is of a cost.
_COLUMNS: Final[Sequence[tuple[str, str, Callable[[Cost], Count]]]] = (
    ("FLOPs", "count", lambda cost: cost.flops),
    ("MACs", "count", lambda cost: cost.macs),
    ("transc.", "count", lambda cost: cost.transcendentals),
    ("OPs", "count", lambda cost: cost.ops),
    ("traffic", "bytes", lambda cost: cost.bytes_unfused),
)
# What is behind a bar of the waterfall is shown as far as one reads.
_DELTAS: Final = 100
_LINES: Final = 200
# Where the sliders stand when the page opens.
_START: Final = 64


def contents(account: Shown) -> dict[str, Any]:
    """Return what the page shows of an analysis or a comparison."""
    analysis = analysis_of(account)
    held, gaps = sections(analysis)
    devices: dict[str, Any] = held.get("devices", {})
    columns = [{"name": name, "format": form, "everywhere": True} for name, form, _ in _COLUMNS]
    if analysis.parameters is not None:
        columns.append({"name": "params", "format": "count", "everywhere": False})
    if devices:
        # One column; its number is that of the device that is chosen.
        columns.append({"name": "seconds", "format": "seconds", "everywhere": False, "device": True})
    times = [_by_scope(device["parts"]) for device in devices.values()]
    full = scope_tree(analysis)
    names = views.merged_names(analysis)
    merged = scope_tree(views.view(analysis, names))
    in_merged = [_renamed(seconds, names) for seconds in times]
    with_params = analysis.parameters is not None
    found: dict[str, Any] = {
        "cards": _cards(analysis, held),
        "notes": [*notes.footing(analysis), *gaps],
        "columns": columns,
        "trees": {"merged": _tree(merged, in_merged, with_params), "full": _tree(full, times, with_params)},
        "tables": _tables(analysis),
        **held,
    }
    if not isinstance(account, Analysis):
        found["waterfall"] = _waterfall(account)
    symbols = _symbols(analysis)
    return {**found, **symbols}


def _number(count: Any) -> Any:
    """Return a count for JSON: a number, or the text of a formula."""
    return count if isinstance(count, int | float) else str(count)


def _amounts(cost: Cost, params: Size | None = None, seconds: Sequence[float] = ()) -> list[Any]:
    sizes = [] if params is None else [_number(params.elements)]
    return [*(_number(of(cost)) for _, _, of in _COLUMNS), *sizes, *seconds]


def _tree(root: ScopeNode, times: Sequence[Mapping[tuple[str, ...], float]], with_params: bool) -> dict[str, Any]:
    sums: dict[int, list[float]] = {}
    for _, node in reversed(list(root.walk())):
        own = [seconds.get(node.scope, 0.0) for seconds in times]
        below = [sums[id(child)] for child in node.children]
        sums[id(node)] = [sum(column) for column in zip(own, *below, strict=True)]

    def tree(node: ScopeNode) -> dict[str, Any]:
        made: dict[str, Any] = {
            "n": node.name,
            "t": _amounts(node.total, node.params if with_params else None, sums[id(node)]),
        }
        if node.children:
            own = [seconds.get(node.scope, 0.0) for seconds in times]
            amounts = _amounts(node.own, node.own_params if with_params else None, own)
            outside = [{"n": "(own)", "t": amounts}] if any(amounts) else []
            made["c"] = [*outside, *(tree(child) for child in node.children)]
        return made

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


def _cards(analysis: Analysis, held: Mapping[str, Any]) -> list[dict[str, Any]]:
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
    if "memory" in held:
        cards.append(
            {"label": "peak memory, fused estimate", "amount": held["memory"]["fused"]["peak"], "format": "bytes"}
        )
    cards.append(
        {"label": "exact", "value": "yes" if analysis.exact else "no", "exact": "" if analysis.exact else "see below"}
    )
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
    entries.sort(key=lambda entry: tuple(-weight(n) for n in (entry[1].flops, entry[1].ops, entry[1].bytes_unfused)))
    return entries[:_LINES]


def _waterfall(comparison: Any) -> list[dict[str, Any]]:
    from costax.report.waterfall import steps

    found: list[dict[str, Any]] = []
    for step in steps(comparison):
        line: dict[str, Any] = {
            "label": step.label,
            "sum": step.is_sum,
            "flops": step.flops,
            "transcendentals": step.transcendentals,
        }
        if step.deltas is not None:
            line["stage"] = step.deltas[0].stage
            grouped = _grouped(step.deltas)
            line["deltas"], line["more"] = grouped[:_DELTAS], max(0, len(grouped) - _DELTAS)
        found.append(line)
    return found


def _grouped(deltas: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the differences, those of one equation, line and evidence together, largest first."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for delta in deltas:
        groups.setdefault((delta.equation, delta.source, delta.evidence), []).append(delta)
    lines = [
        {
            "equation": equation,
            "count": len(found),
            "flops": sum(delta.flops for delta in found),
            "transcendentals": sum(delta.transcendentals for delta in found),
            "scope": "/".join(found[0].scope) + (f" and {len(found) - 1} more" if len(found) > 1 else ""),
            "source": short_place(source),
            "evidence": evidence,
        }
        for (equation, source, evidence), found in groups.items()
    ]
    return sorted(lines, key=lambda line: -abs(line["flops"]) - abs(line["transcendentals"]))


def _symbols(analysis: Analysis) -> dict[str, Any]:
    """Return the symbols that counts depend on, and the formulas; nothing where every count is a number."""
    found = analysis.atoms
    if not found:
        return {}
    total = analysis.total
    formulas = [(name, form, of(total)) for name, form, of in _COLUMNS]
    if analysis.params is not None:
        formulas.append(("params", "count", analysis.params))
    return {
        "symbols": [
            {"name": name, "least": atom.least, "value": max(atom.least, _START)} for name, atom in found.items()
        ],
        "formulas": [{"name": name, "format": form, "formula": _number(count)} for name, form, count in formulas],
    }
