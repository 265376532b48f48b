"""Array values: the result of an equation on integers in every run of a kernel, computed with numpy.

These are the primitives with which programs compute conditions, the bounds of loops, and the indices of blocks. A
primitive that is not here has no known result. Arithmetic wraps around as it does on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy

from costax import _jax
from costax.rules.runs import Array, fits_memory

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy

Params = Mapping[str, Any]


def is_evaluable(shape: Sequence[Any], dtype: Any) -> bool:
    """Say whether values of a shape and dtype are computed: integers and booleans, and floating-point scalars."""
    numeric = isinstance(dtype, np.dtype) and all(isinstance(extent, int) for extent in shape)
    return numeric and (dtype.kind in "biu" or (dtype.kind == "f" and shape == ())) and fits_memory(shape)


def constant(value: Any, aval: Any) -> Array:
    """Return a literal or a constant of a jaxpr as an array of its dtype; None if it is unknown or not evaluable."""
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if shape is None or not is_evaluable(tuple(shape), dtype) or not _jax.is_concrete(value, prod(shape)):
        return None
    if not isinstance(value, bool | int | float) and not hasattr(value, "__array__"):
        return None
    return np.asarray(value).astype(dtype, copy=False)


def evaluates(name: str) -> bool:
    """Say whether the results of a primitive are known where its operands are."""
    return name in _ELEMENTWISE or name in _STRUCTURAL


def evaluate(
    name: str, params: Params, operands: Sequence[Array], shapes: Sequence[tuple[int, ...]], out: Any
) -> Array:
    """Return the result of an equation in every run, or None. shapes: of the operands, without runs. out: its aval."""
    if not is_evaluable(tuple(out.shape), out.dtype):
        return None
    rank = len(out.shape)
    with np.errstate(all="ignore"):
        if name in _ELEMENTWISE:
            # jax lets a scalar meet an array.
            aligned = [_with_rank(x, len(shape), rank) for x, shape in zip(operands, shapes, strict=True)]
            if not fits_memory(*(x.shape for x in aligned)):
                return None
            result = _ELEMENTWISE[name](params, *aligned)
        else:
            whole = [_expanded(x, shape) for x, shape in zip(operands, shapes, strict=True)]
            if any(x is None for x in whole):
                return None
            result = _STRUCTURAL[name](params, whole, shapes, tuple(out.shape))
    return None if result is None else np.asarray(result).astype(out.dtype, copy=False)


def _with_rank(value: Array, rank: int, new_rank: int) -> Array:
    """Return a value whose own dimensions are `new_rank`: a scalar gets dimensions of 1 behind those of the runs."""
    return value if rank == new_rank else value.reshape((*value.shape, *(1,) * (new_rank - rank)))


def _expanded(value: Array, shape: tuple[int, ...]) -> Array:
    """Return a value with its whole own shape, behind the dimensions of its runs; None if it would be too large."""
    runs = value.shape[: value.ndim - len(shape)]
    return np.broadcast_to(value, (*runs, *shape)) if fits_memory((*runs, *shape)) else None


def _divided(_: Params, a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, 1, b)
    quotient = a // safe
    # towards zero, as `lax.div` rounds
    return np.where(b == 0, -1, quotient + ((quotient < 0) & (quotient * safe != a)))


def _remainder(_: Params, a: Array, b: Array) -> Array:
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, 1, b)))


def _selected(_: Params, which: Array, *cases: Array) -> Array:
    return np.choose(np.clip(which.astype(np.int64), 0, len(cases) - 1), cases) if len(cases) < 32 else None


def _shifted_logically(_: Params, a: Array, b: Array) -> Array:
    unsigned = np.dtype(f"u{a.dtype.itemsize}") if a.dtype.kind == "i" else a.dtype
    return (a.astype(unsigned) >> b.astype(unsigned)).astype(a.dtype)


def _converted(params: Params, value: Array) -> Array:
    dtype = np.dtype(params["new_dtype"])
    return value != 0 if dtype.kind == "b" else value.astype(dtype)


def _not(_: Params, value: Array) -> Array:
    return ~value


_FUNCTIONS: Final[Mapping[str, Callable[..., Array]]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
    "floor": np.floor,
    "ceil": np.ceil,
    "copy": np.positive,
    "copy_p": np.positive,
}


def _without_params(function: Callable[..., Array]) -> Callable[..., Array]:
    def applied(_: Params, *operands: Array) -> Array:
        return function(*operands)

    return applied


def _clamped(_: Params, low: Array, value: Array, high: Array) -> Array:
    return np.minimum(np.maximum(low, value), high)


def _power(params: Params, value: Array) -> Array:
    return value ** params["y"]


_ELEMENTWISE: Final[Mapping[str, Callable[..., Array]]] = {
    **{name: _without_params(function) for name, function in _FUNCTIONS.items()},
    "not": _not,
    "div": _divided,
    "rem": _remainder,
    "select_n": _selected,
    "shift_right_logical": _shifted_logically,
    "clamp": _clamped,
    "integer_pow": _power,
    "convert_element_type": _converted,
}


# Primitives that move or reduce elements. Each function gets the parameters, the operands with the dimensions of their
# runs in front, the operands' own shapes, and that of the result.


def _runs_of(value: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    return value.shape[: value.ndim - len(shape)]


def _iota(params: Params, _: Any, __: Any, shape: tuple[int, ...]) -> Array:
    # Only the counted dimension needs elements.
    return np.arange(shape[params["dimension"]]).reshape(
        [extent if number == params["dimension"] else 1 for number, extent in enumerate(shape)]
    )


def _broadcast(params: Params, operands: Any, shapes: Any, shape: tuple[int, ...]) -> Array:
    (value, *_), (own, *_) = operands, shapes
    kept = [1] * len(shape)
    for extent, dimension in zip(own, params["broadcast_dimensions"], strict=True):
        kept[dimension] = extent
    return value.reshape((*_runs_of(value, own), *kept))


def _reshaped(_: Params, operands: Any, shapes: Any, shape: tuple[int, ...]) -> Array:
    return operands[0].reshape((*_runs_of(operands[0], shapes[0]), *shape))


def _transposed(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
    runs = len(_runs_of(operands[0], shapes[0]))
    return operands[0].transpose(*range(runs), *(runs + axis for axis in params["permutation"]))


def _sliced(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
    strides = params["strides"] or (1,) * len(shapes[0])
    parts = map(slice, params["start_indices"], params["limit_indices"], strides)
    return operands[0][(..., *parts)]


def _dynamically_sliced(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
    value, *starts = operands
    own, sizes = shapes[0], params["slice_sizes"]
    if _runs_of(value, own) and max(_runs_of(value, own)) > 1:
        return None
    value = value.reshape(own)
    indices: list[Array] = []
    for dimension, (start, size, extent) in enumerate(zip(starts, sizes, own, strict=True)):
        behind = (1,) * (len(own) - dimension - 1)
        first = np.clip(start, 0, extent - size).reshape((*start.shape, *(1,) * len(own)))
        indices.append(first + np.arange(size).reshape(-1, *behind))
    return value[tuple(indices)] if fits_memory(*(index.shape for index in indices)) else None


def _concatenated(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
    runs = [_runs_of(x, own) for x, own in zip(operands, shapes, strict=True)]
    common = np.broadcast_shapes(*runs)
    parts = [np.broadcast_to(x, (*common, *own)) for x, own in zip(operands, shapes, strict=True)]
    return np.concatenate(parts, axis=params["dimension"] - len(shapes[0]))


def _reversed(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
    return np.flip(operands[0], [axis - len(shapes[0]) for axis in params["dimensions"]])


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduced(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
        return function(operands[0], axis=tuple(axis - len(shapes[0]) for axis in params["axes"]))

    return reduced


def _cumulated(function: Callable[..., Array]) -> Callable[..., Array]:
    def cumulated(params: Params, operands: Any, shapes: Any, _: Any) -> Array:
        axis = params["axis"] - len(shapes[0])
        if params["reverse"]:
            return np.flip(function(np.flip(operands[0], axis), axis=axis), axis)
        return function(operands[0], axis=axis)

    return cumulated


_STRUCTURAL: Final[Mapping[str, Callable[..., Array]]] = {
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshaped,
    "squeeze": _reshaped,
    "expand_dims": _reshaped,
    "transpose": _transposed,
    "slice": _sliced,
    "dynamic_slice": _dynamically_sliced,
    "concatenate": _concatenated,
    "rev": _reversed,
    "reduce_and": _reduced(np.all),
    "reduce_or": _reduced(np.any),
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_sum": _reduced(np.sum),
    "cumsum": _cumulated(np.cumsum),
    "cummax": _cumulated(np.maximum.accumulate),
    "cummin": _cumulated(np.minimum.accumulate),
}
