"""StageCost: what XLA counts for one stage of a program, split over the equations of the program."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import ClassVar, TypeVar

from costax.compare.ahead_of_time import Machine
from costax.compare.base_comparison import required_bytes
from costax.core.address import Address
from costax.core.cost import Count
from costax.core.display import Printed
from costax.core.listing import listed
from costax.hlo.collectives import SEND, Collective, Mesh, collective, sent_as
from costax.hlo.library_calls import is_opaque
from costax.hlo.loops import Conditional, Loop
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Float32, Properties, Replay
from costax.hlo.schedule import Schedule
from costax.program.call_sites import CallSite
from costax.program.tree import FORWARD

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class AttributedCost:
    """What one instruction adds to XLA's total at one of its call sites.

    flops, transcendentals, bytes: what XLA counts. call_site: the equation that the instruction came from, or None.
    evidence: "marked" (its name has the mark of the equation), "enclosed" (it has no mark and belongs to the body of
    the equation), or "inferred: ..." with the reason. executed: how often it runs. actual: what one run of it does:
    what XLA counts, or, for a call of a library, the work of the library. parts: of a collective that XLA combined
    from several, the bytes and the equation of each.
    """

    instruction: Instruction
    computation: Computation
    flops: Count
    transcendentals: Count
    bytes: Count
    executed: Count
    call_site: CallSite | None
    evidence: str
    actual: Properties
    parts: tuple[tuple[Count, CallSite | None], ...] = ()

    def __repr__(self) -> str:
        """Return the instruction, what XLA counts for it, and the layer of its equation."""
        layer = "/".join(self.call_site.scope) if self.call_site else ""
        counts = f"flops={self.flops}, transcendentals={self.transcendentals}, bytes={self.bytes}"
        return f"AttributedCost({self.instruction.name!r}, {counts}, scope={layer!r}, {self.evidence})"

    @property
    def place(self) -> CallSite | None:
        """The former name of `call_site`."""
        warnings.warn("`place` is now called `call_site`.", DeprecationWarning, stacklevel=2)
        return self.call_site

    @property
    def true(self) -> Properties:
        """The former name of `actual`."""
        warnings.warn("`true` is now called `actual`.", DeprecationWarning, stacklevel=2)
        return self.actual

    @property
    def work(self) -> Count:
        """FLOPs plus transcendentals."""
        return self.flops + self.transcendentals

    @property
    def opcode(self) -> str:
        """The opcode; a custom call is named by its target."""
        ins = self.instruction
        return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode


@dataclass(frozen=True, repr=False)
class StageCost(Printed):
    """What XLA counts for one stage, `lowered` or `compiled`, by instruction. Of a sharded program it is one device's.

    instruction_costs: of every instruction at each of its call sites. xla: XLA's own dictionary, where an absent key is
    0, or None where the backend gives none. branches: for each `cond` that is still a conditional, how much of each
    branch that is left XLA counts: (FLOPs, transcendentals). memory: XLA's memory analysis of one device, in bytes;
    "device" is the memory that a GPU has. seconds: how long the stage took. meshes: the meshes that the program is
    sharded over. partitions: how many devices run it. loops: the loops of the module, with their trip counts.
    conditionals: those whose branches differ in work; of each property the branch with most counts in `executed`.
    machine: that it was compiled for; None for the CPU of this one. note: which options the compiler needed beyond the
    usual ones, and why. assignment: XLA's buffer assignment, serialised; b"" without one.
    """

    internals: ClassVar[frozenset[str]] = Printed.internals | {"assignment", "charges", "machine", "replay"}

    stage: str
    replay: Replay = field(repr=False)
    instruction_costs: Sequence[AttributedCost] = field(repr=False)
    xla: Mapping[str, float] | None
    branches: Mapping[Address, Mapping[int, tuple[Count, Count]]] = field(
        default_factory=dict[Address, Mapping[int, tuple[Count, Count]]], repr=False
    )
    memory: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0
    meshes: Sequence[Mesh] = ()
    note: str = ""
    partitions: int = 1
    loops: Sequence[Loop] = field(default=(), repr=False)
    conditionals: Sequence[Conditional] = field(default=(), repr=False)
    machine: Machine | None = field(default=None, repr=False)
    assignment: bytes = field(default=b"", repr=False)

    def __repr__(self) -> str:
        """Return the stage, what it counts and how long it took."""
        counts = f"flops={self.total.flops}, transcendentals={self.total.transcendentals}, bytes={self.total.bytes}"
        return f"StageCost({self.stage!r}, {counts}, partitions={self.partitions}, seconds={self.seconds:.3g})"

    @property
    def charges(self) -> Sequence[AttributedCost]:
        """The former name of `instruction_costs`."""
        warnings.warn("`charges` is now called `instruction_costs`.", DeprecationWarning, stacklevel=2)
        return self.instruction_costs

    @property
    def total(self) -> Properties:
        """FLOPs, transcendentals and bytes as exact integers."""
        return self.replay.total

    @property
    def float32(self) -> Float32:
        """The totals as XLA prints them: added up in float32, in XLA's order."""
        return self.replay.float32

    @property
    def matches_xla(self) -> bool | None:
        """Say whether our replay equals XLA's dictionary bit for bit; None where there is no dictionary."""
        return None if self.xla is None else self.replay.matches(self.xla)

    @property
    def attributed(self) -> float:
        """The share of the FLOPs that belong to an equation."""
        whole = sum(abs(cost.flops) for cost in self.instruction_costs)
        owned = sum(abs(cost.flops) for cost in self.instruction_costs if cost.call_site is not None)
        return owned / whole if whole else 1.0

    @cached_property
    def executed(self) -> Properties:
        """What the device executes: loop bodies by trip count, library calls with the work of the library.

        The body of a loop whose trip count is unknown (`unknown_loops`) counts once, and a call whose work is unknown
        (`opaque`) adds nothing.
        """
        return Properties(*(sum(cost.actual[i] * cost.executed for cost in self.instruction_costs) for i in range(3)))

    @property
    def unknown_loops(self) -> tuple[Loop, ...]:
        """The loops whose trip count neither the module nor the program says; their bodies count once."""
        return tuple({loop.name: loop for loop in self.loops if loop.trips is None}.values())

    @property
    def exact(self) -> bool:
        """Whether `executed` is exact: every trip count, the branch of every conditional and every call are known."""
        return not self.unknown_loops and not self.conditionals and not self.opaque

    @property
    @listed
    def collectives(self) -> tuple[Collective, ...]:
        """The collectives of one device, in program order, with their layer, direction, mesh axes and links."""
        return self._collectives

    @cached_property
    def _collectives(self) -> tuple[Collective, ...]:
        schedule = Schedule(self.replay.module)
        sent = ((cost, sent_as(cost.instruction, cost.computation)) for cost in self.instruction_costs)
        return tuple(self._collective(cost, opcode, schedule) for cost, opcode in sent if opcode)

    def _collective(self, cost: AttributedCost, opcode: str, schedule: Schedule) -> Collective:
        ins, site = cost.instruction, cost.call_site
        found = collective(ins, self.meshes, cost.executed, _layer(site)[0], opcode=opcode)
        link = ""
        if self.machine is not None:
            link = self.machine.link(found.groups or ins.source_target_pairs)
            if found.opcode == SEND and self.machine.slices > 1:
                link = self.machine.links[1]
        _, direction = _layer(site)
        found = found.shared([(size, _layer(x)) for size, x in cost.parts])
        return replace(found, direction=direction, link=link, between=schedule.between(ins))

    @property
    def devices(self) -> int:
        """How many devices the program is sharded over."""
        return max(self.partitions, *(prod(mesh.values()) for mesh in self.meshes), 1)

    @property
    def opaque(self) -> dict[str, int]:
        """The number of calls whose work is unknown, by target."""
        idle = (cost.instruction for cost in self.instruction_costs if cost.actual == Properties())
        return dict(Counter(call.custom_call_target for call in idle if is_opaque(call, self.replay.cost_model)))

    @property
    def held(self) -> int:
        """Bytes of memory that one device needs."""
        return required_bytes(self.memory)

    @property
    def fits(self) -> bool | None:
        """Say whether the program fits the memory of one device; None where the size of the memory is not known."""
        return self.held <= self.memory["device"] if "device" in self.memory else None

    @listed
    def by_scope(self, depth: int | None = None) -> dict[str, Properties]:
        """Return what XLA counts for each scope; "" has the instructions without a scope."""
        return self._by(lambda cost: "/".join(cost.call_site.scope[:depth]) if cost.call_site else "")

    @listed
    def by_equation(self) -> dict[Address, Properties]:
        """Return what XLA counts for each equation, by address; () has the instructions without an equation."""
        return self._by(lambda cost: cost.call_site.address if cost.call_site else ())

    @listed
    def by_opcode(self) -> dict[str, Properties]:
        """Return what XLA counts for each opcode."""
        return self._by(lambda cost: cost.opcode)

    def _by(self, key: Callable[[AttributedCost], _K]) -> dict[_K, Properties]:
        sums: dict[_K, Properties] = {}
        for cost in self.instruction_costs:
            k = key(cost)
            own = Properties(cost.flops, cost.transcendentals, cost.bytes)
            sums[k] = sums[k].plus(own) if k in sums else own
        return sums


def _layer(site: CallSite | None) -> tuple[str, str]:
    """Return the scope and the direction of an equation."""
    return ("/".join(site.scope), site.direction or FORWARD) if site else ("", "")


def opcodes(costs: Sequence[AttributedCost]) -> str:
    """Return the opcodes of some instructions with their numbers: `convert x 2, dot`.

    If any instruction computes, those that do not (copies, tuples) are left out.
    """
    computing = [cost for cost in costs if cost.flops or cost.transcendentals]
    counts = Counter(cost.opcode for cost in computing or costs)
    return ", ".join(f"{opcode} x {n}" if n > 1 else opcode for opcode, n in sorted(counts.items())) or "nothing"
