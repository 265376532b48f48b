"""Sums over the steps of a matrix algorithm in closed form, and the batch of a stack of matrices."""

from __future__ import annotations

from math import prod

from costax.core.cost import Count
from costax.core.equation import Operand


def matrix(operand: Operand) -> tuple[Count, Count, Count]:
    """Return (how many matrices, rows, columns) of a stack of matrices."""
    *batch, rows, columns = operand.shape
    return prod(batch), rows, columns


def descending(start: Count, steps: int) -> Count:
    """Return the sum of start - k over k = 0 ... steps - 1.

    >>> descending(5, 3) == 5 + 4 + 3
    True
    """
    return steps * start - steps * (steps - 1) // 2


def products(a: Count, b: Count, steps: int) -> Count:
    """Return the sum of (a - k) * (b - k) over k = 0 ... steps - 1.

    >>> products(5, 3, 2) == 5 * 3 + 4 * 2
    True
    """
    return steps * a * b - (a + b) * (steps * (steps - 1) // 2) + (steps - 1) * steps * (2 * steps - 1) // 6
