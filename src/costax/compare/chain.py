"""The chain from the count of costax to XLA's: every link is a difference of two programs that exist.

jaxpr -> the same by XLA's rules -> StableHLO as jax emitted it -> HLO as XLA converted it -> the module after each pass
of the compiler -> the compiled module -> its sum in float32, which is XLA's number. Each link is split over equations,
and its parts add up to it by construction. What a pass did is the difference of the modules before and after it.

Example: `exp(x)` of f32[8] in a scan of 10 steps. costax counts 80 transcendentals. XLA counts the body of a loop once:
-72, "loop body counted once". If the pass `fusion` computes exp in two fusions: +8. XLA's total is 80 - 72 + 8 = 16.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from costax.compare.causes import (
    BRANCH,
    COMPILED,
    CONTROL,
    CONVENTION,
    CONVERTED,
    DEFECT,
    DEVICES,
    EXPANSION,
    LIBRARY,
    LOOP,
    PADDING,
    ROUNDING,
    UNEXPLAINED,
    Delta,
    Pair,
)
from costax.compare.experiment import is_work
from costax.compare.marks import MARK
from costax.compare.owners import Owner
from costax.compare.passes import AFTER, BEFORE, InstructionChange, PassStep, Steps
from costax.compare.stage_costs import AttributedCost, StageCost, opcodes
from costax.core.address import Address
from costax.core.conventions import as_xla
from costax.core.progress import stage
from costax.core.source_lines import nearest_line
from costax.hlo.replay import Properties
from costax.program.call_sites import CallSite
from costax.program.tree import Node

# Steps that are no passes: both sides are one module, which XLA gave twice.
_NOT_XLAS: Final = {
    AFTER: "the module that XLA wrote last is not the program that it compiled",
    BEFORE: "the module that XLA wrote first is not the program that jax gave it",
}
LOST: Final = (
    "some work bears the name of no equation, and no work bears that of some equations: the lowering rule of a "
    "primitive dropped the location that jax gave it; a rule keeps it if it lowers under `ctx.name_stack`"
)

# Since jax 0.12 the names of operations in the body of a scan have this part.
_EVALUATED: Final = "eval_jaxpr"

_Costs = Mapping[CallSite | None, Sequence[AttributedCost]]


@dataclass(frozen=True)
class Links:
    """The programs between the jaxpr and XLA's number.

    call_sites: every equation of the program at each of its call sites. emitted: StableHLO as jax emitted it; None if
    it was not counted. lowered, compiled: the HLO before and after optimisation. steps: of the passes between them;
    None if they were not read. alone: returns what jax makes of equations by themselves. source: returns the file
    and line of the user for a call site.
    """

    call_sites: Sequence[CallSite]
    emitted: StageCost | None
    lowered: StageCost
    compiled: StageCost
    steps: Steps | None
    alone: Callable[[Sequence[CallSite]], Mapping[CallSite, Pair]]
    source: Callable[[CallSite], str]


@stage("reconciling")
def deltas(links: Links) -> tuple[Delta, ...]:
    """Return the deltas that lead from the total of costax to XLA's total of the compiled module; they add up."""
    return tuple(_Chain(links).deltas())


