"""Opcodes that touch a part of an array: XLA counts that part, not the array."""

from __future__ import annotations

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.records import Instruction


@opcode("slice")
def slice_(ins: Instruction, law: Law) -> Work:
    """The output is read and written: bytes = 2 |out|.

    XLA: HandleSlice.
    """
    return Work(bytes=(2 * law.size(ins.shape),))


@opcode("dynamic-slice")
def dynamic_slice(ins: Instruction, law: Law) -> Work:
    """The output is read and written, and one index is read; XLA counts only the first of several.

    XLA: HandleDynamicSlice.
    """
    return Work(bytes=(2 * law.size(ins.shape) + law.size(ins.operand(1).shape),))


@opcode("dynamic-update-slice")
def dynamic_update_slice(ins: Instruction, law: Law) -> Work:
    """The update is read and written, and one index is read; the rest of the array stays where it is.

    XLA: HandleDynamicUpdateSlice.
    """
    return Work(bytes=(2 * law.size(ins.operand(1).shape) + law.size(ins.operand(2).shape),))


@opcode("gather")
def gather(ins: Instruction, law: Law) -> Work:
    """The output is read and written, and the indices are read: bytes = 2 |out| + |indices|. No flops.

    XLA: HandleGather.
    """
    return Work(bytes=(2 * law.size(ins.shape) + law.size(ins.operand(1).shape),))


@opcode("scatter")
def scatter(ins: Instruction, law: Law) -> Work:
    """The combiner runs once per element of the first update; bytes = 3 |updates| + |indices|.

    Operands: n arrays, the indices, n updates. XLA: HandleScatter.
    """
    n = len(ins.operands) // 2
    updates = [ins.operand(n + 1 + i).shape for i in range(n)]
    moved = 3 * sum(map(law.size, updates)) + law.size(ins.operand(n).shape)
    return Work(bytes=(moved,), applied=((ins.callee(0), ins.operand(n + 1).shape.elements),))
