"""Indexing: slices and gathers. No arithmetic, and only what is touched is read and written."""

from __future__ import annotations

from costax.core.cost import Count
from costax.core.equation import Equation
from costax.rules.registry import free
from costax.rules.traits import MOVEMENT, Function, Traits


def taken(eqn: Equation) -> tuple[Count, Count]:
    """What is taken is read and written, and the indices are read. Source: XLA HandleSlice, HandleGather."""
    indices = sum(x.nbytes for x in eqn.inputs[1:])
    return eqn.out.nbytes + indices, eqn.out.nbytes


def updated(eqn: Equation) -> tuple[Count, Count]:
    """The update and its indices are read, the update is written: in place. Source: XLA HandleDynamicUpdateSlice."""
    _, update, *indices = eqn.inputs
    return update.nbytes + sum(x.nbytes for x in indices), update.nbytes


free(
    "slice",
    because="A part is copied: bytes = 2 * out, whatever the size of the operand. XLA: HandleSlice, the same.",
    traffic=taken,
    traits=MOVEMENT.but(partial=True),
)
free(
    "dynamic_slice",
    because="A part is copied from where the indices say: bytes = 2 * out + indices. "
    "XLA: HandleDynamicSlice, which counts the first index only.",
    traffic=taken,
    traits=MOVEMENT.but(partial=True, operations=1.0),
)
free(
    "dynamic_update_slice",
    because="A part is replaced in place: bytes = 2 * update + indices. "
    "XLA: HandleDynamicUpdateSlice, which counts the first index only.",
    traffic=updated,
    traits=Traits(in_place=True, partial=True, reads_once=True),
)
free(
    "gather",
    because="Each element of the output is fetched once: bytes = 2 * out + indices; the arithmetic on indices stands "
    "in equations of its own. XLA: HandleGather, the same.",
    traffic=taken,
    traits=Traits(fuses=True, partial=True, function=Function.LOOK_UP),
)
