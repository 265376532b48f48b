"""Tiles: the bytes of an array on a TPU, where two axes are stored in tiles of 8 x 128 numbers of 32 bits.

Narrower numbers share a 32-bit word along the rows: 16 rows of bf16, 32 rows of int8 are a tile. Source:
https://openxla.org/xla/tiled_layout; the sizes are those of XLA's own buffer assignments for a TPU v5e.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from costax.core import dtypes
from costax.core.cost import Count
from costax.program.regions import Value

_ROWS, _COLUMNS = 8, 128


def tiled_bytes(value: Value) -> Count:
    """Return the bytes of a value in the layout that pads it least.

    Any two axes can be the rows and the columns of the tiles, and libtpu takes those that waste least. Example:
    f32[8,96,64] takes 8 * 64 * 128 * 4 bytes, with the 96 as columns, and f32[64,64,32] takes 64 * 32 * 128 * 4.
    """
    shape: tuple[Any, ...] = value.operand.shape
    if len(shape) < 2 or not value.nbytes:
        return value.nbytes
    # One device of several holds a part of the array.
    return math.ceil(value.nbytes * _waste(tuple(shape), dtypes.bits(value.operand.dtype)))


@cache
def _waste(shape: tuple[int, ...], bits: int) -> float:
    """Return the bytes of an array in its best layout over those of its elements."""
    width, extents = max(bits // 8, 1), sorted(set(shape))
    pairs = ((a, b) for a in extents for b in extents if a != b or shape.count(a) > 1)
    return min(_up(a, _rows_of_tile(a, width)) * _up(b, _COLUMNS) / (a * b) for a, b in pairs)


def _rows_of_tile(rows: int, width: int) -> int:
    """Return the rows of a tile; an axis shorter than half a tile is stored in a smaller one, of a power of two."""
    unit = _ROWS * max(4 // width, 1)
    while unit > 1 and rows <= unit // 2:
        unit //= 2
    return unit


def _up(extent: int, unit: int) -> int:
    return -(-extent // unit) * unit
