"""Kernels: what stands inside a Pallas kernel and nowhere else. Loads and stores are in `state`."""

from __future__ import annotations

from costax.cost import Cost
from costax.equation import Equation
from costax.registry import cost_rule, free, no_traffic


@cost_rule("reciprocal")
def reciprocal(eqn: Equation) -> Cost:
    """One division for each element, exact or approximate.

    operations = |out|.
    XLA: divide, HandleElementwiseOp, the same.
    """
    return Cost.arithmetic(eqn.out.dtype, eqn.out.size)


free(
    "semaphore_signal",
    "semaphore_wait",
    "semaphore_read",
    "debug_barrier_p",
    "delay",
    because="Synchronisation: cores wait for each other and compute nothing. XLA: inside a custom call.",
    traffic=no_traffic,
)
free(
    "get_global",
    because="A name for memory or for a value in a trace: nothing moves. XLA: inside a custom call.",
    traffic=no_traffic,
)
