"""From costax's count to XLA's: one line per cause, stage by stage, and the equations that differ most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from costax.compare.causes import UNEXPLAINED
from costax.core import units
from costax.core.cost import Count
from costax.report import compiled_summary, record, sharding, text
from costax.report.headlines import comparison_sentence
from costax.report.tables import short_place
from costax.report.text import footer, one_line

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.compare.base_comparison import BaseComparison, StageView
    from costax.compare.causes import Delta
    from costax.compare.passes import PassTrail
    from costax.hlo.loops import Conditional, Loop

# The sum that stands below the causes of each stage.
_SUM_LABELS: Final = {
    "jaxpr": "= by XLA's rules",
    "lowered": "= as jax lowered it (StableHLO)",
    "converted": "= as XLA converted it (HLO)",
    "compiled": "= XLA, compiled",
    "xla": "= XLA reports",
}
_MOST: Final = 8
# People run `compare` for the waterfall: the table of layers above it is short, so that one screen holds both.
_LAYER_LINES: Final = 20


def render(comparison: BaseComparison[StageView], **table: Any) -> RenderableType:
    """Return the table of layers, and below it the waterfall from costax's FLOPs to those of XLA's cost analysis.

    table: options of `costax.report.tables.table`, such as `by`, `depth` and `sort`.
    """
    loops = len(comparison.compiled.unknown_loops)
    inexact = f"{loops} loop{'s' if loops > 1 else ''} of unknown length in the compiled program" if loops else ""
    above = layers(comparison.jaxpr, inexact, comparison_sentence(comparison), **table)
    return Group(above, one_line(""), account(comparison, sentence=False))


def layers(analysis: Analysis, inexact: str = "", below: str = "", **table: Any) -> RenderableType:
    """Return the table of layers of a comparison, which is known before the compiler starts.

    inexact, below: as for `costax.report.text.render`.
    """
    return text.render(analysis, inexact, below, **{"most_lines": _LAYER_LINES, **table})


def account(comparison: BaseComparison[StageView], *, sentence: bool = True) -> RenderableType:
    """Return the waterfall of a comparison and what belongs to it. sentence: begin with XLA's count in one sentence."""
    head = [footer([comparison_sentence(comparison), ""], style="bold")] if sentence else []
    differing = [equations(comparison, _MOST)] if comparison.deltas else []
    # A saved comparison, which has the record of its replication, is shown without jax.
    repeated = sharding.render(getattr(comparison, "replication", None))
    sent = sharding.communication(comparison)
    parts = [*_alarms(comparison), _waterfall(comparison), *differing, *repeated, *sent, _notes(comparison)]
    return Group(*head, *parts)


def to_record(comparison: BaseComparison[StageView]) -> dict[str, Any]:
    """Return the comparison as a dictionary for JSON: the analysis, the deltas, and XLA's numbers for each stage."""
    # A saved comparison, which has the record of its passes, is shown without jax.
    trail, saved = (getattr(comparison, name, None) for name in ("passes", "passes_record"))
    return {
        "schema": "costax/comparison/2",
        "target": comparison.target,
        "xla_flags": dict(comparison.xla_flags),
        "marked": comparison.marked,
        "exact": comparison.exact,
        "jaxpr": record.to_record(comparison.jaxpr),
        "deltas": [{**asdict(delta), "scope": "/".join(delta.scope)} for delta in comparison.deltas],
        "unexplained": len(comparison.unexplained),
        "lowered": _stage(comparison.lowered),
        "compiled": _stage(comparison.compiled),
        "xla": dict(comparison.xla),
        "replication": sharding.to_record(getattr(comparison, "replication", None)),
        "passes": saved if trail is None else _passes_record(trail),
        **compiled_summary.of(comparison),
    }


def _passes_record(trail: PassTrail) -> dict[str, Any]:
    from costax.report import passes

    return passes.to_record(trail)


