"""Shapes of HLO: element type, dimensions and layout of arrays; tuples, tokens and buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from costax.hlo.errors import malformed, unbounded
from costax.hlo.proto import decode

LIMIT: Final = 2**63
"""The first number that int64 cannot hold; XLA counts elements in int64."""

_MAX_TUPLE_DEPTH: Final = 16
# Shape::kUnboundedSize.
_UNBOUNDED: Final = -(2**63)

# PrimitiveType of xla_data.proto: costax's name of the dtype, and the bits of an element in memory. An element of fewer
# than 8 bits takes a byte, unless the layout says that elements are packed.
_TYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("bool", 8),
    2: ("i8", 8),
    3: ("i16", 16),
    4: ("i32", 32),
    5: ("i64", 64),
    6: ("u8", 8),
    7: ("u16", 16),
    8: ("u32", 32),
    9: ("u64", 64),
    10: ("f16", 16),
    11: ("f32", 32),
    12: ("f64", 64),
    13: ("tuple", 0),
    14: ("opaque", 0),
    15: ("c64", 64),
    16: ("bf16", 16),
    17: ("token", 0),
    18: ("c128", 128),
    19: ("f8_e5m2", 8),
    20: ("f8_e4m3fn", 8),
    21: ("i4", 8),
    22: ("u4", 8),
    23: ("f8_e4m3b11fnuz", 8),
    24: ("f8_e5m2fnuz", 8),
    25: ("f8_e4m3fnuz", 8),
    26: ("i2", 8),
    27: ("u2", 8),
    28: ("f8_e4m3", 8),
    29: ("f8_e3m4", 8),
    30: ("i1", 8),
    31: ("u1", 8),
    32: ("f4_e2m1fn", 8),
    33: ("f8_e8m0fnu", 8),
    34: ("buffer", 0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The memory layout of an array: order of dimensions, tiles, and the bits of an element (0: those of the dtype)."""

    minor_to_major: tuple[int, ...]
    tiles: tuple[tuple[int, ...], ...] = ()
    element_bits: int = 0
    memory_space: int = 0
    tail_padding: int = 1
    splits: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The shape of an array, tuple, token, opaque or buffer, as `dtype` says; `parts` are the elements of a tuple."""

    dtype: str
    dims: tuple[int, ...]
    elements: int
    element_bits: int
    layout: Layout | None = None
    dynamic: tuple[bool, ...] = ()
    parts: tuple[Shape, ...] = ()

    @property
    def is_tuple(self) -> bool:
        """Say whether this is a tuple."""
        return self.dtype == "tuple"

    @property
    def is_array(self) -> bool:
        """Say whether this is an array."""
        return self.dtype not in ("tuple", "token", "opaque", "buffer")

    def leaves(self) -> Iterator[Shape]:
        """Yield the elements of a tuple in order, nested tuples flattened; any other shape yields itself."""
        if not self.is_tuple:
            yield self
        for part in self.parts if self.is_tuple else ():
            yield from part.leaves()

    def arrays(self) -> Iterator[Shape]:
        """Yield the arrays among the leaves."""
        return (leaf for leaf in self.leaves() if leaf.is_array)

    def first(self) -> Shape:
        """Return the shape itself, or the first element of a tuple."""
        if not self.is_tuple:
            return self
        if not self.parts:
            raise malformed("An instruction needs an array and got an empty tuple")
        return self.parts[0]

    def extent(self, dimension: int) -> int:
        """Return the extent of a dimension; HloError if there is no such dimension."""
        if not 0 <= dimension < len(self.dims):
            raise malformed(f"{self} has no dimension {dimension}")
        return self.dims[dimension]

    def __str__(self) -> str:
        """Return it as HLO text writes it, without the layout."""
        return _written(self)


# Thousands of instructions share a shape.
@lru_cache(maxsize=2**12)
def _written(shape: Shape) -> str:
    if shape.is_tuple:
        return f"({', '.join(map(str, shape.parts))})"
    if shape.dtype == "buffer":
        return f"b({shape.parts[0] if shape.parts else ''})"
    bounds = shape.dynamic or (False,) * len(shape.dims)
    return f"{shape.dtype}[{','.join('<=' * b + str(d) for d, b in zip(shape.dims, bounds, strict=False))}]"


def count(extents: Iterable[int], *, what: str = "elements", where: str = "") -> int:
    """Return the product of extents; HloError if one is negative or the product does not fit int64."""
    total = 1
    extents = tuple(extents)
    if 0 in extents:
        return 0
    for extent in extents:
        total *= extent
        # Stop early: a damaged file could give a million factors, whose product has a million digits.
        if not 0 < total < LIMIT:
            raise malformed(f"{'x'.join(map(str, extents[:8]))} {what} do not fit int64", where=where)
    return total


class Shapes:
    """A decoder of shapes; equal bytes give the same `Shape`, so that few of a module's shapes are decoded."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._known: dict[bytes, Shape] = {}

    def read(self, raw: bytes, where: str, depth: int = 0) -> Shape:
        """Return the shape of a serialised `ShapeProto`."""
        shape = self._known.get(raw)
        if shape is None:
            shape = self._known[raw] = self._decoded(raw, where, depth)
        return shape

    def _decoded(self, raw: bytes, where: str, depth: int) -> Shape:
        if depth > _MAX_TUPLE_DEPTH:
            raise malformed(f"Tuples nest more than {_MAX_TUPLE_DEPTH} deep", where=where)
        message = decode("Shape", raw, where)
        dtype, bits = _TYPES.get(message.element_type, ("", 0))
        if not dtype:
            raise malformed(f"costax does not know the element type {message.element_type}", where=where)
        dims = tuple(message.dimensions)
        if _UNBOUNDED in dims:
            raise unbounded(f"{dtype}[{','.join('?' if d == _UNBOUNDED else str(d) for d in dims[:8])}]", where=where)
        if any(extent < 0 for extent in dims):
            raise malformed(f"{dtype}{list(dims[:8])} has a negative extent", where=where)
        layout = _layout(message.layout, len(dims), where) if message.HasField("layout") else None
        parts = tuple([self.read(part, where, depth + 1) for part in message.tuple_shapes])
        if dtype == "buffer" and len(parts) != 1:
            raise malformed(f"A buffer must hold one array, got {len(parts)}", where=where)
        elements = count(dims, where=where) if bits else 0
        return Shape(dtype, dims, elements, bits, layout, tuple(message.is_dynamic_dimension), parts)


def _layout(raw: Any, rank: int, where: str) -> Layout:
    order = tuple(raw.minor_to_major)
    if sorted(order) != list(range(rank)):
        raise malformed(f"The layout {list(order[:8])} is not a permutation of {rank} dimensions", where=where)
    splits = [decode("SplitConfig", split, where) for split in raw.split_configs]
    return Layout(
        order,
        tuple([tuple(decode("Tile", tile, where).dimensions) for tile in raw.tiles]),
        raw.element_size_in_bits,
        raw.memory_space,
        raw.tail_padding_alignment_in_elements or 1,
        tuple([(split.dimension, tuple(split.split_indices)) for split in splits]),
    )
