"""Arithmetic as C++ does it with `float`: every step rounded to float32, integers wrapped to int64 first."""

from __future__ import annotations

from ctypes import c_float
from fractions import Fraction
from functools import lru_cache
from math import ldexp
from typing import Final

# Sums of halves below this are exact in float32: no need to round.
_EXACT: Final = 2.0**22
_WRAP: Final = 2**64


def rounded(value: float) -> float:
    """Return a double as the nearest float32, infinity beyond its range."""
    return value if -_EXACT < value < _EXACT else c_float(value).value


@lru_cache(maxsize=2**14)  # A module has many equal sizes.
def of(value: int | Fraction) -> float:
    """Return an int64 expression, or half of one, as C++ converts it to float: wrapped, then rounded to even.

    >>> of(2**24 + 1), of(2**63), of(Fraction(9, 2))
    (16777216.0, -9.223372036854775808e+18, 4.5)
    """
    if -_EXACT < value < _EXACT:
        return float(value)
    if isinstance(value, Fraction):
        return of(value.numerator) / value.denominator
    if not -(2**63) <= value < 2**63:
        value = (value + 2**63) % _WRAP - 2**63
    size = abs(value)
    # Above 53 bits a double would round once and float32 a second time; a sticky last bit keeps the first exact.
    shift = max(0, size.bit_length() - 40)
    kept = size >> shift | (size & ((1 << shift) - 1) != 0)
    nearest = c_float(ldexp(kept, shift)).value
    return nearest if value > 0 else -nearest


def add(a: float, b: float) -> float:
    """Return the float32 sum of whole or half numbers, which a double holds closely enough to round it once."""
    return rounded(a + b)


def times(a: float, b: float) -> float:
    """Return the float32 product, likewise."""
    return c_float(a * b).value
