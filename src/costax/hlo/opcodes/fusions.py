"""Fusions: the arithmetic of what they hold, and the bytes that cross their edge."""

from __future__ import annotations

from collections.abc import Iterator

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.opcodes.slices import gather, scatter
from costax.hlo.records import Computation, Instruction
from costax.hlo.shapes import Shape


@opcode("fusion")
def fusion(ins: Instruction, law: Law) -> Work:
    """All flops and transcendentals inside; bytes are outputs, then large constants, then parameters.

    A custom fusion that holds a gather or scatter is charged as that instruction alone. XLA: HandleFusion,
    FusionProcessOutputBytesAccessed, FusionCountConstantsMemoryAccess, FusionProcessOperandBytesRead.
    """
    inside = ins.callee(0)
    if ins.fusion_kind == "kCustom":
        for held in inside.instructions:
            if held.opcode in ("gather", "scatter"):
                return gather(held, law) if held.opcode == "gather" else scatter(held, law)
    moved = (*_outputs(ins.shape, inside.root, law), *_constants(inside, law), *_parameters(inside, law))
    return Work(bytes=moved, runs=(inside,), joined="fusion")


def _outputs(shape: Shape, root: Instruction, law: Law) -> Iterator[int]:
    """Size of every array of the output; where the root updates a slice in place, only the update."""
    if shape.is_array:
        yield _written(shape, root, law)
    for i, part in enumerate(shape.parts if shape.is_tuple else ()):
        if not part.is_array:
            yield from (law.size(leaf) for leaf in part.arrays())
        elif root.opcode == "tuple":
            yield _written(part, root.operand(i), law)
        else:
            yield _written(part, root, law)


def _written(shape: Shape, root: Instruction, law: Law) -> int:
    return law.size(root.operand(1).shape if root.opcode == "dynamic-update-slice" else shape)


def _constants(inside: Computation, law: Law) -> Iterator[int]:
    """Constants of one element become part of the code; larger ones are read."""
    return (law.size(x.shape) for x in inside.instructions if x.opcode == "constant" and x.shape.elements > 1)


def _parameters(inside: Computation, law: Law) -> Iterator[int]:
    for parameter in law.parameters(inside):
        if parameter.shape.is_tuple:
            yield sum(law.read(x, _read) for x in _elements(parameter))
        else:
            yield law.read(parameter, _read)


def _elements(parameter: Instruction) -> Iterator[Instruction]:
    """Yield, for each leaf of a tuple parameter, the get-tuple-element that takes it, as far as there is one."""
    pending = [(parameter, parameter.shape)]
    while pending:
        taken, shape = pending.pop()
        if not shape.is_tuple:
            yield taken
            continue
        takers: dict[int, Instruction] = {}
        for user in taken.users:
            if user.opcode == "get-tuple-element":
                takers.setdefault(user.tuple_index, user)
        pending += [(takers.get(i, taken), shape.parts[i]) for i in reversed(range(len(shape.parts)))]


def _read(source: Instruction, law: Law) -> int:
    """Bytes that a fusion reads of a parameter, by its users.

    A slice reads its output, an in-place update nothing of its first operand, a broadcast or reshape all of it each
    time; everybody else shares one read of all of it. XLA: FusionParameterReadBytes.
    """
    whole = law.size(source.shape)
    size = 0
    shared = False
    for user in source.users:
        match user.opcode:
            case "fusion":
                size += sum(_read_nested(user, i, law) for i in law.places(user)[source])
            case "slice":
                size += law.size(user.shape)
            case "dynamic-slice" if user.operand(0) is source:
                size += law.size(user.shape)
            case "dynamic-update-slice" if user.operand(0) is source:
                pass
            case "broadcast" | "reshape":
                size += whole
            case _:
                size += 0 if shared else whole
                shared = True
    return size


def _read_nested(user: Instruction, i: int, law: Law) -> int:
    """Bytes that a fusion inside the fusion reads of its operand `i`.

    If the parameter feeds the nested root directly, slices of the nested result read only their output. (XLA looks at
    the root's first operand without asking whether there is one; no compiler makes such a root.)
    """
    inside = user.callee(0)
    parameters = law.parameters(inside)
    if i >= len(parameters):
        raise malformed(f"A fusion has {len(user.operands)} operands and {len(parameters)} parameters", where=user.name)
    simple = bool(inside.root.operands) and parameters[i] is inside.root.operands[0]
    size = 0
    shared = False
    for after in user.users:
        match after.opcode:
            case "slice" if simple:
                size += law.size(after.shape)
            case "dynamic-slice" if simple and after.operand(0) is user:
                size += law.size(after.shape)
            case "dynamic-update-slice" if simple and after.operand(0) is user:
                pass
            case "dynamic-slice" | "dynamic-update-slice" if simple:
                size += 0 if shared else law.size(user.shape)
                shared = True
            case _:
                size += 0 if shared else law.read(parameters[i], _read)
                shared = True
    return size
