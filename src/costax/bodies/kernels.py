"""Kernels: a jaxpr that runs once for each step of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from costax.equation import Body, Equation
from costax.registry import body_rule


@body_rule("pallas_call")
def pallas_call(eqn: Equation) -> Sequence[Body]:
    """The kernel runs once for each point of the grid.

    XLA: a custom call, -1 FLOP; on TPU its `cost_estimate`, where it was given one.
    """
    mapping = eqn.params["grid_mapping"]
    steps = prod(size for size in mapping.grid if isinstance(size, int))
    return [Body(eqn.params["jaxpr"], steps, "kernel", loop=True)]
