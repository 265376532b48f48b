"""Runs: every run of a body inside a kernel, so that a value that depends on the grid is known for each of them.

A kernel runs once for each point of its grid. In the run at (i, j) of a grid of (4, 8), `program_id(1)` is j: over all
runs it is an array of shape (1, 8), because it does not depend on i. Each loop around a body adds a dimension in front:
a loop of at most 3 iterations in that kernel has runs of shape (3, 4, 8). A mask says which of the points are runs: an
iteration that a loop does not take, or a branch that is not taken, is none.

The value of an array in every run has the dimensions of the runs, and then its own. A dimension of 1 stands for equal
values; leading dimensions of 1 may be left out. So `program_id(0) == program_id(1)` is the only array that needs 4 x 8
elements, however many other axes the grid has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy

from costax.core.polynomial import rational

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy

LARGEST: Final = 1 << 26
"""Arrays with more elements are not computed: what depends on them is not decided."""

Array = Any
"""A numpy array."""


def is_array(value: Any) -> bool:
    """Say whether a value is a numpy array, or a scalar that numpy made of one."""
    return isinstance(value, np.ndarray | np.generic)


def fits_memory(*shapes: Sequence[int]) -> bool:
    """Say whether arrays of these shapes may be combined: they broadcast to at most `LARGEST` elements."""
    return prod(np.broadcast_shapes(*map(tuple, shapes))) <= LARGEST


class Runs:
    """The runs of a body: points of a grid.

    shape: the extents of the grid. mask: whether a point is a run; it broadcasts to the shape. axes: the dimension of
    each axis that a kernel asks for, a number (`program_id`) or a name (`axis_index`), counted from the end.
    """

    def __init__(self, shape: tuple[int, ...], axes: Mapping[Any, int], mask: Array = None) -> None:
        """Take the extents, the axes and the mask; without a mask every point is a run."""
        self.shape: tuple[int, ...] = shape
        self.axes: Mapping[Any, int] = axes
        self.mask: Array = np.ones((), bool) if mask is None else mask

    @classmethod
    def of_grid(cls, extents: Mapping[Any, int], around: Runs | None = None) -> Runs:
        """Return one run for each point of a grid, in each of the runs around it. extents: by axis."""
        outer = around or cls((), {})
        axes = {axis: number - len(extents) - len(outer.shape) for number, axis in enumerate(extents)}
        return cls((*extents.values(), *outer.shape), {**outer.axes, **axes}, outer.mask)

    @cached_property
    def count(self) -> int:
        """The number of runs.

        >>> Runs.of_grid({0: 4, 1: 8}).count
        32
        """
        extents = (1,) * (len(self.shape) - self.mask.ndim) + self.mask.shape
        return int(self.mask.sum()) * prod(n for n, extent in zip(self.shape, extents, strict=True) if extent == 1)

    @cached_property
    def _key(self) -> Any:
        return self.shape, tuple(self.axes.items()), self.mask.shape, self.mask.tobytes()

    def __eq__(self, other: object) -> bool:
        """Compare the points."""
        return isinstance(other, Runs) and self._key == other._key

    def __hash__(self) -> int:
        """Hash the points."""
        return hash(self._key)

    def share_of(self, part: Runs) -> Any:
        """Return how often a body runs for each of these runs, if `part` are its runs: an integer or a fraction."""
        return rational(Fraction(part.count, self.count)) if self.count else 0

    def index(self, axis: Any) -> Array:
        """Return the index along an axis in every run; None for an axis that the grid does not have.

        >>> Runs.of_grid({0: 4, 1: 3}).index(1).tolist()
        [0, 1, 2]
        """
        if axis not in self.axes:
            return None
        dimension = self.axes[axis]
        return np.arange(self.shape[dimension], dtype=np.int32).reshape(-1, *(1,) * (-dimension - 1))

    def where(self, condition: Array) -> Runs | None:
        """Return the runs in which a condition holds; None if there are too many points to decide it."""
        if not fits_memory(self.mask.shape, condition.shape):
            return None
        return Runs(self.shape, self.axes, self.mask & condition)

    def repeated(self, times: Array) -> Runs | None:
        """Return the runs of the body of a loop that iterates `times` times; None if there are too many points.

        times: an integer, or one for every run.

        >>> Runs.of_grid({0: 4}).repeated(np.array([1, 2, 3, 4])).count
        10
        """
        times = np.asarray(times)
        if times.ndim == 0:
            shape = (max(int(times), 0), *self.shape)
            return Runs(shape, self.axes, self.mask)
        if not fits_memory(self.mask.shape, times.shape):
            return None
        most = int(np.max(np.where(self.mask, times, 0), initial=0))
        iterations = np.arange(most, dtype=np.int64).reshape(-1, *(1,) * len(self.shape))
        if not fits_memory(self.mask.shape, times.shape, iterations.shape):
            return None
        return Runs((most, *self.shape), self.axes, self.mask & (iterations < times))

    @property
    def iteration(self) -> Array:
        """The number of the iteration in every run of the body of a loop."""
        return np.arange(self.shape[0], dtype=np.int64).reshape(-1, *(1,) * (len(self.shape) - 1))
