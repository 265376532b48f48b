"""A replay of XLA's cost analysis: exact integers for each instruction, and sums in XLA's float32.

XLA visits a computation depth first, dead instructions first, and adds each property in float32 in that order. At each
call it analyses the called computation again, with separate sums. The replay computes both sums in one pass over the
computations, callees before callers, so that deep and repeated calls take no more time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from costax.core.progress import stage
from costax.hlo import float32
from costax.hlo.cost_model import NOTHING, CostModel, Work, cost_model_for
from costax.hlo.errors import malformed
from costax.hlo.gc_pause import gc_paused
from costax.hlo.opcodes import handler
from costax.hlo.records import Computation, Instruction, Module


class Properties(NamedTuple):
    """The three properties that XLA reports, exact."""

    flops: int = 0
    transcendentals: int = 0
    bytes: int = 0

    def scaled(self, times: Properties) -> Properties:
        """Return each property times its own factor."""
        return Properties(
            self.flops * times.flops, self.transcendentals * times.transcendentals, self.bytes * times.bytes
        )

    def plus(self, other: Properties) -> Properties:
        """Return the sum, property by property."""
        return Properties(
            self.flops + other.flops, self.transcendentals + other.transcendentals, self.bytes + other.bytes
        )


class Float32(NamedTuple):
    """The three properties as XLA reports them."""

    flops: float = 0.0
    transcendentals: float = 0.0
    bytes: float = 0.0


_NONE = Properties()
_ONCE = Properties(1, 1, 1)
# float32 ends at 2^128. Only a damaged file exceeds this limit, with numbers that would fill the memory.
_LARGEST = 2**1024


class ReplayedInstruction(NamedTuple):
    """One instruction and what it adds to the module's total.

    `own` is its cost without the computations that it runs. `times` says how often XLA counts that cost, for each
    property: once for each call, once for a loop body, and in a conditional only for the branch with the maximum.
    """

    computation: Computation
    instruction: Instruction
    own: Properties
    times: Properties

    @property
    def flops(self) -> int:
        """FLOPs in the total."""
        return self.own.flops * self.times.flops

    @property
    def transcendentals(self) -> int:
        """Transcendentals in the total."""
        return self.own.transcendentals * self.times.transcendentals

    @property
    def bytes(self) -> int:
        """Bytes in the total."""
        return self.own.bytes * self.times.bytes


class HasExact(Protocol):
    """A computation with its exact cost."""

    @property
    def exact(self) -> Properties:
        """The cost of one execution."""
        ...


class Call(NamedTuple):
    """An instruction that runs a computation, and a factor for each property (0: another branch has the maximum)."""

    instruction: Instruction
    callee: Computation
    times: Properties


@dataclass(slots=True)
class ComputationCost:
    """The cost of one execution of a computation: exact total, float32 total, cost of each instruction, calls."""

    exact: Properties
    float32: Float32
    own: list[tuple[Instruction, Properties]]
    calls: list[Call]


_CostsById = Mapping[int, ComputationCost]


@dataclass(slots=True)
class Replay:
    """XLA's cost analysis of a module. `total` is exact; `float32` is what XLA reports."""

    module: Module
    cost_model: CostModel
    computation_costs: Mapping[int, ComputationCost] = field(repr=False)
    times: Mapping[int, Properties] = field(repr=False)

    @property
    def total(self) -> Properties:
        """The exact sum over all instructions."""
        return self.computation_costs[self.module.entry.id].exact

    @property
    def float32(self) -> Float32:
        """The sum in XLA's order and in its float32."""
        return self.computation_costs[self.module.entry.id].float32

    @property
    def instructions(self) -> Iterator[ReplayedInstruction]:
        """Yield the instructions of every computation that runs; their sum is `total`."""
        for key, times in self.times.items():
            computation = self.module.computations[key]
            for instruction, own in self.computation_costs[key].own:
                yield ReplayedInstruction(computation, instruction, own, times)

    def calls(self, computation: Computation) -> list[Call]:
        """Return the calls in a computation, in XLA's order; a shared function has one entry for each call site."""
        return self.computation_costs[computation.id].calls

    def matches(self, xla: Mapping[str, float]) -> bool:
        """Say whether XLA's own dictionary has the same numbers, bit for bit. An absent key means 0."""
        names = self.cost_model.properties
        return all(xla.get(name, 0.0) == value for name, value in zip(names, self.float32, strict=False))


@stage("replaying")
def replay_module(module: Module, model: CostModel | None = None) -> Replay:
    """Count a module as the installed jaxlib does, or as another cost model does."""
    model = model or cost_model_for()
    reached = _reached(module)
    costs_by_id: dict[int, ComputationCost] = {}
    # A module lists callees before callers.
    with gc_paused():
        for key, computation in module.computations.items():
            if key in reached:
                costs_by_id[key] = _computation_cost(computation, model, costs_by_id)
    times = {module.entry.id: _ONCE}
    for key in reversed(costs_by_id):
        if key in times:
            for call in costs_by_id[key].calls:
                times_so_far = times.get(call.callee.id, _NONE)
                times[call.callee.id] = times_so_far.plus(call.times.scaled(times[key]))
    return Replay(module, model, costs_by_id, times)


def _reached(module: Module) -> set[int]:
    reached = {module.entry.id}
    pending = [module.entry]
    while pending:
        for instruction in pending.pop().instructions:
            for callee in instruction.called:
                if callee.id not in reached:
                    reached.add(callee.id)
                    pending.append(callee)
    return reached


