"""The account from our count to XLA's: one line a cause, stage by stage, and the equations that differ most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from costax.compare.causes import RECOMPUTED
from costax.core import units
from costax.core.cost import Count
from costax.report import record, text

if TYPE_CHECKING:
    from costax.compare.causes import Delta
    from costax.compare.ledgers import Ledgers, Stage

# What each stage's causes lead to.
_LEADS_TO: Final = {
    "jaxpr": "= by XLA's rules",
    "lowered": "= XLA, lowered",
    "compiled": "= XLA, compiled",
    "xla": "= XLA says",
}
_MOST: Final = 8
# The account is what people come for: the table of layers above it must leave it on the screen.
_LAYER_LINES: Final = 20


def render(comparison: Ledgers[Stage], **table: Any) -> RenderableType:
    """Return the layer table, and below it the way from our FLOPs to those of XLA's cost analysis.

    table: which table of the analysis, `by`, `depth` and `sort`.
    """
    layers = text.render(comparison.jaxpr, **{"most_lines": _LAYER_LINES, **table})
    differing = [equations(comparison, _MOST)] if comparison.deltas else []
    return Group(layers, Text(), *_alarms(comparison), _account(comparison), *differing, _notes(comparison))


def to_record(comparison: Ledgers[Stage]) -> dict[str, Any]:
    """Return the comparison as a dictionary for JSON: the analysis, the deltas, and what each stage of XLA says."""
    return {
        "schema": "costax/comparison/1",
        "target": comparison.target,
        "marked": comparison.marked,
        "jaxpr": record.to_record(comparison.jaxpr),
        "deltas": [{**asdict(delta), "scope": "/".join(delta.scope)} for delta in comparison.deltas],
        "unexplained": len(comparison.unexplained),
        "lowered": _stage(comparison.lowered),
        "compiled": _stage(comparison.compiled),
        "xla": dict(comparison.xla),
    }


def _stage(ledger: Stage) -> dict[str, Any]:
    return {
        "total": ledger.total._asdict(),
        "float32": ledger.float32._asdict(),
        "executed": ledger.executed._asdict(),
        "xla": None if ledger.xla is None else dict(ledger.xla),
        "matches_xla": ledger.matches_xla,
        "attributed": ledger.attributed,
        "opaque": ledger.opaque,
        "collectives": [asdict(exchange) for exchange in ledger.collectives],
        "devices": ledger.devices,
        "memory": dict(ledger.memory),
        "fits": ledger.fits,
        "seconds": ledger.seconds,
        "note": ledger.note,
    }


def equations(comparison: Ledgers[Stage], most: int | None = None) -> Table:
    """Return the equations whose counts differ, largest difference first; those of one line and cause together."""
    groups: dict[tuple[str, str, str], list[Delta]] = defaultdict(list)
    for delta in comparison.deltas:
        groups[delta.cause, delta.equation, delta.source].append(delta)
    ordered = sorted(groups.values(), key=lambda found: -abs(sum(d.flops + d.transcendentals for d in found)))
    shown = ordered[:most]
    title = f"Largest differences, {len(shown)} of {len(ordered)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    with_transcendentals = any(delta.transcendentals for found in shown for delta in found)
    for name in ("FLOPs", "transc.") if with_transcendentals else ("FLOPs",):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("equation", "line", "why"):
        table.add_column(name, overflow="fold")
    for found in shown:
        first = max(found, key=lambda delta: abs(delta.flops) + abs(delta.transcendentals))
        others = len({_why(delta) for delta in found}) - 1
        times = f" x {len(found)}" if len(found) > 1 else ""
        counts = [units.signed(sum(d.flops for d in found)), units.signed(sum(d.transcendentals for d in found))]
        table.add_row(
            *counts[: 1 + with_transcendentals],
            Text(f"{first.equation or '(none)'}{times}"),
            Text(first.source.rpartition("/")[2] or "-"),
            Text(f"{first.cause}: {_why(first)}{f', and {others} alike' if others else ''}"),
        )
    return table


def _why(delta: Delta) -> str:
    """Return the evidence; where the opcodes are the same before and after, their sizes are not."""
    if delta.cause == RECOMPUTED:
        # The names of the fusions are in the record; a TPU's are longer than a line.
        return delta.evidence.partition(":")[0]
    before, became, after = delta.evidence.partition(" became ")
    if became and before == after:
        fewer = "fewer" if delta.flops + delta.transcendentals < 0 else "more"
        return f"{before} of {fewer} elements"
    return delta.evidence


def _alarms(comparison: Ledgers[Stage]) -> list[RenderableType]:
    alarms: list[RenderableType] = []
    if comparison.unexplained:
        worth = sum(abs(delta.flops) + abs(delta.transcendentals) for delta in comparison.unexplained)
        lines = [f"  {d.equation} ({d.source}): {d.flops:+,} FLOPs, {d.stage}" for d in comparison.unexplained[:5]]
        head = f"Unexplained: {len(comparison.unexplained)} differences, {worth:,} operations. This is a bug of costax."
        alarms.append(Text("\n".join([head, *lines, ""]), style="bold red"))
    for ledger in (comparison.lowered, comparison.compiled):
        if ledger.matches_xla is False:
            theirs = ledger.xla or {}
            said = f"ours {ledger.float32.flops:.0f}, XLA's {theirs.get('flops', 0):.0f} FLOPs"
            alarms.append(Text(f"The replay of the {ledger.stage} module is not XLA's: {said}.\n", style="bold red"))
    compiled = comparison.compiled
    if compiled.fits is False:
        room = units.short_bytes(compiled.memory["device"])
        said = f"It does not fit {comparison.target}: it holds {units.short_bytes(compiled.held)} of {room}.\n"
        alarms.append(Text(said, style="bold red"))
    return alarms


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the account: a sum, or one cause with what it adds and the deltas behind it."""

    label: str
    flops: Count
    transcendentals: Count
    deltas: Sequence[Delta] | None = None

    @property
    def is_sum(self) -> bool:
        """Say whether the line is a sum, and no cause."""
        return self.deltas is None

    def cells(self) -> tuple[str, str, str]:
        """Return FLOPs, transcendentals and how many equations as text."""
        if self.deltas is None:
            return f"{self.flops:,}", f"{self.transcendentals:,}", ""
        signed = [f"{count:+,}" if count else "" for count in (self.flops, self.transcendentals)]
        return signed[0], signed[1], f"{len(self.deltas):,}"


