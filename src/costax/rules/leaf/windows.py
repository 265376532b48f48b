"""Windowed reductions: pooling and its derivatives. Those with a combiner are in `higher_order.combiners`."""

from __future__ import annotations

from math import prod

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import NO_TRAITS, REDUCTION, Function, Implementation, Traits


@cost_rule("reduce_window_sum", traits=REDUCTION.but(windowed=True, function=Function.SUM))
@cost_rule("reduce_window_max", traits=REDUCTION.but(windowed=True, function=Function.MAXIMUM))
@cost_rule("reduce_window_min", traits=REDUCTION.but(windowed=True, function=Function.MINIMUM))
def reduce_window(eqn: Equation) -> Cost:
    """A window of w elements is reduced by w - 1 additions (maxima, minima), for each output element, with padding.

    |out| * (w - 1) operations, as if each window were computed alone, without running sums or shared rows.
    XLA: HandleReduceWindow, the same; but a window over one axis that reaches from end to end, with equal padding of
    all but one position on both sides, is counted as one running reduction: |out| / n + n - 1 for n positions. A
    maximum of complex numbers is 9 operations.
    """
    return Cost.arithmetic(eqn.out.dtype, _joins(eqn) * eqn.out.size)


@cost_rule("select_and_scatter_add", traits=Traits(implementation=Implementation.WINDOW_SCATTER))
def select_and_scatter_add(eqn: Equation) -> Cost:
    """The gradient of a maximum: w - 1 comparisons find the maximum of a window, one addition adds the source to it.

    |source| * (w - 1) comparisons and |source| additions.
    XLA: HandleSelectAndScatter, the same; the CPU compiler expands it into a loop, which counts more.
    """
    source, operand = eqn.inputs
    return Cost.compare(operand.dtype, _joins(eqn) * source.size) + Cost.arithmetic(source.dtype, source.size)


@cost_rule("select_and_gather_add", traits=NO_TRAITS)
def select_and_gather_add(eqn: Equation) -> Cost:
    """The tangent of a maximum: w - 1 steps a window, each a comparison and two selections (the value, its tangent).

    |out| * (w - 1) comparisons and 2 * |out| * (w - 1) selections.
    XLA: a reduce-window over pairs, the same; on a GPU the pairs are packed into words, and packing counts too.
    """
    tangents, operand = eqn.inputs
    steps = _joins(eqn) * eqn.out.size
    return Cost.compare(operand.dtype, steps) + Cost.select(operand.dtype, steps) + Cost.select(tangents.dtype, steps)


def _joins(eqn: Equation) -> Count:
    # jax refuses windows of no elements.
    return prod(eqn.params["window_dimensions"]) - 1
