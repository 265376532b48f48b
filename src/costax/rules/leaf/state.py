"""State: references to arrays that change in place, in `jax.new_ref` programs and in Pallas kernels.

The first operand is the reference, followed by indices, masks and values. These are read as a whole; of the reference
only the elements that are accessed are read or written.
"""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import NO_TRAITS, Traits


def loaded(eqn: Equation) -> tuple[Count, Count]:
    """The loaded elements are read and written to the result; indices, masks and fill values are read."""
    return eqn.out.nbytes + sum(x.nbytes for x in eqn.inputs[1:]), eqn.out.nbytes


def stored(eqn: Equation) -> tuple[Count, Count]:
    """The value, indices and masks are read, the elements are written. The old value is not counted."""
    return sum(x.nbytes for x in eqn.inputs[1:]), eqn.out.nbytes


def added(eqn: Equation) -> tuple[Count, Count]:
    """The elements, the addend and the indices are read, the elements are written."""
    _, addend, *indices = eqn.inputs
    return 2 * addend.nbytes + sum(x.nbytes for x in indices), addend.nbytes


free(
    "get",
    "masked_load",
    because="A part of a reference is read: bytes = 2 * out + indices and masks. "
    "XLA: dynamic-slice or gather, the same.",
    traffic=loaded,
    traits=Traits(partial=True),
)
free(
    "swap",
    "masked_swap",
    because="A part of a reference is replaced: bytes = 2 * value + indices and masks; almost no program uses the "
    "old value, so it is not counted. XLA: dynamic-update-slice or scatter.",
    traffic=stored,
    traits=Traits(in_place=True),
)


@cost_rule("addupdate", traffic=added, traits=Traits(in_place=True))
def addupdate(eqn: Equation) -> Cost:
    """Each element of the value is added to an element of the reference.

    operations = |value|.
    XLA: dynamic-slice, add and dynamic-update-slice; HandleElementwiseOp counts the add, the same.
    """
    addend = eqn.inputs[1]
    return Cost.arithmetic(addend.dtype, addend.size)


free(
    "new_ref",
    because="The initial value is copied to a new buffer. XLA: a copy, if the value is used again.",
    traits=NO_TRAITS,
)
_RENAMED = "Memory is allocated, freed or renamed; no byte moves. XLA: no instruction, or a marker."
free(
    "empty_ref",
    "free_ref",
    "freeze",
    "pin",
    "unpin",
    because=_RENAMED,
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "accum_grad_in_ref",
    because=_RENAMED,
    traffic=no_traffic,
    traits=Traits(in_place=True),
)
