"""Residuals: what the forward pass of a gradient leaves for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

from costax import _jax
from costax.core.cost import Count
from costax.program.regions import Region
from costax.program.tree import BACKWARD, RECOMPUTE, UPDATE


@dataclass(frozen=True, slots=True)
class Residual:
    """An array that the forward pass makes and the backward pass reads. stacked: one for each op of a loop."""

    nbytes: Count
    dtype: str
    shape: tuple[Count, ...]
    scope: str
    primitive: str
    source: str
    stacked: bool = False


def residuals(region: Region) -> list[Residual]:
    """Return the residuals of a program, in program order; arguments are none, for they are there anyway."""
    backward = (BACKWARD, RECOMPUTE)
    read = {x for op in region.ops if op.direction in backward for x in op.inputs if x is not None}
    found: list[Residual] = []
    for number in sorted(read):
        value = region.values[number]
        if value.op < 0 or region.ops[value.op].direction in (*backward, UPDATE):
            continue
        maker = region.ops[value.op]
        operand = value.operand
        place, line = "/".join(maker.scope), _jax.source(maker.equation)
        found.append(
            Residual(
                value.nbytes,
                operand.dtype,
                operand.shape,
                place,
                maker.name,
                line,
                maker.loop and not maker.has_condition,
            )
        )
    return found
