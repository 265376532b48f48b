"""From our count to XLA's, cause by cause: what the deltas say adds up exactly.

Each equation's FLOPs are followed from the jaxpr through the lowered to the compiled module. What differs at a step
is filed under a cause, with the evidence that a test can falsify. What has none is `unexplained`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from costax.compare.absence import Absence, Witness
from costax.compare.causes import (
    BRANCH,
    CONTROL,
    CONVENTION,
    DEFECT,
    DEVICES,
    EXPANSION,
    LIBRARY,
    LOOP,
    MADE,
    PADDING,
    ROUNDING,
    Delta,
    Pair,
)
from costax.compare.changes import partitioned, total
from costax.compare.stage_costs import AttributedCost, StageCost, opcodes
from costax.core.address import Address
from costax.core.conventions import as_xla
from costax.core.progress import stage
from costax.program.call_sites import CallSite


@stage("reconciling")
def reconcile(
    call_sites: Sequence[CallSite],
    lowered: StageCost,
    compiled: StageCost,
    source: Callable[[CallSite], str],
    witness: Witness,
) -> tuple[Delta, ...]:
    """Return the deltas that lead from our total to XLA's compiled one; they add up exactly.

    places: every equation at each call site. source: the user's file and line of a place. witness: evidence that a
    stage leaves out the equation of a place, by experiment; "" where there is none.
    """
    return tuple(_Account(call_sites, lowered, compiled, source, witness).deltas())


class _Account:
    def __init__(
        self,
        call_sites: Sequence[CallSite],
        lowered: StageCost,
        compiled: StageCost,
        source: Callable[[CallSite], str],
        witness: Witness,
    ) -> None:
        self.call_sites = call_sites
        self.lowered, self.compiled = lowered, compiled
        self.source = source
        self.in_lowered, self.stray_lowered = _by_place(lowered.charges)
        self.in_compiled, self.stray_compiled = _by_place(compiled.charges)
        self.at = {place.address: place for place in call_sites}
        # What XLA's rules charge for one run of each place, every loop in it as often as its body stands there.
        self.charged = {place.address: Pair(*as_xla(place.once)) for place in call_sites}
        self.absence = Absence(self.at, self.in_lowered, compiled.hidden, self._line, witness)

    def deltas(self) -> Iterator[Delta]:
        for place in self.call_sites:
            yield from self._conventions(place)
            yield from self._lowering(place)
            yield from self._compiling(place)
        yield from self._strays(self.stray_lowered, "lowered", 1)
        # What only the lowered module has and belongs to no equation is gone from the compiled one.
        yield from self._strays(self.stray_lowered, "compiled", -1)
        yield from self._strays(self.stray_compiled, "compiled", 1)
        yield from self._rounding()

    # jaxpr: our count, as XLA's rules would charge the very same equations.

    def _conventions(self, place: CallSite) -> Iterator[Delta]:
        cost, runs = place.cost, place.loops * place.devices * place.others * place.taken
        once = self.charged[place.address]
        ours = Pair(cost.flops, cost.transcendentals).times(runs)
        padding = Pair(-2 * cost.padding_macs, 0).times(runs)
        theirs = (once if place.once is cost else Pair(*as_xla(cost))).times(runs)
        standing = once.times(place.copies * place.devices * place.others * place.taken)
        shard = once.times(place.copies * place.others * place.taken)
        weighed = self._weighed(place)
        if ours == theirs == standing == shard == weighed and padding == Pair():
            return
        yield from self._delta(PADDING, "jaxpr", place, padding, f"{cost.padding_macs:,} MACs touch only padding")
        kinds = sorted({kind for kind, _ in dict(cost.items())} & {"integer", "compare", "select", "convert", "mac"})
        other = theirs.minus(ours).minus(padding)
        yield from self._delta(CONVENTION, "jaxpr", place, other, f"{', '.join(kinds)} operations are FLOPs to XLA")
        charged = "once" if place.copies == 1 else f"{place.copies:,} times, as often as it stands there,"
        yield from self._delta(
            LOOP,
            "jaxpr",
            place,
            standing.minus(theirs),
            f"runs {place.loops:,} times, charged {charged} by HandleWhile",
        )
        yield from self._delta(
            DEVICES, "jaxpr", place, shard.minus(standing), f"{place.devices} devices run it, one is charged"
        )
        yield from self._delta(
            BRANCH,
            "jaxpr",
            place,
            weighed.minus(shard),
            f"XLA takes the maximum of each property ({self._taken(place)})",
        )

    def _weighed(self, place: CallSite) -> Pair:
        """What XLA's rules charge for a place: each copy once, and of branches the one that XLA takes."""
        pair = self.charged[place.address].times(place.copies * place.others)
        for at, branch, taken in place.branches:
            weights = self.lowered.branches.get(at)
            share = weights[branch] if weights and branch < len(weights) else (int(taken), int(taken))
            pair = Pair(pair.flops * share[0], pair.transcendentals * share[1])
        return pair

    def _taken(self, place: CallSite) -> str:
        return ", ".join(f"branch {branch}: {'ours' if taken else 'not ours'}" for _, branch, taken in place.branches)

    # lowered: what jax's lowering made of the equation.

    def _lowering(self, place: CallSite) -> Iterator[Delta]:
        found = self.in_lowered.get(place.address, [])
        expected, made = self._weighed(place), total(found)
        difference = made.minus(expected)
        if difference == Pair():
            return
        if made == Pair() and not place.node.traits.xla:
            yield from self._gone(place, "lowered", difference, self.in_lowered)
            return
        cause, evidence = self._how_lowered(place, found)
        yield from self._delta(cause, "lowered", place, difference, evidence, len(found))

    def _how_lowered(self, place: CallSite, found: Sequence[AttributedCost]) -> tuple[str, str]:
        if any(charge.flops < 0 for charge in found):
            return LIBRARY, f"{opcodes(found)}"
        if place.node.is_loop:
            return CONTROL, f"{opcodes(found)} around the body"
        if place.node.traits.xla:
            return DEFECT, f"{place.node.traits.xla}; lowered to {opcodes(found)}"
        return EXPANSION, f"lowered to {opcodes(found)}"

    # compiled: what the compiler made of the lowered instructions.

    def _compiling(self, place: CallSite) -> Iterator[Delta]:
        before, after = self.in_lowered.get(place.address, []), self.in_compiled.get(place.address, [])
        difference = total(after).minus(total(before))
        if difference == Pair():
            return
        if total(after) == Pair():
            yield from self._gone(place, "compiled", difference, self.in_compiled)
            return
        if place.address in self.compiled.hidden:
            yield self._made(DEFECT, "compiled", place, difference, self.compiled.hidden[place.address], len(after))
            return
        for cause, pair, count, evidence in partitioned(before, after, self.compiled.devices):
            yield from self._delta(cause, "compiled", place, pair, evidence, count)

    def _gone(
        self, place: CallSite, stage: str, difference: Pair, left: Mapping[Address, Sequence[AttributedCost]]
    ) -> Iterator[Delta]:
        cause, evidence = self.absence.why(place, stage, difference, left)
        yield from self._delta(cause, stage, place, difference, evidence)

    # What belongs to no equation.

    def _strays(self, strays: Sequence[AttributedCost], stage: str, sign: int) -> Iterator[Delta]:
        groups: dict[str, list[AttributedCost]] = defaultdict(list)
        for charge in strays:
            groups[charge.opcode].append(charge)
        for opcode, found in sorted(groups.items()):
            pair = total(found).times(sign)
            if pair != Pair():
                names = ", ".join(charge.instruction.name for charge in found[:3])
                cause = LIBRARY if any(charge.flops < 0 for charge in found) else MADE
                yield Delta(cause, stage, *pair, opcode, (), "", len(found), f"instructions {names}")

    def _rounding(self) -> Iterator[Delta]:
        exact, printed = self.compiled.total, self.compiled.float32
        flops = int(printed.flops) - exact.flops
        transcendentals = int(printed.transcendentals) - exact.transcendentals
        if flops or transcendentals:
            evidence = f"exact {exact.flops:,} FLOPs, {exact.transcendentals:,} transcendentals; added up in float32"
            yield Delta(ROUNDING, "xla", flops, transcendentals, "", (), "", 1, evidence)

    def _delta(
        self, cause: str, stage: str, place: CallSite, pair: Pair, evidence: str, count: int = 1
    ) -> Iterator[Delta]:
        if pair != Pair():
            yield self._made(cause, stage, place, pair, evidence, count)

    def _made(self, cause: str, stage: str, place: CallSite, pair: Pair, evidence: str, count: int) -> Delta:
        return Delta(cause, stage, *pair, place.primitive, place.scope, self._line(place), count, evidence)

    def _line(self, place: CallSite) -> str:
        """Return the user's line of a place; where jax kept none, that of the call it lies in."""
        found, address = self.source(place), place.address[:-1]
        while not found and address:
            found = self.source(self.at[address]) if address in self.at else ""
            address = address[:-1]
        return found


def _by_place(charges: Iterable[AttributedCost]) -> tuple[dict[Address, list[AttributedCost]], list[AttributedCost]]:
    found: dict[Address, list[AttributedCost]] = defaultdict(list)
    strays: list[AttributedCost] = []
    for charge in charges:
        if charge.place is not None:
            found[charge.place.address].append(charge)
        else:
            strays.append(charge)
    return found, strays