def steps(comparison: Ledgers[Stage]) -> Iterator[Step]:
    """Yield the account, line by line: our count, causes and sums in turn, and what XLA says."""
    flops, transcendentals = comparison.jaxpr.total.flops, comparison.jaxpr.total.transcendentals
    yield Step("this program (jaxpr)", flops, transcendentals)
    for stage, leads_to in _LEADS_TO.items():
        causes: dict[str, list[Delta]] = defaultdict(list)
        for delta in comparison.deltas:
            if delta.stage == stage:
                causes[delta.cause].append(delta)
        for cause, found in sorted(causes.items(), key=lambda item: -abs(sum(d.flops for d in item[1]))):
            step = Step(cause, sum(d.flops for d in found), sum(d.transcendentals for d in found), found)
            flops, transcendentals = flops + step.flops, transcendentals + step.transcendentals
            yield step
        if stage != "xla" or causes:
            yield Step(leads_to, flops, transcendentals)


def _account(comparison: Ledgers[Stage]) -> Table:
    title = f"From this program to XLA's cost analysis ({comparison.target})"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("FLOPs", "transc.", "eqns"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in steps(comparison):
        style = "bold" if step.is_sum else "red" if step.label == "unexplained" else ""
        table.add_row(step.label if step.is_sum else f"  {step.label}", *step.cells(), style=style)
    return table


def _notes(comparison: Ledgers[Stage]) -> Text:
    lowered, compiled = comparison.lowered, comparison.compiled
    kept = "" if comparison.marked else " The marks changed the program, so equations were found by scope alone."
    replayed = ", ".join(f"{ledger.stage} {_agreement(ledger)}" for ledger in (lowered, compiled))
    executed = compiled.executed
    lines = [
        f"Replay of XLA's own sum, in float32: {replayed}.",
        f"{compiled.attributed:.1%} of the compiled FLOPs belong to an equation.{kept}",
        f"Executed, loops as often as they run and libraries in full: {units.short(executed.flops, 'FLOP')}, "
        f"{units.short(executed.transcendentals)} transcendentals.",
        f"Lowered in {lowered.seconds:.2f} s, compiled in {compiled.seconds:.2f} s for {comparison.target}.",
    ]
    return Text("\n".join([*lines, *filter(None, [compiled.note]), *_machine(compiled)]))


def _machine(ledger: Stage) -> Iterator[str]:
    """Say what one device holds and exchanges, and which calls tell nothing of their work."""
    if ledger.memory:
        temporaries = units.short_bytes(ledger.memory.get("temp", 0))
        yield f"One device holds {units.short_bytes(ledger.held)}, {temporaries} of it temporaries."
    if ledger.devices > 1:
        yield f"Sharded over {ledger.devices} devices; the compiled numbers are those of one."
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for found in ledger.collectives:
        groups[found.opcode, found.axes].append((found.sent or 0) * found.executed)
    for (opcode, axes), sent in groups.items():
        over = f" over {', '.join(axes)}" if axes else ""
        yield f"{opcode}{over}: {len(sent)} x, each device sends {units.short_bytes(sum(sent))}."
    if ledger.opaque:
        calls = ", ".join(f"{target} x {count}" for target, count in sorted(ledger.opaque.items()))
        yield f"Not in what is executed, for nothing tells their work: {calls}."


def _agreement(ledger: Stage) -> str:
    return {True: "equal bit for bit", False: "NOT equal", None: "not reported by XLA"}[ledger.matches_xla]
