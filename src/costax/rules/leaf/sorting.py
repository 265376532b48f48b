"""Sorting and selection: comparisons for each row."""

from __future__ import annotations

from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE, Implementation, Traits


@cost_rule(
    "sort",
    traits=Traits(
        overwrites=True,
        reads_once=True,
        implementation=Implementation.SORT,
        unmodelled=True,
        xla="HandleSort: n log2 n of all elements, not of each row",
    ),
)
def sort(eqn: Equation) -> Cost:
    """A row of n elements is sorted by n * ceil(log2 n) comparisons: OPs, no FLOPs.

    ops = rows * n * ceil(log2 n), filed under the dtype of the first key. A comparison of several keys is one: the
    later keys are compared for ties only, and operands that are no keys are only moved.
    Source: Knuth, The Art of Computer Programming 3, section 5.2.4: merge sort stays below this bound.
    XLA: HandleSort counts n * ceil(log2 n) with n the elements of all rows together, and no work of the comparator: the
    same for a single row, more for many.
    """
    axis: int = eqn.params["dimension"]
    first, n = eqn.inputs[0], eqn.inputs[0].shape[axis]
    return Cost.compare(first.dtype, first.size * (n - 1).bit_length()) if first.size else Cost()


@cost_rule("top_k", traits=Traits(implementation=Implementation.SORT, unmodelled=True, xla="HandleTopK counts nothing"))
@cost_rule("approx_top_k", traits=OPAQUE)
def top_k(eqn: Equation) -> Cost:
    """Each of n elements of a row passes a heap of ceil(log2(k + 1)) levels: a comparison a level; OPs, no FLOPs.

    ops = rows * n * ceil(log2(k + 1)), filed under the dtype of the operand: n for k = 1. `approx_top_k` is counted as
    an exact one, which it is except on TPU, where the elements are binned first (Chern et al. 2022, TPU-KNN).
    Source: Knuth, The Art of Computer Programming 3, section 5.2.3.
    XLA: `topk` counts nothing; a compiler replaces it by a sort or by a library call (-1).
    """
    operand = eqn.inputs[0]
    return Cost.compare(operand.dtype, operand.size * eqn.params["k"].bit_length())
