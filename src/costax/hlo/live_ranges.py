"""An estimate of the memory of a module without a buffer assignment: live ranges of its buffers along the schedule.

XLA writes a module in the order in which it runs it (`is_scheduled=true`). A buffer lives from the instruction that
writes it to the last one that reads it. Instructions that pass on their operand, loops and in-place updates have no
buffer of their own, and an elementwise result may take the buffer of an operand that dies, and temporaries may lie
in the buffers of results before these are written. The heap of XLA is larger by its fragmentation.

XLA: hlo_live_range.cc, hlo_dataflow_analysis.cc (GetInPlaceInputOutputPairs, CanShareOperandBufferWithUser).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from costax.core.listing import shown
from costax.hlo.cost_model import CostModel
from costax.hlo.module_memory import ARGUMENTS, CONSTANTS, RESULTS, TEMPORARIES, LiveBuffer, ModuleMemory, Moment
from costax.hlo.opcodes import elementwise, opcodes
from costax.hlo.records import Computation, Instruction, Module
from costax.hlo.shapes import Shape

# XLA aligns temporaries to 64 bytes on a CPU, and to 128 on a GPU.
_ALIGNMENT: Final = 64
# A program with several results returns a table of pointers, to which the cost analysis of jaxlib 0.11.2 gives 4 bytes.
_POINTER_BYTES: Final = 8
_ELEMENTWISE: Final = frozenset(
    name for name, handler in opcodes() if handler in (elementwise.elementwise, elementwise.transcendental)
) | {"copy"}
# Opcodes whose result is their first operand, and those whose result is a part of it.
_SAME: Final = frozenset({"bitcast", "opt-barrier", "add-dependency", "all-reduce-done", "domain"})
_SECOND: Final = frozenset({"all-gather-done", "collective-permute-done", "async-done"})
_RUNS: Final = frozenset({"while", "call", "conditional", "async-start"})

# The kind of a temporary in the buffer of a result.
_REUSED: Final = "reused"

Path = tuple[int, ...]
_Place = tuple[int, Path]


def estimated_memory(module: Module, model: CostModel) -> ModuleMemory:
    """Return an estimate of the memory of a module; one without a schedule is taken to run in the order of the file."""
    return _LiveRanges(module, model).memory()


class _Buffer:
    """A buffer: where it begins and ends in the schedule, its bytes, and the instruction that first writes it.

    carried: a loop carries it.
    """

    __slots__ = ("carried", "computation", "end", "instruction", "kind", "nbytes", "shape", "start")

    def __init__(self, start: int, shape: Shape, nbytes: int, ins: Instruction, computation: Computation) -> None:
        self.start = self.end = start
        self.nbytes = nbytes
        self.shape = shape
        self.kind = TEMPORARIES
        self.carried = False
        self.instruction = ins
        self.computation = computation


class _LiveRanges:
    def __init__(self, module: Module, model: CostModel) -> None:
        self._module = module
        self._model = model
        self._schedule = module.schedule
        # Of the places that share a buffer, each but one has another one here.
        self._parent: dict[_Place, _Place] = {}
        self._buffers: dict[_Place, _Buffer] = {}
        self._order: list[tuple[Computation, Instruction]] = list(self._flattened())

    def memory(self) -> ModuleMemory:
        for time, (computation, ins) in enumerate(self._order):
            self._define(time, computation, ins)
        for time, (_, ins) in enumerate(self._order):
            if ins.opcode not in ("tuple", "get-tuple-element", *_SAME):
                for operand in ins.operands:
                    self._extend(operand, time)
        end = len(self._order)
        entry = self._module.entry
        last = {computation.id: (computation, time) for time, (computation, _) in enumerate(self._order)}
        for computation, time in last.values():
            self._extend(computation.root, time)
        # Where the buffers of arguments are read last, before they count as alive to the end.
        ends = {x.parameter_number: self._end(x) for x in entry.parameters}
        self._mark(entry.root, RESULTS, end)
        for _, ins in self._order:
            if ins.opcode == "constant":
                self._mark(ins, CONSTANTS, end)
        for ins in entry.parameters:
            self._mark(ins, ARGUMENTS, end)
        # A result in the buffer of a donated argument has no buffer of its own.
        donated = {self._find((id(entry.root), path)) for path in self._module.aliases}
        for time, (_, ins) in enumerate(self._order):
            self._share(time, ins, donated)
        self._reuse(ends)
        return self._summed()

    def _flattened(self) -> Iterator[tuple[Computation, Instruction]]:
        """Yield the instructions as they run: what a loop or call runs stands before it, once."""
        seen = {self._module.entry.id}
        stack = [iter(self._ordered(self._module.entry))]
        around = [self._module.entry]
        # At each level the loop or call that waits for what it runs.
        pending: list[Instruction | None] = [None]
        while stack:
            ins = pending[-1] or next(stack[-1], None)
            pending[-1] = None
            if ins is None:
                stack.pop()
                around.pop()
                pending.pop()
                continue
            callees = [c for c in ins.called if c.id not in seen] if ins.opcode in _RUNS else []
            if callees:
                # XLA runs the condition first; here one after the other.
                callee = callees[-1]
                seen.add(callee.id)
                pending[-1] = ins
                stack.append(iter(self._ordered(callee)))
                around.append(callee)
                pending.append(None)
                continue
            yield around[-1], ins

    def _ordered(self, computation: Computation) -> Sequence[Instruction]:
        ids = self._schedule.get(computation.id, ())
        by_id = {x.id: x for x in computation.instructions}
        listed = [by_id[i] for i in ids if i in by_id]
        return listed if len(listed) == len(by_id) else computation.instructions

    # Places and buffers.

    def _find(self, place: _Place) -> _Place:
        root = place
        while root in self._parent:
            root = self._parent[root]
        while place != root:
            self._parent[place], place = root, self._parent[place]
        return root

    def _join(self, one: _Place, other: _Place) -> None:
        first, second = self._find(one), self._find(other)
        if first == second:
            return
        self._parent[second] = first
        taken, kept = self._buffers.pop(second, None), self._buffers.get(first)
        if taken is None:
            return
        if kept is None:
            self._buffers[first] = taken
            return
        if taken.start < kept.start:
            kept.instruction, kept.computation, kept.shape = taken.instruction, taken.computation, taken.shape
        kept.start, kept.end = min(kept.start, taken.start), max(kept.end, taken.end)
        kept.nbytes, kept.carried = max(kept.nbytes, taken.nbytes), kept.carried or taken.carried
        kept.kind = taken.kind if kept.kind == TEMPORARIES else kept.kind

    def _same(self, ins: Instruction, other: Instruction, path: Path = (), other_path: Path = ()) -> None:
        """Let parts of two results share their buffers, part by part."""
        for inner, _ in _leaves(_part(ins.shape, path)):
            self._join((id(other), (*other_path, *inner)), (id(ins), (*path, *inner)))

    def _new(self, time: int, computation: Computation, ins: Instruction, path: Path = ()) -> None:
        for inner, leaf in _leaves(_part(ins.shape, path)):
            place = self._find((id(ins), (*path, *inner)))
            if place not in self._buffers:
                self._buffers[place] = _Buffer(time, leaf, self._model.size(leaf), ins, computation)

    def _define(self, time: int, computation: Computation, ins: Instruction) -> None:
        match ins.opcode:
            case "get-tuple-element":
                self._same(ins, ins.operand(0), (), (ins.tuple_index,))
            case "tuple":
                for i, operand in enumerate(ins.operands):
                    self._same(ins, operand, (i,))
            case opcode if opcode in _SAME and ins.operands:
                self._same(ins, ins.operands[0])
            case opcode if opcode in _SECOND and ins.operands:
                self._same(ins, ins.operands[0], (), (1,))
            case "copy-done":
                self._same(ins, ins.operand(0), (), (0,))
            case "while":
                body, condition = ins.callee(0), ins.callee(1)
                self._same(ins, ins.operand(0))
                for inner in (*body.parameters, *condition.parameters, body.root):
                    self._same(ins, inner)
                for path, _ in _leaves(ins.shape):
                    if (carry := self._buffers.get(self._find((id(ins), path)))) is not None:
                        carry.carried = True
            case "call" | "conditional":
                self._called(time, computation, ins)
            case "async-start":
                root = ins.callee(0).root
                self._same(ins, root, (1,))
                for operand, parameter in zip(ins.operands, ins.callee(0).parameters, strict=False):
                    self._same(parameter, operand)
            case "all-gather-start" | "collective-permute-start":
                if ins.operands:
                    self._same(ins, ins.operands[0], (0,))
                self._new(time, computation, ins, (1,))
            case _:
                for out, operand in _in_place(ins):
                    self._join((id(ins.operands[operand]), ()), (id(ins), out))
                self._new(time, computation, ins)

    def _called(self, time: int, computation: Computation, ins: Instruction) -> None:
        if ins.opcode == "call":
            for operand, parameter in zip(ins.operands, ins.callee(0).parameters, strict=False):
                self._same(parameter, operand)
            self._same(ins, ins.callee(0).root)
            return
        for operand, branch in zip(ins.operands[1:], ins.called, strict=False):
            for parameter in branch.parameters:
                self._same(parameter, operand)
            self._same(branch.root, ins)
        self._new(time, computation, ins)

    def _extend(self, ins: Instruction, time: int) -> None:
        for path, _ in _leaves(ins.shape):
            buffer = self._buffers.get(self._find((id(ins), path)))
            if buffer is not None:
                buffer.end = max(buffer.end, time)

    def _mark(self, ins: Instruction, kind: str, end: int) -> None:
        for path, _ in _leaves(ins.shape):
            buffer = self._buffers.get(self._find((id(ins), path)))
            if buffer is not None:
                buffer.kind, buffer.end = kind, end

    def _end(self, ins: Instruction) -> int:
        buffer = self._buffers.get(self._find((id(ins), ())))
        return buffer.end if buffer is not None else 0

    def _reuse(self, ends: Mapping[int, int]) -> None:
        """Let temporaries lie in the buffers of results before these are written, the largest ones first.

        A result that takes the buffer of a donated argument leaves it free between the two. ends: when each argument is
        read last. XLA: BufferAssigner::AssignSingleHloBuffer.
        """
        root, last = self._module.entry.root, len(self._order)
        aliases = self._module.aliases
        free: list[tuple[int, list[tuple[int, int]]]] = []
        for path, leaf in _leaves(root.shape):
            buffer = self._buffers.get(self._find((id(root), path)))
            if buffer is not None and buffer.kind == RESULTS:
                donor = aliases.get(path)
                taken = [(buffer.start, last)] if donor is None else [(0, ends.get(donor, last)), (buffer.start, last)]
                free.append((self._model.size(leaf), taken))
        free.sort(key=lambda room: room[0])
        sizes = [size for size, _ in free]
        for buffer in sorted(self._buffers.values(), key=lambda b: -b.nbytes):
            if buffer.kind != TEMPORARIES or not buffer.nbytes:
                continue
            for _, taken in free[bisect_left(sizes, buffer.nbytes) :]:
                if all(end < buffer.start or buffer.end < start for start, end in taken):
                    taken.append((buffer.start, buffer.end))
                    buffer.kind = _REUSED
                    break

    def _share(self, time: int, ins: Instruction, donated: AbstractSet[_Place]) -> None:
        """Let an elementwise result take the buffer of an operand that dies."""
        if not ins.shape.is_array:
            return
        own = self._find((id(ins), ()))
        buffer = self._buffers.get(own)
        if buffer is None or buffer.kind not in (TEMPORARIES, RESULTS) or buffer.start != time or own in donated:
            return
        for position, operand in enumerate(ins.operands):
            place = self._find((id(operand), ()))
            other = self._buffers.get(place)
            if (
                other is not None
                and place != own
                and other.kind == TEMPORARIES
                and other.end == time
                and other.nbytes == buffer.nbytes
                and (buffer.kind == TEMPORARIES or not other.carried)
                and _is_elementwise(ins, position)
            ):
                self._join(place, own)
                return

    def _summed(self) -> ModuleMemory:
        entry = self._module.entry
        temporaries = [b for b in self._buffers.values() if b.kind == TEMPORARIES]
        changes = [0] * (len(self._order) + 2)
        for buffer in temporaries:
            padded = -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT
            changes[buffer.start] += padded
            changes[buffer.end + 1] -= padded
        moments: list[Moment] = []
        now = peak = moment = 0
        for time, (_, ins) in enumerate(self._order):
            now += changes[time]
            moments.append(Moment(ins.name, now))
            if now > peak:
                peak, moment = now, time
        arguments = sum(self._model.size(leaf) for x in entry.parameters for _, leaf in _leaves(x.shape))
        aliased = sum(self._model.size(_part(entry.root.shape, path)) for path in self._module.aliases)
        outputs = sum(self._model.size(leaf) for _, leaf in _leaves(entry.root.shape)) + (
            _POINTER_BYTES * len(entry.root.shape.parts) if entry.root.shape.is_tuple else 0
        )
        constants = sum(b.nbytes for b in self._buffers.values() if b.kind == CONSTANTS)
        parts = {
            ARGUMENTS: arguments,
            RESULTS: max(outputs - aliased, 0),
            CONSTANTS: constants,
            TEMPORARIES: peak,
        }
        live = [b for b in temporaries if b.start <= moment <= b.end]
        # A result in the buffer of a donated argument has no buffer of its own.
        donated = {self._find((id(entry.root), path)) for path in self._module.aliases}
        fixed = [
            b for at, b in self._buffers.items() if b.kind in (ARGUMENTS, RESULTS, CONSTANTS) and at not in donated
        ]
        fixed += [b for at, b in self._buffers.items() if at in donated and b.kind == ARGUMENTS]
        alive = [
            LiveBuffer(b.nbytes, b.kind, b.instruction.name, str(b.shape), b.instruction, b.computation)
            for b in sorted([*live, *fixed], key=lambda b: -b.nbytes)
        ]
        return ModuleMemory(
            "an estimate by live ranges, not XLA's",
            True,
            parts,
            aliased,
            None,
            shown(alive),
            sum(b.nbytes for b in live),
            shown(moments),
        )


def _leaves(shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Shape]]:
    """Yield the arrays of a shape with their places."""
    if shape.is_tuple:
        for i, part in enumerate(shape.parts):
            yield from _leaves(part, (*path, i))
    elif shape.is_array:
        yield path, shape


def _part(shape: Shape, path: Path) -> Shape:
    for index in path:
        if not 0 <= index < len(shape.parts):
            break
        shape = shape.parts[index]
    return shape


def _in_place(ins: Instruction) -> Iterator[tuple[Path, int]]:
    """Yield the parts of a result that lie in the buffer of an operand, with the number of the operand."""
    if ins.opcode in ("dynamic-update-slice", "scatter") and ins.operands and ins.shape.is_array:
        yield (), 0
    if ins.opcode != "fusion" or not ins.called:
        return
    root = ins.called[0].root
    outputs = [((i,), x) for i, x in enumerate(root.operands)] if root.opcode == "tuple" else [((), root)]
    for path, output in outputs:
        while output.opcode == "bitcast" and output.operands:
            output = output.operands[0]
        if output.opcode not in ("dynamic-update-slice", "scatter") or not output.operands:
            continue
        source = output.operands[0]
        while source.opcode == "bitcast" and source.operands:
            source = source.operands[0]
        if source.opcode == "parameter" and 0 <= source.parameter_number < len(ins.operands):
            yield path, source.parameter_number


def _is_elementwise(ins: Instruction, position: int) -> bool:
    """Say whether a result depends on each element of an operand at the same place alone."""
    if ins.opcode in _ELEMENTWISE:
        return True
    if ins.opcode != "fusion" or not ins.called:
        return False
    parameters = ins.called[0].parameters
    if position >= len(parameters):
        return False
    pending, seen = [parameters[position]], set[int]()
    while pending:
        for user in pending.pop().users:
            if user.opcode not in _ELEMENTWISE and user.opcode not in ("tuple", "bitcast"):
                return False
            if id(user) not in seen:
                seen.add(id(user))
                pending.append(user)
    return True
