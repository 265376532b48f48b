"""Fusions: the arithmetic of the instructions inside, and the bytes of the fusion's inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.opcodes.slices import gather, scatter
from costax.hlo.records import Computation, Instruction
from costax.hlo.shapes import Shape


@opcode("fusion")
def fusion(ins: Instruction, model: CostModel) -> Work:
    """All FLOPs and transcendentals inside; bytes of the outputs, then of large constants, then of parameters.

    A custom fusion that contains a gather or scatter counts as that instruction alone. XLA: HandleFusion,
    FusionProcessOutputBytesAccessed, FusionCountConstantsMemoryAccess, FusionProcessOperandBytesRead.
    """
    inside = ins.callee(0)
    if ins.fusion_kind == "kCustom":
        for inner in inside.instructions:
            if inner.opcode in ("gather", "scatter"):
                return gather(inner, model) if inner.opcode == "gather" else scatter(inner, model)
    moved = (*_outputs(ins.shape, inside.root, model), *_constants(inside, model), *_parameters(inside, model))
    return Work(bytes=moved, runs=(inside,), joined="fusion")


def _outputs(shape: Shape, root: Instruction, model: CostModel) -> Iterator[int]:
    """Yield the size of every array of the output; if the root updates a slice in place, the size of the update."""
    if shape.is_array:
        yield _written(shape, root, model)
    for i, part in enumerate(shape.parts if shape.is_tuple else ()):
        if not part.is_array:
            yield from (model.size(leaf) for leaf in part.arrays())
        elif root.opcode == "tuple":
            yield _written(part, root.operand(i), model)
        else:
            yield _written(part, root, model)


def _written(shape: Shape, root: Instruction, model: CostModel) -> int:
    return model.size(root.operand(1).shape if root.opcode == "dynamic-update-slice" else shape)


def _constants(inside: Computation, model: CostModel) -> Iterator[int]:
    """Yield the sizes of constants with more than one element; a scalar is part of the code."""
    return (model.size(x.shape) for x in inside.instructions if x.opcode == "constant" and x.shape.elements > 1)


def _parameters(inside: Computation, model: CostModel) -> Iterator[int]:
    for parameter in model.parameters(inside):
        if parameter.shape.is_tuple:
            yield sum(model.read(x, _read) for x in _elements(parameter))
        else:
            yield model.read(parameter, _read)


def _elements(parameter: Instruction) -> Iterator[Instruction]:
    """Yield the get-tuple-element of each leaf of a tuple parameter, or the innermost tuple if there is none."""
    pending = [(parameter, parameter.shape)]
    while pending:
        element, shape = pending.pop()
        if not shape.is_tuple:
            yield element
            continue
        get_tuple_elements: dict[int, Instruction] = {}
        for user in element.users:
            if user.opcode == "get-tuple-element":
                get_tuple_elements.setdefault(user.tuple_index, user)
        pending += [(get_tuple_elements.get(i, element), shape.parts[i]) for i in reversed(range(len(shape.parts)))]


def _read(source: Instruction, model: CostModel) -> int:
    """Return the bytes that a fusion reads of a parameter, from the parameter's users inside the fusion.

    A slice reads as much as its output. An in-place update reads nothing of its first operand. Each broadcast or
    reshape reads the whole parameter. All other users share one read of it. XLA: FusionParameterReadBytes.
    """
    whole = model.size(source.shape)
    size = 0
    shared = False
    for user in source.users:
        match user.opcode:
            case "fusion":
                size += sum(_read_nested(user, i, model) for i in model.operand_positions(user)[source])
            case "slice":
                size += model.size(user.shape)
            case "dynamic-slice" if user.operand(0) is source:
                size += model.size(user.shape)
            case "dynamic-update-slice" if user.operand(0) is source:
                pass
            case "broadcast" | "reshape":
                size += whole
            case _:
                size += 0 if shared else whole
                shared = True
    return size


def _read_nested(user: Instruction, i: int, model: CostModel) -> int:
    """Return the bytes that a fusion inside the fusion reads of its operand `i`.

    If the parameter is the first operand of the nested root, slices of the nested result read only as much as their
    output. (XLA reads the first operand of the root without a check that it exists; no compiler emits such a root.)
    """
    inside = user.callee(0)
    parameters = model.parameters(inside)
    if i >= len(parameters):
        raise malformed(f"A fusion has {len(user.operands)} operands and {len(parameters)} parameters", where=user.name)
    simple = bool(inside.root.operands) and parameters[i] is inside.root.operands[0]
    size = 0
    shared = False
    for after in user.users:
        match after.opcode:
            case "slice" if simple:
                size += model.size(after.shape)
            case "dynamic-slice" if simple and after.operand(0) is user:
                size += model.size(after.shape)
            case "dynamic-update-slice" if simple and after.operand(0) is user:
                pass
            case "dynamic-slice" | "dynamic-update-slice" if simple:
                size += 0 if shared else model.size(user.shape)
                shared = True
            case _:
                size += 0 if shared else model.read(parameters[i], _read)
                shared = True
    return size
