"""Opcodes that only move data: operands read, output written, no arithmetic."""

from __future__ import annotations

from costax.hlo.cost_model import NOTHING, Law, Work, opcode
from costax.hlo.records import Instruction


@opcode(
    *("broadcast", "concatenate", "copy", "copy-done", "copy-start", "dynamic-reshape", "get-dimension-size", "iota"),
    *("opt-barrier", "pad", "reshape", "reverse", "set-dimension-size", "shuffle"),
)
def movement(ins: Instruction, law: Law) -> Work:
    """Every operand is read whole and every leaf of the output written.

    XLA: Preprocess; the handlers (HandleBroadcast, HandleConcatenate, HandleCopy, HandlePad ...) add nothing.
    """
    return Work(bytes=law.whole(ins))


@opcode("transpose")
def transpose(ins: Instruction, law: Law) -> Work:
    """Free where the layouts make it a bitcast, else the operand is read and the output written.

    It is a bitcast if output dimension i is input dimension p(i), and the permutation carries the output's
    minor-to-major order into the input's. XLA: HandleTranspose, ShapeUtil::TransposeIsBitcast.
    """
    source = ins.operand(0).shape
    before, after = source.layout, ins.shape.layout
    if before is not None and after is not None and source.dtype == ins.shape.dtype:
        permutation = ins.dimensions
        order = tuple([permutation[d] for d in after.minor_to_major if d < len(permutation)])
        if order == before.minor_to_major:
            return NOTHING
    return Work(bytes=law.whole(ins))


@opcode("infeed")
def infeed(ins: Instruction, law: Law) -> Work:
    """Every leaf of the output is written, tables of tuples are not counted.

    XLA: HandleInfeed; the leaves are added in int64.
    """
    return Work(bytes=(sum(law.size(leaf) for leaf in ins.shape.leaves()),))


@opcode("outfeed")
def outfeed(ins: Instruction, law: Law) -> Work:
    """Every leaf of every operand is read.

    XLA: HandleOutfeed; the leaves of an operand are added in int64, the operands in float32.
    """
    return Work(bytes=tuple([sum(law.size(leaf) for leaf in x.shape.leaves()) for x in ins.operands]))
