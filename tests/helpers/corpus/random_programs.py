"""Random well-typed programs for hypothesis.

A program is data: its arguments, and steps that each name an operation, the values that it takes and two small
numbers that shape it. A value is named by how many steps back it was made. Every list of steps is a program: an
operand that does not fit is converted and given the shape that is needed, so hypothesis may drop, swap and shrink steps
as it likes. `repr` is a reproduction that can be pasted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from hypothesis import strategies as st
from jax import Array, lax

DTYPES = ("f32", "bf16", "f16", "i32", "u8", "bool")
_SHORT = {
    "f32": jnp.float32,
    "bf16": jnp.bfloat16,
    "f16": jnp.float16,
    "i32": jnp.int32,
    "u8": jnp.uint8,
    "bool": jnp.bool_,
}
_LARGEST = 256  # elements; what grows beyond is cut


class Step(NamedTuple):
    """One operation on the values `a` and `b` steps back; a wrapper runs `body` with value `a` as its argument."""

    op: str
    a: int = 1
    b: int = 1
    n: int = 0
    m: int = 0
    body: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        given = zip(self._fields[1:], self[1:], (1, 1, 0, 0, ()), strict=True)
        return f"Step({', '.join([repr(self.op), *(f'{name}={v!r}' for name, v, default in given if v != default)])})"


@dataclass(frozen=True)
class RandomProgram:
    """The arguments as specs, and the steps; the last value is the result."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]

    def __call__(self, *args: Array) -> Array:
        """Run the steps."""
        return _run(list(args), self.steps)

    @property
    def __name__(self) -> str:
        return "random_program"

    @property
    def args(self) -> tuple[Any, ...]:
        """The abstract arguments."""
        from corpus import abstract

        return abstract(self.inputs)


def _run(values: list[Array], steps: tuple[Step, ...]) -> Array:
    for step in steps:
        a, b = (values[-1 - (back - 1) % len(values)] for back in (step.a, step.b))
        made = _wrapped(step, a) if step.op in WRAPPERS else OPERATIONS[step.op](a, b, step.n, step.m)
        values.append(_cut(made))
    return values[-1]


def _cut(x: Array) -> Array:
    """Return x, or its beginning as a vector where it has grown beyond the size of a small example."""
    return x if x.size <= _LARGEST and x.ndim <= 5 else lax.slice(x.reshape(-1), (0,), (min(x.size, _LARGEST),))


# Making operands fit.


def _floating(x: Array) -> Array:
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _number(x: Array) -> Array:
    return x if x.dtype != jnp.bool_ else x.astype(jnp.int32)


def _fit(x: Array, like: Array) -> Array:
    """Return x with the dtype and shape of another value: reshaped, or its first element spread."""
    x = x.astype(like.dtype)
    if x.size == like.size:
        return x.reshape(like.shape)
    return jnp.broadcast_to(_first(x), like.shape)


def _first(x: Array) -> Array:
    return lax.slice(x.reshape(-1), (0,), (1,)).reshape(()) if x.size else jnp.zeros((), x.dtype)


def _at_least_1d(x: Array) -> Array:
    return x.reshape(1) if x.ndim == 0 else x


def _rows(x: Array) -> Array:
    """Return x as a matrix."""
    return x.reshape(x.shape[0], -1) if x.ndim else x.reshape(1, 1)


def _axis(x: Array, n: int) -> int:
    return n % max(x.ndim, 1)


def _indices(x: Array, size: int) -> Array:
    return lax.clamp(0, _number(x).astype(jnp.int32), max(size - 1, 0))


# Operations: (a, b, n, m) -> value.


def _unary(function: Callable[[Array], Array], prepare: Callable[[Array], Array]) -> Any:
    return lambda a, b, n, m: function(prepare(a))


def _binary(function: Callable[[Array, Array], Array], prepare: Callable[[Array], Array]) -> Any:
    def apply(a: Array, b: Array, n: int, m: int) -> Array:
        a = prepare(a)
        return function(a, _fit(b, a))

    return apply


