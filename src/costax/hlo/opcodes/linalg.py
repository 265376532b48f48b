"""Factorisations, solves and transforms that are HLO opcodes; after optimisation most are library calls."""

from __future__ import annotations

from fractions import Fraction

from costax.hlo.cost_model import CostModel, Term, Work, opcode
from costax.hlo.records import Instruction
from costax.hlo.shapes import count


@opcode("cholesky")
def cholesky(ins: Instruction, model: CostModel) -> Work:
    """n^3 / 3 for each matrix: flops = n |a| // 3. Half of the matrix is read, and half is written.

    XLA: HandleCholesky.
    """
    a = ins.operand(0).shape
    half = _half(model.size(a))
    return Work(flops=a.extent(len(a.dims) - 1) * a.elements // 3, bytes=(half, half))


@opcode("triangular-solve")
def triangular_solve(ins: Instruction, model: CostModel) -> Work:
    """flops = 2 n |b|, as if the matrix were full; half of the matrix is read.

    XLA: HandleTriangularSolve.
    """
    a, b = ins.operand(0).shape, ins.operand(1).shape
    moved = (model.size(ins.shape), _half(model.size(a)), model.size(b))
    return Work(flops=2 * a.extent(len(a.dims) - 1) * b.elements, bytes=moved)


@opcode("fft")
def fft(ins: Instruction, model: CostModel) -> Work:
    """flops = 8 |in| times the product of floor(log2 n) over the transformed dimensions.

    XLA multiplies the logarithms of several dimensions, where their sum would be right. XLA: HandleFft.
    """
    logs = count([max(0, length.bit_length() - 1) for length in ins.fft_length], what="logarithms", where=ins.name)
    return Work(flops=8 * logs * ins.operand(0).shape.first().elements, bytes=model.default_bytes(ins))


@opcode("batch-norm-training", "batch-norm-inference", "batch-norm-grad")
def batch_norm(ins: Instruction, model: CostModel) -> Work:
    """No FLOPs; operands are read and outputs written.

    XLA: HandleBatchNormTraining, HandleBatchNormInference, HandleBatchNormGrad.
    """
    return Work(bytes=model.default_bytes(ins))


def _half(size: int) -> Term:
    return Fraction(size, 2) if size % 2 else size // 2
