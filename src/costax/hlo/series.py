"""The costs of successive versions of one module, where each version differs little from the one before.

XLA writes the module after every pass that changed it. Most passes change few instructions, so a version is costed from
the one before: a computation with the same bytes and the same callees keeps its cost, and so does an instruction with
the same bytes, the same operand shapes and the same callees. The totals equal those of a full replay, in exact
integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from costax.hlo.cost_model import CostModel, Work, cost_model_for
from costax.hlo.errors import malformed
from costax.hlo.opcodes import handler
from costax.hlo.proto import decode
from costax.hlo.read import ModuleReader, message_of
from costax.hlo.records import Computation, Instruction, text
from costax.hlo.replay import Properties, counted_calls, own_properties
from costax.hlo.shapes import Shape, Shapes

_NONE, _ONCE = Properties(), Properties(1, 1, 1)


class _CostedInstruction(NamedTuple):
    """An instruction as it was read: what its cost depends on, and the cost."""

    instruction: Instruction
    operand_ids: tuple[int, ...]
    operand_shapes: tuple[Shape, ...]
    callees: tuple[CostedComputation, ...]
    work: Work
    own: Properties


@dataclass(slots=True, eq=False)
class CostedComputation:
    """A computation with its cost.

    raw: its bytes. callees: the computations that it calls. lines: its instructions by their bytes. costs: by name what
    an instruction costs in one execution, without what it calls; exact: all of it, with what it calls. calls: the
    computations that it runs, and how often XLA counts each property of them.
    """

    raw: bytes
    computation: Computation
    callees: tuple[CostedComputation, ...]
    lines: Mapping[bytes, _CostedInstruction] = field(repr=False)
    costs: Mapping[str, Properties] = field(repr=False)
    exact: Properties = _NONE
    calls: Sequence[tuple[int, Properties]] = ()


@dataclass(frozen=True, slots=True)
class ModuleCost:
    """One version of a module: its exact total, and what each instruction adds to it.

    times: by computation, how often XLA counts it. computations: by id, in the order of the module.
    """

    name: str
    total: Properties
    times: Mapping[int, Properties] = field(repr=False)
    computations: Mapping[int, CostedComputation] = field(repr=False)


class ModuleSeries:
    """Costs the versions of a module one after the other."""

    def __init__(self, *, tpu: bool = False) -> None:
        """Begin with no version. tpu: count as libtpu does."""
        self._tpu = tpu
        self._shapes = Shapes()
        self._last: dict[int, CostedComputation] = {}

    def add(self, serialized: bytes) -> ModuleCost:
        """Return the cost of the next version. Raises HloError for bytes that hold no HLO module."""
        raw = message_of(serialized)
        # The caches of a model hold instructions: a model for each version lets the earlier ones be freed.
        model = cost_model_for(tpu=self._tpu)
        computations: dict[int, CostedComputation] = {}
        for bytes_of_computation in raw.computations:
            costed = self._computation(bytes_of_computation, computations, model)
            computations[costed.computation.id] = costed
        entry: int = raw.entry_computation_id
        if entry not in computations:
            raise malformed(f"The entry computation {entry} is missing")
        self._last = computations
        return ModuleCost(text(raw.name), computations[entry].exact, _times(entry, computations), computations)

    def _computation(
        self, serialized: bytes, others: Mapping[int, CostedComputation], model: CostModel
    ) -> CostedComputation:
        raw = decode("Computation", serialized, "")
        before = self._last.get(raw.id)
        if before is not None and before.raw == serialized:
            callees = tuple(others.get(x.computation.id) for x in before.callees)
            if all(now is then for now, then in zip(callees, before.callees, strict=True)):
                return before
        if raw.is_fusion_computation:
            lines, computation = self._whole(serialized, raw, others, model)
        else:
            lines, computation = self._changed(raw, before.lines if before else {}, others, model)
        return _summed(serialized, computation, lines, others)

    def _whole(
        self, serialized: bytes, raw: Any, others: Mapping[int, CostedComputation], model: CostModel
    ) -> tuple[dict[bytes, _CostedInstruction], Computation]:
        """Read a fused computation anew: what a fusion reads depends on the users inside, and it is small."""
        called = {i for own in raw.instructions for i in decode("Instruction", own, "").called_computation_ids}
        reader = ModuleReader(self._shapes, {i: others[i].computation for i in called if i in others})
        reader.computation(serialized)
        computation = reader.computations[raw.id]
        by_id = {instruction.id: instruction for instruction in computation.instructions}
        lines: dict[bytes, _CostedInstruction] = {}
        for own in raw.instructions:
            instruction = by_id[decode("Instruction", own, "").id]
            lines[own] = self._line(instruction, instruction.operand_ids, others, model)
        return lines, computation

    def _changed(
        self,
        raw: Any,
        before: Mapping[bytes, _CostedInstruction],
        others: Mapping[int, CostedComputation],
        model: CostModel,
    ) -> tuple[dict[bytes, _CostedInstruction], Computation]:
        """Read the instructions that are new, and cost those whose operands or callees are new."""
        name = text(raw.name)
        read: dict[bytes, tuple[Instruction, tuple[int, ...]]] = {}
        for own in raw.instructions:
            line = before.get(own)
            read[own] = (line.instruction, line.operand_ids) if line else self._read(own, name, others)
        by_id = {instruction.id: instruction for instruction, _ in read.values()}
        if raw.root_id not in by_id:
            raise malformed(f"The root {raw.root_id} is missing", where=name)
        lines: dict[bytes, _CostedInstruction] = {}
        for own, (instruction, operand_ids) in read.items():
            line = before.get(own)
            try:
                operands = tuple([by_id[i] for i in operand_ids])
            except KeyError as error:
                raise malformed(
                    f"The operand {error.args[0]} is missing", where=f"{name}/{instruction.name}"
                ) from error
            if line is not None and _same(line, operands, others):
                lines[own] = line
            else:
                called = tuple(others[x.id].computation for x in instruction.called)
                lines[own] = self._line(_copied(instruction, operands, called), operand_ids, others, model)
        ordered = tuple(lines[own].instruction for own in lines)
        return lines, Computation(raw.id, name, ordered, by_id[raw.root_id], False)

    def _read(
        self, serialized: bytes, computation: str, others: Mapping[int, CostedComputation]
    ) -> tuple[Instruction, tuple[int, ...]]:
        raw = decode("Instruction", serialized, computation)
        name = text(raw.name)
        try:
            called = tuple([others[i].computation for i in raw.called_computation_ids])
        except KeyError as error:
            raise malformed(f"The computation {error.args[0]} is missing", where=f"{computation}/{name}") from error
        shape = self._shapes.read(raw.shape, name)
        opcode = text(raw.opcode)
        instruction = Instruction(raw.id, name, opcode, shape, (), (), called, raw=raw, raw_metadata=raw.metadata)
        return instruction, tuple(raw.operand_ids)

    def _line(
        self,
        instruction: Instruction,
        operand_ids: tuple[int, ...],
        others: Mapping[int, CostedComputation],
        model: CostModel,
    ) -> _CostedInstruction:
        work = handler(instruction.opcode)(instruction, model)
        callees = tuple(others[x.id] for x in instruction.called)
        own = own_properties(work, others)
        return _CostedInstruction(
            instruction, operand_ids, tuple(x.shape for x in instruction.operands), callees, work, own
        )


def changed_costs(
    before: ModuleCost, after: ModuleCost
) -> tuple[list[tuple[str, Properties]], list[tuple[str, Properties]]]:
    """Return what instructions cost before and no longer cost after, and what they cost only after; by name.

    Instructions are told apart by name, which XLA keeps from pass to pass. An instruction whose cost or computation
    differs stands in both. What came less what is gone adds up to the difference of the totals.
    """
    gone: list[tuple[str, Properties]] = []
    came: list[tuple[str, Properties]] = []
    for key in before.times.keys() | after.times.keys():
        then, now = before.computations.get(key), after.computations.get(key)
        times_then, times_now = before.times.get(key, _NONE), after.times.get(key, _NONE)
        if then is now and times_then == times_now:
            continue
        old = _counted(then, times_then)
        new = _counted(now, times_now)
        # Where both run equally often, only the instructions whose cost differs count.
        same = times_then == times_now
        fewer, more = (old - new, new - old) if same else (old, new)
        gone += [(name, own.scaled(times_then)) for name, own in fewer]
        came += [(name, own.scaled(times_now)) for name, own in more]
    return gone, came


def _counted(costed: CostedComputation | None, times: Properties) -> set[tuple[str, Properties]]:
    return set(costed.costs.items()) if costed is not None and times != _NONE else set()


def _same(line: _CostedInstruction, operands: Sequence[Instruction], others: Mapping[int, CostedComputation]) -> bool:
    """Say whether an instruction costs what it did: it has the same operand shapes and the same callees."""
    shapes = line.operand_shapes
    if any(x.shape is not shape and x.shape != shape for x, shape in zip(operands, shapes, strict=True)):
        return False
    return all(others.get(callee.computation.id) is callee for callee in line.callees)


def _copied(
    instruction: Instruction, operands: tuple[Instruction, ...], called: tuple[Computation, ...]
) -> Instruction:
    # A version that was read before keeps its own instructions.
    x = instruction
    return Instruction(x.id, x.name, x.opcode, x.shape, operands, (), called, raw=x.raw, raw_metadata=x.raw_metadata)


def _summed(
    serialized: bytes,
    computation: Computation,
    lines: Mapping[bytes, _CostedInstruction],
    others: Mapping[int, CostedComputation],
) -> CostedComputation:
    costs = {line.instruction.name: line.own for line in lines.values() if line.own != _NONE}
    exact = Properties(*map(sum, zip(*costs.values(), strict=True))) if costs else _NONE
    calls: list[tuple[int, Properties]] = []
    callees: dict[int, CostedComputation] = {}
    for line in lines.values():
        for callee in line.callees:
            callees[callee.computation.id] = callee
        for run, times in counted_calls(line.work, others) if line.work.runs else ():
            calls.append((run.id, times))
            exact = exact.plus(others[run.id].exact.scaled(times))
    return CostedComputation(serialized, computation, tuple(callees.values()), lines, costs, exact, calls)


def _times(entry: int, computations: Mapping[int, CostedComputation]) -> dict[int, Properties]:
    """Return how often XLA counts each computation; a module lists callees before callers."""
    times = {entry: _ONCE}
    for key in reversed(list(computations)):
        if key in times:
            for called, factor in computations[key].calls:
                times[called] = times.get(called, _NONE).plus(factor.scaled(times[key]))
    return times