def _reduction(function: Callable[..., Array], prepare: Callable[[Array], Array]) -> Any:
    def apply(a: Array, b: Array, n: int, m: int) -> Array:
        a = prepare(_at_least_1d(a))
        return function(a, _axis(a, n)) if m % 2 else function(a)

    return apply


def _dot(a: Array, b: Array, n: int, m: int) -> Array:
    lhs = _rows(_number(a))
    rhs = _fit(b, jnp.zeros((lhs.shape[1], n % 4 + 1), lhs.dtype))
    return lhs @ rhs


def _batched_dot(a: Array, b: Array, n: int, m: int) -> Array:
    lhs = _rows(_floating(a))
    return jnp.einsum("ij,ijk->ik", lhs, _fit(b, jnp.zeros((*lhs.shape, n % 3 + 1), lhs.dtype)))


def _conv(a: Array, b: Array, n: int, m: int) -> Array:
    image = _rows(_floating(a))
    image = image.reshape(1, 1, *image.shape)
    kernel = _fit(b, jnp.zeros((m % 3 + 1, 1, n % 3 + 1, m % 2 + 1), image.dtype))
    return lax.conv_general_dilated(image, kernel, (n % 2 + 1, m % 2 + 1), "SAME", rhs_dilation=(m % 2 + 1, 1))


