"""Attribution: which equation each instruction of a module came from.

Most instructions say it by their names. Where the compiler dropped a name, the equation is inferred from what is
left: the instructions that use the result or give the operands, and the equations of which nothing else is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from costax.cost import Count
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Properties, Replay
from costax.ledger import Charge
from costax.provenance import Address, Place, address

MARKED: Final = "marked"
ENCLOSED: Final = "enclosed"
_ONCE: Final = Properties(1, 1, 1)
# How many instructions away a neighbour may be; a split reduction or an upcast is one to three away.
_REACH: Final = 4


class Atlas:
    """The places of a program, found by what an instruction's name still tells of an address, or by value."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Index the places."""
        self._by_address = {place.address: place for place in places}
        self._by_last: dict[int, list[Place]] = defaultdict(list)
        self._by_value: dict[int, list[Place]] = defaultdict(list)
        for place in places:
            self._by_last[place.address[-1]].append(place)
            self._by_value[place.value].append(place)

    def find(self, found: Address) -> Place | None:
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

    def operand(self, place: Place) -> Place | None:
        """Return the place that computes the first operand of a place, the one with the most of the address in common."""
        found = self._by_value.get(place.operands[0], []) if place.operands else []
        return max(found, key=lambda other: _in_common(other.address, place.address), default=None)


def _is_part(part: Address, whole: Address) -> bool:
    rest = iter(whole)
    return all(mark in rest for mark in part)


def _in_common(a: Address, b: Address) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


Branches = dict[Address, list[tuple[Count, Count]]]
"""For each conditional, how much of each branch XLA counts: (FLOPs, transcendentals), 0 or 1 each."""


def charges(replay: Replay, atlas: Atlas) -> tuple[list[Charge], Branches]:
    """Return what each instruction of a module is charged at each call site, and how branches are weighed."""
    visit = _Charging(replay, atlas)
    return list(visit.computation(replay.module.entry, (), _ONCE)), visit.branches


class _Charging:
    def __init__(self, replay: Replay, atlas: Atlas) -> None:
        self._replay = replay
        self._atlas = atlas
        self.branches: Branches = {}
        self._names: dict[int, str] = {}

    def computation(self, computation: Computation, caller: Address, times: Properties) -> Iterator[Charge]:
        mine = self._replay.sums[computation.id]
        for ins, own in mine.own:
            here = own.scaled(times)
            if here.flops or here.transcendentals or here.bytes:
                yield self._charge(ins, computation, here, caller)
        for call in mine.calls:
            inner, _ = self._address(call.instruction, caller)
            if call.instruction.opcode == "conditional":
                self._weigh(call.instruction, call.callee, inner, call.times)
            yield from self.computation(call.callee, inner, times.scaled(call.times))

    def _charge(self, ins: Instruction, computation: Computation, here: Properties, caller: Address) -> Charge:
        found, evidence = self._address(ins, caller)
        place = self._atlas.find(found)
        executed = place.loops if place is not None else 1
        return Charge(ins, computation, here.flops, here.transcendentals, here.bytes, executed, place, evidence)

    def _address(self, ins: Instruction, caller: Address) -> tuple[Address, str]:
        name = self._name(ins)
        if "~" in name:
            return address(name, caller), MARKED
        for direction, verb in (("users", "feeds"), ("operands", "uses")):
            near = self._neighbour(ins, direction)
            if near is not None:
                return address(self._name(near), caller), f"inferred: {verb} {near.name}"
        return caller, ENCLOSED

    def _neighbour(self, ins: Instruction, direction: str) -> Instruction | None:
        """Return the nearest instruction with a mark, among those that use this one's result or that it uses."""
        level, seen = [ins], {id(ins)}
        for _ in range(_REACH):
            level = [x for at in level for x in getattr(at, direction) if id(x) not in seen]
            seen.update(map(id, level))
            marked = next((x for x in level if "~" in self._name(x)), None)
            if marked is not None:
                return marked
        return None

    def _weigh(self, ins: Instruction, callee: Computation, at: Address, times: Properties) -> None:
        weights = self.branches.setdefault(at, [(0, 0)] * len(ins.called))
        for position, computation in enumerate(ins.called):
            if computation is callee and weights[position] == (0, 0):
                weights[position] = (times.flops, times.transcendentals)

    def _name(self, ins: Instruction) -> str:
        name = self._names.get(id(ins))
        if name is None:
            name = self._names[id(ins)] = ins.op_name
        return name


def rehomed(compiled: Sequence[Charge], lowered: Sequence[Charge], atlas: Atlas) -> list[Charge]:
    """Return the charges of a compiled module with those put right that its names misplace.

    A dot that took in the transposition of its result bears the transpose's name; it belongs to the equation whose
    result is moved. An operation without a name of its own belongs to the equation that had the same operation with
    the same FLOPs before, if nothing of that one is left.
    """
    had: dict[tuple[Address, str], Count] = defaultdict(int)
    for charge in lowered:
        if charge.place is not None:
            had[charge.place.address, charge.opcode] += charge.flops + charge.transcendentals
    moved = [_past_movement(charge, had, atlas) for charge in compiled]
    left = {(c.place.address, c.opcode) for c in moved if c.place is not None and (c.flops or c.transcendentals)}
    orphans: dict[tuple[str, Count], list[Place]] = defaultdict(list)
    for charge in lowered:
        if charge.place is not None and charge.flops > 0 and (charge.place.address, charge.opcode) not in left:
            orphans[charge.opcode, charge.flops].append(charge.place)
    return [_adopted(charge, orphans) for charge in moved]


def _past_movement(charge: Charge, had: dict[tuple[Address, str], Count], atlas: Atlas) -> Charge:
    place = charge.place
    while place is not None and (charge.flops or charge.transcendentals) and not place.cost.ops:
        if had.get((place.address, charge.opcode)):
            break
        place = atlas.operand(place)
    if place is None or place is charge.place or not had.get((place.address, charge.opcode)):
        return charge
    return replace(charge, place=place, evidence="inferred: bears the name of what moves its result")


def _adopted(charge: Charge, orphans: dict[tuple[str, Count], list[Place]]) -> Charge:
    if charge.evidence == MARKED:
        return charge
    waiting = orphans.get((charge.opcode, charge.flops))
    if not waiting:
        return charge
    place = waiting.pop(0)
    evidence = f"inferred: the same operation and FLOPs as the {charge.opcode} of which nothing else is left"
    return replace(charge, place=place, executed=place.loops, evidence=evidence)
