"""Products: what a compiler makes of a `dot_general`, by its extents."""

from __future__ import annotations

from math import prod
from typing import Final

from costax.memory.steps import Step

# Products of fewer elements than this, (m + n) * k, are loops like any other. Source: XLA's
# xla_gpu_gemm_rewrite_size_threshold.
_SMALL: Final = 100


def free_extents(step: Step) -> tuple[int, int]:
    """Return how many rows the left operand has, and the right one columns: what is not contracted and not batch."""
    contracted, batched = step.equation.params["dimension_numbers"]
    rows, columns = (
        prod(n for axis, n in enumerate(var.aval.shape) if axis not in (*ours, *shared))
        for var, ours, shared in zip(step.equation.invars, contracted, batched, strict=True)
    )
    return rows, columns


def kind(step: Step) -> str:
    """Say that a product is "small", a loop like any other, or with a "vector": a multiplication and a reduction.

    Any other is "".
    """
    free = free_extents(step)
    contracted = step.equation.params["dimension_numbers"][0][0]
    depth = prod(step.equation.invars[0].aval.shape[axis] for axis in contracted)
    return "small" if sum(free) * depth < _SMALL else "vector" if 1 in free else ""
