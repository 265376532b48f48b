"""Trace indexing, ranges and convolutions of arrays with symbolic dimensions as jax traces them for numbers.

jax traces `x[:, 0]` as a slice if every dimension is a number, and as a gather if one is symbolic. It traces
`arange(s)` with a multiplication by 1 and an addition of 0. These programs have other costs. The gradient of a strided
convolution has a padding that depends on the size of the input, which jax refuses if it is symbolic. While costax
traces with symbols, this module patches jax, so that the trace is the one that numbers would give. The patches affect
only the thread that traces, and only arrays with symbolic dimensions.
"""

from __future__ import annotations

import dis
import os
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import EllipsisType, SimpleNamespace
from typing import Any, Final, cast

import jax
import numpy as np
from jax import lax
from jax._src import core as _core
from jax._src.export import shape_poly as _shape_poly
from jax._src.export import shape_poly_decision as _shape_poly_decision
from jax._src.lax import convolution as _convolution
from jax._src.lax import slicing as _slicing
from jax._src.lax import utils as _lax_utils
from jax._src.numpy import einsum as _einsum_module
from jax._src.numpy import indexing as _indexing
from jax._src.numpy import lax_numpy as _lax_numpy

from costax._jax.symbolic_dims import count, is_symbolic, retire
from costax._jax.symbolic_einsum import contract_path
from costax._jax.versions import VERSION
from costax.core.polynomial import Polynomial, at_least

_module: Any = _indexing
_numpy: Any = _lax_numpy
_einsum: Any = _einsum_module
_internals: Any = _core
_shapes: Any = _shape_poly
_Decision: Any = vars(_shape_poly_decision)["_DecisionByElimination"]
_lax: Any = lax
_slices: Any = _slicing
_convolutions: Any = _convolution
_utils: Any = _lax_utils
_Dimension: Any = vars(_shape_poly)["_DimExpr"]
_COMPARISONS: Final = {dis.opmap[name] for name in ("COMPARE_OP", "CONTAINS_OP")}
_LIBRARY_FOLDERS: Final = tuple(
    os.path.dirname(file) + os.sep for file in (str(jax.__file__), os.path.dirname(__file__))
)
_LOCK: Final = threading.Lock()
_ORIGINALS: Final[list[tuple[Any, str, Any]]] = []
_users = 0
# Before jax 0.9, a new axis or a step becomes a gather in every trace, and a negative index a dynamic slice.
_STATIC_SLICES: Final = VERSION >= (0, 9)


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What a trace with symbols assumed about sizes, as polynomials by their text.

    undecided: the program compared them with 0. jax says that they are not 0, but for some sizes they are. orders:
    where they are at least 0, einsums contract their operands in the order of the trace.
    """

    undecided: dict[str, Any] = field(default_factory=dict[str, Any])
    orders: dict[str, Any] = field(default_factory=dict[str, Any])


class _ThreadState(threading.local):
    # Whether this thread traces with symbols.
    active: bool = False
    decisions: Decisions
    # The time at which jax gives up on a comparison: its decision procedure may take exponential time.
    deadline: float = 0.0

    def __init__(self) -> None:
        self.decisions = Decisions()


_STATE: Final = _ThreadState()


@contextmanager
def traced_as_plain(patience: float) -> Generator[Decisions]:
    """Return a context in which static indexing and ranges are traced with symbols as they are with numbers.

    patience: seconds after which jax gives up on comparisons of dimensions. Yields the decisions, to which the trace
    adds what it assumes.
    """
    global _users
    outer = _STATE.active, _STATE.deadline, _STATE.decisions
    with _LOCK:
        _users += 1
        if _users == 1:
            _Dimension.__bool__ = _dimension_bool
            for module, name, patched in (
                (_module, "rewriting_take", _patched_take),
                (_numpy, "_arange_dynamic", _patched_arange),
                (_convolutions, "operator", _patched_operator),
                (_Decision, "_bounds_for_sorted_terms", _patched_bounds),
                (_Dimension, "__eq__", _patched_eq),
                (_internals, "definitely_equal_shape", _patched_equal_shapes),
                (_einsum, "_poly_einsum_handlers", _patched_handlers),
            ):
                original = getattr(module, name)
                _ORIGINALS.append((module, name, original))
                setattr(module, name, patched(original))
    _STATE.active, _STATE.deadline, _STATE.decisions = True, time.monotonic() + patience, Decisions()
    try:
        yield _STATE.decisions
    finally:
        _STATE.active, _STATE.deadline, _STATE.decisions = outer
        with _LOCK:
            _users -= 1
            if not _users:
                for module, name, original in _ORIGINALS:
                    setattr(module, name, original)
                _ORIGINALS.clear()
                del _Dimension.__bool__


def _patched_take(original: Any) -> Any:
    def rewriting_take(arr: Any, idx: Any, *args: Any, **kwargs: Any) -> Any:
        if _STATE.active and any(map(is_symbolic, arr.shape)) and _plain_options(args, kwargs):
            taken = _sliced(arr, cast("tuple[Any, ...]", idx) if isinstance(idx, tuple) else (idx,))
            if taken is not None:
                return taken
        return original(arr, idx, *args, **kwargs)

    return rewriting_take


def _patched_arange(original: Any) -> Any:
    def arange(start: Any, stop: Any, step: Any, dtype: Any) -> Any:
        if not _STATE.active or step != 1:
            return original(start, stop, step, dtype)
        numbers = _lax.iota(dtype, _internals.max_dim(0, stop - start))
        plain = not is_symbolic(start) and start == 0
        return numbers if plain else _lax.add(_lax.convert_element_type(start, dtype), numbers)

    return arange


def _patched_operator(original: Any) -> Any:
    """Return the module `operator` whose `index`, which checks the padding of convolutions, accepts symbols too."""

    def index(value: Any) -> Any:
        return value if _STATE.active and is_symbolic(value) else original.index(value)

    return SimpleNamespace(**{**vars(original), "index": index})


def _patched_bounds(original: Any) -> Any:
    def bounds(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _STATE.active and time.monotonic() > _STATE.deadline:
            raise _shapes.InconclusiveDimensionOperation("jax takes too long to decide about a symbolic dimension.")
        return original(self, *args, **kwargs)

    return bounds


def _dimension_bool(self: Any) -> bool:
    """Say whether a dimension is not 0, as in `if s % 2:`; by default every symbolic dimension is true."""
    if not _STATE.active:
        return True
    if self >= 1 or self <= -1:
        return True
    raise _shapes.InconclusiveDimensionOperation(f"The dimension '{self}' is 0 for some sizes and not 0 for others.")


def _patched_eq(original: Any) -> Any:
    def equal(self: Any, other: Any) -> bool:
        result = original(self, other)
        if result is False and _STATE.active and _is_user_comparison(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
            _record_undecided(self, other)
        return result

    return equal


def _patched_handlers(original: Any) -> Any:
    """Return jax's functions for the order of an einsum by the class of a dimension."""
    unpatched = original[_Dimension]

    def record(difference: Polynomial, scope: Any) -> None:
        _STATE.decisions.orders[str(difference)] = difference
        retire(scope, _STATE.decisions)

    patched = contract_path(unpatched, record)

    def path(*operands: Any, **kwargs: Any) -> Any:
        return (patched if _STATE.active else unpatched)(*operands, **kwargs)

    return {**original, _Dimension: path}


