"""From the bytes of an `HloModuleProto` to records.

The file is decoded one computation and one instruction at a time, so memory grows with what is well formed. XLA
writes operands before users and callees before callers; whatever breaks that order is missing or a cycle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from costax.hlo.errors import HloError, malformed
from costax.hlo.pause import uncollected
from costax.hlo.records import Computation, Instruction, Module, text
from costax.hlo.schema import MESSAGES, decode
from costax.hlo.shapes import Shapes

_NOTHING = MESSAGES["Instruction"]()


def read_file(path: str | Path) -> Module:
    """Read a serialised module, an `HloProto` or `HloSnapshot` around one, or HLO text, by what the file holds."""
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as fault:
        raise HloError(
            f"{file.name} cannot be read: {fault.strerror}", where=str(file), cure="Check the path."
        ) from fault
    # Text begins with the word HloModule; a proto with a tag byte below 0x20.
    if data.lstrip()[:9] == b"HloModule":
        return read_text(text(data))
    return read_bytes(data)


def read_text(hlo: str) -> Module:
    """Read HLO text with the parser of the installed jaxlib, in a process of its own, since it may abort."""
    from costax import _jax

    try:
        return read_bytes(_jax.hlo_from_foreign_text(hlo))
    except _jax.XlaError as fault:
        raise malformed(f"XLA's parser refuses the text: {str(fault)[:400]}") from fault


def read_bytes(data: bytes) -> Module:
    """Read a serialised `HloModuleProto`; `HloProto` and `HloSnapshot`, which hold one, are opened.

    Raises HloError for anything else.
    """
    for _ in range(3):
        found = decode("Module", data, "")
        if found.computations:
            with uncollected():
                return _Reader().module(found)
        # The first field of a wrapper is the module where the module has its name.
        data = found.name
    raise malformed("These bytes hold no HLO module: there is no computation")


class _Reader:
    """What is shared while one module is read: shapes by their bytes, opcodes by theirs, computations by id."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self.opcodes: dict[bytes, str] = {}
        self.computations: dict[int, Computation] = {}

    def module(self, raw: Any) -> Module:
        for data in raw.computations:
            self.computation(data)
        entry = self.computations.get(raw.entry_computation_id)
        if entry is None:
            raise malformed(f"The entry computation {raw.entry_computation_id} is missing")
        return Module(text(raw.name), self.computations, entry, raw.stack_frame_index)

    def computation(self, data: bytes) -> None:
        raw = decode("Computation", data, "")
        name = text(raw.name)
        known: dict[int, Instruction] = {}
        for instruction in raw.instructions:
            self.instruction(instruction, known, name)
        if raw.root_id not in known:
            raise malformed(f"The root {raw.root_id} is missing", where=name)
        if raw.id in self.computations:
            raise malformed(f"Two computations have the id {raw.id}", where=name)
        # XLA sorts by id when it reads a proto; the order in memory decides in which order dead code is visited.
        ordered = tuple(known[i] for i in sorted(known))
        for index, instruction in enumerate(ordered):
            instruction.index = index
            for operand in instruction.operands:
                if not operand.users or operand.users[-1] is not instruction:
                    operand.users.append(instruction)
        self.computations[raw.id] = Computation(raw.id, name, ordered, known[raw.root_id], raw.is_fusion_computation)

    def instruction(self, data: bytes, known: dict[int, Instruction], computation: str) -> None:
        raw = decode("Instruction", data, computation)
        own_name, own_id = text(raw.name), raw.id
        name = f"{computation}/{own_name}"
        if own_id in known:
            raise malformed(f"Two instructions have the id {own_id}", where=name)
        try:
            operands = tuple([known[i] for i in raw.operand_ids])
            # Few instructions have these, and to ask is four times as fast as to go through none.
            controls = tuple([known[i] for i in ids]) if (ids := raw.control_predecessor_ids) else ()
            called = tuple([self.computations[i] for i in ids]) if (ids := raw.called_computation_ids) else ()
        except KeyError as fault:
            raise malformed(f"Id {fault.args[0]} is missing, or comes later (a cycle)", where=name) from fault
        for control in controls:
            control.has_control_successors = True
        opcode = self.opcode(raw.opcode, name)
        known[own_id] = Instruction(
            own_id,
            own_name,
            opcode,
            self.shapes.read(raw.shape, name),
            operands,
            controls,
            called,
            # The message of a constant still holds its literal.
            raw=_NOTHING if opcode == "constant" else raw,
            raw_metadata=raw.metadata,
        )

    def opcode(self, raw: bytes, where: str) -> str:
        opcode = self.opcodes.get(raw)
        if opcode is None:
            if not raw or len(raw) > 64:
                raise malformed("An instruction has no opcode", where=where)
            opcode = self.opcodes[raw] = text(raw)
        return opcode
