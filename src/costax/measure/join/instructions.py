"""The instructions of a compiled module by name, with their work, place and the instructions that they run."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from costax.hlo.metadata import BACKWARD, OUTSIDE, Sources
from costax.hlo.module_analysis import ModuleAnalysis
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Properties
from costax.measure.join.places import ProgramPlace, place_of

# Instructions that no device executes: they name values, or pass on their operands.
_FREE: Final = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "domain"}
    | {"add-dependency", "partition-id", "replica-id"}
)
_CALLS: Final = frozenset({"call", "async-start"})
_CONTROL: Final = _CALLS | {"while", "conditional"}
_NONE: Final = Properties()


class InstructionIndex:
    """The instructions of the computations that a device executes one by one: the entry, loop bodies, branches ...

    inside: for each instruction that runs such a computation, the names of all instructions in it, at every depth.
    by_kernel: the instruction of each name of a kernel, as XLA makes it of the instruction's name; unique ones only.
    """

    def __init__(self, analysis: ModuleAnalysis) -> None:
        """Take the analysis of a compiled module."""
        module = analysis.replay.module
        self._analysis = analysis
        self._sources = Sources(module)
        self._by_name: dict[str, tuple[Computation, Instruction]] = {}
        self._executed: list[Computation] = _executed(module.entry)
        for computation in self._executed:
            for ins in computation.instructions:
                self._by_name.setdefault(ins.name, (computation, ins))
        # A fusion may launch several kernels. Those that fill its results before it runs are named by what is inside.
        self._inner = {
            ins.name: (computation, ins)
            for computation in module.computations.values()
            for ins in computation.instructions
            if ins.name not in self._by_name
        }
        self.inside: Mapping[str, Collection[str]] = self._inside()
        kernels = Counter(_kernel(name) for name in self._by_name)
        self.by_kernel: dict[str, str] = {_kernel(name): name for name in self._by_name if kernels[_kernel(name)] == 1}
        self._callers = {
            callee.id: (computation, ins)
            for computation in reversed(self._executed)
            for ins in computation.instructions
            if ins.opcode in _CONTROL
            for callee in ins.called
        }
        self._costs: dict[str, Properties] = {}
        self._places: dict[str, ProgramPlace] = {}
        self._differentiated = any(place_of(ins.op_name).direction == BACKWARD for _, ins in self._by_name.values())

    def __contains__(self, name: str) -> bool:
        """Say whether the module has an instruction of this name."""
        return name in self._by_name or name in self._inner

    def instructions(self, timed: Collection[str]) -> Iterator[tuple[Computation, Instruction]]:
        """Yield the instructions with their computations, the entry first; those inside fusions only if timed."""
        yield from self._by_name.values()
        yield from (self._inner[name] for name in timed if name in self._inner)

    def fusions_of(self, named: Collection[str]) -> dict[str, str]:
        """Return the fusion of each named instruction inside a fusion that is not named itself.

        A fusion around the call of a library launches the kernel of the library, which has the name of the call.
        """
        return {
            inner.name: ins.name
            for _, ins in self._by_name.values()
            if ins.opcode == "fusion" and ins.name not in named
            for callee in ins.called
            for inner in callee.instructions
            if inner.name in named
        }

    def always(self) -> frozenset[str]:
        """Return the names of the instructions that every run executes: of the entry, and of what it calls.

        Instructions in a loop or in a branch depend on the data.
        """
        entry = self._analysis.replay.module.entry
        names: set[str] = set()
        reached, pending = {entry.id}, [entry]
        while pending:
            for ins in pending.pop().instructions:
                names.add(ins.name)
                called = ins.called if ins.opcode in _CALLS else ()
                pending += [callee for callee in called if callee.id not in reached]
                reached |= {callee.id for callee in called}
        return frozenset(names)

    def runs(self, ins: Instruction) -> bool:
        """Say whether a device executes an instruction."""
        return ins.opcode not in _FREE

    def opcode(self, ins: Instruction) -> str:
        """Return the opcode; a custom call is named by its target."""
        return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode

    def place(self, computation: Computation, ins: Instruction) -> ProgramPlace:
        """Return the scope, direction and primitive of an instruction; of an unnamed fusion those of its root.

        An unnamed instruction in the body of a loop, or in a branch, has the scope and the direction of the loop.
        """
        name = ins.op_name
        if not name and ins.opcode == "fusion" and ins.called:
            name = ins.called[0].root.op_name
        if not name and computation.id in self._callers:
            return self.place(*self._callers[computation.id])._replace(primitive="")
        place = self._places.get(name)
        if place is None:
            place = place_of(name)
            if self._differentiated and not place.direction:
                place = place._replace(direction=OUTSIDE)
            self._places[name] = place
        return place

    def source(self, ins: Instruction) -> str:
        """Return `file:line`, or "" if the instruction has no source."""
        return self._sources.of(ins)

    def cost(self, ins: Instruction) -> Properties:
        """Return what one run of the module executes in an instruction; see `roll_up`."""
        return self._costs.get(ins.name, _NONE)

    def roll_up(self, timed: Collection[str]) -> None:
        """Charge all work to the instructions that have the time of it.

        The work inside a fusion belongs to the fusion. The work inside a computation that another instruction runs
        belongs to that instruction if the trace has a time for it and for nothing inside, and else to those inside.
        """
        owners: dict[int, Instruction] = {}
        # A module lists callees before callers.
        for key in reversed(list(self._analysis.replay.computation_costs)):
            computation = self._analysis.replay.module.computations[key]
            for call in self._analysis.replay.computation_costs[key].calls:
                ins, callee = call.instruction, call.callee
                owner = owners.get(computation.id)
                if owner is None and (
                    ins.name not in self.inside
                    or (ins.name in timed and not any(name in timed for name in self.inside[ins.name]))
                ):
                    owner = ins
                if owner is not None:
                    owners.setdefault(callee.id, owner)
        sums: dict[str, Properties] = defaultdict(Properties)
        for entry in self._analysis.instruction_costs:
            owner = owners.get(entry.computation.id, entry.instruction)
            sums[owner.name] = sums[owner.name].plus(entry.cost.executed)
        self._costs = dict(sums)

    def _inside(self) -> dict[str, Collection[str]]:
        below: dict[int, frozenset[str]] = {}
        inside: dict[str, Collection[str]] = {}
        # Callees come before callers in the module, and after them in the list of what is executed.
        for computation in reversed(self._executed):
            names: set[str] = set()
            for ins in computation.instructions:
                names.add(ins.name)
                if ins.opcode in _CONTROL and ins.called:
                    own = frozenset[str]().union(*(below.get(callee.id, frozenset()) for callee in ins.called))
                    inside[ins.name] = own
                    names |= own
            below[computation.id] = frozenset(names)
        return inside


def _kernel(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _executed(entry: Computation) -> list[Computation]:
    """Return the computations whose instructions a device executes one by one, each after all of its callers."""
    reached: dict[int, Computation] = {}
    pending = [entry]
    while pending:
        computation = pending.pop()
        if computation.id in reached:
            continue
        reached[computation.id] = computation
        pending += [c for ins in computation.instructions if ins.opcode in _CONTROL for c in ins.called]
    order: list[Computation] = []
    done: set[int] = set()
    # Depth first, callees before callers; without recursion, because a damaged module may nest deeply.
    stack = [(entry, False)]
    while stack:
        computation, left = stack.pop()
        if left:
            order.append(computation)
        elif computation.id not in done:
            done.add(computation.id)
            stack.append((computation, True))
            stack += [(c, False) for ins in computation.instructions if ins.opcode in _CONTROL for c in ins.called]
    return order[::-1]
