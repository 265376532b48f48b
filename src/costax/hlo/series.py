"""The costs of successive versions of one module, where each version differs little from the one before.

XLA writes the module after every pass that changed it. Most passes change few instructions but renumber many, so a
version is costed from the one before by content, without ids: a computation that differs in ids alone keeps its cost
and its records, and so does an instruction with the same content, operands that look the same and the same callees.
The totals equal those of a full replay, in exact integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, islice, repeat
from operator import ge, ne
from typing import NamedTuple

from costax.errors import HloError
from costax.hlo.cost_model import CostModel, cost_model_for
from costax.hlo.errors import malformed
from costax.hlo.opcodes import handler
from costax.hlo.proto import decode
from costax.hlo.read import NOTHING, ComputationParts, link_users, message_of, opcode_of, parts_of
from costax.hlo.records import Computation, Instruction, text
from costax.hlo.replay import Call, Properties, Replay, counted_calls, own_properties
from costax.hlo.shapes import Shapes

_NONE, _ONCE = Properties(), Properties(1, 1, 1)


class _CostedInstruction(NamedTuple):
    """An instruction with its cost.

    operands, called: how many it has. callees: the computations that it calls. own: its cost without the computations
    that it runs. calls: those that it runs, and how often XLA counts each property of them.
    """

    instruction: Instruction
    operands: int
    called: int
    callees: tuple[CostedComputation, ...] = ()
    own: Properties = _NONE
    calls: Sequence[Call] = ()


@dataclass(slots=True, eq=False)
class CostedComputation:
    """A computation with its cost.

    raw: its bytes, in the first version that has it. callees: the computations that it calls. lines: its instructions
    by their content. costs: by name what an instruction costs in one execution, without what it calls; own: their sum.
    exact: with what it calls. calls: the computations that its instructions run.
    new: the instructions that the version before did not have in this computation, or had with other content, operands
    or callees; all others are the same objects as in the version before. Where the whole computation is the same
    object as in the version before, none is new.
    """

    raw: bytes = field(repr=False)
    computation: Computation
    callees: tuple[CostedComputation, ...]
    lines: Mapping[bytes, _CostedInstruction] = field(repr=False)
    costs: Mapping[str, Properties] = field(repr=False)
    exact: Properties = _NONE
    calls: Sequence[Call] = ()
    own: Properties = _NONE
    new: Sequence[Instruction] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ModuleCost:
    """One version of a module: its exact total, and what each instruction adds to it.

    entry: the id of the computation that runs first. times: by computation, how often XLA counts it. computations: by
    id, in the order of the module, callees before callers. Versions share the
    records of the instructions that they have in common. The id of a shared record is that of the version that was read
    last. So are its operands, which have the same names, opcodes and shapes in all versions that share the record.
    """

    name: str
    total: Properties
    entry: int
    times: Mapping[int, Properties] = field(repr=False)
    computations: Mapping[int, CostedComputation] = field(repr=False)

    @classmethod
    def of(cls, replay: Replay) -> ModuleCost:
        """Return a module that was replayed as a version."""
        module = replay.module
        computations = {
            key: CostedComputation(
                b"",
                module.computations[key],
                (),
                {},
                {ins.name: own for ins, own in cost.own},
                cost.exact,
                cost.calls,
                new=module.computations[key].instructions,
            )
            for key, cost in replay.computation_costs.items()
        }
        return cls(module.name, replay.total, module.entry.id, replay.times, computations)


class ModuleSeries:
    """Costs the versions of a module one after the other."""

    def __init__(self, *, tpu: bool = False) -> None:
        """Begin with no version. tpu: count as libtpu does."""
        self._tpu = tpu
        self._shapes = Shapes()
        self._opcodes: dict[bytes, str] = {}
        self._serialized = b""
        self._cost: ModuleCost | None = None
        self._last: dict[int, CostedComputation] = {}
        self._last_by_bytes: dict[bytes, CostedComputation] = {}

    def add(self, serialized: bytes) -> ModuleCost:
        """Return the cost of the next version. Raises HloError for bytes that hold no HLO module."""
        # XLA writes the module also where a pipeline begins, where nothing has changed.
        if self._cost is not None and serialized == self._serialized:
            return self._cost
        raw = message_of(serialized)
        # The caches of a model hold instructions: a model for each version lets the earlier ones be freed.
        version = _Version(cost_model_for(tpu=self._tpu), self._shapes, self._opcodes, self._last)
        by_bytes: dict[bytes, CostedComputation] = {}
        for own in raw.computations:
            by_bytes[own] = version.read(own, self._last_by_bytes.get(own))
        entry: int = raw.entry_computation_id
        if entry not in version.computations:
            raise malformed(f"The entry computation {entry} is missing")
        total, times = version.computations[entry].exact, _times(entry, version.computations)
        self._cost = ModuleCost(text(raw.name), total, entry, times, version.computations)
        self._serialized, self._last, self._last_by_bytes = serialized, version.computations, by_bytes
        return self._cost


class _Version:
    """A version while it is read: it takes what is unchanged from the computations of the version before."""

    def __init__(
        self, model: CostModel, shapes: Shapes, opcodes: dict[bytes, str], last: Mapping[int, CostedComputation]
    ) -> None:
        self.computations: dict[int, CostedComputation] = {}
        self._model = model
        self._shapes = shapes
        self._opcodes = opcodes
        self._last = last

    def read(self, serialized: bytes, same: CostedComputation | None) -> CostedComputation:
        """Add a computation. same: that of the version before with the same bytes."""
        others = self.computations
        if same is not None and all([others.get(x.computation.id) is x for x in same.callees]):
            costed = same
        else:
            parts = parts_of(serialized)
            costed = self._computation(parts, self._last.get(parts.raw.id))
        key = costed.computation.id
        if key in others:
            raise malformed(f"Two computations have the id {key}", where=costed.computation.name)
        others[key] = costed
        return costed

    def _computation(self, parts: ComputationParts, before: CostedComputation | None) -> CostedComputation:
        """Return the computation of the version before if only ids differ, else one that shares its instructions."""
        raw, where = parts.raw, text(parts.raw.name)
        lines, fresh = self._contents(parts.contents, before, where)
        links = _Links(parts, [line.operands for line in lines], where)
        callees = self._callees(parts.called_ids, lines, where)
        recalled = {i for i, called in callees.items() if called != lines[i].callees}
        records, new = _records(lines, links, fresh, recalled)
        for record, own_id in zip(records, parts.ids, strict=True):
            record.id = own_id
        # What a fusion reads depends on the order of the instructions inside: XLA sorts them by id.
        ordered = tuple(sorted(records, key=lambda x: x.id) if raw.is_fusion_computation else records)
        computation = Computation(raw.id, where, ordered, records[links.root], raw.is_fusion_computation)
        if before is not None and not new and _is_same(computation, before.computation):
            return before
        if len({x.name for x in records}) < len(records):
            raise malformed("Two instructions have the same name", where=where)
        for i in new:
            lines[i] = self._costed(records[i], lines[i], callees.get(i, ()))
        if computation.is_fusion:
            for record in records:
                record.users = []
            link_users(ordered)
        by_content = dict(zip(parts.contents, lines, strict=True))
        return self._summed(parts.serialized, computation, by_content, [lines[i] for i in new], before)

    def _contents(
        self, contents: Sequence[bytes], before: CostedComputation | None, where: str
    ) -> tuple[list[_CostedInstruction], list[int]]:
        """Return the instructions with these contents, and the positions of those that were not there before."""
        known = list(map(before.lines.get, contents)) if before else [None] * len(contents)
        fresh = [i for i, line in enumerate(known) if line is None]
        return [line or self._read(content, where) for line, content in zip(known, contents, strict=True)], fresh

    def _read(self, content: bytes, where: str) -> _CostedInstruction:
        """Return an instruction that has no operands, callees and cost yet."""
        raw = decode("Instruction", content, where)
        name, opcode = text(raw.name), self._opcodes.get(raw.opcode)
        if opcode is None:
            opcode = self._opcodes[raw.opcode] = opcode_of(raw.opcode, f"{where}/{name}")
        shape = self._shapes.read(raw.shape, name)
        message = NOTHING if opcode == "constant" else raw
        record = Instruction(0, name, opcode, shape, (), (), (), raw=message, raw_metadata=raw.metadata)
        return _CostedInstruction(record, len(raw.operand_ids), len(raw.called_computation_ids))

    def _callees(
        self, called_ids: Sequence[int], lines: Sequence[_CostedInstruction], where: str
    ) -> dict[int, tuple[CostedComputation, ...]]:
        """Return the computations that instructions call, by the position of the instruction."""
        rest = iter(called_ids)
        try:
            return {
                i: tuple([self.computations[key] for key in islice(rest, line.called)])
                for i, line in enumerate(lines)
                if line.called
            }
        except KeyError as fault:
            raise _missing(fault, where) from fault

    def _costed(
        self, record: Instruction, line: _CostedInstruction, callees: tuple[CostedComputation, ...]
    ) -> _CostedInstruction:
        record.called = tuple([callee.computation for callee in callees])
        work = handler(record.opcode)(record, self._model)
        own = own_properties(work, self.computations)
        calls = [Call(record, run, times) for run, times in counted_calls(work, self.computations)] if work.runs else ()
        return _CostedInstruction(record, line.operands, line.called, callees, own, calls)

    def _summed(
        self,
        raw: bytes,
        computation: Computation,
        lines: Mapping[bytes, _CostedInstruction],
        new: Sequence[_CostedInstruction],
        before: CostedComputation | None,
    ) -> CostedComputation:
        """Return a computation with its cost: that of the version before, less what is gone, and what is new."""
        costs: dict[str, Properties] = dict(before.costs) if before else {}
        gone = [line for content, line in before.lines.items() if lines.get(content) is not line] if before else []
        for line in gone:
            costs.pop(line.instruction.name, None)
        costs.update((line.instruction.name, line.own) for line in new if line.own != _NONE)
        own = _own(new, _own(gone, before.own if before else _NONE, -1), 1)
        calling = [line for line in lines.values() if line.callees]
        callees = dict.fromkeys(callee for line in calling for callee in line.callees)
        calls = [call for line in calling for call in line.calls]
        exact = self._with_calls(own, calls)
        records = [line.instruction for line in new]
        return CostedComputation(raw, computation, tuple(callees), lines, costs, exact, calls, own, records)

    def _with_calls(self, own: Properties, calls: Sequence[Call]) -> Properties:
        flops, transcendentals, nbytes = own
        # A version has thousands of calls, and plain sums are faster than sums of Properties.
        for _, run, times in calls:
            exact = self.computations[run.id].exact
            flops += exact.flops * times.flops
            transcendentals += exact.transcendentals * times.transcendentals
            nbytes += exact.bytes * times.bytes
        return Properties(flops, transcendentals, nbytes)


class _Links:
    """The operands of the instructions of a computation, by position.

    root: the position of the root. Raises HloError if an operand is missing or stands behind its user.
    """

    def __init__(self, parts: ComputationParts, counts: Sequence[int], where: str) -> None:
        order = dict(zip(parts.ids, range(len(counts)), strict=True))
        if len(order) < len(counts):
            raise malformed("Two instructions have the same id", where=where)
        if parts.raw.root_id not in order:
            raise malformed(f"The root {parts.raw.root_id} is missing", where=where)
        self.root: int = order[parts.raw.root_id]
        # These steps run at C speed: they are all that is done for most instructions.
        try:
            self._positions = list(map(order.__getitem__, parts.operand_ids))
        except KeyError as fault:
            raise _missing(fault, where) from fault
        ends = list(accumulate(counts))
        if len(self._positions) != ends[-1]:
            raise malformed("The operands of the instructions do not add up", where=where)
        users = chain.from_iterable(map(repeat, range(len(counts)), counts))
        if any(map(ge, self._positions, users)):
            raise malformed("An operand stands behind its user, or is part of a cycle", where=where)
        self._slices = list(map(slice, [0, *ends[:-1]], ends))

    def operands(self, records: Sequence[Instruction]) -> list[tuple[Instruction, ...]]:
        """Return the operands of each instruction, taken from these records."""
        joined = tuple(map(records.__getitem__, self._positions))
        return list(map(joined.__getitem__, self._slices))


def _records(
    lines: Sequence[_CostedInstruction], links: _Links, fresh: Sequence[int], recalled: set[int]
) -> tuple[list[Instruction], list[int]]:
    """Return the records of a computation with their operands, and the positions of the new ones.

    fresh: the positions of instructions with new content. recalled: of those whose callees differ. An instruction with
    the same content gets a new record if its callees differ or its operands look different: the version before keeps
    the old one.
    """
    records = [line.instruction for line in lines]
    operands = links.operands(records)
    new = {*fresh, *recalled}
    copied = recalled.difference(fresh)
    for i in _relinked(records, operands):
        if i not in new and not _look_same(operands[i], records[i].operands):
            copied.add(i)
    if copied:
        for i in copied:
            records[i] = _copied(records[i])
        operands = links.operands(records)
    for i in _relinked(records, operands):
        records[i].operands = operands[i]
    return records, sorted(new | copied)


def _relinked(records: Sequence[Instruction], operands: Sequence[tuple[Instruction, ...]]) -> list[int]:
    """Return the positions of the records that have other operands than these."""
    return list(compress(range(len(records)), map(ne, [x.operands for x in records], operands)))


def _is_same(now: Computation, then: Computation) -> bool:
    """Say whether two computations have the same instructions in the same order; instructions compare by identity."""
    same_kind = now.is_fusion == then.is_fusion and now.name == then.name
    return same_kind and now.root is then.root and now.instructions == then.instructions


def _look_same(now: Sequence[Instruction], then: Sequence[Instruction]) -> bool:
    """Say whether operands have the same names, opcodes and shapes; equal shapes are the same object."""
    return now == then or all(
        x is y or (x.name == y.name and x.opcode == y.opcode and x.shape is y.shape)
        for x, y in zip(now, then, strict=True)
    )


def _copied(x: Instruction) -> Instruction:
    return Instruction(
        x.id, x.name, x.opcode, x.shape, x.operands, (), x.called, raw=x.raw, raw_metadata=x.raw_metadata
    )


def _own(lines: Sequence[_CostedInstruction], start: Properties, sign: int) -> Properties:
    """Return what instructions cost without what they run, added to a start or taken from it."""
    return Properties(*[first + sign * sum([line.own[i] for line in lines]) for i, first in enumerate(start)])


def _missing(fault: KeyError, where: str) -> HloError:
    return malformed(f"The id {fault.args[0]} is missing, or is part of a cycle", where=where)


def _times(entry: int, computations: Mapping[int, CostedComputation]) -> dict[int, Properties]:
    """Return how often XLA counts each computation; a module lists callees before callers."""
    times = {entry: _ONCE}
    for key in reversed(list(computations)):
        own = times.get(key)
        if own is not None:
            for _, called, factor in computations[key].calls:
                times[called.id] = times.get(called.id, _NONE).plus(factor.scaled(own))
    return times