def _stage(ledger: StageView) -> dict[str, Any]:
    return {
        "total": ledger.total._asdict(),
        "float32": ledger.float32._asdict(),
        "executed": ledger.executed._asdict(),
        "xla": None if ledger.xla is None else dict(ledger.xla),
        "matches_xla": ledger.matches_xla,
        "attributed": ledger.attributed,
        "opaque": ledger.opaque,
        "exact": ledger.exact,
        "unknown_loops": [
            {"name": loop.name, "scope": loop.scope, "source": loop.source} for loop in ledger.unknown_loops
        ],
        "conditionals": [asdict(conditional) for conditional in ledger.conditionals],
        "collectives": [asdict(collective) for collective in ledger.collectives],
        "devices": ledger.devices,
        "memory": dict(ledger.memory),
        "fits": ledger.fits,
        "seconds": ledger.seconds,
        "note": ledger.note,
    }


def equations(comparison: BaseComparison[StageView], most: int | None = None) -> Table:
    """Return the equations whose counts differ, largest difference first.

    Equations with the same primitive, source line and cause share a row. most: the number of rows; all by default.
    """
    groups: dict[tuple[str, str, str], list[Delta]] = defaultdict(list)
    for delta in comparison.deltas:
        groups[delta.cause, delta.equation, delta.source].append(delta)
    ordered = sorted(groups.values(), key=lambda deltas: -abs(sum(d.flops + d.transcendentals for d in deltas)))
    shown = ordered[:most]
    title = f"Largest differences, {len(shown)} of {len(ordered)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    with_transcendentals = any(delta.transcendentals for deltas in shown for delta in deltas)
    for name in ("FLOPs", "transc.") if with_transcendentals else ("FLOPs",):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("equation", "line", "why"):
        table.add_column(name, overflow="fold")
    for deltas in shown:
        first = max(deltas, key=lambda delta: abs(delta.flops) + abs(delta.transcendentals))
        others = len({_why(delta) for delta in deltas}) - 1
        times = f" x {len(deltas)}" if len(deltas) > 1 else ""
        counts = [units.signed(sum(d.flops for d in deltas)), units.signed(sum(d.transcendentals for d in deltas))]
        table.add_row(
            *counts[: 1 + with_transcendentals],
            one_line(f"{first.equation or '(none)'}{times}"),
            one_line(first.source.rpartition("/")[2] or "-"),
            one_line(f"{first.pass_name or first.cause}: {_why(first)}{f', and {others} similar' if others else ''}"),
        )
    return table


def _why(delta: Delta) -> str:
    """Return the evidence of a difference; "dot became dot" reads "dot of fewer elements" or "of more elements"."""
    before, became, after = delta.evidence.partition(" became ")
    if became and before == after:
        fewer = "fewer" if delta.flops + delta.transcendentals < 0 else "more"
        return f"{before} of {fewer} elements"
    return delta.evidence


