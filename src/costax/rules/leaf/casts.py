"""Casts: the same values in another dtype."""

from __future__ import annotations

from costax.core.cost import ZERO, Cost
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import ELEMENTWISE, VIEW, Function


@cost_rule("convert_element_type", traits=ELEMENTWISE.but(moves=True, function=Function.CONVERT))
def convert_element_type(eqn: Equation) -> Cost:
    """One conversion for each output element, where the dtype changes at all; OPs, no FLOPs.

    ops = |out|, filed under the new dtype; 0 where only weak typing or sharding changes.
    XLA: 1 FLOP an element; a conversion to bool is a comparison with zero, also 1.
    """
    changes = eqn.inputs[0].dtype != eqn.out.dtype
    return Cost.convert(eqn.out.dtype, eqn.out.size) if changes else ZERO


@cost_rule("real", "imag", "complex", traits=ELEMENTWISE)
def complex_parts(eqn: Equation) -> Cost:
    """One conversion for each output element between a complex number and its two real parts; OPs, no FLOPs.

    ops = |out|, filed under the new dtype.
    XLA: 1 FLOP an element.
    """
    return Cost.convert(eqn.out.dtype, eqn.out.size)


@cost_rule("reduce_precision", traits=ELEMENTWISE.but(moves=True))
def reduce_precision(eqn: Equation) -> Cost:
    """One conversion for each output element: rounded to fewer bits, under the same dtype; OPs, no FLOPs.

    ops = |out|.
    XLA: 1 FLOP an element.
    """
    return Cost.convert(eqn.out.dtype, eqn.out.size)


@cost_rule("bitcast_convert_type", traits=VIEW)
def bitcast_convert_type(eqn: Equation) -> Cost:
    """One conversion for each output element: the same bits under another dtype; OPs, no FLOPs.

    ops = |out|, filed under the new dtype; 0 where the dtype does not change. |out| is
    the number of elements of the new dtype.
    XLA: 1 FLOP an output element.
    """
    changes = eqn.inputs[0].dtype != eqn.out.dtype
    return Cost.convert(eqn.out.dtype, eqn.out.size) if changes else ZERO
