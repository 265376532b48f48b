"""Serialised HLO modules that a test can edit: instructions are added, deleted, rewritten; new names and ids are free.

Untouched instructions keep their bytes, and fields that costax does not know survive.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, pairwise
from typing import Any

from costax.hlo.proto import MESSAGES, decode
from costax.hlo.shapes import Shape, Shapes

# Parameters and constants cost nothing. The halves of an asynchronous operation have shapes that only they may have.
_UNTOUCHED = re.compile(r"parameter|constant|tuple|get-tuple-element|after-all|.*-(start|update|done)")
# The field numbers of a module's schedule and of an instruction's literal.
_SCHEDULE, _LITERAL = 7, 8
# Element type: field of LiteralProto with the values, and a zero, as bytes or as one packed number.
_ZEROS: dict[int, tuple[int, bytes]] = {
    1: (2, b"\0"),  # pred
    2: (15, b"\0"),  # s8
    3: (17, bytes(2)),  # s16
    4: (4, b"\0"),  # s32
    5: (5, b"\0"),  # s64
    6: (3, b"\0"),  # u8
    7: (16, bytes(2)),  # u16
    8: (6, b"\0"),  # u32
    9: (7, b"\0"),  # u64
    10: (11, bytes(2)),  # f16
    11: (8, bytes(4)),  # f32
    12: (9, bytes(8)),  # f64
    15: (12, bytes(8)),  # c64
    16: (13, bytes(2)),  # bf16
    18: (18, bytes(16)),  # c128
}


def half_shape(raw: bytes, dimension: int) -> bytes:
    """Return a shape with half of one extent."""
    shape = decode("Shape", raw)
    shape.dimensions[dimension] //= 2
    return shape.SerializeToString()


@dataclass(eq=False)
class Line:
    """One instruction: its message, and its bytes as long as it is unchanged."""

    message: Any
    raw: bytes | None = None

    def changed(self) -> Any:
        """Return the message, to be changed."""
        self.raw = None
        return self.message

    def serialized(self) -> bytes:
        """Return the bytes."""
        return self.message.SerializeToString() if self.raw is None else self.raw


@dataclass(eq=False)
class Computation:
    """The instructions of a computation, in order; operands come before users."""

    module: EditedModule = field(repr=False)
    message: Any
    lines: list[Line]
    by_id: dict[int, Line] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the instructions by their ids."""
        self.by_id = {line.message.id: line for line in self.lines}

    def shape(self, id_: int) -> Shape:
        """Return the shape of an instruction."""
        return self.module.shapes.read(self.by_id[id_].message.shape, "")

    def work(self, line: Line) -> tuple[Any, ...]:
        """Return what the cost of an instruction depends on: the opcode, the shapes, the callees, the attributes."""
        message = line.message
        operands = tuple(self.by_id[i].message.shape for i in message.operand_ids)
        attributes = (message.dot_dimension_numbers, message.window, tuple(message.dimensions))
        return message.opcode, message.shape, operands, tuple(message.called_computation_ids), attributes

    def new_name(self, message: Any) -> bytes:
        """Return a name in the style of XLA for a new instruction that does what another does."""
        return self.new_name_of(message.name.decode())

    def new_name_of(self, base: str) -> bytes:
        """Return a name that no instruction of the module has: `dot.5` gives `dot.6` or a later number."""
        return self.module.new_name(re.sub(r"\.\d+$", "", base))

    def insert(self, line: Line, message: Any, *, after: bool = False) -> Line:
        """Add an instruction before or after another, with a new id."""
        message.id = max(self.by_id) + 1
        new = self.by_id[message.id] = Line(message)
        self.lines.insert(self.lines.index(line) + after, new)
        self.module.same_instructions = False
        return new

    def delete(self, line: Line) -> None:
        """Delete an instruction that no other reads."""
        self.lines.remove(line)
        del self.by_id[line.message.id]
        self.module.same_instructions = False
        for other in self.lines:
            if line.message.id in other.message.control_predecessor_ids:
                other.changed().control_predecessor_ids.remove(line.message.id)

    def replace_uses(self, old: int, new: int, users: Collection[Line] | None = None, *, root: bool = True) -> None:
        """Let users, by default all, read another instruction."""
        for line in self.lines if users is None else users:
            if old in line.message.operand_ids:
                operands = [new if i == old else i for i in line.message.operand_ids]
                line.changed().operand_ids[:] = operands
        if root and self.message.root_id == old:
            self.message.root_id = new

    def same_shape(self, message: Any) -> int | None:
        """Return the id of an operand with the same shape and layout."""
        return next((i for i in message.operand_ids if self.by_id[i].message.shape == message.shape), None)

    def first_half(self, user: Line, operand: int, dimension: int) -> int:
        """Return the id of a new slice that takes the first half of a dimension."""
        whole = self.by_id[operand].message.shape
        half = half_shape(whole, dimension)
        limits = decode("Shape", half).dimensions
        ranges = [MESSAGES["SliceDimension"](limit=n, stride=1).SerializeToString() for n in limits]
        new = MESSAGES["Instruction"](
            name=self.new_name_of("slice"), opcode=b"slice", shape=half, operand_ids=[operand], slice_dimensions=ranges
        )
        return self.insert(user, new).message.id

    def has_zero(self, line: Line) -> bool:
        """Say whether there is a zero of an instruction's shape: an array, or a tuple of arrays."""
        shape = self.module.shapes.read(line.message.shape, "")
        arrays = [decode("Shape", raw) for raw in _parts(line.message.shape)]
        is_flat = not any(part.is_tuple for part in shape.parts)
        return is_flat and all(x.element_type in _ZEROS and not any(x.is_dynamic_dimension) for x in arrays)

    def make_costless(self, line: Line) -> bool:
        """Give an instruction an opcode without FLOPs and transcendentals; say whether its shape allows one."""
        same = self.same_shape(line.message)
        if same is not None:
            self._rewrite(line, "copy", [same])
        elif self.has_zero(line):
            self._rewrite_zero(line)
        else:
            return False
        return True

    def zero(self, user: Line, shape: bytes) -> Line:
        """Return a new instruction before its user: a zero."""
        line = self.insert(user, MESSAGES["Instruction"](name=self.new_name_of("broadcast"), shape=shape))
        self._rewrite_zero(line)
        return line

    def _rewrite_zero(self, line: Line) -> None:
        """Make an instruction a tuple of zeros, a broadcast of the constant zero, or this constant itself."""
        shape = decode("Shape", line.message.shape)
        if shape.tuple_shapes:
            self._rewrite(line, "tuple", [self.zero(line, part).message.id for part in shape.tuple_shapes])
        elif shape.dimensions:
            scalar = MESSAGES["Shape"](element_type=shape.element_type, layout=MESSAGES["Layout"]())
            self._rewrite(line, "broadcast", [self.zero(line, scalar.SerializeToString()).message.id])
        else:
            self._rewrite(line, "constant", [])
            line.raw = line.message.SerializeToString() + _zero_literal(line.message.shape)

    def _rewrite(self, line: Line, opcode: str, operands: Sequence[int]) -> None:
        """Replace an instruction, except for its name, id, shape, metadata and control predecessors."""
        old = line.message
        line.message = MESSAGES["Instruction"](
            name=old.name,
            opcode=opcode.encode(),
            shape=old.shape,
            metadata=old.metadata,
            id=old.id,
            operand_ids=operands,
            control_predecessor_ids=old.control_predecessor_ids,
        )
        line.raw = None