def _alarms(comparison: BaseComparison[StageView]) -> list[RenderableType]:
    alarms: list[RenderableType] = []
    if comparison.unexplained:
        operations = sum(abs(delta.flops) + abs(delta.transcendentals) for delta in comparison.unexplained)
        lines = [f"  {d.equation} ({d.source}): {d.flops:+,} FLOPs, {d.stage}" for d in comparison.unexplained[:5]]
        head = f"Unexplained: {len(comparison.unexplained)} differences, {operations:,} operations. "
        head += "This is a bug of costax: please report it."
        alarms.append(footer([head, *lines, ""], style="bold red"))
    for ledger in (comparison.lowered, comparison.compiled):
        if ledger.matches_xla is False:
            theirs = ledger.xla or {}
            numbers = f"costax {ledger.float32.flops:.0f}, XLA {theirs.get('flops', 0):.0f} FLOPs"
            sentence = f"The replay of the {ledger.stage} module does not give XLA's number: {numbers}."
            alarms.append(footer([f"{sentence} This is a bug of costax: please report it.", ""], style="bold red"))
    compiled = comparison.compiled
    if compiled.fits is False:
        room = units.short_bytes(compiled.memory["device"])
        needed = units.short_bytes(compiled.held)
        sentence = f"The program does not fit {comparison.target}: one device needs {needed} and has {room}."
        alarms.append(footer([sentence, ""], style="bold red"))
    return alarms


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One row of the waterfall: a sum, or one cause with its share of the difference and its deltas."""

    label: str
    flops: Count
    transcendentals: Count
    deltas: Sequence[Delta] | None = None

    @property
    def is_sum(self) -> bool:
        """Whether the row is a sum; the other rows are causes."""
        return self.deltas is None

    def cells(self) -> tuple[str, str, str]:
        """Return the FLOPs, the transcendentals and the number of equations as text."""
        if self.deltas is None:
            return f"{self.flops:,}", f"{self.transcendentals:,}", ""
        signed = [f"{count:+,}" if count else "" for count in (self.flops, self.transcendentals)]
        return signed[0], signed[1], f"{len(self.deltas):,}"


def waterfall_rows(comparison: BaseComparison[StageView]) -> Iterator[WaterfallRow]:
    """Yield the waterfall: costax's count, then for each stage its causes and their sum, and last XLA's count."""
    flops, transcendentals = comparison.jaxpr.total.flops, comparison.jaxpr.total.transcendentals
    has_passes = any(getattr(comparison, name, None) is not None for name in ("passes", "passes_record"))
    yield WaterfallRow("this program (jaxpr)", flops, transcendentals)
    for stage, sum_label in _SUM_LABELS.items():
        rows = [
            WaterfallRow(label, sum(d.flops for d in deltas), sum(d.transcendentals for d in deltas), deltas)
            for label, deltas in _parts(comparison, stage).items()
        ]
        # The passes stand in the order in which they ran, the causes of the other stages by size.
        for row in rows if stage == "compiled" else sorted(rows, key=lambda row: -abs(row.flops)):
            flops, transcendentals = flops + row.flops, transcendentals + row.transcendentals
            yield row
        # Without the passes jax's StableHLO was not counted, so that these differences lead to the HLO.
        label = _SUM_LABELS["converted"] if stage == "lowered" and not has_passes else sum_label
        if rows or stage in ("jaxpr", "lowered", "compiled"):
            yield WaterfallRow(label, flops, transcendentals)


def _parts(comparison: BaseComparison[StageView], stage: str) -> dict[str, list[Delta]]:
    """Return the deltas of a stage by what the waterfall calls them: their cause, and for a pass each of its runs."""
    ordered = sorted((delta for delta in comparison.deltas if delta.stage == stage), key=lambda delta: delta.run)
    runs: dict[str, list[int]] = defaultdict(list)
    for delta in ordered:
        if delta.pass_name and delta.run not in runs[delta.pass_name]:
            runs[delta.pass_name].append(delta.run)
    parts: dict[str, list[Delta]] = defaultdict(list)
    for delta in ordered:
        parts[_label(delta, runs[delta.pass_name])].append(delta)
    return dict(parts)


def _label(delta: Delta, runs: Sequence[int]) -> str:
    if not delta.pass_name:
        return delta.cause
    again = f", run {runs.index(delta.run) + 1}" if len(runs) > 1 else ""
    words = "" if delta.cause == delta.pass_name else f": {delta.cause}"
    return f"{delta.pass_name}{again}{words}"


def _waterfall(comparison: BaseComparison[StageView]) -> Table:
    title = f"From this program to XLA's cost analysis ({comparison.target})"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("FLOPs", "transc.", "eqns"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in waterfall_rows(comparison):
        style = "bold" if row.is_sum else "red" if UNEXPLAINED in row.label else ""
        table.add_row(one_line(row.label if row.is_sum else f"  {row.label}"), *row.cells(), style=style)
    return table


def _notes(comparison: BaseComparison[StageView]) -> Text:
    lowered, compiled = comparison.lowered, comparison.compiled
    replayed = ", ".join(f"{ledger.stage} {_agreement(ledger)}" for ledger in (lowered, compiled))
    executed = compiled.executed
    lines = [
        f"Replay of XLA's float32 sum: {replayed}.",
        f"{compiled.attributed:.1%} of the compiled FLOPs are attributed to an equation.{_unmarked(comparison)}",
        f"Executed, {_executed(compiled)}: {units.short(executed.flops, 'FLOP')}, "
        f"{units.short(executed.transcendentals)} transcendentals.",
        f"Lowered in {lowered.seconds:.2f} s, compiled in {compiled.seconds:.2f} s for {comparison.target}.",
    ]
    return footer([*lines, *filter(None, [compiled.note]), *gaps(compiled), *_per_device(compiled)])


def _executed(ledger: StageView) -> str:
    """Return what the executed work is made of; never that loops count as often as they run where one is unknown."""
    loops = "with the trip counts that are known" if ledger.unknown_loops else "with trip counts"
    devices = f" by one of {ledger.devices} devices" if ledger.devices > 1 else ""
    return f"{loops} and library calls,{devices}" if devices else f"{loops} and library calls"


def gaps(ledger: StageView) -> list[str]:
    """Return why the executed work is not exact: loops of unknown length, open conditionals, calls of unknown work."""
    lines = [
        f"Not exact: the trip count of the loop {loop.name} ({_place(loop)}) is unknown; its body counts once."
        for loop in ledger.unknown_loops
    ]
    lines += [
        f"Not exact: which branch of the conditional {x.name} ({_place(x)}) runs depends on data; the branch with most "
        "work counts."
        for x in ledger.conditionals
    ]
    if ledger.opaque:
        calls = ", ".join(f"{target} x {count}" for target, count in sorted(ledger.opaque.items()))
        lines.append(f"Not in the executed work, because the work of these library calls is unknown: {calls}.")
    return lines


def _place(loop: Loop | Conditional) -> str:
    return ", ".join(filter(None, [f"in {loop.scope}" if loop.scope else "no scope", short_place(loop.source)]))


def _unmarked(comparison: BaseComparison[StageView]) -> str:
    return "" if comparison.marked else " The marks changed the program, so only scopes attribute its instructions."


def _per_device(ledger: StageView) -> Iterator[str]:
    """Yield the memory and the communication of one device, and the library calls whose work is unknown."""
    if ledger.memory:
        temporaries = units.short_bytes(ledger.memory.get("temp", 0))
        yield f"One device needs {units.short_bytes(ledger.held)} of memory, {temporaries} of it for temporaries."
    if ledger.devices > 1:
        yield f"Sharded over {ledger.devices} devices; the compiled numbers are for one device."
    groups: dict[tuple[str, tuple[str, ...], str], list[int]] = defaultdict(list)
    parts: dict[tuple[str, tuple[str, ...], str], int] = defaultdict(int)
    for collective in ledger.collectives:
        key = (collective.opcode, collective.axes, collective.link)
        groups[key].append((collective.sent or 0) * collective.executed)
        parts[key] += max(1, len(collective.shares))
    for (opcode, axes, link), each in groups.items():
        # The table has a line for each layer of a collective that XLA combined.
        combined = parts[opcode, axes, link]
        of = f" (combined from {combined}, a part for each layer and direction)" if combined > len(each) else ""
        over = f" over {', '.join(axes)}" if axes else ""
        by = f" by {link}" if link else ""
        yield f"{opcode}{over}: {len(each)} in the program{of}, each device sends {units.short_bytes(sum(each))}{by}."


def _agreement(ledger: StageView) -> str:
    return {True: "equal bit for bit", False: "NOT equal", None: "not reported by XLA"}[ledger.matches_xla]
