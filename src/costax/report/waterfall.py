"""The account from our count to XLA's: one line a named cause, then what each stage of XLA says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from costax import units
from costax.cost import Count
from costax.report import record, text

if TYPE_CHECKING:
    from costax.comparison import Comparison, XlaReport


def render(comparison: Comparison, **table: Any) -> RenderableType:
    """Return the layer table, and below it the way from our FLOPs to those of XLA's cost analysis.

    table: which table of the analysis, `by`, `depth` and `sort`.
    """
    layers = text.render(comparison.jaxpr, **table)
    return Group(layers, Text(), _account(comparison), Text(), _notes(comparison))


def to_record(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as a dictionary for JSON: the analysis, the causes, and what each stage of XLA says."""
    return {
        "schema": "costax/comparison/1",
        "jaxpr": record.to_record(comparison.jaxpr),
        "deltas": [asdict(delta) for delta in comparison.deltas],
        "expected": comparison.expected._asdict(),
        "lowered": asdict(comparison.lowered),
        "compiled": asdict(comparison.compiled),
    }


def _account(comparison: Comparison) -> Table:
    table = Table(title="From this program to XLA's cost analysis", title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("transcendentals", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    total = comparison.jaxpr.total
    _line(table, "this program (jaxpr)", total.flops, total.transcendentals, style="bold")
    for delta in comparison.deltas:
        _line(table, f"  {delta.cause}", delta.flops, delta.transcendentals, signed=True)
    ours = comparison.expected
    _line(table, "= by XLA's rules", ours.flops, ours.transcendentals)
    for report in (comparison.lowered, comparison.compiled):
        _stage(table, comparison, report)
    return table


def _stage(table: Table, comparison: Comparison, report: XlaReport) -> None:
    if not report.counted:
        table.add_row(f"XLA, {report.stage}", "no cost analysis", "", "", style="bold")
        return
    rest = comparison.rest(report)
    if rest.flops or rest.transcendentals:
        done_by = "lowering" if report.stage == "lowered" else "lowering and the compiler"
        _line(table, f"  rewritten by {done_by}", rest.flops, rest.transcendentals, signed=True)
    flops = comparison.jaxpr.total.flops
    ratio = f"{report.flops / flops:.3f}" if flops else "-"
    _line(table, f"XLA, {report.stage}", int(report.flops), int(report.transcendentals), ratio=ratio, style="bold")


def _line(
    table: Table,
    label: str,
    flops: Count,
    transcendentals: Count,
    *,
    ratio: str = "",
    signed: bool = False,
    style: str = "",
) -> None:
    sign = "+" if signed else ""
    table.add_row(label, f"{flops:{sign},}", f"{transcendentals:{sign},}", ratio, style=style)


def _notes(comparison: Comparison) -> Text:
    lines = [f"{delta.cause}: {delta.evidence}." for delta in comparison.deltas]
    dead = comparison.jaxpr.dead_code
    if dead:
        lines.append(f"dead code: {units.exact(dead.ops, 'OPs')} that were traced are in no number; jit drops them.")
    lowered, compiled = comparison.lowered, comparison.compiled
    lines.append(
        f"ratio: XLA's FLOPs to ours; XLA adds up in float32. Lowered in {lowered.seconds:.2f} s and compiled in "
        f"{compiled.seconds:.2f} s for this machine's CPU."
    )
    return Text("\n".join(lines), style="dim")
