"""Indexing: slices and gathers. No arithmetic; only the elements that are selected are read and written."""

from __future__ import annotations

from costax.core.cost import Count
from costax.core.equation import Equation
from costax.rules.registry import free
from costax.rules.traits import MOVEMENT, Function, Traits


def selected(eqn: Equation) -> tuple[Count, Count]:
    """The selected elements are read and written, the indices are read. Source: XLA HandleSlice, HandleGather."""
    indices = sum(x.nbytes for x in eqn.inputs[1:])
    return eqn.out.nbytes + indices, eqn.out.nbytes


def updated(eqn: Equation) -> tuple[Count, Count]:
    """The update and its indices are read, the update is written: in place. Source: XLA HandleDynamicUpdateSlice."""
    _, update, *indices = eqn.inputs
    return update.nbytes + sum(x.nbytes for x in indices), update.nbytes


free(
    "slice",
    because="A part is copied: bytes = 2 * out, for operands of any size. XLA: HandleSlice, the same.",
    traffic=selected,
    traits=MOVEMENT.but(partial=True),
)
free(
    "dynamic_slice",
    because="A part at the indices is copied: bytes = 2 * out + indices. "
    "XLA: HandleDynamicSlice, which counts the first index only.",
    traffic=selected,
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
    because="Each element of the output is read once: bytes = 2 * out + indices; the arithmetic on indices is in "
    "equations of its own. XLA: HandleGather, the same.",
    traffic=selected,
    traits=Traits(fuses=True, partial=True, function=Function.LOOK_UP),
)