def _slice(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(a)
    axis = _axis(a, n)
    return lax.slice_in_dim(a, 0, max(a.shape[axis] - m % 3, 1), n % 2 + 1, axis)


def _gather(a: Array, b: Array, n: int, m: int) -> Array:
    a = jnp.moveaxis(_at_least_1d(a), _axis(a, n), 0)
    return a.at[_indices(b, a.shape[0]).reshape(-1)[:4]].get(mode="promise_in_bounds")


def _scatter(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(_number(a))
    at = a.at[_indices(b, a.shape[0]).reshape(-1)[:3]]
    return (at.set, at.add)[n % 2](_first(b).astype(a.dtype), mode="promise_in_bounds")


def _concatenate(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(a)
    return jnp.concatenate([a, _fit(b, a)], _axis(a, n))


def _broadcast(a: Array, b: Array, n: int, m: int) -> Array:
    return jnp.broadcast_to(a, (n % 3 + 1, *a.shape))


def _convert(a: Array, b: Array, n: int, m: int) -> Array:
    return a.astype(_SHORT[DTYPES[n % len(DTYPES)]])


def _cumulative(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(_number(a))
    return (lax.cumsum, lax.cummax, lax.cumprod)[m % 3](a, _axis(a, n), reverse=bool(m % 2))


def _sort(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(a)
    return lax.sort((a, _fit(b, a)), dimension=_axis(a, n), num_keys=1)[m % 2]


def _where(a: Array, b: Array, n: int, m: int) -> Array:
    return jnp.where(_fit(b, a.astype(jnp.bool_)), a, _fit(b, a))


def _pad(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(a)
    return lax.pad(a, _first(b).astype(a.dtype), [(n % 2, m % 2, n % 2)] * a.ndim)


def _pool(a: Array, b: Array, n: int, m: int) -> Array:
    a = _at_least_1d(_floating(a))
    window = (n % 3 + 1,) * a.ndim
    return lax.reduce_window(a, a.dtype.type(0), lax.add, window, (m % 2 + 1,) * a.ndim, "SAME")


_UNARY = {"neg": lax.neg, "abs": jnp.abs, "square": lax.square}
_FLOATING = {
    "exp": lax.exp,
    "sin": lax.sin,
    "tanh": lax.tanh,
    "sqrt": lax.sqrt,
    "log1p": lax.log1p,
    "floor": lax.floor,
    "sign": lax.sign,
}
_BINARY = {"add": lax.add, "mul": lax.mul, "sub": lax.sub, "max": lax.max, "min": lax.min, "div": lax.div}
_COMPARISONS = {"lt": lax.lt, "eq": lax.eq, "ge": lax.ge}
_REDUCTIONS = {"sum": jnp.sum, "reduce_max": jnp.max, "prod": jnp.prod, "argmax": jnp.argmax}

OPERATIONS: dict[str, Callable[[Array, Array, int, int], Array]] = {
    **{name: _unary(function, _number) for name, function in _UNARY.items()},
    **{name: _unary(function, _floating) for name, function in _FLOATING.items()},
    **{name: _binary(function, _number) for name, function in (_BINARY | _COMPARISONS).items()},
    **{name: _reduction(function, _number) for name, function in _REDUCTIONS.items()},
    "not": lambda a, b, n, m: ~a.astype(jnp.bool_),
    "reshape": lambda a, b, n, m: a.reshape(-1),
    "transpose": lambda a, b, n, m: a.T,
    "reverse": lambda a, b, n, m: lax.rev(a, tuple(range(a.ndim))),
    "dot": _dot,
    "batched_dot": _batched_dot,
    "conv": _conv,
    "pool": _pool,
    "slice": _slice,
    "gather": _gather,
    "scatter": _scatter,
    "concatenate": _concatenate,
    "broadcast": _broadcast,
    "pad": _pad,
    "convert": _convert,
    "cumulative": _cumulative,
    "sort": _sort,
    "where": _where,
}

# Wrappers: a transformation of the body's steps.

WRAPPERS = ("jit", "vmap", "scan", "while", "cond", "checkpoint", "grad", "named_scope")


def _wrapped(step: Step, a: Array) -> Array:
    def body(x: Array) -> Array:
        return _run([x], step.body)

    def scalar(x: Array) -> Array:
        return body(x).astype(jnp.float32).sum()

    if step.op == "jit":
        return jax.jit(body)(a)
    if step.op == "vmap":
        return jax.vmap(body)(_at_least_1d(a))
    if step.op == "checkpoint":
        return jax.checkpoint(body)(a)
    if step.op == "grad":
        return jax.grad(scalar)(_floating(a))
    if step.op == "named_scope":
        with jax.named_scope(f"scope_{step.n}"):
            return body(a)
    if step.op == "cond":
        out = jax.eval_shape(body, a)
        return lax.cond(_first(a).astype(jnp.bool_), body, lambda x: jnp.zeros(out.shape, out.dtype), a)
    if step.op == "while":
        return lax.fori_loop(0, step.n + 1, lambda i, x: _fit(body(x), x), a)
    return lax.scan(lambda total, x: (total + scalar(x), body(x)), jnp.float32(0), _at_least_1d(a))[1]


# Strategies.

_SMALL = st.integers(0, 5)
_BACK = st.integers(1, 6)
_PLAIN = st.builds(Step, st.sampled_from(sorted(OPERATIONS)), _BACK, _BACK, _SMALL, _SMALL, st.just(()))


def _steps(longest: int, depth: int) -> st.SearchStrategy[tuple[Step, ...]]:
    step: st.SearchStrategy[Step] = _PLAIN
    if depth:
        wrapper = st.sampled_from(WRAPPERS)
        wrapped = st.builds(Step, wrapper, _BACK, st.just(1), _SMALL, st.just(0), _steps(5, depth - 1))
        # Plain steps come three times out of four.
        step = st.one_of(_PLAIN, _PLAIN, _PLAIN, wrapped)
    return st.lists(step, min_size=1, max_size=longest).map(tuple)


def _spec(dtype: str, shape: list[int]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


_INPUT = st.builds(
    _spec,
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 4), max_size=3).filter(lambda shape: prod(shape) <= 64),
)


def programs() -> st.SearchStrategy[RandomProgram]:
    """Return programs of 1 to 30 steps on one to three small arguments, with up to two levels of wrappers."""
    made = st.builds(RandomProgram, st.lists(_INPUT, min_size=1, max_size=3).map(tuple), _steps(30, 2))
    return made.filter(_traces)


def _traces(program: RandomProgram) -> bool:
    """Say whether jax accepts a program: the gradient of some that depend on nothing is None, and then an error."""
    try:
        jax.eval_shape(program, *program.args)
    except TypeError:
        return False
    return True