def _patched_equal_shapes(original: Any) -> Any:
    """Return jax's comparison of shapes. jax omits a reshape to the same shape, which costs no bytes."""

    def equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
        result = original(one, other)
        if not result and _STATE.active and len(one) == len(other):
            _record_pairs(list(zip(one, other, strict=True)))
        return result

    return equal


def _record_pairs(pairs: Sequence[tuple[Any, Any]]) -> None:
    """Record that some extents are taken for unequal, unless one pair of them is never equal.

    A pair of an extent and 1 needs no record: where a size is 1, `evaluate` traces the program again.
    """
    differences = [_difference(*pair) for pair in pairs]
    if any(difference != 0 and not _may_be_zero(difference) for difference in differences):
        return
    for (one, other), difference in zip(pairs, differences, strict=True):
        if difference != 0 and 1 not in (one, other):
            _record_undecided(one, other) if is_symbolic(one) else _record_undecided(other, one)


def _is_user_comparison(frame: Any) -> bool:
    """Say whether the user's code compares: not code of jax or costax, and not the look-up in a dictionary."""
    code = frame.f_code
    return not _is_library_file(code.co_filename) and code.co_code[frame.f_lasti] in _COMPARISONS


@cache
def _is_library_file(filename: str) -> bool:
    return filename.startswith(_LIBRARY_FOLDERS)


def _record_undecided(one: Any, other: Any) -> None:
    difference = _difference(one, other)
    if _may_be_zero(difference):
        _STATE.decisions.undecided[str(difference)] = difference
        retire(one.scope, _STATE.decisions)


def _difference(one: Any, other: Any) -> Any:
    """Return the difference of two extents, at least one of them symbolic; 1 if they cannot be compared."""
    scopes = {id(extent.scope) for extent in (one, other) if is_symbolic(extent)}
    comparable = all(is_symbolic(extent) or isinstance(extent, int) for extent in (one, other))
    return count(one) - count(other) if comparable and len(scopes) <= 1 else 1


def _may_be_zero(difference: Any) -> bool:
    return isinstance(difference, Polynomial) and not (at_least(difference, 1) or at_least(-difference, 1))


