"""Factorisations, solves and transforms, where they are still HLO opcodes and no library calls."""

from __future__ import annotations

from fractions import Fraction

from costax.hlo.cost_model import Law, Term, Work, opcode
from costax.hlo.records import Instruction
from costax.hlo.shapes import count


@opcode("cholesky")
def cholesky(ins: Instruction, law: Law) -> Work:
    """n^3 / 3 per matrix: flops = n |a| // 3. Half of the matrix is read, half written.

    XLA: HandleCholesky.
    """
    a = ins.operand(0).shape
    half = _half(law.size(a))
    return Work(flops=a.extent(len(a.dims) - 1) * a.elements // 3, bytes=(half, half))


@opcode("triangular-solve")
def triangular_solve(ins: Instruction, law: Law) -> Work:
    """2 n |b|, as if the matrix were full; half of it is read.

    XLA: HandleTriangularSolve.
    """
    a, b = ins.operand(0).shape, ins.operand(1).shape
    moved = (law.size(ins.shape), _half(law.size(a)), law.size(b))
    return Work(flops=2 * a.extent(len(a.dims) - 1) * b.elements, bytes=moved)


@opcode("fft")
def fft(ins: Instruction, law: Law) -> Work:
    """8 |in| times the product of floor(log2 n) over the transformed dimensions.

    A sum of the logarithms would be right; for one dimension they agree. XLA: HandleFft.
    """
    logs = count([max(0, length.bit_length() - 1) for length in ins.fft_length], what="logarithms", where=ins.name)
    return Work(flops=8 * logs * ins.operand(0).shape.first().elements, bytes=law.whole(ins))


@opcode("batch-norm-training", "batch-norm-inference", "batch-norm-grad")
def batch_norm(ins: Instruction, law: Law) -> Work:
    """No flops; operands read, outputs written.

    XLA: HandleBatchNormTraining, HandleBatchNormInference, HandleBatchNormGrad.
    """
    return Work(bytes=law.whole(ins))


def _half(size: int) -> Term:
    return Fraction(size, 2) if size % 2 else size // 2
