"""Logarithms to the base 2, rounded up to integers: exact for integers of any size."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache


def ceil_log2(n: int) -> int:
    """Return ceil(log2 n), and 0 for n below 1: the number of halvings from n elements to one.

    >>> ceil_log2(1), ceil_log2(8), ceil_log2(9)
    (0, 3, 4)
    """
    return (n - 1).bit_length() if n > 1 else 0


@lru_cache(maxsize=4096)
def ceil_log2_of_power(base: int, numerator: int, denominator: int = 1) -> int:
    """Return ceil(numerator / denominator * log2 base), and 0 for a base below 2.

    >>> ceil_log2_of_power(8, 5 * 8), ceil_log2_of_power(3, 5 * 3), ceil_log2_of_power(8, 5 * 8, 2)
    (120, 24, 60)
    """
    if base <= 1:
        return 0
    if base & (base - 1) == 0:
        return -(-numerator * (base.bit_length() - 1) // denominator)
    # log2 of any other integer is irrational: with enough digits, the error interval contains no integer.
    digits = 2 * len(str(base)) + len(str(numerator)) + 20
    while True:
        with localcontext(prec=digits):
            value = numerator * Decimal(base).ln() / Decimal(2).ln() / denominator
            error = value.scaleb(4 - digits)
            low, high = (value - error) // 1, (value + error) // 1
        if low == high:
            return int(low) + 1
        digits *= 2
