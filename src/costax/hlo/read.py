"""Read the bytes of an `HloModuleProto` into records.

The file is decoded one computation and one instruction at a time, so that memory grows only with the well-formed part.
XLA writes operands before users and callees before callers. A reference in the other direction is therefore an error:
its target is missing, or the references form a cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from costax.hlo.devices import devices_of
from costax.hlo.errors import malformed
from costax.hlo.gc_pause import gc_paused
from costax.hlo.proto import MESSAGES, decode
from costax.hlo.records import Computation, Instruction, Module, text
from costax.hlo.shapes import Shapes

NOTHING: Final = MESSAGES["Instruction"]()
"""The message of a constant without its values."""
# An HloSnapshot contains an HloProto, which contains a module. A serialised module begins with the tag of one of its
# first three fields: the name, the name of the entry computation, or a computation.
_WRAPPERS: Final = 3
TAGS: Final = (b"\x0a", b"\x12", b"\x1a")
# An instruction has a tag, a length, an opcode and a shape.
_LEAST_BYTES: Final = 8


def read_bytes(serialized: bytes) -> Module:
    """Read a serialised `HloModuleProto`, `HloProto` or `HloSnapshot`. Raises HloError for any other bytes."""
    _, raw = opened(serialized)
    with gc_paused():
        return ModuleReader().module(raw)


def message_of(serialized: bytes) -> Any:
    """Return the decoded message of a module, whose computations are still bytes. Raises HloError for other bytes."""
    return opened(serialized)[1]


def opened(serialized: bytes) -> tuple[bytes, Any]:
    """Return the bytes of the module inside its wrappers, and the decoded message. Raises HloError for other bytes."""
    for _ in range(_WRAPPERS):
        raw = decode("Module", serialized, "")
        # Field 1 of a wrapper is the wrapped message, field 1 of a module is its name. A wrapped message begins with a
        # tag, a name does not. The field of the computations cannot tell them apart: in HloProto it holds buffers.
        if not raw.name.startswith(TAGS):
            if raw.computations:
                return serialized, raw
            break
        serialized = raw.name
    raise malformed("The bytes are not an HLO module: they contain no computation")


def buffer_assignment_in(serialized: bytes) -> bytes:
    """Return the serialised buffer assignment that stands beside a module in its wrapper; b"" where there is none."""
    assignment = b""
    for _ in range(_WRAPPERS):
        raw = decode("Wrapper", serialized)
        # The innermost message with a field 1 that begins with a tag is the HloProto; field 3 of a snapshot is a value.
        if not raw.module.startswith(TAGS):
            break
        serialized, assignment = raw.module, raw.buffer_assignment
    return assignment


class ComputationParts(NamedTuple):
    """A computation, where what an instruction is stands apart from its number, which XLA changes from pass to pass.

    serialized, raw: the bytes and the message. contents: the bytes of each instruction, with 1 for every id. ids: of
    the instructions. operand_ids, called_ids: those of all instructions, one after the other.
    """

    serialized: bytes
    raw: Any
    contents: Sequence[bytes]
    ids: Sequence[int]
    operand_ids: Sequence[int]
    called_ids: Sequence[int]


def parts_of(serialized: bytes) -> ComputationParts:
    """Return the parts of a computation. Raises HloError for bytes that do not encode one."""
    raw = decode("Computation", serialized)
    name = text(raw.name)
    # A hostile file could expand two bytes into a large message a million times.
    if _LEAST_BYTES * len(raw.instructions) > len(serialized):
        raise malformed("Most instructions have no opcode and no shape", where=name)
    content = decode("ComputationContent", serialized, name).SerializeToString()
    contents = list(decode("Computation", content, name).instructions)
    joined = decode("ComputationIds", serialized, name).instructions
    ids, operand_ids, called_ids = list(joined.id), list(joined.operand_ids), list(joined.called_computation_ids)
    if len(ids) != len(contents):
        # The id 0 is not written.
        ids = [decode("Instruction", own, name).id for own in raw.instructions]
    return ComputationParts(serialized, raw, contents, ids, operand_ids, called_ids)


def link_users(instructions: Sequence[Instruction]) -> None:
    """Give the instructions of a computation their index, and add each to the users of its operands."""
    for index, instruction in enumerate(instructions):
        instruction.index = index
        for operand in instruction.operands:
            if not operand.users or operand.users[-1] is not instruction:
                operand.users.append(instruction)


class ModuleReader:
    """A reader of one module; it caches shapes and opcodes by their bytes, and keeps computations by id."""

    def __init__(self) -> None:
        """Start with empty caches and no computation."""
        self.shapes: Shapes = Shapes()
        self.opcodes: dict[bytes, str] = {}
        self.computations: dict[int, Computation] = {}

    def module(self, raw: Any) -> Module:
        """Return a module from its message."""
        for serialized in raw.computations:
            self.computation(serialized)
        entry = self.computations.get(raw.entry_computation_id)
        if entry is None:
            raise malformed(f"The entry computation {raw.entry_computation_id} is missing")
        return Module(
            text(raw.name),
            self.computations,
            entry,
            raw.stack_frame_index,
            raw.schedule,
            raw.input_output_alias,
            devices_of(raw, entry.name, self._messages),
        )

    def _messages(self) -> Iterator[tuple[str, Any]]:
        for computation in self.computations.values():
            yield from ((x.opcode, x.raw) for x in computation.instructions)

    def computation(self, serialized: bytes) -> None:
        """Add a computation, which may call those that were added before."""
        raw = decode("Computation", serialized, "")
        name = text(raw.name)
        known: dict[int, Instruction] = {}
        for instruction in raw.instructions:
            self.instruction(instruction, known, name)
        if raw.root_id not in known:
            raise malformed(f"The root {raw.root_id} is missing", where=name)
        if raw.id in self.computations:
            raise malformed(f"Two computations have the id {raw.id}", where=name)
        # XLA sorts instructions by id when it reads a proto, and visits dead instructions in that order.
        ordered = tuple(known[i] for i in sorted(known))
        link_users(ordered)
        self.computations[raw.id] = Computation(raw.id, name, ordered, known[raw.root_id], raw.is_fusion_computation)

    def instruction(self, serialized: bytes, known: dict[int, Instruction], computation: str) -> None:
        """Add an instruction to those of its computation that are known."""
        raw = decode("Instruction", serialized, computation)
        own_name, own_id = text(raw.name), raw.id
        name = f"{computation}/{own_name}"
        if own_id in known:
            raise malformed(f"Two instructions have the id {own_id}", where=name)
        try:
            operands = tuple([known[i] for i in raw.operand_ids])
            # Few instructions have these fields: the test is four times as fast as a loop over nothing.
            controls = tuple([known[i] for i in ids]) if (ids := raw.control_predecessor_ids) else ()
            called = tuple([self.computations[i] for i in ids]) if (ids := raw.called_computation_ids) else ()
        except KeyError as fault:
            raise malformed(f"The id {fault.args[0]} is missing, or is part of a cycle", where=name) from fault
        for control in controls:
            control.has_control_successors = True
        opcode, shape = self.opcode(raw.opcode, name), self.shapes.read(raw.shape, name)
        # The message of a constant holds its values, which may be many.
        message = NOTHING if opcode == "constant" and shape.elements != 1 else raw
        known[own_id] = Instruction(
            own_id,
            own_name,
            opcode,
            shape,
            operands,
            controls,
            called,
            raw=message,
            raw_metadata=raw.metadata,
        )

    def opcode(self, raw: bytes, where: str) -> str:
        """Return the name of an opcode."""
        opcode = self.opcodes.get(raw)
        if opcode is None:
            opcode = self.opcodes[raw] = opcode_of(raw, where)
        return opcode


def opcode_of(raw: bytes, where: str) -> str:
    """Return the name of an opcode. Raises HloError if there is none."""
    if not raw or len(raw) > 64:
        raise malformed("An instruction has no opcode", where=where)
    return text(raw)
