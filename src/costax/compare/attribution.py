"""Attribution: the equation that each HLO instruction of a module came from.

Most instructions carry the mark of their equation in their name (`costax.compare.marks`). Where the compiler dropped
the mark, the equation is inferred from the nearest marked producer or consumer, else from the equation whose body the
instruction belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from costax.compare.marks import address
from costax.compare.stage_costs import AttributedCost
from costax.core.address import Address
from costax.core.conventions import as_xla
from costax.core.cost import ZERO, Count
from costax.core.equation import KERNEL
from costax.core.progress import stage
from costax.hlo.library_calls import is_opaque, true_cost
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Call, Properties, Replay
from costax.program.call_sites import CallSite

MARKED: Final = "marked"
ENCLOSED: Final = "enclosed"
_ONCE: Final = Properties(1, 1, 1)
# The most instructions between one without a mark and the marked one that it is attributed to. A split reduction or an
# upcast is one to three instructions away.
_MOST_STEPS: Final = 6
_MOVING: Final = frozenset({"bitcast", "copy", "reshape", "transpose"})


class CallSiteIndex:
    """The call sites of a program, by address and by the value that they compute."""

    def __init__(self, call_sites: Sequence[CallSite]) -> None:
        """Index the call sites."""
        self._by_address = {call_site.address: call_site for call_site in call_sites}
        self._by_last_mark: dict[int, list[CallSite]] = defaultdict(list)
        self._by_value: dict[int, list[CallSite]] = defaultdict(list)
        for call_site in call_sites:
            self._by_last_mark[call_site.address[-1]].append(call_site)
            self._by_value[call_site.value].append(call_site)
        self._used: dict[Address, frozenset[Any]] = {}
        operands: Iterator[Any] = (value for call_site in call_sites for value in call_site.operands)
        inputs: set[Any] = {value for value in operands if isinstance(value, tuple) and value[0] == "input"}
        # The inputs of the program that any equation uses, in order.
        self.inputs: Sequence[Any] = sorted(inputs)

    def find(self, marks: Address) -> CallSite | None:
        """Return the call site of the marks in a name, or None.

        XLA drops marks of calls that it inlines, so marks may be missing: (3, 7) is the call site (3, 5, 7) if that is
        the first one that ends with 7 and has a 3 before. Where no call site has the last mark, the equation around it
        is tried: (3, 99) is (3,).
        """
        while marks:
            exact = self._by_address.get(marks)
            if exact is not None:
                return exact
            matching = [site for site in self._by_last_mark[marks[-1]] if _is_subsequence(marks, site.address)]
            if matching:
                return matching[0]
            marks = marks[:-1]
        return None

    def operand(self, call_site: CallSite) -> CallSite | None:
        """Return the call site that computes the first operand of another one.

        Where several compute the value, it is the one that shares most of the address.
        """
        producers = self._by_value.get(call_site.operands[0], []) if call_site.operands else []
        return max(producers, key=lambda other: in_common(other.address, call_site.address), default=None)

    def used(self, call_site: CallSite) -> frozenset[Any]:
        """Return the values that a call site uses: its operands, and the operands of what only moves those."""
        used = self._used.get(call_site.address)
        if used is None:
            producers = (maker for value in call_site.operands for maker in self._by_value.get(value, [])[:1])
            moved = (value for producer in producers if not producer.cost.ops for value in producer.operands)
            used = self._used[call_site.address] = frozenset((*call_site.operands, *moved))
        return used


def _is_subsequence(part: Address, whole: Address) -> bool:
    rest = iter(whole)
    return all(mark in rest for mark in part)


def in_common(a: Address, b: Address) -> int:
    """Return how many calls two addresses share: 2 for (1, 4, 5) and (1, 4, 9)."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


Branches = dict[Address, list[tuple[Count, Count]]]
"""For each conditional, how much of each branch XLA counts: (FLOPs, transcendentals), 0 or 1 each."""


