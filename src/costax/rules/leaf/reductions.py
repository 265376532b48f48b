"""Reductions of n elements to one. The generic `reduce` runs a body and has a body rule."""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import REDUCTION, Function, Implementation


def joined(eqn: Equation) -> Count:
    """Return the number of combinations: n - 1 for each output element, from n elements; 0 where an axis is empty."""
    elements = eqn.inputs[0].size
    return elements - eqn.out.size if elements else 0


@cost_rule("reduce_sum", traits=REDUCTION.but(function=Function.SUM))
@cost_rule("reduce_prod", traits=REDUCTION)
@cost_rule("reduce_max", traits=REDUCTION.but(function=Function.MAXIMUM))
@cost_rule("reduce_min", traits=REDUCTION.but(function=Function.MINIMUM))
def reduction(eqn: Equation) -> Cost:
    """n elements are reduced to one by n - 1 arithmetic operations, for each output element.

    flops = |in| - |out| on floating and complex dtypes; integer OPs on the others.
    XLA: HandleReduce, the same before optimisation; a compiler may split a long reduction and combine the parts.
    `reduce_max` and `reduce_min` of complex numbers take 9 operations a combination (a lexicographic comparison).
    """
    return Cost.arithmetic(eqn.inputs[0].dtype, joined(eqn))


@cost_rule("reduce_and", "reduce_or", "reduce_xor", traits=REDUCTION)
def logical_reduction(eqn: Equation) -> Cost:
    """n elements are reduced to one by n - 1 logical operations, for each output element: OPs, no FLOPs.

    ops = |in| - |out|.
    XLA: HandleReduce, the same before optimisation.
    """
    return Cost.integer(eqn.inputs[0].dtype, joined(eqn))


@cost_rule("argmax", "argmin", traits=REDUCTION.but(implementation=Implementation.SORT))
def arg_reduction(eqn: Equation) -> Cost:
    """The index of the largest or smallest of n elements takes n - 1 comparisons, for each output element: no FLOPs.

    ops = |in| - |out|.
    XLA: the reduction carries value and index and counts every operation of its combiner, 9 an element on floating
    dtypes (comparisons, tests for NaN, ties broken by the lower index, two selects) and fewer on integers.
    """
    return Cost.compare(eqn.inputs[0].dtype, joined(eqn))
