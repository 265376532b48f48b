"""Contractions: sums of products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import NO_TRAITS, ContractionKind, Traits


@cost_rule("dot_general", traits=Traits(contraction=ContractionKind.PRODUCT, reads_once=True))
def dot_general(eqn: Equation) -> Cost:
    """Each output element is a sum of k products.

    macs = |out| * k, where k is the product of the contracted extents: (m, k) x (k, n) is m*n*k. Mixed dots are filed
    as `lhs*rhs->accumulator`; the accumulator is the output's dtype, which is `preferred_element_type` if that is
    set. Where no axis is contracted, as in an outer product, nothing is summed: flops = |out|, one multiplication an
    element, as of `mul`, and no MACs. An axis of extent 1 is contracted: (m, 1) x (1, n) is m*n MACs.
    XLA: HandleDot counts 2 FLOPs a MAC, the same for every dtype, integers and complex numbers included, and 2 an
    element where no axis is contracted; the compiler makes a multiplication of that, 1 an element. On CPU and GPU jax
    converts operands of two dtypes (not both fp8) to the output's first, and the converts count 1 an element.
    """
    contracted, _ = eqn.params["dimension_numbers"]
    if not contracted[0]:
        return Cost.arithmetic(_dtype(eqn), eqn.out.size)
    return _macs(eqn, eqn.out.size * _contracted(eqn))


@cost_rule(
    "ragged_dot_general",
    traits=Traits(
        contraction=ContractionKind.RAGGED,
        xla="HandleRaggedDot drops the wrong dimension, or the groups are masked dense products",
    ),
)
def ragged_dot_general(eqn: Equation) -> Cost:
    """Each element of the left operand is multiplied by n elements of the right one, those of its group.

    macs = |lhs| * n, where n is the product of the free extents of rhs: neither batch, nor contracted, nor group. So
    (m, k) x (g, k, n) -> (m, n) is m*k*n, the ragged contraction (m, k) x (k, n) -> (g, m, n) is m*k*n, the ragged
    batch (b, m, k) x (b, k, n) is b*m*k*n. The number of groups does not matter, because each row is in one of them.
    Group sizes are data; rows beyond their sum are counted as if they were in a group.
    XLA: HandleRaggedDot drops result dimension 0 (which is m, not the group) and counts 2 * n * k. jax on the CPU
    lowers to a dense dot of masked copies instead: 2 * g*m*k*n, and the masks. On an H100 the same; on TPU 2 * m*k*n.
    """
    lhs, rhs = eqn.inputs[:2]
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batch) = numbers.dot_dimension_numbers
    not_free = {*contracted, *batch, *numbers.rhs_group_dimensions}
    n = prod(extent for axis, extent in enumerate(rhs.shape) if axis not in not_free)
    return _macs(eqn, lhs.size * n)


@cost_rule("scaled_dot", traits=Traits(contraction=ContractionKind.SCALED))
def scaled_dot(eqn: Equation) -> Cost:
    """A dot_general of operands with a scale for each block of the contraction.

    macs = |out| * k, filed under the dtypes in which the operands are stored; and one multiplication by its scale for
    each element of both operands, in the output's dtype.
    XLA: HandleDot for `scaled-dot`, 2 FLOPs a MAC and nothing for scales. Where the backend has no such operation,
    jax's decomposition runs: converts to bf16, the multiplications, a plain dot.
    """
    return _macs(eqn, eqn.out.size * _contracted(eqn)) + _scaling(eqn)


@cost_rule("scaled_matmul", "scaled_matmul_wrapper", traits=Traits(contraction=ContractionKind.SCALED))
def scaled_matmul(eqn: Equation) -> Cost:
    """A batched matrix product of operands with a scale for each block of the contraction (MXFP8, NVFP4).

    (b, m, k) x (b, n, k) -> (b, m, n): macs = b*m*n*k, filed under the dtypes in which the operands are stored; and one
    multiplication by its scale for each element of both operands, in the output's dtype.
    XLA: the custom call `__op$block_scaled_dot`, -1 FLOP; on a CPU (jax 0.12) converts, multiplications and a plain
    dot.
    """
    return _macs(eqn, eqn.out.size * eqn.inputs[0].shape[-1]) + _scaling(eqn)


@cost_rule("symmetric_product", traits=NO_TRAITS)
def symmetric_product(eqn: Equation) -> Cost:
    """alpha * A A^T + beta * C: one triangle is computed, the other one is copied.

    n*(n+1)/2 elements, each k multiplications, k - 1 additions, and 3 operations for alpha, beta and the sum:
    n * (n+1) * (k+1) for A of (n, k), times batch. Counted as arithmetic. Source: LAPACK working note 41, xSYRK.
    XLA: on CPU and TPU a dense dot and three elementwise operations, 2*n*n*k + 3*n*n; on CUDA cuSOLVER, -1 FLOP.
    """
    *batch, n, k = eqn.inputs[0].shape
    return Cost.arithmetic(eqn.out.dtype, prod(batch) * n * (n + 1) * (k + 1))


def _contracted(eqn: Equation) -> Count:
    axes: Sequence[int] = eqn.params["dimension_numbers"][0][0]
    return prod(eqn.inputs[0].shape[axis] for axis in axes)


def _dtype(eqn: Equation) -> str:
    lhs, rhs = eqn.inputs[:2]
    return dtypes.mixed(lhs.dtype, rhs.dtype, accumulator=eqn.out.dtype)


def _macs(eqn: Equation, macs: Count) -> Cost:
    return Cost.macs_of(_dtype(eqn), macs)


def _scaling(eqn: Equation) -> Cost:
    return Cost.arithmetic(eqn.out.dtype, eqn.inputs[0].size + eqn.inputs[1].size)
