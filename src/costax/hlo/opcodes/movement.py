"""Opcodes that only move data: operands are read and outputs written, without arithmetic."""

from __future__ import annotations

from costax.hlo.cost_model import NOTHING, CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode(
    *("broadcast", "concatenate", "copy", "copy-done", "copy-start", "dynamic-reshape", "get-dimension-size", "iota"),
    *("opt-barrier", "pad", "reshape", "reverse", "set-dimension-size", "shuffle"),
)
def movement(ins: Instruction, model: CostModel) -> Work:
    """All bytes of every operand are read, and every leaf of the output is written.

    XLA: Preprocess; the handlers (HandleBroadcast, HandleConcatenate, HandleCopy, HandlePad ...) add nothing.
    """
    return Work(bytes=model.default_bytes(ins))


@opcode("transpose")
def transpose(ins: Instruction, model: CostModel) -> Work:
    """Free if the layouts make it a bitcast; else the operand is read and the output written.

    Output dimension i is input dimension p(i). The transpose is a bitcast if p maps the minor-to-major order of the
    output to that of the input. XLA: HandleTranspose, ShapeUtil::TransposeIsBitcast.
    """
    source = ins.operand(0).shape
    before, after = source.layout, ins.shape.layout
    if before is not None and after is not None and source.dtype == ins.shape.dtype:
        permutation = ins.dimensions
        order = tuple([permutation[d] for d in after.minor_to_major if d < len(permutation)])
        if order == before.minor_to_major:
            return NOTHING
    return Work(bytes=model.default_bytes(ins))


@opcode("infeed")
def infeed(ins: Instruction, model: CostModel) -> Work:
    """Every leaf of the output is written; the pointer tables of tuples do not count.

    XLA: HandleInfeed; the leaves are added in int64.
    """
    return Work(bytes=(sum(model.size(leaf) for leaf in ins.shape.leaves()),))


@opcode("outfeed")
def outfeed(ins: Instruction, model: CostModel) -> Work:
    """Every leaf of every operand is read.

    XLA: HandleOutfeed; the leaves of an operand are added in int64, the operands in float32.
    """
    return Work(bytes=tuple([sum(model.size(leaf) for leaf in x.shape.leaves()) for x in ins.operands]))
