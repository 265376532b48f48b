"""Reconciliation: from the count of costax to XLA's, by differences that add up exactly and have causes.

The FLOPs of each equation are followed from the jaxpr to the lowered and then to the compiled module. Every difference
between two stages has a cause, with evidence that a test can falsify; a difference without a cause is `unexplained`.

Example: `exp(x)` of f32[8] in a scan of 10 steps. costax counts 80 transcendentals. XLA counts the body of a loop once:
-72, "loop body counted once". If the compiler computes exp in two fusions: +8, "recomputed in fusions". XLA's total is
80 - 72 + 8 = 16.
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
    """Return the deltas that lead from the total of costax to XLA's total of the compiled module; they add up exactly.

    call_sites: every equation at each of its call sites. source: returns the user's file and line of a call site.
    witness: returns evidence by experiment that a stage eliminates the equation of a call site; "" where there is none.
    """
    return tuple(_Reconciliation(call_sites, lowered, compiled, source, witness).deltas())


class _Reconciliation:
    """The deltas of a program.

    expected: by call site, what XLA counts for one run of the equation, with every loop in it counted as often as its
    body stands in the module. without_equation_...: the costs of instructions that belong to no equation.
    """

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
        self.in_lowered, self.without_equation_lowered = _by_call_site(lowered.instruction_costs)
        self.in_compiled, self.without_equation_compiled = _by_call_site(compiled.instruction_costs)
        self.by_address = {call_site.address: call_site for call_site in call_sites}
        self.expected = {call_site.address: Pair(*as_xla(call_site.static_cost)) for call_site in call_sites}
        self.absence = Absence(self.by_address, self.in_lowered, compiled.uncosted, self._line, witness)

    def deltas(self) -> Iterator[Delta]:
        for call_site in self.call_sites:
            yield from self._conventions(call_site)
            yield from self._lowering(call_site)
            yield from self._compiling(call_site)
        yield from self._without_equation(self.without_equation_lowered, "lowered", 1)
        # Lowered instructions without an equation cannot be followed into the compiled module. So all of them are
        # subtracted, and all compiled instructions without an equation are added.
        yield from self._without_equation(self.without_equation_lowered, "compiled", -1)
        yield from self._without_equation(self.without_equation_compiled, "compiled", 1)
        yield from self._rounding()

    # jaxpr: from the count of costax to XLA's rules for the same equations.

    def _conventions(self, call_site: CallSite) -> Iterator[Delta]:
        """Yield the deltas of XLA's rules, one convention after the other.

        Each of the counts below changes one convention of the count before, so their differences add up. Example: an
        integer add of 8 elements in a scan of 10 steps on 4 devices. ours 0 FLOPs (integer OPs); by_xla 320, because
        XLA counts integers as FLOPs; in_module 32, because the body stands in the module once; on_one_device 8.
        """
        cost = call_site.cost
        repeats = call_site.other_repeats * call_site.is_counted
        runs = call_site.loops * call_site.devices * repeats
        once = self.expected[call_site.address]
        ours = Pair(cost.flops, cost.transcendentals).times(runs)
        padding = Pair(-2 * cost.padding_macs, 0).times(runs)
        by_xla = (once if call_site.static_cost is cost else Pair(*as_xla(cost))).times(runs)
        in_module = once.times(call_site.copies * call_site.devices * repeats)
        on_one_device = once.times(call_site.copies * repeats)
        with_branches = self._with_branches(call_site)
        if ours == by_xla == in_module == on_one_device == with_branches and padding == Pair():
            return
        yield from self._delta(PADDING, "jaxpr", call_site, padding, f"{cost.padding_macs:,} MACs touch only padding")
        kinds = sorted({kind for kind, _ in dict(cost.items())} & {"integer", "compare", "select", "convert", "mac"})
        other = by_xla.minus(ours).minus(padding)
        yield from self._delta(CONVENTION, "jaxpr", call_site, other, f"{', '.join(kinds)} operations are FLOPs to XLA")
        counted = "once" if call_site.copies == 1 else f"{call_site.copies:,} times, as often as it is in the module,"
        yield from self._delta(
            LOOP,
            "jaxpr",
            call_site,
            in_module.minus(by_xla),
            f"runs {call_site.loops:,} times, counted {counted} by HandleWhile",
        )
        yield from self._delta(
            DEVICES,
            "jaxpr",
            call_site,
            on_one_device.minus(in_module),
            f"{call_site.devices} devices run it, XLA counts one",
        )
        yield from self._delta(
            BRANCH,
            "jaxpr",
            call_site,
            with_branches.minus(on_one_device),
            f"XLA takes the maximum of each property ({self._branches(call_site)})",
        )

    def _with_branches(self, call_site: CallSite) -> Pair:
        """Return what XLA's rules count for a call site: each copy once, in the branches whose property XLA takes.

        XLA takes the maximum over the branches for FLOPs and for transcendentals on its own, so the two may come from
        different branches: weights of (1, 0) count the FLOPs of a branch and not its transcendentals.
        """
        pair = self.expected[call_site.address].times(call_site.copies * call_site.other_repeats)
        for conditional, branch, is_counted in call_site.branches:
            weights = self.lowered.branches.get(conditional)
            # A conditional that lowering removed has no weights; it left the branch that costax counts.
            known = weights is not None and branch < len(weights)
            flops, transcendentals = weights[branch] if weights and known else (int(is_counted), int(is_counted))
            pair = Pair(pair.flops * flops, pair.transcendentals * transcendentals)
        return pair

    def _branches(self, call_site: CallSite) -> str:
        return ", ".join(
            f"branch {branch}: {'counted' if is_counted else 'not counted'} by costax"
            for _, branch, is_counted in call_site.branches
        )

    # lowered: what jax's lowering makes of the equation.

    def _lowering(self, call_site: CallSite) -> Iterator[Delta]:
        costs = self.in_lowered.get(call_site.address, [])
        counted = total(costs)
        difference = counted.minus(self._with_branches(call_site))
        if difference == Pair():
            return
        if counted == Pair() and not call_site.node.traits.xla:
            yield from self._eliminated(call_site, "lowered", difference, self.in_lowered)
            return
        cause, evidence = self._how_lowered(call_site, costs)
        yield from self._delta(cause, "lowered", call_site, difference, evidence, len(costs))

    def _how_lowered(self, call_site: CallSite, costs: Sequence[AttributedCost]) -> tuple[str, str]:
        """Return the cause of a difference between an equation and its lowered instructions, and the evidence.

        Library calls come first, because a call counts -1 FLOP in place of the work of the equation.
        """
        if any(cost.flops < 0 for cost in costs):
            return LIBRARY, f"{opcodes(costs)}"
        if call_site.node.is_loop:
            return CONTROL, f"{opcodes(costs)} around the body"
        if call_site.node.traits.xla:
            return DEFECT, f"{call_site.node.traits.xla}; lowered to {opcodes(costs)}"
        return EXPANSION, f"lowered to {opcodes(costs)}"

    # compiled: what the compiler makes of the lowered instructions.

    def _compiling(self, call_site: CallSite) -> Iterator[Delta]:
        before, after = self.in_lowered.get(call_site.address, []), self.in_compiled.get(call_site.address, [])
        difference = total(after).minus(total(before))
        if difference == Pair():
            return
        if total(after) == Pair():
            yield from self._eliminated(call_site, "compiled", difference, self.in_compiled)
            return
        uncosted = self.compiled.uncosted.get(call_site.address)
        if uncosted is not None:
            yield self._new_delta(DEFECT, "compiled", call_site, difference, uncosted, len(after))
            return
        for cause, pair, count, evidence in partitioned(before, after, self.compiled.devices):
            yield from self._delta(cause, "compiled", call_site, pair, evidence, count)

    def _eliminated(
        self, call_site: CallSite, stage: str, difference: Pair, left: Mapping[Address, Sequence[AttributedCost]]
    ) -> Iterator[Delta]:
        """Yield the delta of an equation of which a stage left no work. left: the costs of every equation there."""
        cause, evidence = self.absence.why(call_site, stage, difference, left)
        yield from self._delta(cause, stage, call_site, difference, evidence)

    # Instructions without an equation.

    def _without_equation(self, costs: Sequence[AttributedCost], stage: str, sign: int) -> Iterator[Delta]:
        by_opcode: dict[str, list[AttributedCost]] = defaultdict(list)
        for cost in costs:
            by_opcode[cost.opcode].append(cost)
        for opcode, same_opcode in sorted(by_opcode.items()):
            pair = total(same_opcode).times(sign)
            if pair != Pair():
                names = ", ".join(cost.instruction.name for cost in same_opcode[:3])
                cause = LIBRARY if any(cost.flops < 0 for cost in same_opcode) else MADE
                yield Delta(cause, stage, *pair, opcode, (), "", len(same_opcode), f"instructions {names}")

    def _rounding(self) -> Iterator[Delta]:
        """Yield what XLA's additions in float32 lose: above 2**24 a sum plus 1 is the same sum."""
        exact, printed = self.compiled.total, self.compiled.float32
        flops = int(printed.flops) - exact.flops
        transcendentals = int(printed.transcendentals) - exact.transcendentals
        if flops or transcendentals:
            evidence = f"exact {exact.flops:,} FLOPs, {exact.transcendentals:,} transcendentals; added up in float32"
            yield Delta(ROUNDING, "xla", flops, transcendentals, "", (), "", 1, evidence)

    def _delta(
        self, cause: str, stage: str, call_site: CallSite, pair: Pair, evidence: str, count: int = 1
    ) -> Iterator[Delta]:
        if pair != Pair():
            yield self._new_delta(cause, stage, call_site, pair, evidence, count)

    def _new_delta(self, cause: str, stage: str, call_site: CallSite, pair: Pair, evidence: str, count: int) -> Delta:
        return Delta(cause, stage, *pair, call_site.primitive, call_site.scope, self._line(call_site), count, evidence)

    def _line(self, call_site: CallSite) -> str:
        """Return the user's file and line of a call site; where jax kept none, that of the nearest call around it."""
        line, address = self.source(call_site), call_site.address[:-1]
        while not line and address:
            line = self.source(self.by_address[address]) if address in self.by_address else ""
            address = address[:-1]
        return line


def _by_call_site(
    costs: Iterable[AttributedCost],
) -> tuple[dict[Address, list[AttributedCost]], list[AttributedCost]]:
    """Return the costs by the address of their call site, and those without a call site."""
    by_address: dict[Address, list[AttributedCost]] = defaultdict(list)
    without: list[AttributedCost] = []
    for cost in costs:
        if cost.call_site is not None:
            by_address[cost.call_site.address].append(cost)
        else:
            without.append(cost)
    return by_address, without
