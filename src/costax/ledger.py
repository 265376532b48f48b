"""Ledger: XLA's account of one stage of a program, split over the equations that asked for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from costax.cost import Count
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Float32, Properties, Replay
from costax.provenance import Address, Place, address
from costax.tree import Scope

MARKED, ENCLOSED, INFERRED = "marked", "enclosed", "inferred"
_ONCE = Properties(1, 1, 1)
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one instruction adds to XLA's total at one of its call sites.

    place: the equation that it came from, or None. evidence: "marked" (its name carries the mark), "enclosed" (it has
    no mark and lies in what the equation runs), or "inferred: ..." with the reason.
    """

    instruction: Instruction
    computation: Computation
    flops: Count
    transcendentals: Count
    bytes: Count
    executed: Count
    place: Place | None
    evidence: str

    @property
    def opcode(self) -> str:
        """The opcode; a custom call is named by its target."""
        ins = self.instruction
        return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode


@dataclass(frozen=True)
class Ledger:
    """XLA's account of one stage, `lowered` or `compiled`.

    xla: XLA's own dictionary, cleaned (an absent key is 0), or None where the backend gives none. branches: for each
    `cond` that is still a conditional, which share of each branch XLA counts, as (FLOPs, transcendentals).
    memory: XLA's memory analysis, in bytes. seconds: how long the stage took to make.
    """

    stage: str
    replay: Replay = field(repr=False)
    charges: Sequence[Charge] = field(repr=False)
    xla: Mapping[str, float] | None
    branches: Mapping[Address, Sequence[tuple[Count, Count]]] = field(default_factory=dict, repr=False)
    memory: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0

    @property
    def total(self) -> Properties:
        """FLOPs, transcendentals and bytes as exact integers."""
        return self.replay.total

    @property
    def float32(self) -> Float32:
        """The same in XLA's float32 and order: what XLA prints."""
        return self.replay.float32

    @property
    def matches_xla(self) -> bool | None:
        """Say whether our replay equals XLA's dictionary bit for bit; None where there is no dictionary."""
        return None if self.xla is None else self.replay.matches(self.xla)

    @property
    def attributed(self) -> float:
        """The share of the FLOPs that belong to an equation."""
        whole = sum(abs(charge.flops) for charge in self.charges)
        return 1.0 if not whole else sum(abs(c.flops) for c in self.charges if c.place is not None) / whole

    @cached_property
    def executed(self) -> Properties:
        """What runs: loop bodies as often as the jaxpr runs them."""
        return Properties(
            sum(c.flops * c.executed for c in self.charges),
            sum(c.transcendentals * c.executed for c in self.charges),
            sum(c.bytes * c.executed for c in self.charges),
        )

    def by_scope(self, depth: int | None = None) -> dict[str, Properties]:
        """Return what each scope is charged; "" holds what belongs to no scope."""
        return self._by(lambda charge: "/".join(charge.place.scope[:depth]) if charge.place else "")

    def by_equation(self) -> dict[Address, Properties]:
        """Return what each equation is charged, by address; () holds what belongs to none."""
        return self._by(lambda charge: charge.place.address if charge.place else ())

    def by_opcode(self) -> dict[str, Properties]:
        """Return what each opcode is charged."""
        return self._by(lambda charge: charge.opcode)

    def _by(self, key: Callable[[Charge], _K]) -> dict[_K, Properties]:
        sums: dict[_K, Properties] = {}
        for charge in self.charges:
            k = key(charge)
            mine = Properties(charge.flops, charge.transcendentals, charge.bytes)
            sums[k] = sums[k].plus(mine) if k in sums else mine
        return sums


class Atlas:
    """The places of a program, found by what an instruction's name still tells of an address."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Index the places."""
        self.places = places
        self._by_address = {place.address: place for place in places}
        self._by_last: dict[int, list[Place]] = defaultdict(list)
        for place in places:
            self._by_last[place.address[-1]].append(place)

    def find(self, found: Address) -> Place | None:
        """Return the place of an address; names may leave out calls on the way, as long as one place fits."""
        if not found:
            return None
        exact = self._by_address.get(found)
        if exact is not None:
            return exact
        fitting = [place for place in self._by_last[found[-1]] if _is_part(found, place.address)]
        return fitting[0] if fitting else self.find(found[:-1])


def _is_part(part: Address, whole: Address) -> bool:
    rest = iter(whole)
    return all(mark in rest for mark in part)


def charges(replay: Replay, atlas: Atlas) -> tuple[list[Charge], dict[Address, list[tuple[Count, Count]]]]:
    """Return the charges of a module, and how its conditionals weigh their branches."""
    visit = _Charging(replay, atlas)
    found = list(visit.computation(replay.module.entry, (), _ONCE))
    return found, visit.branches


class _Charging:
    def __init__(self, replay: Replay, atlas: Atlas) -> None:
        self._replay = replay
        self._atlas = atlas
        self.branches: dict[Address, list[tuple[Count, Count]]] = {}
        self._names: dict[int, str] = {}

    def computation(self, computation: Computation, caller: Address, times: Properties) -> Iterator[Charge]:
        mine = self._replay.sums[computation.id]
        for ins, own in mine.own:
            here = own.scaled(times)
            if here.flops or here.transcendentals or here.bytes:
                yield self._charge(ins, computation, here, caller)
        for call in mine.calls:
            inner = address(self._name(call.instruction), caller)
            if call.instruction.opcode == "conditional":
                self._weigh(call.instruction, call.callee, inner, call.times)
            yield from self.computation(call.callee, inner, times.scaled(call.times))

    def _charge(self, ins: Instruction, computation: Computation, here: Properties, caller: Address) -> Charge:
        found = address(self._name(ins), caller)
        place = self._atlas.find(found)
        evidence = MARKED if len(found) > len(caller) or (found and found != caller) else ENCLOSED
        executed = place.loops if place is not None else 1
        return Charge(ins, computation, here.flops, here.transcendentals, here.bytes, executed, place, evidence)

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


def opcodes(found: Sequence[Charge]) -> str:
    """Return the opcodes of some charges with their numbers: `convert x 2, dot`."""
    counts = Counter(charge.opcode for charge in found if charge.flops or charge.transcendentals)
    return ", ".join(f"{opcode} x {n}" if n > 1 else opcode for opcode, n in sorted(counts.items())) or "nothing"


def module_of(lowered_or_compiled: Any) -> Any:
    """Return the HLO module of a stage as records."""
    from costax import _jax
    from costax.hlo.read import read_bytes

    return read_bytes(_jax.hlo_of(lowered_or_compiled))


__all__ = ["Atlas", "Charge", "Ledger", "Scope", "charges", "module_of", "opcodes"]
