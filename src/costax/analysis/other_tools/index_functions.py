"""Index functions: the elements of an array that a program fixes, as a function of their indices.

A mask of attention is a comparison of iotas: nobody needs its 8192 x 8192 elements to see that it is causal. An index
function computes the elements at some indices only, so that a few rows of a mask are cheap at any length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

Indices: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """An array as a function of its indices.

    shape: of the array. at: returns the elements at indices, one integer array for each axis, which broadcast against
    each other. partial: the array is a mask of which only a part is known: where it is true, data may still decide.
    """

    shape: tuple[int, ...]
    at: Callable[[Indices], Any]
    partial: bool = False


def constant(value: Any) -> Known:
    """Return a concrete array or number as an index function."""
    array = np.asarray(value)
    return Known(array.shape, lambda index: array[index])


def iota(shape: tuple[int, ...], axis: int) -> Known:
    """Return an array whose elements are their index along an axis."""
    return Known(shape, lambda index: index[axis])


def elementwise(name: str, operands: Sequence[Known | None], shape: tuple[int, ...]) -> Known | None:
    """Return the result of an elementwise primitive, or None if it is not known.

    The conjunction of a known and an unknown mask is partly known.
    """
    known = [x for x in operands if x is not None]
    if len(known) < len(operands):
        return Known(shape, known[0].at, partial=True) if name == "and" and known else None
    function = _FUNCTIONS.get(name)
    partial = any(x.partial for x in known)
    # Of a partly known mask only conjunctions and the mask itself are known: its negation is unknown.
    if function is None or (partial and name not in ("and", "convert_element_type")):
        return None

    def at(index: Indices) -> Any:
        return function(*(x.at(index if x.shape else ()) for x in known))

    return Known(shape, at, partial)


def moved(name: str, params: Mapping[str, Any], x: Known, shape: tuple[int, ...]) -> Known | None:
    """Return the result of a primitive that moves the elements of its operand, or None if it is not known here."""
    change = _MOVES.get(name)
    if change is None:
        return None
    kind = getattr(params.get("new_dtype"), "kind", "")

    def at(index: Indices) -> Any:
        elements = x.at(change(params, index, x.shape, shape))
        wide = bool if kind == "b" else np.int64 if kind in "iu" and kind else np.float64
        return np.asarray(elements).astype(wide) if name == "convert_element_type" else elements

    return Known(shape, at, x.partial)


def _broadcast(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    axes = params["broadcast_dimensions"]
    return tuple(index[axis] if extent == shape[axis] else 0 for axis, extent in zip(axes, source, strict=True))


def _reshape(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    if not source:
        return ()
    flat: Any = 0
    for axis, extent in enumerate(shape):
        flat = flat * extent + index[axis]
    strides = [prod(source[axis + 1 :]) for axis in range(len(source))]
    return tuple(flat // stride % extent for stride, extent in zip(strides, source, strict=True))


def _transpose(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    positions = {axis: position for position, axis in enumerate(params["permutation"])}
    return tuple(index[positions[axis]] for axis in range(len(source)))


def _slice(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    strides = params["strides"] or (1,) * len(source)
    return tuple(i * stride + start for i, start, stride in zip(index, params["start_indices"], strides, strict=True))


def _reverse(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    return tuple(shape[a] - 1 - i if a in params["dimensions"] else i for a, i in enumerate(index))


def _same(params: Mapping[str, Any], index: Indices, source: Sequence[int], shape: Sequence[int]) -> Indices:
    return index


def _truncated(x: Any, y: Any) -> Any:
    """Return x / y as XLA divides: integers towards zero."""
    if np.issubdtype(np.asarray(x).dtype, np.integer):
        y = np.where(y == 0, 1, y)
        return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))
    return np.divide(x, y)


def _select(which: Any, *cases: Any) -> Any:
    return np.choose(np.asarray(which).astype(int), cases)


_MOVES: Final[Mapping[str, Callable[..., Indices]]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "rev": _reverse,
    **dict.fromkeys(("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision"), _same),
    **dict.fromkeys(("optimization_barrier", "sharding_constraint", "name", "device_put"), _same),
}

_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _truncated,
    "rem": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "select_n": _select,
}
