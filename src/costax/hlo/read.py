"""From the bytes of an `HloModuleProto` to records.

The file is decoded one computation and one instruction at a time, so memory grows with what is well formed. XLA
writes operands before users and callees before callers; whatever breaks that order is missing or a cycle.
"""

from __future__ import annotations

import re
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

from costax.hlo.errors import HloError, malformed
from costax.hlo.gc_pause import uncollected
from costax.hlo.proto import MESSAGES, decode
from costax.hlo.records import Computation, Instruction, Module, text
from costax.hlo.shapes import Shapes

_NOTHING = MESSAGES["Instruction"]()
# HloSnapshot holds an HloProto, which holds a module. Its first field is its name, its entry's name or a computation.
_WRAPPERS: Final = 3
_TAGS: Final = (b"\x0a", b"\x12", b"\x1a")
# Where protobuf ends.
_LARGEST_FILE: Final = 2**31
# How files begin that lie beside modules and are none.
_OTHERS: Final[dict[tuple[bytes, ...], str]] = {
    (b"module @", b"module {", b"module attributes", b"#loc", b"ML\xefR"): "StableHLO",
    (b"; ModuleID", b"source_filename", b"target datalayout"): "LLVM's code",
    (b"\x1f\x8b",): "something compressed (unpack it with gunzip)",
    (b"\x7fELF",): "machine code",
    (b"{",): "JSON",
}


def read_file(path: str | Path) -> Module:
    """Read a serialised module, an `HloProto` or `HloSnapshot` around one, or HLO text, by what the file holds."""
    return read_bytes(module_of(path))


def read_text(hlo: str) -> Module:
    """Read HLO text with the parser of the installed jaxlib, in a process of its own, since it may abort."""
    return read_bytes(_parsed(hlo))


def read_bytes(data: bytes) -> Module:
    """Read a serialised `HloModuleProto`; `HloProto` and `HloSnapshot`, which hold one, are opened.

    Raises HloError for anything else.
    """
    _, found = _opened(data)
    with uncollected():
        return _Reader().module(found)


def module_of(path: str | Path) -> bytes:
    """Return the bytes of the `HloModuleProto` that a file holds, as XLA reads them.

    Raises HloError for a file that holds none.
    """
    data = _contents(Path(path))
    start = data[:4096]
    for signs, what in _OTHERS.items():
        if start.startswith(signs):
            raise malformed(f"The file holds {what}, not HLO", where=str(path))
    if not _is_text(start):
        return _opened(data)[0]
    # Comments may stand above the word HloModule.
    if not re.search(rb"^\s*HloModule\b", start, re.MULTILINE):
        raise malformed("The file holds text that is no HLO: no line begins with HloModule", where=str(path))
    return _parsed(text(data))


def _is_text(start: bytes) -> bool:
    """Say whether bytes may be text; a proto holds bytes below 0x20 that no text has."""
    return bool(start) and not start.translate(None, bytes(range(32, 256)) + b"\t\n\r\f")


def _contents(file: Path) -> bytes:
    try:
        status = file.stat()
        # A device or a pipe has no end that one could wait for.
        data = file.read_bytes() if S_ISREG(status.st_mode) and status.st_size <= _LARGEST_FILE else None
    except (OSError, ValueError) as fault:
        raise HloError(
            f"{file.name} cannot be read: {getattr(fault, 'strerror', None) or fault}",
            where=str(file),
            cure="Check the path.",
        ) from fault
    if not S_ISREG(status.st_mode):
        raise HloError(f"{file.name} is no file", where=str(file), cure="Name a file that holds an HLO module.")
    if data is None:
        raise malformed(f"{file.name} is larger than 2 GiB, which no serialised module is", where=str(file))
    return data


def _parsed(hlo: str) -> bytes:
    from costax import _jax

    try:
        return _jax.hlo_from_foreign_text(hlo)
    except _jax.XlaError as fault:
        raise malformed(f"XLA's parser refuses the text: {str(fault)[:400]}") from fault


def _opened(data: bytes) -> tuple[bytes, Any]:
    """Return the bytes of a module, out of what is around them, and the message that they are."""
    for _ in range(_WRAPPERS):
        found = decode("Module", data, "")
        # The first field of a wrapper is the module where the module has its name; no name begins with a tag.
        # Computations tell nothing: HloProto has its buffers in that field.
        if not found.name.startswith(_TAGS):
            if found.computations:
                return data, found
            break
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
