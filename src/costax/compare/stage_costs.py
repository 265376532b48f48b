"""StageCost: XLA's account of one stage of a program, split over the equations that asked for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TypeVar

from costax.compare.base_comparison import held
from costax.core.address import Address
from costax.core.cost import Count
from costax.hlo.collectives import Collective, Mesh, collective, kind
from costax.hlo.library_calls import is_opaque
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Float32, Properties, Replay
from costax.program.call_sites import CallSite

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class AttributedCost:
    """What one instruction adds to XLA's total at one of its call sites.

    place: the equation that it came from, or None. evidence: "marked" (its name carries the mark), "enclosed" (it has
    no mark and lies in what the equation runs), or "inferred: ..." with the reason.
    executed: how often it runs. true: what it does each time: its charge, or what the library does that it calls.
    """

    instruction: Instruction
    computation: Computation
    flops: Count
    transcendentals: Count
    bytes: Count
    executed: Count
    place: CallSite | None
    evidence: str
    true: Properties

    @property
    def work(self) -> Count:
        """FLOPs and transcendentals together."""
        return self.flops + self.transcendentals

    @property
    def opcode(self) -> str:
        """The opcode; a custom call is named by its target."""
        ins = self.instruction
        return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode


@dataclass(frozen=True)
class StageCost:
    """XLA's account of one stage, `lowered` or `compiled`.

    xla: XLA's own dictionary, cleaned (an absent key is 0), or None where the backend gives none. branches: for each
    `cond` that is still a conditional, which share of each branch XLA counts, as (FLOPs, transcendentals). hidden:
    equations with instructions that XLA does not charge, and why.
    memory: XLA's memory analysis of one device, in bytes; "device" is what a GPU has. seconds: how long the stage took
    to make. meshes: that the program is sharded over; a sharded program's ledger is that of one device. note: what was
    done otherwise than usual to compile it.
    """

    stage: str
    replay: Replay = field(repr=False)
    charges: Sequence[AttributedCost] = field(repr=False)
    xla: Mapping[str, float] | None
    branches: Mapping[Address, Sequence[tuple[Count, Count]]] = field(
        default_factory=dict[Address, Sequence[tuple[Count, Count]]], repr=False
    )
    hidden: Mapping[Address, str] = field(default_factory=dict[Address, str], repr=False)
    memory: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0
    meshes: Sequence[Mesh] = ()
    note: str = ""

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
        """What the machine really does: loop bodies as often as they run, library calls at their true cost.

        A call of which nothing tells the work (`opaque`) adds nothing.
        """
        return Properties(*(sum(c.true[i] * c.executed for c in self.charges) for i in range(3)))

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """What one device exchanges with others, in program order."""
        return tuple(
            collective(c.instruction, self.meshes, c.executed, "/".join(c.place.scope) if c.place else "")
            for c in self.charges
            if kind(c.instruction)
        )

    @property
    def devices(self) -> int:
        """How many devices the program is sharded over."""
        return max((prod(mesh.values()) for mesh in self.meshes), default=1)

    @property
    def opaque(self) -> dict[str, int]:
        """How many calls there are, by target, of which nothing tells the work."""
        silent = (c.instruction for c in self.charges if c.true == Properties())
        return dict(Counter(call.custom_call_target for call in silent if is_opaque(call, self.replay.cost_model)))

    @property
    def held(self) -> int:
        """Bytes that one device holds at once."""
        return held(self.memory)

    @property
    def fits(self) -> bool | None:
        """Say whether the program fits the memory of one device; None where that is not known."""
        return self.held <= self.memory["device"] if "device" in self.memory else None

    def by_scope(self, depth: int | None = None) -> dict[str, Properties]:
        """Return what each scope is charged; "" holds what belongs to no scope."""
        return self._by(lambda charge: "/".join(charge.place.scope[:depth]) if charge.place else "")

    def by_equation(self) -> dict[Address, Properties]:
        """Return what each equation is charged, by address; () holds what belongs to none."""
        return self._by(lambda charge: charge.place.address if charge.place else ())

    def by_opcode(self) -> dict[str, Properties]:
        """Return what each opcode is charged."""
        return self._by(lambda charge: charge.opcode)

    def _by(self, key: Callable[[AttributedCost], _K]) -> dict[_K, Properties]:
        sums: dict[_K, Properties] = {}
        for charge in self.charges:
            k = key(charge)
            mine = Properties(charge.flops, charge.transcendentals, charge.bytes)
            sums[k] = sums[k].plus(mine) if k in sums else mine
        return sums


def opcodes(found: Sequence[AttributedCost]) -> str:
    """Return the opcodes of some charges with their numbers, those that compute if any does: `convert x 2, dot`."""
    computing = [charge for charge in found if charge.flops or charge.transcendentals]
    counts = Counter(charge.opcode for charge in computing or found)
    return ", ".join(f"{opcode} x {n}" if n > 1 else opcode for opcode, n in sorted(counts.items())) or "nothing"
