"""Reductions, scans and sorts: how often the small computation runs."""

from __future__ import annotations

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.records import Instruction
from costax.hlo.shapes import count


@opcode("map")
def map_(ins: Instruction, law: Law) -> Work:
    """The computation runs once per output element.

    XLA: HandleMap.
    """
    return Work(bytes=law.whole(ins), applied=((ins.callee(0), ins.shape.elements),))


@opcode("reduce")
def reduce(ins: Instruction, law: Law) -> Work:
    """n elements become one in n - 1 steps: the reducer runs |in| - |out| times.

    A reduce of several arrays counts the first; its reducer does the work of all. XLA: HandleReduce.
    """
    steps = ins.operand(0).shape.elements - ins.shape.first().elements
    return Work(bytes=law.whole(ins), applied=((ins.callee(0), steps),))


@opcode("reduce-window")
def reduce_window(ins: Instruction, law: Law) -> Work:
    """The reducer runs |out| * (|window| - 1) times, padding included.

    A window that spans a whole dimension from every position (a reduce, broadcast back) is recognised and counts
    |out| / n + n - 1 with n the extent. XLA: HandleReduceWindow.
    """
    window = ins.window
    out = ins.shape.first()
    steps = (count([w.size for w in window], what="positions of a window") - 1) * out.elements
    padded = [w for w in window if w.padding_low or w.padding_high]
    wide = [(i, w) for i, w in enumerate(window) if w.size != 1]
    if len(wide) == len(padded) == 1 and ins.shape.is_array:
        dimension, w = wide[0]
        extent = out.extent(dimension)
        symmetric = w.padding_low == w.padding_high != 0 and w.size == 2 * w.padding_low + 1
        if symmetric and w.padding_low == extent - 1:
            steps = out.elements // extent + extent - 1
    return Work(bytes=law.whole(ins), applied=((ins.callee(0), steps),))


@opcode("select-and-scatter")
def select_and_scatter(ins: Instruction, law: Law) -> Work:
    """Per source element: |window| - 1 comparisons to select, one scatter.

    XLA: HandleSelectAndScatter.
    """
    source = ins.operand(1).shape.elements
    positions = count([w.size for w in ins.window], what="positions of a window")
    return Work(
        bytes=law.whole(ins),
        applied=((ins.callee(0), source * (positions - 1)), (ins.callee(1), source)),
    )


@opcode("scan")
def scan(ins: Instruction, law: Law) -> Work:
    """The computation runs once per element of operand 1.

    The HLO opcode (since 2026), not jax's primitive, which becomes a while loop. XLA: HandleScan.
    """
    return Work(bytes=law.whole(ins), applied=((ins.callee(0), ins.operand(1).shape.elements),))


@opcode("sort")
def sort(ins: Instruction, law: Law) -> Work:
    """n ceil(log2 n) with n all elements of the first operand: rows and further operands do not matter.

    XLA: HandleSort; the comparator is not looked at.
    """
    n = ins.operand(0).shape.elements
    return Work(flops=n * (n - 1).bit_length() if n else 0, bytes=law.whole(ins))


@opcode("topk")
def topk(ins: Instruction, law: Law) -> Work:
    """No flops; operand read, values and indices written.

    XLA: HandleTopK.
    """
    if not ins.operands:
        raise malformed("A topk without operand", where=ins.name)
    return Work(bytes=law.whole(ins))