def _computation_cost(computation: Computation, model: CostModel, costs_by_id: _CostsById) -> ComputationCost:
    exact = _NONE
    flops = transcendentals = nbytes = 0.0
    own: list[tuple[Instruction, Properties]] = []
    calls: list[Call] = []
    for instruction in visit_order(computation):
        work = handler(instruction.opcode)(instruction, model)
        if work is NOTHING:
            continue
        own_cost, rounded = _own_cost(work, costs_by_id)
        if own_cost != _NONE:
            own.append((instruction, own_cost))
        if work.runs:
            new_calls, called, rounded = _called_cost(work, costs_by_id, instruction, rounded)
            calls += new_calls
            exact = exact.plus(called)
        exact = Properties(exact[0] + own_cost[0], exact[1] + own_cost[1], exact[2] + own_cost[2])
        flops = float32.rounded(flops + rounded[0])
        transcendentals = float32.rounded(transcendentals + rounded[1])
        nbytes = float32.rounded(nbytes + rounded[2])
    if max(map(abs, exact)) >= _LARGEST:
        raise malformed(f"{computation.name} costs more than float64 can hold", where=computation.name)
    return ComputationCost(exact, Float32(flops, transcendentals, nbytes), own, calls)


def _own_cost(work: Work, costs_by_id: _CostsById) -> tuple[Properties, Float32]:
    """Return the cost without the computations that the instruction runs: exact, and rounded as XLA's handler does."""
    f32_flops, f32_transcendentals = float32.of(work.flops), float32.of(work.transcendentals)
    for callee, count in work.applied:
        applied32 = costs_by_id[callee.id].float32
        repeated = float32.of(count)
        f32_flops = float32.add(f32_flops, float32.times(applied32.flops, repeated))
        f32_transcendentals = float32.add(f32_transcendentals, float32.times(applied32.transcendentals, repeated))
    nbytes = 0.0
    for term in work.bytes:
        nbytes = float32.rounded(nbytes + float32.of(term))
    return own_properties(work, costs_by_id), Float32(f32_flops, f32_transcendentals, nbytes)


def _called_cost(
    work: Work, costs_by_id: _CostsById, instruction: Instruction, own: Float32
) -> tuple[list[Call], Properties, Float32]:
    """Return what the computations that an instruction runs add: the calls, the exact cost, and the float32 cost.

    The float32 cost includes the instruction's own, because XLA rounds their sum.
    """
    costs = [costs_by_id[callee.id] for callee in work.runs]
    calls = [Call(instruction, callee, times) for callee, times in counted_calls(work, costs_by_id)]
    total = _NONE
    for cost, call in zip(costs, calls, strict=True):
        total = total.plus(cost.exact.scaled(call.times))
    if work.joined == "fusion":
        inner = costs[0]
        return calls, total, Float32(inner.float32.flops, inner.float32.transcendentals, own.bytes)
    rounded = Float32()
    if work.joined == "call":
        for cost in costs:
            rounded = Float32(*map(float32.add, rounded, cost.float32))
        return calls, total, rounded
    rounded = Float32(
        *[values[_maximum_branch(values)] for i in range(3) for values in [[cost.float32[i] for cost in costs]]]
    )
    return calls, total, rounded


def own_properties(work: Work, costs_by_id: Mapping[int, HasExact]) -> Properties:
    """Return the exact cost of an instruction without the computations that it runs.

    A computation that it applies to every element, such as that of a reduce, is part of its own cost.
    """
    flops, transcendentals = work.flops, work.transcendentals
    for callee, count in work.applied:
        applied = costs_by_id[callee.id].exact
        flops += applied.flops * count
        transcendentals += applied.transcendentals * count
    # Half of a matrix may have half a byte, which is dropped.
    return Properties(flops, transcendentals, int(sum(work.bytes)))


def counted_calls(work: Work, costs_by_id: Mapping[int, HasExact]) -> list[tuple[Computation, Properties]]:
    """Return the computations that an instruction runs, and how often XLA counts each property of each.

    The bytes inside a fusion do not count. Of the branches of a conditional only the maximum of each property counts.
    """
    if work.joined == "fusion":
        return [(work.runs[0], Properties(1, 1, 0))]
    if work.joined == "call":
        return [(callee, _ONCE) for callee in work.runs]
    branches = [_maximum_branch([costs_by_id[callee.id].exact[i] for callee in work.runs]) for i in range(3)]
    return [(callee, Properties(*[int(branch == j) for branch in branches])) for j, callee in enumerate(work.runs)]


def _maximum_branch(values: list[int] | list[float]) -> int:
    """Return the branch whose property XLA takes: the first maximum, where later branches with 0 do not take part."""
    best = 0
    for j, value in enumerate(values):
        if value != 0 and value > values[best]:
            best = j
    return best


def visit_order(computation: Computation) -> list[Instruction]:
    """Return the instructions in XLA's order: depth first, operands before users, dead instructions first.

    XLA: HloComputation::Accept visits every instruction without users or control successors that is not the root,
    in memory order, then the root; PostOrderDFS finishes operands left to right, then control predecessors.
    """
    new, open_, done = 0, 1, 2
    state = bytearray(len(computation.instructions))
    order: list[Instruction] = []
    root = computation.root
    dead = [x for x in computation.instructions if not x.users and not x.has_control_successors and x is not root]
    for start in (*dead, root):
        stack = [start]
        while stack:
            instruction = stack[-1]
            seen = state[instruction.index]
            if seen == new:
                state[instruction.index] = open_
                stack += [x for x in reversed(instruction.control_predecessors) if state[x.index] == new]
                stack += [x for x in reversed(instruction.operands) if state[x.index] == new]
                continue
            stack.pop()
            if seen == open_:
                state[instruction.index] = done
                order.append(instruction)
    return order
