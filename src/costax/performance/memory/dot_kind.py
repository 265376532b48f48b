"""Kinds of `dot_general`: whether XLA compiles one to a matrix kernel, a matrix-vector kernel or an ordinary loop."""

from __future__ import annotations

from math import prod

from costax.performance.memory.compiler import CompilerModel
from costax.program.regions import Op


def free_extents(op: Op) -> tuple[int, int]:
    """Return (m, n): the product of the extents of each operand that are neither contracted nor batch extents."""
    contracted, batched = op.equation.params["dimension_numbers"]
    rows, columns = (
        prod(n for axis, n in enumerate(var.aval.shape) if axis not in (*ours, *shared))
        for var, ours, shared in zip(op.equation.invars, contracted, batched, strict=True)
    )
    return rows, columns


def kind(op: Op, model: CompilerModel) -> str:
    """Return "small", "vector" or "" for a `dot_general`.

    "small": XLA fuses it like elementwise work. Outer products (k = 1) are small too, for they sum nothing.
    "vector": a matrix times a vector (m = 1 or n = 1), which XLA compiles to a multiplication and a reduction.
    "": a kernel of a library or of Triton.
    """
    free = free_extents(op)
    if depth(op) == 1 or sum(free) * depth(op) < model.smallest_product:
        return "small"
    return "vector" if 1 in free else ""


def depth(op: Op) -> int:
    """Return k, the number of products that are summed for one element of the result."""
    contracted = op.equation.params["dimension_numbers"][0][0]
    return prod(op.equation.invars[0].aval.shape[axis] for axis in contracted)
