"""Attribution: which equation each instruction of a module came from.

Most instructions say it by their names. Where the compiler dropped a name, the equation is inferred from what is
left: the instructions that use the result or give the operands, and the equations of which nothing else is left.
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
# How many instructions away a neighbour may be; a split reduction or an upcast is one to three away.
_REACH: Final = 6
_MOVING: Final = frozenset({"bitcast", "copy", "reshape", "transpose"})


class CallSiteIndex:
    """The places of a program, found by what an instruction's name still tells of an address, or by value."""

    def __init__(self, call_sites: Sequence[CallSite]) -> None:
        """Index the places."""
        self._by_address = {place.address: place for place in call_sites}
        self._by_last: dict[int, list[CallSite]] = defaultdict(list)
        self._by_value: dict[int, list[CallSite]] = defaultdict(list)
        for place in call_sites:
            self._by_last[place.address[-1]].append(place)
            self._by_value[place.value].append(place)
        self._used: dict[Address, frozenset[Any]] = {}
        operands: Iterator[Any] = (value for place in call_sites for value in place.operands)
        given: set[Any] = {value for value in operands if isinstance(value, tuple) and value[0] == "input"}
        # The inputs of the program that any equation uses, in order.
        self.inputs: Sequence[Any] = sorted(given)

    def find(self, found: Address) -> CallSite | None:
        """Return the place of an address; names may leave out calls on the way, as long as one place fits."""
        while found:
            exact = self._by_address.get(found)
            if exact is not None:
                return exact
            fitting = [place for place in self._by_last[found[-1]] if _is_part(found, place.address)]
            if fitting:
                return fitting[0]
            found = found[:-1]
        return None

    def operand(self, place: CallSite) -> CallSite | None:
        """Return the place that computes the first operand of a place: the one with most of the address in common."""
        found = self._by_value.get(place.operands[0], []) if place.operands else []
        return max(found, key=lambda other: in_common(other.address, place.address), default=None)

    def used(self, place: CallSite) -> frozenset[Any]:
        """Return the values that a place uses, past what only moves them too."""
        found = self._used.get(place.address)
        if found is None:
            between = (maker for value in place.operands for maker in self._by_value.get(value, [])[:1])
            moved = (value for maker in between if not maker.cost.ops for value in maker.operands)
            found = self._used[place.address] = frozenset((*place.operands, *moved))
        return found


def _is_part(part: Address, whole: Address) -> bool:
    rest = iter(whole)
    return all(mark in rest for mark in part)


def in_common(a: Address, b: Address) -> int:
    """Return how many calls two addresses share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


Branches = dict[Address, list[tuple[Count, Count]]]
"""For each conditional, how much of each branch XLA counts: (FLOPs, transcendentals), 0 or 1 each."""


class Border(NamedTuple):
    """The nearest names around a step: of what it uses, and of what uses it. inputs: what it uses of the program's."""

    before: Sequence[Address]
    after: Sequence[Address]
    inputs: Sequence[Any]


Borders = dict[int, Border]
"""The borders of the steps of windows, by their ids: windows without a name, and what comes after them without one."""


class Attribution(NamedTuple):
    """What each instruction of a module is charged at each call site.

    branches: how each conditional weighs its branches. hidden: equations with instructions that XLA does not charge,
    and why: of a custom fusion with a gather or a scatter it charges that one, of a conditional one branch a property.
    borders: of the steps into which the compiler split a window.
    """

    charges: list[AttributedCost]
    branches: Branches
    hidden: dict[Address, str]
    borders: Borders


@stage("attributing")
def attribute(replay: Replay, sites: CallSiteIndex) -> Attribution:
    """Return what each instruction of a module is charged at each call site, and the equation that it came from."""
    visit = _Charging(replay, sites)
    found = list(visit.computation(replay.module.entry, _Site((), (), _ONCE, 1)))
    return Attribution(found, visit.branches, visit.hidden, visit.borders)


class _Site(NamedTuple):
    """Where a computation is called: by which equation, how often XLA counts it, and how often it runs.

    caller: of the function around it, from which names go on. within: the innermost equation around it, which runs it.
    """

    caller: Address
    within: Address
    times: Properties
    runs: Count


