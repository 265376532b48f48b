"""Tiles: the bytes of an array on a TPU, where the last two axes are stored in tiles of 8 x 128 numbers of 32 bits.

Narrower numbers share a 32-bit word along the second last axis: 16 rows of bf16, 32 rows of int8 are a tile. Source:
https://openxla.org/xla/tiled_layout; the sizes are those of XLA's own buffer assignments for a TPU v5e.
"""

from __future__ import annotations

from math import prod
from typing import Any

from costax.core import dtypes
from costax.core.cost import Count
from costax.program.regions import Value

_ROWS, _COLUMNS = 8, 128


def tiled_bytes(value: Value) -> Count:
    """Return the bytes of a value with its last two axes padded to whole tiles.

    Example: f32[512,16,32] takes 512 * 16 * 128 * 4 bytes, four times as much as its elements.
    """
    shape: tuple[Any, ...] = value.operand.shape
    if len(shape) < 2 or not value.nbytes:
        return value.nbytes
    width = max(dtypes.bits(value.operand.dtype) // 8, 1)
    *outer, rows, columns = shape
    rows_of_tile = _ROWS * max(4 // width, 1)
    # An axis shorter than a tile of rows is stored in a smaller tile, of a power of two rows.
    while rows_of_tile > 1 and rows <= rows_of_tile // 2:
        rows_of_tile //= 2
    padded = prod(outer) * _up(rows, rows_of_tile) * _up(columns, _COLUMNS) * width
    # One device of several holds a part of the array.
    whole = prod(shape) * width
    return -(-padded * value.nbytes // whole) if whole else value.nbytes


def _up(extent: int, unit: int) -> int:
    return -(-extent // unit) * unit
