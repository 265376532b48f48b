"""Opcodes that access a part of an array: XLA counts the part, not the whole array."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode("slice")
def slice_(ins: Instruction, model: CostModel) -> Work:
    """The output is read and written: bytes = 2 |out|.

    XLA: HandleSlice.
    """
    return Work(bytes=(2 * model.size(ins.shape),))


@opcode("dynamic-slice")
def dynamic_slice(ins: Instruction, model: CostModel) -> Work:
    """The output is read and written, and one index is read: XLA counts only the first of several indices.

    XLA: HandleDynamicSlice.
    """
    return Work(bytes=(2 * model.size(ins.shape) + model.size(ins.operand(1).shape),))


@opcode("dynamic-update-slice")
def dynamic_update_slice(ins: Instruction, model: CostModel) -> Work:
    """The update is read and written, and one index is read; the rest of the array stays in place.

    XLA: HandleDynamicUpdateSlice.
    """
    return Work(bytes=(2 * model.size(ins.operand(1).shape) + model.size(ins.operand(2).shape),))


@opcode("gather")
def gather(ins: Instruction, model: CostModel) -> Work:
    """The output is read and written, and the indices are read: bytes = 2 |out| + |indices|. No FLOPs.

    XLA: HandleGather.
    """
    return Work(bytes=(2 * model.size(ins.shape) + model.size(ins.operand(1).shape),))


@opcode("scatter")
def scatter(ins: Instruction, model: CostModel) -> Work:
    """The combiner runs once for each element of the first update; bytes = 3 |updates| + |indices|.

    Operands: n arrays, the indices, n updates. XLA: HandleScatter.
    """
    n = len(ins.operands) // 2
    updates = [ins.operand(n + 1 + i).shape for i in range(n)]
    moved = 3 * sum(map(model.size, updates)) + model.size(ins.operand(n).shape)
    return Work(bytes=(moved,), applied=((ins.callee(0), ins.operand(n + 1).shape.elements),))
