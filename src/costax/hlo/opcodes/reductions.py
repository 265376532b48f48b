"""Reductions, scans and sorts: how often the applied computation runs."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.records import Instruction
from costax.hlo.shapes import count


@opcode("map")
def map_(ins: Instruction, model: CostModel) -> Work:
    """The computation runs once for each output element.

    XLA: HandleMap.
    """
    return Work(bytes=model.default_bytes(ins), applied=((ins.callee(0), ins.shape.elements),))


@opcode("reduce")
def reduce(ins: Instruction, model: CostModel) -> Work:
    """n elements are reduced to one in n - 1 steps: the reducer runs |in| - |out| times.

    If several arrays are reduced together, the sizes of the first count: one run reduces all arrays. XLA: HandleReduce.
    """
    steps = ins.operand(0).shape.elements - ins.shape.first().elements
    return Work(bytes=model.default_bytes(ins), applied=((ins.callee(0), steps),))


@opcode("reduce-window")
def reduce_window(ins: Instruction, model: CostModel) -> Work:
    """The reducer runs |out| * (|window| - 1) times, padding included.

    XLA recognises a window that covers a whole dimension of extent n from every position: a reduce whose result is
    broadcast. It counts |out| / n + n - 1 runs. XLA: HandleReduceWindow.
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
    return Work(bytes=model.default_bytes(ins), applied=((ins.callee(0), steps),))


@opcode("select-and-scatter")
def select_and_scatter(ins: Instruction, model: CostModel) -> Work:
    """For each source element, |window| - 1 runs of the selector and one run of the scatter computation.

    XLA: HandleSelectAndScatter.
    """
    source = ins.operand(1).shape.elements
    positions = count([w.size for w in ins.window], what="positions of a window")
    return Work(
        bytes=model.default_bytes(ins),
        applied=((ins.callee(0), source * (positions - 1)), (ins.callee(1), source)),
    )


@opcode("scan")
def scan(ins: Instruction, model: CostModel) -> Work:
    """The computation runs once for each element of operand 1.

    This is the HLO opcode of 2026. jax's primitive `scan` is lowered to a while loop. XLA: HandleScan.
    """
    return Work(bytes=model.default_bytes(ins), applied=((ins.callee(0), ins.operand(1).shape.elements),))


@opcode("sort")
def sort(ins: Instruction, model: CostModel) -> Work:
    """flops = n ceil(log2 n), where n is the number of all elements of the first operand, also if rows are sorted.

    Neither further operands nor the comparator change the count. XLA: HandleSort.
    """
    n = ins.operand(0).shape.elements
    return Work(flops=n * (n - 1).bit_length() if n else 0, bytes=model.default_bytes(ins))


@opcode("topk")
def topk(ins: Instruction, model: CostModel) -> Work:
    """No FLOPs; the operand is read, the values and indices are written.

    XLA: HandleTopK.
    """
    if not ins.operands:
        raise malformed("A topk has no operand", where=ins.name)
    return Work(bytes=model.default_bytes(ins))
