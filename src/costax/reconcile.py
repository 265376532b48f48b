"""From our count to XLA's: the causes of the difference that are known without reading the compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from costax.analysis import Analysis
from costax.conventions import XlaCounts, as_xla
from costax.cost import Cost, Count
from costax.tree import Node


@dataclass(frozen=True, slots=True)
class Delta:
    """One named part of the difference between our count and XLA's, and the evidence for it."""

    cause: str
    flops: Count
    transcendentals: Count
    evidence: str


def known_deltas(analysis: Analysis) -> tuple[Delta, ...]:
    """Return what must be added to our FLOPs and transcendentals to get what XLA's rules make of the same jaxpr.

    Padding taps, work on integers, loops and branches are charged as XLA charges them; what the compiler then does
    to the program is not in here.
    """
    total = analysis.total
    whole = as_xla(total)
    once = as_xla(_where(analysis, _times_in_hlo))
    shard = as_xla(_where(analysis, lambda node: 1 if node.per_device else _times_in_hlo(node)))
    nodes = analysis.tree.distinct() if analysis.tree else ()
    loops = sum(1 for node in nodes if node.loop and node.times != node.copies)
    other = whole.flops + 2 * total.padding_macs - total.flops
    deltas = (
        Delta("padding taps", -2 * total.padding_macs, 0, f"{total.padding_macs:,} MACs touch only padding"),
        Delta("other operations", other, 0, "integers, comparisons, selections and conversions are FLOPs to XLA"),
        Delta(
            "loops counted once",
            *_minus(once, whole),
            f"loop bodies that run more or fewer times than XLA sees them: {loops}",
        ),
        Delta("one device's share", *_minus(shard, once), f"devices that run the same body: {analysis.devices}"),
    )
    return tuple(delta for delta in deltas if delta.flops or delta.transcendentals)


def expected(analysis: Analysis, deltas: Sequence[Delta]) -> XlaCounts:
    """Return our counts with the deltas added."""
    return XlaCounts(
        analysis.total.flops + sum(delta.flops for delta in deltas),
        analysis.total.transcendentals + sum(delta.transcendentals for delta in deltas),
    )


def _times_in_hlo(node: Node) -> Count:
    return node.copies if node.loop else node.times


def _minus(a: XlaCounts, b: XlaCounts) -> XlaCounts:
    return XlaCounts(a.flops - b.flops, a.transcendentals - b.transcendentals)


def _where(analysis: Analysis, times_of: Callable[[Node], Count]) -> Cost:
    return analysis.tree.where(times_of) if analysis.tree else analysis.total
