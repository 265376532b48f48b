"""Arithmetic with C++'s `float`: every step is rounded to float32, and integers first wrap around to int64."""

from __future__ import annotations

from ctypes import c_float
from fractions import Fraction
from functools import lru_cache
from math import ldexp
from typing import Final

# Integers and halves below this are exact in float32 and need no rounding.
_EXACT: Final = 2.0**22
_WRAP: Final = 2**64


def rounded(value: float) -> float:
    """Return the float32 nearest to a double, or infinity beyond the range of float32."""
    return value if -_EXACT < value < _EXACT else c_float(value).value


@lru_cache(maxsize=2**14)  # Many instructions of a module have equal sizes.
def of(value: int | Fraction) -> float:
    """Return an integer, or half of one, as C++ converts an int64 to float: wrapped around, then rounded to even.

    >>> of(2**24 + 1), of(2**63), of(Fraction(9, 2))
    (16777216.0, -9.223372036854776e+18, 4.5)
    """
    if -_EXACT < value < _EXACT:
        return float(value)
    if isinstance(value, Fraction):
        return of(value.numerator) / value.denominator
    if not -(2**63) <= value < 2**63:
        value = (value + 2**63) % _WRAP - 2**63
    size = abs(value)
    # An integer above 53 bits would be rounded twice: to a double, then to float32. Keep 40 bits, and set the last one
    # if any dropped bit was set (a sticky bit): the only rounding is then that to float32.
    shift = max(0, size.bit_length() - 40)
    kept = size >> shift | (size & ((1 << shift) - 1) != 0)
    nearest = c_float(ldexp(kept, shift)).value
    return nearest if value > 0 else -nearest


def add(a: float, b: float) -> float:
    """Return the float32 sum of float32 numbers: a double holds the sum precisely enough for correct rounding."""
    return rounded(a + b)


def times(a: float, b: float) -> float:
    """Return the float32 product of float32 numbers: a double holds the product exactly."""
    return c_float(a * b).value
