"""Contractions: sums of products."""

from __future__ import annotations

from math import prod

from costax import dtypes
from costax.cost import Cost
from costax.equation import Equation
from costax.registry import cost_rule


@cost_rule("dot_general")
def dot_general(eqn: Equation) -> Cost:
    """Each output element is a sum of k products.

    macs = |out| * k, where k is the product of the contracted extents: (m, k) x (k, n) is m*n*k. Mixed operands are
    filed as `lhs*rhs->accumulator`.
    XLA: HandleDot counts 2 FLOPs a MAC, the same for every dtype, integers and complex numbers included.
    """
    lhs, rhs = eqn.inputs[:2]
    (contracted, _), _ = eqn.params["dimension_numbers"]
    k = prod(lhs.shape[axis] for axis in contracted)
    return Cost.macs_of(dtypes.mixed(lhs.dtype, rhs.dtype, accumulator=eqn.out.dtype), eqn.out.size * k)
