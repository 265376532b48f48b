"""Products: what a compiler makes of a `dot_general`, by its extents."""

from __future__ import annotations

from math import prod
from typing import Final

from costax.program.regions import Op

# Products of fewer elements than this, (m + n) * k, are loops like any other. Source: XLA's
# xla_gpu_gemm_rewrite_size_threshold.
_SMALL: Final = 100


def free_extents(op: Op) -> tuple[int, int]:
    """Return how many rows the left operand has, and the right one columns: what is not contracted and not batch."""
    contracted, batched = op.equation.params["dimension_numbers"]
    rows, columns = (
        prod(n for axis, n in enumerate(var.aval.shape) if axis not in (*ours, *shared))
        for var, ours, shared in zip(op.equation.invars, contracted, batched, strict=True)
    )
    return rows, columns


def kind(op: Op) -> str:
    """Say that a product is "small", a loop like any other, or with a "vector": a multiplication and a reduction.

    An outer product adds nothing up, and is small too.

    Any other is "".
    """
    free = free_extents(op)
    if depth(op) == 1 or sum(free) * depth(op) < _SMALL:
        return "small"
    return "vector" if 1 in free else ""


def depth(op: Op) -> int:
    """Return how many multiplications are added for an element of the result."""
    contracted = op.equation.params["dimension_numbers"][0][0]
    return prod(op.equation.invars[0].aval.shape[axis] for axis in contracted)
