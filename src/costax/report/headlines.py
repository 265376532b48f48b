"""Headlines: one sentence with the answer, which stands above every table and begins the `repr` of a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from costax.core import units
from costax.core.cost import Count
from costax.core.polynomial import Polynomial
from costax.core.printable import printable
from costax.report.shown import analysis_of

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.analysis.changes import Change
    from costax.analysis.diff import Diff
    from costax.analysis.other_tools.conventions import Answer
    from costax.analysis.utilisation import Utilisation
    from costax.analysis.what_if import WhatIf
    from costax.compare.base_comparison import BaseComparison, StageView
    from costax.compare.passes import PassTrail
    from costax.hlo.module_analysis import ModuleAnalysis
    from costax.performance.energy import Energy
    from costax.performance.prediction import Prediction
    from costax.report.tables import Table
    from costax.sweep.results import Sweep

# A headline names so many causes of a difference, the largest ones.
_CAUSES: Final = 2
# Ratios that differ less from 1 are a change in percent.
_NEAR: Final = 0.1
# A formula longer than this is shown as the number of its terms.
_FORMULA: Final = 60


def headline(value: Any) -> str:
    """Return the answer of a result as one or two sentences; "" for a result without any."""
    names = [base.__name__ for base in cast("type[Any]", type(value)).__mro__]
    return next((_HEADLINES[name](value) for name in names if name in _HEADLINES), "")


def _analysis(analysis: Analysis) -> str:
    parts = list(_work(analysis))
    if analysis.params:
        parts.append(_count(analysis.params, "parameters"))
    together = f" by {analysis.devices} devices together" if analysis.devices > 1 else ""
    doubt = "" if analysis.exact else f" Not exact: {printable(_doubts(analysis))}."
    return f"{printable(analysis.name)}: {', '.join(parts) or 'no arithmetic'}{together}.{doubt}"


def _work(analysis: Analysis) -> Iterator[str]:
    total = analysis.total
    if total.macs:
        yield _count(total.macs, "MACs")
    if total.flops:
        yield _count(total.flops, "FLOPs")
    elif total.ops:
        yield _count(total.ops, "OPs")
    # A program without arithmetic moves bytes, and a program of transcendentals has hardly any FLOPs.
    if total.transcendentals > total.flops if _plain(total.transcendentals, total.flops) else not total.flops:
        yield _count(total.transcendentals, "transcendentals")
    if not total.ops and total.bytes_unfused:
        yield f"{units.short_bytes(total.bytes_unfused)} of traffic"


def _plain(*counts: Count) -> bool:
    return not any(isinstance(count, Polynomial) for count in counts)


def _doubts(analysis: Analysis) -> str:
    from costax.report.notes import exactness

    return exactness(analysis)


def _count(count: Count, unit: str) -> str:
    """Return `3.64 GFLOPs` or `11.7 M parameters`, and a long formula as `a formula of 12 terms in b, s FLOPs`."""
    if isinstance(count, Polynomial):
        short = units.short(count)
        if len(short) > _FORMULA:
            return f"{unit} by a formula of {len(count.terms)} terms in {', '.join(count.symbols)}"
        return f"({short}) {unit}" if len(count.terms) > 1 else f"{short} {unit}"
    if count == 1:
        unit = unit.removesuffix("s")
    # "11.7 M parameters", but "1.81 GMACs"
    return f"{units.short(count)} {unit}" if unit.islower() else units.short(count, unit)


def comparison_sentence(comparison: BaseComparison[StageView]) -> str:
    """Return XLA's count and the largest reasons why it differs, as one sentence."""
    ours = comparison.jaxpr.total.flops
    # The chain closes, so the differences lead to XLA's count.
    theirs = ours + sum(delta.flops for delta in comparison.deltas)
    exactly = theirs == ours
    whose = "XLA" if comparison.target == "cpu" else f"XLA for {comparison.target}"
    counts = f"{whose} counts {'the same FLOPs' if exactly else units.short(theirs, 'FLOPs')}"
    sums: dict[str, int] = defaultdict(int)
    for delta in comparison.deltas:
        sums[delta.cause] += delta.flops
    # Below three digits of either number nobody sees the difference.
    visible = {cause: flops for cause, flops in sums.items() if 1000 * abs(flops) >= abs(ours) // 10}
    ordered = sorted((visible or sums).items(), key=lambda item: -abs(item[1]))
    causes = [_cause(cause, flops) for cause, flops in ordered[:_CAUSES] if flops]
    others = len([cause for cause, flops in sums.items() if flops]) - len(causes)
    if not causes:
        return f"{counts}."
    more = f", and {others} more cause{'s' if others > 1 else ''}" if others > 0 else ""
    return f"{counts}: {', '.join(causes)}{more}."


def _cause(cause: str, flops: int) -> str:
    sign = "fewer" if flops < 0 else "more"
    return f"{units.short(abs(flops))} {sign} ({cause})"


def _comparison(comparison: BaseComparison[StageView]) -> str:
    return f"{_analysis(analysis_of(comparison))}\n{comparison_sentence(comparison)}"


def _prediction(prediction: Prediction) -> str:
    best, expected, worst = prediction.range
    bounds = prediction.by_bound()
    total = sum(bounds.values())
    unit = max(bounds, key=lambda name: bounds[name], default="")
    parts = [f"{units.seconds(expected)} per call (best {units.seconds(best)}, worst {units.seconds(worst)})"]
    if total:
        parts.append(f"{bounds[unit] / total:.0%} of it bound by {_unit(unit)}")
    if prediction.mfu is not None:
        parts.append(f"MFU {prediction.mfu:.1%}")
    return f"{printable(prediction.analysis.name)} on {prediction.device.name}: {', '.join(parts)}."


def _unit(name: str) -> str:
    return f"the {name}" if name.endswith("unit") else name


def _module(module: ModuleAnalysis) -> str:
    counted, executed = module.total.flops, module.executed.flops
    same = "all executed" if counted == executed else f"{units.short(executed, 'FLOPs')} executed"
    work = f"{units.short(counted, 'FLOPs')} as XLA counts, {same}"
    return f"{printable(module.name)}: an HLO module with {work}, {units.short_bytes(module.total.bytes)} of traffic."


def _diff(diff: Diff) -> str:
    total = diff.total
    fields = {"macs": "MACs", "flops": "FLOPs", "params": "params"}
    changes = [(name, total.change(field)) for field, name in fields.items()]
    parts = [
        f"{name} {units.short(change.before)} -> {units.short(change.after)}{_ratio(change)}"
        for name, change in changes
        if change.before or change.after
    ]
    return (
        f"{printable(diff.before.name)} -> {printable(diff.after.name)}: {', '.join(parts) or 'no arithmetic in both'}."
    )


def _ratio(change: Change) -> str:
    return "" if change.ratio is None else f" ({near_one(change) or f'x {change.ratio:.3g}'})"


def near_one(change: Change) -> str:
    """Return a change of less than a tenth in percent: as a ratio, three digits hide most of it; "" for any other."""
    from costax.analysis.thresholds import signed_percent

    return signed_percent(change) if change.ratio is not None and 0 < abs(change.ratio - 1) < _NEAR else ""


def _what_if(change: WhatIf) -> str:
    parts = [f"{row[0]} {row[1]} -> {row[2]}" for row in change.rows(None) if row[1] != row[2]]
    return f"{printable(change.analysis.name)}, changed: {', '.join(parts) or 'nothing differs'}."


def _passes(trail: PassTrail) -> str:
    before, after = (units.short(x.flops, "FLOPs") for x in (trail.before, trail.after))
    work = f"{before} before optimisation, {after} after"
    return f"{printable(trail.name)}: {len(trail.steps)} passes changed costs; {work}."


def _table(table: Table) -> str:
    columns = ", ".join(table.columns)
    # Shares that depend on symbols have no column.
    has_shares = columns.rpartition(", ")[2].startswith("%")
    largest = ", ".join(
        printable(line.label) + (f" {line.cells[-1]}%" if has_shares else "") for line in table.lines[:_CAUSES]
    )
    more = f", {len(table.lines) - _CAUSES} more" if len(table.lines) > _CAUSES else ""
    return f"{len(table.lines)} lines by {table.heading}: {columns}.\n{largest}{more}."


def _utilisation(found: Utilisation) -> str:
    # It imports jax, which showing a record does not need.
    from costax.analysis.utilisation import HARDWARE, MODEL

    conventions = [count.convention for count in found.counts]
    convention = MODEL if MODEL in conventions else HARDWARE
    # Without recomputed work the two are the same.
    recomputes = convention == MODEL and HARDWARE in conventions and found.hfu != found.mfu()
    shares = [f"{'MFU' if convention == MODEL else 'HFU'} {units.percent(found.mfu(convention))}"]
    shares += [f"HFU {units.percent(found.hfu)}"] if recomputes else []
    work = f"{units.short(found.flops(convention), 'FLOPs')} ({convention})"
    on = f"{'one' if found.devices == 1 else f'{found.devices} x'} {found.device.name}"
    each = "" if found.devices == 1 else " each"
    return (
        f"{', '.join(shares)}: {printable(found.name)} does {work} in {units.seconds(found.seconds)} on {on}, "
        f"of {units.rate(found.peak, 'FLOP/s')}{each} ({found.unit})."
    )


def _answer(answer: Answer) -> str:
    reasons = f", {len(answer.reasons)} differences with their reasons" if answer.reasons else ""
    count, ours = units.exact(answer.count), units.exact(answer.ours)
    return f"{answer.tool} reports {count} {answer.unit}; costax {ours} {ours_as(answer)}{reasons}."


def ours_as(answer: Answer) -> str:
    """Return what costax's number is: of a tool that counts products alone it is 2 x MACs, and not all FLOPs."""
    # It imports jax, which showing a record does not need.
    from costax.analysis.other_tools.tools import TOOLS

    if answer.unit != "FLOPs":
        return "MACs"
    return "2 x MACs" if answer.tool in TOOLS else "FLOPs"


def _energy(energy: Energy) -> str:
    call = f"{energy.joules.text('J')} per call on {energy.prediction.device.name}"
    token = f", {energy.per_token.text('J')} per token" if energy.per_token else ""
    return f"{printable(energy.prediction.analysis.name)}: {call}{token}."


def _sweep(sweep: Sweep) -> str:
    failed = f", {len(sweep.errors)} of them failed" if sweep.errors else ""
    names = dict.fromkeys(name for result in sweep.results for name in result["point"])
    return f"{len(sweep)} points over {', '.join(map(printable, names))}, {sweep.programs} programs{failed}."


_HEADLINES: Final[Mapping[str, Callable[[Any], str]]] = {
    "Analysis": _analysis,
    "Answer": _answer,
    "BaseComparison": _comparison,
    "Diff": _diff,
    "Energy": _energy,
    "ModuleAnalysis": _module,
    "PassTrail": _passes,
    "Prediction": _prediction,
    "Sweep": _sweep,
    "Table": _table,
    "Utilisation": _utilisation,
    "WhatIf": _what_if,
}