class Frontier(NamedTuple):
    """The nearest marked instructions around one without a mark.

    before: the addresses of its producers. after: those of its consumers. inputs: the inputs of the program between the
    producers and the instruction.
    """

    before: Sequence[Address]
    after: Sequence[Address]
    inputs: Sequence[Any]


Frontiers = dict[int, Frontier]
"""By the id of the instruction: reduce-windows without a mark, and instructions without a mark that use one."""


class Attribution(NamedTuple):
    """What XLA counts for each instruction of a module, with the equation that the instruction came from.

    branches: how much of each branch of each conditional XLA counts. uncosted: equations with instructions that XLA
    does not count, and why: XLA counts one gather or scatter of a custom fusion, and one branch of a conditional for
    each property. frontiers: of the steps into which the compiler split a window.
    """

    costs: list[AttributedCost]
    branches: Branches
    uncosted: dict[Address, str]
    frontiers: Frontiers


@stage("attributing")
def attribute(replay: Replay, index: CallSiteIndex) -> Attribution:
    """Return what XLA counts for each instruction of a module, at each of its call sites, with its equation."""
    walker = _ModuleWalker(replay, index)
    costs = list(walker.computation(replay.module.entry, _CallContext((), (), _ONCE, 1)))
    return Attribution(costs, walker.branches, walker.uncosted, walker.frontiers)


class _CallContext(NamedTuple):
    """The call of a computation.

    caller: the address of the call of the function around it; the marks inside a shared function continue it.
    enclosing: the address of the innermost equation that runs the computation. times: how often XLA counts it, for each
    property. runs: how often it runs.
    """

    caller: Address
    enclosing: Address
    times: Properties
    runs: Count