def _plain_options(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    others = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    strategy = others.pop("strategy", None)
    normalize = others.pop("normalize_indices", True)
    return not args and not others and normalize and getattr(strategy, "name", "AUTO") == "AUTO"


def _sliced(arr: Any, idx: tuple[Any, ...]) -> Any:
    """Return `arr[idx]` as a slice or dynamic slice; None if jax would not index an array without symbols like this."""
    expanded = _expanded(idx, arr.ndim)
    if expanded is None or (not _STATIC_SLICES and any(i is None for i in expanded)):
        return None
    starts: list[Any] = []
    limits: list[Any] = []
    strides: list[int] = []
    reversed_axes: list[int] = []
    squeezed: list[int] = []
    new_axes: list[int] = []
    dynamic = False
    for index in expanded:
        axis = len(starts)
        if index is None:
            new_axes.append(axis - len(squeezed) + len(new_axes))
            continue
        size = arr.shape[axis]
        if isinstance(index, slice):
            bounds = _bounds(cast("slice[Any, Any, Any]", index), size)
            if bounds is None:
                return None
            start, limit, stride, backwards = bounds
            if backwards:
                reversed_axes.append(axis)
        else:
            scalar = not _is_integer(index)
            dynamic = dynamic or scalar
            negative = not scalar and index < 0
            if negative and not _STATIC_SLICES:
                return None
            start = index if scalar else int(index) + (size if negative else 0)
            limit, stride = None if scalar else start + 1, 1
            squeezed.append(axis)
        starts.append(start)
        limits.append(limit)
        strides.append(stride)
    if dynamic and any(stride != 1 for stride in strides):
        return None
    whole = [start == 0 and limit == size for start, limit, size in zip(starts, limits, arr.shape, strict=True)]
    if not dynamic and not all(whole) and all(stride == 1 for stride in strides):
        # jax omits a slice that is the whole array, as x[:8] is for eight rows.
        _record_pairs([*zip(starts, [0] * len(starts), strict=True), *zip(limits, arr.shape, strict=True)])
    if dynamic:
        arr = _dynamic(arr, starts, limits)
    elif not all(whole) or any(stride != 1 for stride in strides):
        arr = _lax.slice(arr, starts, limits, None if all(s == 1 for s in strides) else strides)
    if reversed_axes:
        arr = _lax.rev(arr, reversed_axes)
    if squeezed:
        arr = _lax.squeeze(arr, squeezed)
    return _lax.expand_dims(arr, new_axes) if new_axes else arr


def _expanded(idx: tuple[Any, ...], ndim: int) -> list[Any] | None:
    """Return an index for each axis, with None for each new axis; None if the result would not be a slice."""
    indices: list[Any] = []
    ellipses = [position for position, index in enumerate(idx) if isinstance(index, EllipsisType)]
    consumed = sum(index is not None and not isinstance(index, EllipsisType) for index in idx)
    if len(ellipses) > 1 or consumed > ndim:
        return None
    rest = [slice(None)] * (ndim - consumed)
    for position, index in enumerate(idx):
        if isinstance(index, bool | np.bool_):
            return None
        if position in ellipses:
            indices.extend(rest)
        elif index is None or isinstance(index, slice | int | np.integer) or _is_scalar(index):
            indices.append(cast(Any, index))
        else:
            return None
    return indices if ellipses else [*indices, *rest]


def _is_scalar(index: Any) -> bool:
    if not isinstance(index, jax.Array | np.ndarray):
        return False
    array = cast(Any, index)
    return array.shape == () and bool(np.issubdtype(array.dtype, np.signedinteger))


def _bounds(index: slice, size: Any) -> tuple[Any, Any, int, bool] | None:
    """Return (start, limit, stride, backwards) of a slice, like `slice.indices` for numbers; None if not a slice."""
    parts = (index.start, index.stop, index.step)
    if not all(part is None or is_symbolic(part) or _is_integer(part) for part in parts) or is_symbolic(index.step):
        return None
    step = 1 if index.step is None else int(index.step)
    if step < 0:
        return (0, size, 1, True) if step == -1 and index.start is None and index.stop is None else None
    if step == 0 or (step > 1 and not _STATIC_SLICES):
        return None
    start = 0 if index.start is None else _clipped(index.start, size)
    stop = size if index.stop is None else _clipped(index.stop, size)
    return start, _internals.max_dim(start, stop), step, False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _clipped(bound: Any, size: Any) -> Any:
    if not is_symbolic(bound) and bound < 0:
        return _internals.max_dim(size + int(bound), 0)
    return _internals.min_dim(bound if is_symbolic(bound) else int(bound), size)


def _dynamic(arr: Any, starts: Sequence[Any], limits: Sequence[Any]) -> Any:
    sizes = [1 if limit is None else limit - start for start, limit in zip(starts, limits, strict=True)]
    kind = _utils.int_dtype_for_shape(arr.shape, signed=True) if _STATIC_SLICES or len(starts) > 1 else None
    indices = [start if kind is None else _lax.convert_element_type(start, kind) for start in starts]
    negative = [not isinstance(start, int) for start in starts] if not _STATIC_SLICES else True
    return _slices.dynamic_slice(arr, start_indices=indices, slice_sizes=sizes, allow_negative_indices=negative)
