"""Primitives of Pallas kernels. The loads and stores of kernels are in `state`."""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import ELEMENTWISE, IDENTITY, NO_TRAITS, Traits


@cost_rule("reciprocal", traits=ELEMENTWISE)
def reciprocal(eqn: Equation) -> Cost:
    """One division for each element, exact or approximate.

    operations = |out|.
    XLA: divide, HandleElementwiseOp, the same.
    """
    return Cost.arithmetic(eqn.out.dtype, eqn.out.size)


def copied(eqn: Equation) -> tuple[Count, Count]:
    """A copy reads its source and writes the same number of bytes."""
    return eqn.params["copied"].nbytes, eqn.params["copied"].nbytes


@cost_rule("dma_start", traffic=copied, traits=Traits(in_place=True))
def dma_start(eqn: Equation) -> Cost:
    """A copy between two memories, or to another device: bytes are read and written, and sent if it names a device.

    bytes = 2 * copied; sent = copied to another device. With `add`, one addition for each element.
    XLA: inside a custom call.
    """
    part = eqn.params["copied"]
    cost = Cost.sent(part.dtype, part.nbytes) if eqn.params["remote"] else Cost()
    return cost + Cost.arithmetic(part.dtype, part.size) if eqn.params["add"] else cost


free(
    "dma_wait",
    "semaphore_signal",
    "semaphore_wait",
    "semaphore_read",
    "debug_barrier_p",
    "delay",
    because="Synchronisation: cores wait for each other and compute nothing. XLA: inside a custom call.",
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "get_global",
    because="A name for memory or for a value in a trace; no byte moves. XLA: inside a custom call.",
    traffic=no_traffic,
    traits=IDENTITY,
)