class _ModuleWalker:
    """Walks the computations of a module, from the entry into each computation at each of its call sites."""

    def __init__(self, replay: Replay, index: CallSiteIndex) -> None:
        self._replay = replay
        self._index = index
        self.branches: Branches = {}
        self.uncosted: dict[Address, str] = {}
        self.frontiers: Frontiers = {}
        self._names: dict[int, str] = {}

    def computation(self, computation: Computation, context: _CallContext) -> Iterator[AttributedCost]:
        """Yield the costs of a computation and of those that it calls."""
        cost, times = self._replay.computation_costs[computation.id], context.times
        for ins, own in cost.own:
            counted = own.scaled(times)
            if (own.flops and not times.flops) or (own.transcendentals and not times.transcendentals):
                self._note_other_branch(ins, context)
            if counted.flops or counted.transcendentals or counted.bytes:
                yield self._attributed(ins, computation, counted, context)
            if ins.opcode == "fusion" and ins.fusion_kind == "kCustom":
                self._note_custom_fusion(ins, context)
        for call in cost.calls:
            yield from self.computation(call.callee, self._inner(call, context))

    def _inner(self, call: Call, context: _CallContext) -> _CallContext:
        """Return the context of a computation that is called in a context."""
        ins = call.instruction
        enclosing, _ = self._address(ins, context)
        if ins.opcode == "conditional":
            self._note_branch_weight(ins, call.callee, enclosing, call.times)
        trips = self._trips(ins, enclosing, context) if ins.opcode == "while" else 1
        # The names in the body of a loop or branch begin with the names of the function around the loop; only a call
        # starts names anew.
        caller = enclosing if ins.opcode == "call" else context.caller
        return _CallContext(caller, enclosing, context.times.scaled(call.times), context.runs * trips)

    def _attributed(
        self, ins: Instruction, computation: Computation, counted: Properties, context: _CallContext
    ) -> AttributedCost:
        marks, evidence = self._address(ins, context)
        call_site = self._index.find(marks)
        if self._splits_windows and "~" not in ins.op_name:
            before, passed = self._nearest_marked(ins, context, back=True)
            if any(x.opcode == "reduce-window" for x in passed):
                after, _ = self._nearest_marked(ins, context, back=False)
                inputs = [self._inputs[id(x)] for x in passed if id(x) in self._inputs]
                self.frontiers[id(ins)] = Frontier(before, after, inputs)
        actual = self._actual(ins, counted, context, call_site)
        return AttributedCost(
            ins,
            computation,
            counted.flops,
            counted.transcendentals,
            counted.bytes,
            context.runs,
            call_site,
            evidence,
            actual,
        )

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

    def _trips(self, loop: Instruction, marks: Address, context: _CallContext) -> Count:
        """Return how often a loop runs: the number that the compiler proved, else the number of the equation."""
        proved = loop.known_trip_count
        if proved is not None:
            return proved
        call_site = self._index.find(marks) if marks != context.enclosing else None
        if call_site is None:
            return 1
        # A scan of 10 steps with unroll=4 is a loop of 2 iterations; the 2 steps that remain stand after the loop.
        unrolled = max(call_site.node.equation.params.get("unroll", 1), 1)
        return max((child.times for child in call_site.node.children if child.loop), default=1) // unrolled

    def _address(self, ins: Instruction, context: _CallContext) -> tuple[Address, str]:
        """Return the marks of the equation of an instruction, and the evidence for it.

        In this order: the instruction's own mark; the mark of a consumer, because the compiler inserts conversions and
        copies for the instruction that needs them; the mark of a producer; the equation around the computation.
        """
        name = self._name(ins)
        if "~" in name:
            return address(name, context.caller), MARKED
        for direction, verb in (("users", "feeds"), ("operands", "uses")):
            neighbour = self._neighbour(ins, direction)
            if neighbour is not None:
                return address(self._name(neighbour), context.caller), f"inferred: {verb} {neighbour.name}"
        return context.enclosing, ENCLOSED

    def _neighbour(self, ins: Instruction, direction: str) -> Instruction | None:
        """Return the nearest marked instruction along "users" or "operands", by a breadth-first search."""
        level, seen = [ins], {id(ins)}
        for _ in range(_MOST_STEPS):
            level = [x for current in level for x in self._adjacent(current, direction) if id(x) not in seen]
            seen.update(map(id, level))
            marked = next((x for x in level if "~" in self._name(x)), None)
            if marked is not None:
                return marked
        return None

    @cached_property
    def _splits_windows(self) -> bool:
        """Say whether there are reduce-windows without a mark: steps into which the compiler split a larger one.

        Only then are frontiers searched, which takes long.
        """
        computations = self._replay.module.computations.values()
        instructions = (ins for computation in computations for ins in computation.instructions)
        return any(ins.opcode == "reduce-window" and "~" not in ins.op_name for ins in instructions)

    def _nearest_marked(
        self, ins: Instruction, context: _CallContext, *, back: bool
    ) -> tuple[Sequence[Address], Sequence[Instruction]]:
        """Return the addresses of the nearest marked producers (back) or consumers, and the instructions in between.

        The search ends at the first marked instruction that computes. One that only moves a value may carry the mark of
        another equation that uses the value, so its address is returned too and the search goes on.
        """
        level, seen, names = [ins], {id(ins): ins}, list[str]()
        while level:
            adjacent = (x for at in level for x in (self._producers(at) if back else self._adjacent(at, "users")))
            level = [x for x in adjacent if id(x) not in seen and x.opcode not in ("constant", "broadcast", "iota")]
            seen.update((id(x), x) for x in level)
            marked = [x for x in level if "~" in x.op_name]
            names += (x.op_name for x in marked if x.opcode in _MOVING)
            computing = next((x for x in marked if x.opcode not in _MOVING), None)
            if computing is not None:
                names.append(computing.op_name)
                break
        return [address(name, context.caller) for name in names], list(seen.values())

    @cached_property
    def _inputs(self) -> Mapping[int, Any]:
        """The inputs of the program by the ids of the module's parameters.

        Empty where the module has not as many parameters as there are inputs that equations use: then the order does
        not tell which is which.
        """
        parameters, inputs = self._replay.module.entry.parameters, self._index.inputs
        pairs = zip(parameters, inputs, strict=True) if len(parameters) == len(inputs) else ()
        return {id(parameter): value for parameter, value in pairs}

    def _producers(self, ins: Instruction) -> Sequence[Instruction]:
        """Return the instructions that an instruction is computed from.

        Of a fusion this is the root inside it; of an element of its tuple, the operand of the root that becomes the
        element; of a parameter inside a fusion, the operand outside.
        """
        if ins.opcode == "fusion":
            return (ins.callee(0).root,)
        if ins.opcode == "get-tuple-element" and ins.operand(0).opcode == "fusion":
            root = ins.operand(0).callee(0).root
            return (root.operand(ins.tuple_index),) if root.opcode == "tuple" else (root,)
        return self._across_fusions["operands"][id(ins)] if ins.opcode == "parameter" else ins.operands

    def _adjacent(self, ins: Instruction, direction: str) -> Iterator[Instruction]:
        """Yield the operands or users of an instruction, those inside and outside of fusions included.

        A fusion has the name of its root, which may be far from the value that it uses; so of the users that are
        fusions the instructions inside are yielded instead.
        """
        users = direction == "users"
        yield from (x for x in getattr(ins, direction) if not (users and x.opcode == "fusion"))
        yield from self._across_fusions[direction][id(ins)]

    @cached_property
    def _across_fusions(self) -> Mapping[str, Mapping[int, Sequence[Instruction]]]:
        """The operands and users across the boundary of a fusion, by the id of the instruction.

        A parameter inside has the operand outside as its operand; the root inside has the fusion as its user.
        """
        operands: dict[int, list[Instruction]] = defaultdict(list)
        users: dict[int, list[Instruction]] = defaultdict(list)
        for computation in self._replay.module.computations.values():
            for fusion in computation.instructions:
                if fusion.opcode == "fusion":
                    inner = fusion.callee(0)
                    operands[id(fusion)].append(inner.root)
                    users[id(inner.root)].append(fusion)
                    for parameter, operand in zip(inner.parameters, fusion.operands, strict=False):
                        operands[id(parameter)].append(operand)
                        users[id(operand)].append(parameter)
        return {"operands": operands, "users": users}

    def _note_other_branch(self, ins: Instruction, context: _CallContext) -> None:
        call_site = self._index.find(self._address(ins, context)[0])
        if call_site is not None:
            self.uncosted[call_site.address] = "HandleConditional takes this property from another branch"

    def _note_custom_fusion(self, fusion: Instruction, context: _CallContext) -> None:
        instructions = fusion.callee(0).instructions
        if any(ins.opcode in ("gather", "scatter") for ins in instructions):
            call_sites = (self._index.find(self._address(ins, context)[0]) for ins in instructions)
            why = f"HandleFusion counts one instruction of the custom fusion {fusion.name}"
            self.uncosted.update({call_site.address: why for call_site in call_sites if call_site is not None})

    def _note_branch_weight(self, ins: Instruction, callee: Computation, marks: Address, times: Properties) -> None:
        weights = self.branches.setdefault(marks, [(0, 0)] * len(ins.called))
        for position, computation in enumerate(ins.called):
            if computation is callee and weights[position] == (0, 0):
                weights[position] = (times.flops, times.transcendentals)

    def _name(self, ins: Instruction) -> str:
        """Return the name of an instruction, or the first marked name in the computations that it applies.

        A reduction that the compiler split or converted loses its name, while its reducer may still have one.
        """
        name = self._names.get(id(ins))
        if name is None:
            name = ins.op_name
            if "~" not in name and ins.called and ins.opcode != "fusion":
                applied = (inner.op_name for computation in ins.called for inner in computation.instructions)
                name = next((inner for inner in applied if "~" in inner), name)
            self._names[id(ins)] = name
        return name
