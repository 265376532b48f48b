"""Attribution: what XLA counts for each instruction of a module, at each of its call sites, with its equation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from costax.compare.lineage import RESHARDING
from costax.compare.owners import Caller, CallSiteIndex
from costax.compare.stage_costs import AttributedCost
from costax.core.address import Address
from costax.core.conventions import as_xla
from costax.core.cost import ZERO, Count
from costax.core.equation import CONDITION, KERNEL
from costax.core.progress import stage
from costax.hlo.collectives import sent_as
from costax.hlo.consumers import consumers, fusions, is_resharding, served
from costax.hlo.library_calls import is_opaque, true_cost
from costax.hlo.loops import Conditional, Loop
from costax.hlo.metadata import Sources
from costax.hlo.module_analysis import open_conditionals
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Call, Properties, Replay
from costax.hlo.trip_counts import TripCounts
from costax.program.call_sites import CallSite

_ONCE: Final = Properties(1, 1, 1)
_NOTHING: Final = Properties()

Branches = dict[Address, dict[int, tuple[Count, Count]]]
"""For each conditional, how much of each branch XLA counts: (FLOPs, transcendentals), 0 or 1 each. A branch that the
module does not have is missing."""


class Attribution(NamedTuple):
    """What XLA counts for each instruction of a module, with the equation that the instruction belongs to.

    loops: every loop, once for each call site; `trips` is None where neither the module nor the program says it.
    conditionals: those whose branches differ in work.
    """

    costs: list[AttributedCost]
    branches: Branches
    loops: list[Loop]
    conditionals: tuple[Conditional, ...]


@stage("attributing")
def attribute(replay: Replay, index: CallSiteIndex, origins: Mapping[str, str]) -> Attribution:
    """Return what XLA counts for each instruction of a module, at each of its call sites, with its equation.

    origins: by the name of an instruction, the name of jax that it goes back to.
    """
    walker = _ModuleWalker(replay, index, origins)
    costs = list(walker.computation(replay.module.entry, _CallContext((), (), _ONCE, 1)))
    return Attribution(costs, walker.branches, walker.loops, walker.open_conditionals())


class _CallContext(NamedTuple):
    """The call of a computation.

    caller: the address of the call of the function around it; the marks inside a shared function continue it.
    enclosing: the address of the innermost equation that runs the computation. times: how often XLA counts it, for each
    property. runs: how often it runs.
    """

    caller: Caller
    enclosing: Address
    times: Properties
    runs: Count


class _ModuleWalker:
    """Walks the computations of a module, from the entry into each computation at each of its call sites."""

    def __init__(self, replay: Replay, index: CallSiteIndex, origins: Mapping[str, str]) -> None:
        self._replay = replay
        self._index = index
        self._origins = origins
        self._trip_counts = TripCounts(replay.module)
        self._sources = Sources(replay.module)
        # By the id of a computation, the fusion that it is of.
        self._fusions = fusions(replay.module)
        self.branches: Branches = {}
        self.loops: list[Loop] = []
        # By name, the scope of each conditional.
        self._conditionals: dict[str, str] = {}

    def open_conditionals(self) -> tuple[Conditional, ...]:
        """Return the conditionals whose branches differ in work, with the scopes of the program."""
        if not self._conditionals:
            return ()
        trips = {loop.name: loop.trips for loop in self.loops}
        found = open_conditionals(self._replay, lambda loop: trips.get(loop.name) or 1)
        return tuple(replace(x, scope=self._conditionals[x.name]) for x in found if x.name in self._conditionals)

    def computation(self, computation: Computation, context: _CallContext) -> Iterator[AttributedCost]:
        """Yield the costs of a computation and of those that it calls."""
        cost = self._replay.computation_costs[computation.id]
        costs = {ins: own.scaled(context.times) for ins, own in cost.own}
        for ins in computation.instructions:
            counted = costs.get(ins, _NOTHING)
            # XLA counts nothing for a collective in a fusion that only moves values.
            if counted.flops or counted.transcendentals or counted.bytes or sent_as(ins, computation):
                yield self._attributed(ins, computation, counted, context)
        for call in cost.calls:
            yield from self.computation(call.callee, self._inner(call, context))

    def _inner(self, call: Call, context: _CallContext) -> _CallContext:
        """Return the context of a computation that is called in a context."""
        ins = call.instruction
        origin = self._origins.get(ins.name, "")
        marks = self._index.inside(origin, context.caller) if "~" in origin else context.enclosing
        if ins.opcode == "conditional":
            self._conditionals[ins.name] = self._scope(ins, context)
            self._note_branch_weight(call, marks, context.caller)
        trips = self._noted_trips(call, marks, context) if ins.opcode == "while" else 1
        # The names in the body of a loop or branch begin with the names of the function around the loop; only a call
        # starts names anew.
        caller = marks if ins.opcode == "call" else context.caller
        # XLA for the CPU may put a loop into a function of its own: its call has the name of the loop, and runs once.
        site = self._index.find(marks) if ins.opcode == "call" else None
        enclosing = context.enclosing if site is not None and site.node.is_loop else marks
        return _CallContext(caller, enclosing, context.times.scaled(call.times), context.runs * trips)

    def _attributed(
        self, ins: Instruction, computation: Computation, counted: Properties, context: _CallContext
    ) -> AttributedCost:
        origin = self._origins.get(ins.name, "")
        call_site = self._index.owner(origin, context.caller)
        evidence = "marked" if "~" in origin and origin == ins.op_name else f"carried from {origin}" if origin else ""
        if is_resharding(ins) and not (call_site and call_site.primitive in RESHARDING and evidence != "marked"):
            needing = self._first(consumers(ins, computation, lambda x: self._is_owned(x, context)), context)
            if needing is not None:
                call_site, evidence = self._owner(needing, context), f"needed by {needing.name}"
        actual = self._actual(ins, counted, context, call_site)
        # What the program asks for itself has its own scope.
        is_own = call_site is not None and bool(call_site.node.traits.collective)
        fusion = self._fusions.get(computation.id)
        serving = () if is_own else served(ins, computation, lambda x: self._is_owned(x, context), fusion)
        parts = [(size, self._first(found, context)) for size, found in serving]
        sites = tuple([(size, call_site if x is None else self._owner(x, context)) for size, x in parts])
        return AttributedCost(ins, computation, *counted, context.runs, call_site, evidence, actual, sites)

    def _owner(self, ins: Instruction, context: _CallContext) -> CallSite | None:
        return self._index.owner(self._origins.get(ins.name, ""), context.caller)

    def _is_owned(self, ins: Instruction, context: _CallContext) -> bool:
        return self._owner(ins, context) is not None

    def _first(self, found: Iterable[tuple[Instruction, Computation]], context: _CallContext) -> Instruction | None:
        """Return the instruction whose equation is the first in the program; loops around it pass the value on."""
        owners = [(owner, ins) for ins, _ in found if (owner := self._owner(ins, context)) is not None]
        order = min(owners, key=lambda x: (bool(x[0].node.children), x[0].address), default=None)
        return None if order is None else order[1]

    def _actual(
        self, ins: Instruction, counted: Properties, context: _CallContext, call_site: CallSite | None
    ) -> Properties:
        """Return what one run of an instruction does: what XLA counts, except for calls of libraries and kernels."""
        if is_opaque(ins, self._replay.cost_model):
            # XLA knows nothing of a Pallas kernel; the jaxpr of the kernel does.
            is_kernel = call_site is not None and any(body.name == KERNEL for body in call_site.node.bodies)
            kernel = call_site.node.total if call_site is not None and is_kernel else ZERO
            return Properties(*as_xla(kernel)).scaled(context.times)
        library = true_cost(ins, self._replay.cost_model)
        return counted if library is None else library.scaled(context.times)

    def _noted_trips(self, call: Call, marks: Address, context: _CallContext) -> Count:
        """Return how often the computation of a loop runs, once where that is unknown; note the loop."""
        loop = call.instruction
        trips, condition = self._trips(loop, marks, context)
        is_body = call.callee is loop.callee(0)
        if is_body:
            self.loops.append(Loop(loop.name, self._scope(loop, context), self._sources.of(loop), trips))
        runs = trips if is_body else condition
        return 1 if runs is None else runs

    def _scope(self, ins: Instruction, context: _CallContext) -> str:
        owner = self._owner(ins, context)
        return "/".join(owner.scope) if owner is not None else ""

    def _trips(self, loop: Instruction, marks: Address, context: _CallContext) -> tuple[int | None, int | None]:
        """Return how often the body and the condition of a loop run; None where that is unknown.

        The module says it, or the equation that the loop stands for. A loop that the compiler made, such as a product
        that XLA's partitioner splits into steps, stands for no loop of the program, though its name is that of an
        equation. The condition of a loop that counts is one comparison, which is taken to run as often as the body.
        """
        trips = self._trip_counts.of(loop)
        if trips is not None:
            return trips, trips
        call_site = self._index.find(marks) if marks != context.enclosing else None
        if call_site is None:
            return None, None
        # A scan of 10 steps with unroll=4 is a loop of 2 iterations; the 2 steps that remain stand after the loop.
        unrolled = max(call_site.node.equation.params.get("unroll", 1), 1)
        times = {x.label: int(x.times) // unrolled for x in call_site.node.children if x.loop and not x.unknown}
        body = next((runs for name, runs in times.items() if name != CONDITION), None)
        return body, times.get(CONDITION, body)

    def _note_branch_weight(self, call: Call, marks: Address, caller: Caller) -> None:
        """Note how much of a branch XLA counts. Which branch of the equation it is, its instructions say.

        jax leaves out the branches that another platform needs, and adds conditionals that choose a number.
        """
        owners = (self._index.owner(self._origins.get(ins.name, ""), caller) for ins in call.callee.instructions)
        around = (branch for owner in owners if owner is not None for branch in owner.branches)
        position = next((branch for conditional, branch, _ in around if conditional == marks), None)
        if position is not None:
            weights = self.branches.setdefault(marks, {})
            weights.setdefault(position, (call.times.flops, call.times.transcendentals))
