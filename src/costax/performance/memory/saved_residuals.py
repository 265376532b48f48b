"""Residuals: the arrays that the forward pass of a gradient stores for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

from costax import _jax
from costax.core.cost import Count
from costax.program.regions import Region
from costax.program.tree import BACKWARD, RECOMPUTE, UPDATE


@dataclass(frozen=True, slots=True)
class Residual:
    """An array that the forward pass computes and the backward pass reads.

    nbytes: its size in bytes. stacked: it is the stacked output of a scan, with one slice for each iteration.
    """

    nbytes: Count
    dtype: str
    shape: tuple[Count, ...]
    scope: str
    primitive: str
    source: str
    stacked: bool = False


def residuals(region: Region) -> list[Residual]:
    """Return the residuals of a program, in program order.

    Arguments are no residuals: they are in memory anyway.
    """
    backward = (BACKWARD, RECOMPUTE)
    read = {x for op in region.ops if op.direction in backward for x in op.inputs if x is not None}
    saved: list[Residual] = []
    for number in sorted(read):
        value = region.values[number]
        if value.op < 0 or region.ops[value.op].direction in (*backward, UPDATE):
            continue
        producer = region.ops[value.op]
        operand = value.operand
        saved.append(
            Residual(
                value.nbytes,
                operand.dtype,
                operand.shape,
                "/".join(producer.scope),
                producer.name,
                _jax.source(producer.equation),
                producer.loop and not producer.has_condition,
            )
        )
    return saved