class EditedModule:
    """A module whose instructions can be changed."""

    def __init__(self, serialized: bytes) -> None:
        """Read every instruction."""
        self.message = decode("Module", serialized)
        self.shapes = Shapes()
        self.same_instructions = True
        self.computations = [self._read(raw) for raw in self.message.computations]
        self._names = {line.message.name for each in self.computations for line in each.lines}

    def _read(self, raw: bytes) -> Computation:
        message = decode("Computation", raw)
        lines = [Line(decode("Instruction", own), own) for own in message.instructions]
        return Computation(self, message, lines)

    def by_name(self, names: Collection[str]) -> dict[str, tuple[Computation, Line]]:
        """Return the instructions with these names that may be falsified."""
        return {
            name: (computation, line)
            for computation in self.computations
            for line in computation.lines
            if (name := line.message.name.decode()) in names and not _UNTOUCHED.fullmatch(line.message.opcode.decode())
        }

    def new_name(self, base: str) -> bytes:
        """Return a name of this module that is free."""
        name = next(name for i in count(1) if (name := f"{base}.{i}".encode()) not in self._names)
        self._names.add(name)
        return name

    def serialized(self) -> bytes:
        """Return the bytes; a schedule that names other instructions is left out."""
        for computation in self.computations:
            computation.message.instructions[:] = [line.serialized() for line in computation.lines]
        self.message.computations[:] = [each.message.SerializeToString() for each in self.computations]
        serialized = self.message.SerializeToString()
        return serialized if self.same_instructions else without_field(serialized, _SCHEDULE)


def _parts(shape: bytes) -> Sequence[bytes]:
    """Return the shapes of the parts of a tuple, else the shape itself."""
    return decode("Shape", shape).tuple_shapes or [shape]


def renamed(message: Any, name: bytes) -> Any:
    """Return a copy of an instruction under another name."""
    copied = MESSAGES["Instruction"]()
    copied.CopyFrom(message)
    copied.name = name
    return copied


# The wire format of protobuf.


def _zero_literal(shape: bytes) -> bytes:
    number, zero = _ZEROS[decode("Shape", shape).element_type]
    return _length_delimited(_LITERAL, _length_delimited(1, shape) + _length_delimited(number, zero))


def _length_delimited(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def without_field(serialized: bytes, number: int) -> bytes:
    """Return a message without one of its fields."""
    edges = list(_edges(serialized))
    kept = [serialized[a:b] for a, b in pairwise(edges) if _read_varint(serialized, a)[0] >> 3 != number]
    return b"".join(kept)


def _edges(serialized: bytes) -> Iterator[int]:
    """Yield where each field begins, and the end."""
    place = 0
    while place < len(serialized):
        yield place
        tag, place = _read_varint(serialized, place)
        if tag & 7 in (0, 2):
            value, place = _read_varint(serialized, place)
            place += value if tag & 7 == 2 else 0
        else:
            place += 8 if tag & 7 == 1 else 4
    yield place


def _read_varint(serialized: bytes, place: int) -> tuple[int, int]:
    length = next(i for i in count(1) if serialized[place + i - 1] < 128)
    groups = enumerate(islice(serialized, place, place + length))
    return sum((byte & 127) << 7 * i for i, byte in groups), place + length