class _Chain:
    def __init__(self, links: Links) -> None:
        self._links = links
        self._by_address = {call_site.address: call_site for call_site in links.call_sites}
        self._first = links.emitted or links.lowered

    def deltas(self) -> Iterator[Delta]:
        links = self._links
        emitted = _by_call_site(self._first.instruction_costs)
        refuted = self._refuted(emitted)
        strays = self._strays(emitted, refuted)
        refuted |= self._lost(emitted, strays)
        for call_site in links.call_sites:
            yield from self._conventions(call_site)
            yield from self._emitted(call_site, emitted.get(call_site, ()), refuted.get(call_site, ""))
        yield from self._without_equation(emitted.get(None, ()), refuted.get(None, ""))
        lowered = _by_call_site(links.lowered.instruction_costs)
        if links.emitted is not None:
            yield from self._changed(emitted, lowered, CONVERTED, "converted")
        if links.steps is None:
            yield from self._changed(lowered, _by_call_site(links.compiled.instruction_costs), COMPILED, "compiled")
        else:
            doubts = {(doubt.step, doubt.name): doubt.why for doubt in links.steps.integrity.doubts}
            for step in links.steps.found:
                yield from self._passed(step, doubts)
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
        runs = call_site.runs
        once = _by_xla(call_site)
        ours = Pair(cost.flops, cost.transcendentals).times(runs)
        padding = Pair(-2 * cost.padding_macs, 0).times(runs)
        by_xla = (once if call_site.static_cost is cost else Pair(*as_xla(cost))).times(runs)
        in_module = once.times(call_site.copies * call_site.devices * repeats)
        on_one_device = once.times(call_site.copies * repeats)
        with_branches = self._counted(call_site, once)
        if ours == by_xla == in_module == on_one_device == with_branches and padding == Pair():
            return
        kinds = sorted({kind for kind, _ in dict(cost.items())} & {"integer", "compare", "select", "convert", "mac"})
        counted = "once" if call_site.copies == 1 else f"{call_site.copies:,} times, as often as it is in the module,"
        for cause, pair, evidence in (
            (PADDING, padding, f"{cost.padding_macs:,} MACs touch only padding"),
            (CONVENTION, by_xla.minus(ours).minus(padding), f"{', '.join(kinds)} operations are FLOPs to XLA"),
            (LOOP, in_module.minus(by_xla), f"runs {call_site.loops:,} times, counted {counted} by HandleWhile"),
            (DEVICES, on_one_device.minus(in_module), f"{call_site.devices} devices run it, XLA counts one"),
            (
                BRANCH,
                with_branches.minus(on_one_device),
                f"XLA takes the maximum of each property ({_branches(call_site)})",
            ),
        ):
            yield from self._delta(cause, "jaxpr", call_site, pair, evidence)

    def _counted(self, call_site: CallSite, once: Pair) -> Pair:
        """Return what XLA counts for a call site: each copy once, in the branches whose property it takes.

        once: the cost of one run. XLA takes the maximum over the branches for FLOPs and for transcendentals on its own,
        so the two may come from different branches: weights of (1, 0) count the FLOPs of a branch and not its
        transcendentals.
        """
        pair = once.times(call_site.copies * call_site.other_repeats)
        for conditional, branch, times in call_site.branches:
            weights = self._first.branches.get(conditional)
            # A conditional that lowering removed has no weights; it left the branch that costax counts.
            whole = (int(bool(times)), int(bool(times)))
            flops, transcendentals = whole if weights is None else weights.get(branch, (0, 0))
            pair = Pair(pair.flops * flops, pair.transcendentals * transcendentals)
        return pair

    # lowered: what jax makes of an equation.

    def _refuted(self, emitted: _Costs) -> dict[CallSite | None, str]:
        """Return the equations whose operations cost something else than when jax lowers them alone, and what."""
        if self._links.emitted is None:
            return {}
        differing = [
            call_site
            for call_site in self._links.call_sites
            if not call_site.node.children and _total(emitted.get(call_site, ())) != self._by_rules(call_site)
        ]
        refuted: dict[CallSite | None, str] = {}
        for call_site, once in self._links.alone(differing).items():
            costs = [cost for cost in emitted.get(call_site, ()) if is_work(cost.instruction)]
            found, expected = _total(costs), self._counted(call_site, once)
            if found != expected:
                refuted[call_site] = f"{opcodes(costs)}: {found.work:,} operations, alone jax makes {expected.work:,}"
        return refuted

    def _without_operations(self, emitted: _Costs) -> list[CallSite]:
        return [site for site in self._links.call_sites if not emitted.get(site) and self._by_rules(site).work > 1]

    def _lost(self, emitted: _Costs, strays: Collection[CallSite]) -> dict[CallSite | None, str]:
        """Return the equations whose work seems to have lost its name, and what may have got it instead.

        jax names every operation after its equation. If some work has no name and an equation has no operations, that
        may be its work. A loop counter, which the conversion to HLO makes anew, is a single operation.
        """
        lost = self._without_operations(emitted)
        adopting = [site for site, costs in emitted.items() if any(x.work and x.evidence != "marked" for x in costs)]
        return dict.fromkeys([*lost, *adopting, *strays], LOST) if lost and (adopting or strays) else {}

    def _strays(self, emitted: _Costs, refuted: Collection[CallSite | None]) -> list[CallSite]:
        """Return the equations that have the work of an equation in their body, whose own mark is lost.

        An operation in a body bears the marks of the loop, branch or call around it and its own:
        `~1~/while/body/~7~/tanh`. Without its own, `~1~/while/body/tanh`, it seems to belong to the loop, whose own
        operations, `~1~/while/body/add`, are counters of one element.
        """
        inside: dict[Address, set[str]] = defaultdict(set)
        for site in [*self._without_operations(emitted), *filter(None, refuted)]:
            for depth in range(1, len(site.address)):
                inside[site.address[:depth]].add(site.primitive)

        def is_stray(cost: AttributedCost, lost: set[str]) -> bool:
            below = {_EVALUATED, *lost} & set(MARK.split(cost.instruction.op_name)[-1].split("/"))
            return cost.work > 1 and bool(below)

        sites = [site for site in emitted if site is not None and site.address in inside]
        return [site for site in sites if any(is_stray(cost, inside[site.address]) for cost in emitted[site])]

    def _by_rules(self, call_site: CallSite) -> Pair:
        return self._counted(call_site, _by_xla(call_site))

    def _emitted(self, call_site: CallSite, costs: Sequence[AttributedCost], refuted: str) -> Iterator[Delta]:
        difference = _total(costs).minus(self._by_rules(call_site))
        if difference == Pair():
            return
        if refuted:
            cause, evidence = UNEXPLAINED, refuted
        elif any(cost.flops < 0 for cost in costs):
            # A library call counts -1 FLOP in place of the work of the equation.
            cause, evidence = LIBRARY, opcodes(costs)
        elif call_site.node.is_loop:
            cause, evidence = CONTROL, f"{opcodes(costs)} around the body"
        elif defect := _defect(call_site.node):
            cause, evidence = DEFECT, f"{defect}; lowered to {opcodes(costs)}"
        else:
            cause, evidence = EXPANSION, f"lowered to {opcodes(costs)}"
        yield from self._delta(cause, "lowered", call_site, difference, evidence, len(costs))

    def _without_equation(self, costs: Sequence[AttributedCost], refuted: str) -> Iterator[Delta]:
        by_opcode: dict[str, list[AttributedCost]] = defaultdict(list)
        for cost in costs:
            by_opcode[cost.opcode].append(cost)
        for opcode, same_opcode in sorted(by_opcode.items()):
            cause = LIBRARY if any(cost.flops < 0 for cost in same_opcode) else UNEXPLAINED if refuted else EXPANSION
            evidence = f"instructions {', '.join(cost.instruction.name for cost in same_opcode[:3])}"
            evidence += f": {refuted}" if refuted else ""
            yield from self._delta(cause, "lowered", None, _total(same_opcode), evidence, len(same_opcode), opcode)

    # converted, compiled: from one module to the next.

    def _changed(self, before: _Costs, after: _Costs, cause: str, stage: str) -> Iterator[Delta]:
        """Yield what changed of each equation between two modules."""
        for call_site in dict.fromkeys([*self._links.call_sites, None, *before, *after]):
            then, now = before.get(call_site, ()), after.get(call_site, ())
            difference = _total(now).minus(_total(then))
            evidence = f"{opcodes(then)} became {opcodes(now)}"
            # A conversion drops operations and merges them. It adds none, but it takes a branch whose index is known.
            is_more = stage == "converted" and max(difference) > 0 and not (call_site and call_site.branches)
            yield from self._delta(
                UNEXPLAINED if is_more else cause, stage, call_site, difference, evidence, len(now) or len(then)
            )

    def _passed(self, step: PassStep, doubts: Mapping[tuple[int, str], str]) -> Iterator[Delta]:
        """Yield what a pass changed of each equation.

        doubts: why an instruction is not what a pass makes of it, by the number of the step and the name.
        """
        parts: dict[tuple[Owner | None, str], list[tuple[InstructionChange, Properties]]] = defaultdict(list)
        for change in step.changes:
            # XLA exchanges the markers of shardings of jax 0.12, -1 FLOP each, for its own before the first pass.
            may_be_marker = step.name == BEFORE and " custom-call(" in change.before + change.after
            doubt = doubts.get((step.number, change.name), "") or _NOT_XLAS.get(step.name, "")
            for owner, cost in change.owners.items():
                if cost.flops or cost.transcendentals:
                    why = "" if may_be_marker and abs(cost.flops) == 1 else doubt
                    parts[owner, why].append((change, cost))
        for (owner, why), changes in parts.items():
            assert owner is None or isinstance(owner, CallSite)
            gone, came = ([x for change, _ in changes if (x := getattr(change, side))] for side in ("before", "after"))
            evidence = f"{_named(gone)} became {_named(came)}{f': {why}' if why else ''}"
            pair = Pair.sum(cost[:2] for _, cost in changes)
            cause, count = UNEXPLAINED if why else step.cause, max(len(gone), len(came))
            yield from self._delta(cause, "compiled", owner, pair, evidence, count, "", step.name, step.number)

    def _rounding(self) -> Iterator[Delta]:
        """Yield what XLA's additions in float32 lose: above 2**24 a sum plus 1 is the same sum."""
        compiled = self._links.compiled
        exact, printed = compiled.total, compiled.float32
        pair = Pair(int(printed.flops), int(printed.transcendentals)).minus(exact[:2])
        evidence = f"exact {exact.flops:,} FLOPs, {exact.transcendentals:,} transcendentals; added up in float32"
        yield from self._delta(ROUNDING, "xla", None, pair, evidence)

    def _delta(
        self,
        cause: str,
        stage: str,
        call_site: CallSite | None,
        pair: Pair,
        evidence: str,
        count: int = 1,
        opcode: str = "",
        pass_name: str = "",
        run: int = 0,
    ) -> Iterator[Delta]:
        if pair == Pair():
            return
        if call_site is None:
            yield Delta(cause, stage, *pair, opcode, (), "", count, evidence, pass_name, run)
            return
        primitive, scope, line = call_site.primitive, call_site.scope, self._line(call_site)
        address = call_site.address
        yield Delta(cause, stage, *pair, primitive, scope, line, count, evidence, pass_name, run, address)

    def _line(self, call_site: CallSite) -> str:
        """Return the user's file and line of a call site; where jax kept none, that of the nearest call around it."""
        address = call_site.address
        line = self._links.source(call_site)
        while address := address[:-1]:
            if caller := self._by_address.get(address):
                line = nearest_line(line, self._links.source(caller))
        return line


def _by_xla(call_site: CallSite) -> Pair:
    return Pair(*as_xla(call_site.static_cost))


def _defect(node: Node) -> str:
    """Return why XLA's rule for the lowered operation counts another number than the operation takes, or ""."""
    if node.traits.contraction is not None and node.contraction is None:
        return "HandleDot counts an addition for each product, also where no axis is contracted"
    return node.traits.xla


def _branches(call_site: CallSite) -> str:
    return ", ".join(
        f"branch {branch}: {'counted' if times else 'not counted'} by costax" for _, branch, times in call_site.branches
    )


def _by_call_site(costs: Iterable[AttributedCost]) -> dict[CallSite | None, list[AttributedCost]]:
    found: dict[CallSite | None, list[AttributedCost]] = defaultdict(list)
    for cost in costs:
        found[cost.call_site].append(cost)
    return dict(found)


def _total(costs: Iterable[AttributedCost]) -> Pair:
    return Pair.sum((cost.flops, cost.transcendentals) for cost in costs)


def _named(texts: Sequence[str]) -> str:
    """Return the names of instructions; `text` of one is `name = shape opcode(operands)`."""
    names = [text.partition(" = ")[0] for text in texts]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "nothing"
