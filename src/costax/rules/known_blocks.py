"""Known blocks: references of a kernel to constant arrays, and what a load from them yields in every run.

Masks of blocks and tables of indices are arrays that the program knows. A kernel gets them whole (scalar prefetch) or
block by block, where the index map says which block a run gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from costax import _jax
from costax.rules.runs import Array, fits_memory

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy


@dataclass(frozen=True, eq=False, slots=True)
class KnownBlock:
    """A reference to a block of a constant array.

    array: the array. starts: for each of its dimensions, the first element of the block in every run. sizes: the
    extents of the block, 0 for a dimension that the reference does not have.
    """

    array: Array
    starts: Sequence[Array]
    sizes: tuple[int, ...]

    @classmethod
    def whole(cls, array: Array) -> KnownBlock:
        """Return a reference to a whole array."""
        return cls(array, [np.zeros((), np.int64)] * array.ndim, array.shape)

    def load(self, part: Sequence[_jax.Index], value_of: Callable[[Any], Array]) -> Array:
        """Return the elements that a load reads in every run, or None where its indices are not known.

        value_of: returns the value of an atom in every run.
        """
        loaded = iter(part)
        rank = sum(index.size is not None for index in part)
        indices: list[Array] = []
        dimension = 0
        for start, size, extent in zip(self.starts, self.sizes, self.array.shape, strict=True):
            first = start.astype(np.int64).reshape((*start.shape, *(1,) * rank))
            index = next(loaded) if size else None
            if index is not None:
                inner = value_of(index.start)
                if inner is None:
                    return None
                first = first + np.asarray(inner).astype(np.int64).reshape((*np.shape(inner), *(1,) * rank))
                if index.size is not None:
                    dimension += 1
                    elements = np.arange(0, index.size * index.stride, index.stride)
                    first = first + elements.reshape(-1, *(1,) * (rank - dimension))
            # A run that does not reach the load may have any index.
            indices.append(np.clip(first, 0, extent - 1))
        if not indices:
            return self.array
        return self.array[tuple(indices)] if fits_memory(*(index.shape for index in indices)) else None


def key_of(value: Any) -> Any:
    """Return a value that is equal for equal arrays and known blocks, and can be hashed."""
    if isinstance(value, KnownBlock):
        return value.sizes, *map(key_of, (value.array, *value.starts))
    return value if value is None else (value.shape, value.dtype.str, value.tobytes())