class _Charging:
    def __init__(self, replay: Replay, sites: CallSiteIndex) -> None:
        self._replay = replay
        self._atlas = sites
        self.branches: Branches = {}
        self.hidden: dict[Address, str] = {}
        self.borders: Borders = {}
        self._names: dict[int, str] = {}

    def computation(self, computation: Computation, site: _Site) -> Iterator[AttributedCost]:
        mine, times = self._replay.computation_costs[computation.id], site.times
        for ins, own in mine.own:
            here = own.scaled(times)
            if (own.flops and not times.flops) or (own.transcendentals and not times.transcendentals):
                self._skip(ins, site)
            if here.flops or here.transcendentals or here.bytes:
                yield self._charge(ins, computation, here, site)
            if ins.opcode == "fusion" and ins.fusion_kind == "kCustom":
                self._hide(ins, site)
        for call in mine.calls:
            yield from self.computation(call.callee, self._inner(call, site))

    def _inner(self, call: Call, site: _Site) -> _Site:
        """Return the site of a computation that is called from another one."""
        ins = call.instruction
        within, _ = self._address(ins, site)
        if ins.opcode == "conditional":
            self._weigh(ins, call.callee, within, call.times)
        trips = self._trips(ins, within, site) if ins.opcode == "while" else 1
        # The regions of loops and branches lie in the function of the loop, and their names start there.
        caller = within if ins.opcode == "call" else site.caller
        return _Site(caller, within, site.times.scaled(call.times), site.runs * trips)

    def _charge(self, ins: Instruction, computation: Computation, here: Properties, site: _Site) -> AttributedCost:
        found, evidence = self._address(ins, site)
        place = self._atlas.find(found)
        if self._splits_windows and "~" not in ins.op_name:
            before, seen = self._border(ins, site, back=True)
            if any(x.opcode == "reduce-window" for x in seen):
                after, _ = self._border(ins, site, back=False)
                inputs = [self._inputs[id(x)] for x in seen if id(x) in self._inputs]
                self.borders[id(ins)] = Border(before, after, inputs)
        true = self._true(ins, here, site, place)
        return AttributedCost(
            ins, computation, here.flops, here.transcendentals, here.bytes, site.runs, place, evidence, true
        )

    def _true(self, ins: Instruction, here: Properties, site: _Site, place: CallSite | None) -> Properties:
        """Return what an instruction does each time: its charge, unless it calls a library."""
        if is_opaque(ins, self._replay.cost_model):
            # A kernel that says nothing of itself does what its jaxpr asks for.
            is_kernel = place is not None and any(body.name == KERNEL for body in place.node.bodies)
            kernel = place.node.total if place is not None and is_kernel else ZERO
            return Properties(*as_xla(kernel)).scaled(site.times)
        library = true_cost(ins, self._replay.cost_model)
        return here if library is None else library.scaled(site.times)

    def _trips(self, loop: Instruction, at: Address, site: _Site) -> Count:
        """Return how often a loop runs: as the compiler proved, else as the equation says that the loop is."""
        known = loop.known_trip_count
        if known is not None:
            return known
        place = self._atlas.find(at) if at != site.within else None
        if place is None:
            return 1
        # An unrolled scan goes round less often, and what is left over stands behind it.
        unrolled = max(place.node.equation.params.get("unroll", 1), 1)
        return max((child.times for child in place.node.children if child.loop), default=1) // unrolled

    def _address(self, ins: Instruction, site: _Site) -> tuple[Address, str]:
        name = self._name(ins)
        if "~" in name:
            return address(name, site.caller), MARKED
        for direction, verb in (("users", "feeds"), ("operands", "uses")):
            near = self._neighbour(ins, direction)
            if near is not None:
                return address(self._name(near), site.caller), f"inferred: {verb} {near.name}"
        return site.within, ENCLOSED

    def _neighbour(self, ins: Instruction, direction: str) -> Instruction | None:
        """Return the nearest instruction with a mark, among those that use this one's result or that it uses."""
        level, seen = [ins], {id(ins)}
        for _ in range(_REACH):
            level = [x for at in level for x in self._beside(at, direction) if id(x) not in seen]
            seen.update(map(id, level))
            marked = next((x for x in level if "~" in self._name(x)), None)
            if marked is not None:
                return marked
        return None

    @cached_property
    def _splits_windows(self) -> bool:
        """Say whether the compiler made windows without a name: the steps of a larger one that it has split."""
        found = (ins for computation in self._replay.module.computations.values() for ins in computation.instructions)
        return any(ins.opcode == "reduce-window" and "~" not in ins.op_name for ins in found)

    def _border(self, ins: Instruction, site: _Site, *, back: bool) -> tuple[Sequence[Address], Sequence[Instruction]]:
        """Return the nearest names, those of movements on the way first, and the instructions up to there."""
        level, seen, names = [ins], {id(ins): ins}, list[str]()
        while level:
            near = (x for at in level for x in (self._makers(at) if back else self._beside(at, "users")))
            level = [x for x in near if id(x) not in seen and x.opcode not in ("constant", "broadcast", "iota")]
            seen.update((id(x), x) for x in level)
            named = [x for x in level if "~" in x.op_name]
            # What only moves a value may bear the name of another equation that uses it.
            names += (x.op_name for x in named if x.opcode in _MOVING)
            computing = next((x for x in named if x.opcode not in _MOVING), None)
            if computing is not None:
                names.append(computing.op_name)
                break
        return [address(name, site.caller) for name in names], list(seen.values())

    @cached_property
    def _inputs(self) -> Mapping[int, Any]:
        """The inputs of the program by the ids of its parameters; none where jax dropped others."""
        parameters, inputs = self._replay.module.entry.parameters, self._atlas.inputs
        same = zip(parameters, inputs, strict=True) if len(parameters) == len(inputs) else ()
        return {id(parameter): value for parameter, value in same}

    def _makers(self, at: Instruction) -> Sequence[Instruction]:
        """Return what an instruction is computed from: of a fusion its root, of one of its results what makes that."""
        if at.opcode == "fusion":
            return (at.callee(0).root,)
        if at.opcode == "get-tuple-element" and at.operand(0).opcode == "fusion":
            root = at.operand(0).callee(0).root
            return (root.operand(at.tuple_index),) if root.opcode == "tuple" else (root,)
        return self._across["operands"][id(at)] if at.opcode == "parameter" else at.operands

    def _beside(self, at: Instruction, direction: str) -> Iterator[Instruction]:
        """Yield the operands or users; a fusion bears its root's name, so what uses a value inside stands for it."""
        inside = direction == "users"
        yield from (x for x in getattr(at, direction) if not (inside and x.opcode == "fusion"))
        yield from self._across[direction][id(at)]

    @cached_property
    def _across(self) -> Mapping[str, Mapping[int, Sequence[Instruction]]]:
        """The operands and users that lie on the other side of a fusion's border, by the id of the instruction."""
        operands: dict[int, list[Instruction]] = defaultdict(list)
        users: dict[int, list[Instruction]] = defaultdict(list)
        for computation in self._replay.module.computations.values():
            for fusion in computation.instructions:
                if fusion.opcode == "fusion":
                    inner = fusion.callee(0)
                    operands[id(fusion)].append(inner.root)
                    users[id(inner.root)].append(fusion)
                    for parameter, given in zip(inner.parameters, fusion.operands, strict=False):
                        operands[id(parameter)].append(given)
                        users[id(given)].append(parameter)
        return {"operands": operands, "users": users}

    def _skip(self, ins: Instruction, site: _Site) -> None:
        place = self._atlas.find(self._address(ins, site)[0])
        if place is not None:
            self.hidden[place.address] = "HandleConditional takes this property from another branch"

    def _hide(self, fusion: Instruction, site: _Site) -> None:
        inside = fusion.callee(0).instructions
        if any(ins.opcode in ("gather", "scatter") for ins in inside):
            call_sites = (self._atlas.find(self._address(ins, site)[0]) for ins in inside)
            why = f"HandleFusion charges one instruction of the custom fusion {fusion.name}"
            self.hidden.update({place.address: why for place in call_sites if place is not None})

    def _weigh(self, ins: Instruction, callee: Computation, at: Address, times: Properties) -> None:
        weights = self.branches.setdefault(at, [(0, 0)] * len(ins.called))
        for position, computation in enumerate(ins.called):
            if computation is callee and weights[position] == (0, 0):
                weights[position] = (times.flops, times.transcendentals)

    def _name(self, ins: Instruction) -> str:
        name = self._names.get(id(ins))
        if name is None:
            name = ins.op_name
            if "~" not in name and ins.called and ins.opcode != "fusion":
                # A reduction that was split or converted lost its name; what it applies may still have one.
                applied = (inner.op_name for called in ins.called for inner in called.instructions)
                name = next((found for found in applied if "~" in found), name)
            self._names[id(ins)] = name
        return name
