"""The small programs that a calibration times: one mechanism each, at a few sizes.

None of them is a layer or a part of a model. Which table a trial measures is not written here but read from what XLA
compiled it to, by the code that predicts (`costax.performance.cpu`): the same convolution is a call of a library in one
version of XLA and a fusion in another.
"""

# pyright: basic
# The trials are written as users write programs, without annotations.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_api: Any = jax
_jnp: Any = jnp
_lax: Any = lax
_np: Any = np

Made = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Trial:
    """A program to time.

    table: of the steps that it measures, or their first parts. make: returns the function and its arguments. double:
    with 64-bit numbers. traced: its steps are those of the equations, of what XLA expands into many instructions.
    """

    table: str
    make: Callable[[], Made]
    double: bool = False
    traced: bool = False


def all_trials(*, quick: bool) -> Iterator[Trial]:
    """Yield the trials, each after those that its own rates are found with. quick: fewer sizes."""
    yield Trial("dispatch", lambda: (lambda x: x + 1, (normal(4),)))
    yield Trial("argument", lambda: (lambda *xs: [x + 1 for x in xs], tuple(normal(4) for _ in range(_ARGUMENTS))))
    yield Trial("start", lambda: (lambda x: x + 1, (normal(4),)))
    yield Trial("launch.seconds", _loop_of_kernels)
    yield Trial("launch.inlined", _small_loop)
    for power in (14, 22) if quick else (12, 15, 18, 20, 23, 24, 25, 27):
        yield Trial("memory", lambda power=power: _in_place(2**power))
    yield Trial("threads", lambda: (lambda x: x * 0.5 + 1.0, (normal(*_DIVIDED),)))
    yield Trial("waiting", _divided_and_alone)
    for power in (16, 24) if quick else (16, 20, 23, 26):
        yield Trial("allocation", lambda power=power: (_filled(2**power // 4), (normal(1),)))
    yield from _elementwise(quick)
    yield Trial("launch.divided", _loop_of_divided)
    yield Trial("launch.library", lambda: _loop_of_reductions(48, 128))
    yield from _moving(quick)
    yield from _reducing(quick)
    yield Trial("launch.shared", lambda: _loop_of_reductions(*_DIVIDED))
    for words in (2**16,) if quick else (2**6, 2**11, 2**16, 2**20):
        yield Trial("random", lambda n=words: _words(n), traced=True)
    yield from _indexing(quick)
    yield from _sorting(quick)
    yield from _linear_algebra(quick)
    yield from _products(quick)
    yield from _convolutions(quick)


_ARGUMENTS: Final = 32
_RESULTS: Final = 4
_STEPS: Final = 300
# An array that XLA and its libraries divide among threads.
_DIVIDED: Final = (512, 256)
# Elements of an elementwise trial: 64 KB in float32, within the second-level cache.
_ELEMENTS: Final = (64, 256)
# Iterations of an elementwise trial: of a slow operation few, of a fast one so many that its start hardly counts.
_REPEATS: Final = 96
_FEW: Final = 2


def normal(*shape: int, dtype: str = "float32") -> Any:
    """Return random normal numbers, the same in every calibration."""
    numbers = _np.random.default_rng(0).standard_normal(shape)
    # numpy has no bfloat16 of its own; jax's dtypes are numpy's. Nothing is compiled to make an array so.
    return numbers.astype(_jnp.dtype(dtype))


def integers(most: int, *shape: int, dtype: str = "int32") -> Any:
    """Return random integers from 0 to `most`, the same in every calibration."""
    return _np.random.default_rng(0).integers(0, most, shape).astype(dtype)


# Starting.


def _loop_of_kernels() -> Made:
    """Return a loop of a few tiny kernels, whose results are too much for a small call."""

    def step(x: Any, _: Any) -> Any:
        x = x * 0.5 + 1.0
        return x, x

    return lambda x: _lax.scan(step, x, None, length=8 * _STEPS)[1], (normal(256),)


def _small_loop() -> Made:
    def step(x: Any, _: Any) -> Any:
        return x[::-1] * 0.5 + 1.0, None

    return lambda x: _lax.scan(step, x, None, length=8 * _STEPS)[0], (normal(4),)


def _loop_of_divided() -> Made:
    return lambda x: _lax.fori_loop(0, _STEPS, lambda _, x: x * 0.5 + 1.0, x), (normal(*_DIVIDED),)


def _loop_of_reductions(rows: int, columns: int) -> Made:
    def step(x: Any, _: Any) -> Any:
        return x - x.sum(), None

    return lambda x: _lax.scan(step, x, None, length=_STEPS)[0], (normal(rows, columns),)


def _divided_and_alone() -> Made:
    """Return a kernel that threads share, and work of one thread after it that is longer than the others wait."""

    def program(x: Any, y: Any) -> Any:
        x = x * 0.5 + 1.0
        return x, _lax.fori_loop(0, 60 * _STEPS, lambda _, y: y[::-1] * 0.5 + x[0, 0], y)

    return program, (normal(*_DIVIDED), normal(64))


def _in_place(nbytes: int) -> Made:
    """Return a loop that reads and writes an array again and again."""
    steps = max(2, min(4000, 2**25 // nbytes))
    rows = max(nbytes // 4 // 256, 1)

    def loop(x: Any) -> Any:
        return _lax.fori_loop(0, steps, lambda _, x: x * 0.5 + 1.0, x)

    return loop, (_np.ones((rows, min(nbytes // 4, 256)), "float32"),)


def _filled(elements: int) -> Callable[..., Any]:
    """Return a program that allocates and writes some results at each call."""
    return lambda x: [_jnp.broadcast_to(x * n, (elements,)) for n in range(_RESULTS)]


# Elementwise operations.


def _repeated(
    operation: Callable[[Any], Any], dtype: str = "float32", *, positive: bool = False, slow: bool = False
) -> Callable[[], Made]:
    """Return a loop of one operation; each iteration depends on the one before, by an amount that is nothing.

    slow: of an operation that branches by its operand. It runs on so many numbers that the processor cannot learn which
    way each goes, as it would in a loop over few.
    """
    shape, repeats = ((1024, 256), _FEW) if slow else (_ELEMENTS, _REPEATS)

    def make() -> Made:
        x = integers(1000, *shape, dtype=dtype) if "int" in dtype else normal(*shape, dtype=dtype)
        x = (_np.abs(x) + x.dtype.type(0.5)) if positive else x
        small: Any = x.dtype.type(1e-6)

        def loop(x: Any) -> Any:
            def step(_: Any, last: Any) -> Any:
                return operation(x ^ last if "int" in dtype else x + last * small).astype(x.dtype)

            return _lax.fori_loop(0, repeats, step, x)

        return loop, (x,)

    return make


def _sixteen(x: Any) -> Any:
    for step in range(8):
        x = x * 0.5 + float(step)
    return x


def _sixteen_integers(x: Any) -> Any:
    for step in range(5):
        x = (x ^ (x << 7)) + step
    return x


def _words(count: int) -> Made:
    """Return a program that draws random words, in a loop if they are few."""
    draws = max(1, 2**14 // count)

    def draw(key: Any) -> Any:
        def step(key: Any, _: Any) -> Any:
            bits = _api.random.bits(key, (count,))
            return _api.random.wrap_key_data(bits[:2]), None

        return _api.random.bits(_lax.scan(step, key, None, length=draws - 1)[0] if draws > 1 else key, (count,))

    return lambda data: draw(_api.random.wrap_key_data(data)), (integers(1000, 2, dtype="uint32"),)


_SLOW: Final = ("sine", "cosine", "power", "remainder", "cbrt", "atan2")


def _elementwise(quick: bool) -> Iterator[Trial]:
    yield Trial("elementwise.add", _repeated(_sixteen))
    if not quick:
        yield Trial("elementwise.add", _repeated(_sixteen, "float64"), double=True)
        yield Trial("elementwise.add", _repeated(_sixteen, "complex64"))
    yield Trial("elementwise.add", _repeated(_sixteen_integers, "int32"))
    yield Trial("elementwise.convert", _repeated(lambda x: x.astype("bfloat16").astype("float32")))
    if not quick:
        yield Trial("elementwise.convert", _repeated(lambda x: x.astype("float16").astype("float32")))
        yield Trial("elementwise.convert", _repeated(lambda x: x.astype("int8").astype("float32")))
        yield Trial("elementwise.convert", _repeated(lambda x: x.astype("int32").astype("float32")))
    plain = {"exponential": _jnp.exp, "tanh": _jnp.tanh, "sine": _jnp.sin, "floor": _jnp.floor}
    bounded = {"logistic": _api.nn.sigmoid, "erf": _lax.erf, "exponential-minus-one": _jnp.expm1, "cosine": _jnp.cos}
    above = {
        "power": lambda x: x**-1.5,
        "log": _jnp.log,
        "sqrt": _jnp.sqrt,
        "rsqrt": _lax.rsqrt,
        "divide": lambda x: 1.5 / x,
        "remainder": lambda x: x % 0.7,
        "log-plus-one": _jnp.log1p,
        "cbrt": _jnp.cbrt,
        "atan2": lambda x: _jnp.arctan2(x, 1.5),
    }
    for name, operation in (plain if quick else plain | bounded).items():
        yield Trial(f"elementwise.{name}", _repeated(operation, slow=name in _SLOW))
    for name in ("power", "log", "divide") if quick else above:
        yield Trial(f"elementwise.{name}", _repeated(above[name], positive=True, slow=name in _SLOW))
    if not quick:
        yield Trial("elementwise.exponential", _repeated(_jnp.exp, "float64"), double=True)
        yield Trial("elementwise.power", _repeated(above["power"], "float64", positive=True, slow=True), double=True)
        yield Trial("elementwise.exponential", _repeated(_jnp.exp, "complex64"))
        yield Trial("elementwise.multiply", _repeated(lambda x: x * x * 0.5, "complex64"))
        yield Trial("elementwise.abs", _repeated(_jnp.abs, "complex64"))
        yield Trial("elementwise.divide", _repeated(lambda x: x // 7, "int32"))


# Moving, reducing, indexing.


# Elements of a trial that is called once: so many that the start of the program and of its threads hardly count.
_MANY: Final = 2**19


def _moving(quick: bool) -> Iterator[Trial]:
    yield Trial("move.concatenate", _repeated(lambda x: _jnp.concatenate([x[:, 7:], x[:, :7]], 1)))
    yield Trial("move.pad", _repeated(lambda x: _jnp.pad(x[1:-1, 2:-2], ((1, 1), (2, 2)))))
    yield Trial("move.reverse", _repeated(lambda x: x[:, ::-1]))
    yield Trial("move.dynamic-slice", lambda: _dynamic(_sliced))
    yield Trial("move.dynamic-update-slice", lambda: _dynamic(_updated))
    for side in (256,) if quick else (48, 192, 768):
        yield Trial("move.transpose", lambda side=side: (_jnp.transpose, (normal(_MANY // side**2 or 1, side, side),)))


def _sliced(x: Any, i: Any) -> Any:
    return x * 0.5 + _lax.dynamic_slice(x, (i % 7, 0), (64, x.shape[1])).sum()


def _updated(x: Any, i: Any) -> Any:
    return _lax.dynamic_update_slice(x, x[:64] * 0.5, (i % 7, 0))


def _dynamic(body: Callable[[Any, Any], Any]) -> Made:
    return lambda x: _lax.fori_loop(0, 50, lambda i, x: body(x, i), x), (normal(96, 200),)


def _reducing(quick: bool) -> Iterator[Trial]:
    for n in (32, 2048) if quick else (3, 24, 200, 4096):
        yield Trial("reduce.rows", lambda n=n: (lambda x: x.sum(-1), (normal(_MANY // n, n),)))
    for n in (16,) if quick else (3, 30):
        yield Trial("reduce.pairs", lambda n=n: (_distances, (normal(_MANY // n // 100, n), normal(100, n))))
    for n in (512,) if quick else (4, 64, 1500):
        yield Trial("reduce.columns", lambda n=n: (lambda x: x.sum(1), (normal(_MANY // n // 24, n, 24),)))
    yield Trial("reduce.all", lambda: (lambda x: x.max(), (normal(_MANY),)))
    for n in (512,) if quick else (8, 1000):
        yield Trial("reduce.variadic", lambda n=n: (lambda x: x.argmax(-1), (normal(_MANY // 2 // n, n),)))
    for n in (2,) if quick else (2, 4):
        yield Trial("reduce.windows", lambda n=n: (lambda x: _pooled(x, n), (normal(2, 60, 60, 24),)))
    for n in (2,) if quick else (2, 3):
        yield Trial("reduce.strides", lambda n=n: (lambda x: _pooled(x, n, 2), (normal(2, 100, 100, 24),)))
    yield Trial("reduce.windows", lambda: (lambda x: _jnp.cumsum(x, axis=-1), (normal(200, 512),)))


def _distances(x: Any, y: Any) -> Any:
    """Return a sum over an array that is never written: each of its elements is of a pair of smaller ones."""
    return _jnp.abs(x[:, None] - y[None]).sum(-1)


def _pooled(x: Any, size: int, stride: int = 1) -> Any:
    return _lax.reduce_window(x, -_jnp.inf, _lax.max, (1, size, size, 1), (1, stride, stride, 1), "SAME")


def _indexing(quick: bool) -> Iterator[Trial]:
    for width in (1, 64) if quick else (1, 6, 40, 300):
        n = _MANY // 2 // width
        yield Trial("gather", lambda w=width, n=n: (lambda t, i: t[i], (normal(n, w), integers(n, n))))
        yield Trial(
            "scatter",
            lambda w=width, n=n: (lambda t, i, g: t.at[i].add(g), (normal(n, w), integers(n, n), normal(n, w))),
        )


def _sorting(quick: bool) -> Iterator[Trial]:
    for n in (1024,) if quick else (32, 512, 16_384):
        yield Trial("sort.rows", lambda n=n: (lambda x: _lax.sort(x), (normal(32768 // n, n),)))
    for n in (1024,) if quick else (64, 4096):
        yield Trial("sort.pairs", lambda n=n: (lambda x: _jnp.argsort(x, axis=-1), (normal(16384 // n, n),)))
    if not quick:
        yield Trial("sort.rows", lambda: (_lax.sort, (integers(10**6, 2, 8192),)))
        yield Trial("sort.columns", lambda: (lambda x: _lax.sort(x, dimension=0), (normal(1024, 16),)))
    yield Trial("sort.top", lambda: (lambda x: _lax.top_k(x, 8), (normal(3, 30_000),)))
    yield Trial("sort.chosen", lambda: (lambda x: _lax.top_k(x, 40), (normal(200, 300),)))


# Libraries.


def _definite(batch: int, n: int) -> Any:
    x = normal(batch, n, n)
    return (x @ x.swapaxes(-1, -2) / n + _np.eye(n)).astype("float32")


def _linear_algebra(quick: bool) -> Iterator[Trial]:
    for n in (512,) if quick else (32, 1024, 16_384):
        x = 65_536 // n
        yield Trial("fft", lambda n=n, x=x: (_jnp.fft.fft, (normal(x, n, dtype="complex64"),)))
    linalg = _lax.linalg
    routines: dict[str, Callable[[Any], Any]] = {
        "potrf": lambda a: linalg.cholesky(a, symmetrize_input=False),
        "getrf": linalg.lu,
        "geqrf": lambda a: linalg.qr(a, full_matrices=False),
        "syevd": lambda a: linalg.eigh(a, symmetrize_input=False),
        "gesdd": lambda a: linalg.svd(a, full_matrices=False),
        "geev": linalg.eig,
    }
    for name in ("potrf",) if quick else routines:
        for n, batch in ((64, 8),) if quick else ((6, 128), (48, 8), (192, 1)):
            if name in ("geev", "gesdd") and n > 100:
                n = 128
            fn = routines[name]
            yield Trial(f"library.{name}", lambda fn=fn, n=n, batch=batch: (fn, (_definite(batch, n),)))
    for n, batch, columns in ((64, 8, 8),) if quick else ((6, 128, 4), (48, 8, 16), (256, 1, 64)):
        yield Trial("library.trsm", lambda n=n, b=batch, c=columns: _solve(n, b, c))


def _solve(n: int, batch: int, columns: int) -> Made:
    def solve(a: Any, b: Any) -> Any:
        return _lax.linalg.triangular_solve(a, b, left_side=True, lower=True)

    return solve, (_definite(batch, n), normal(batch, n, columns))


# Products and convolutions.


def _products(quick: bool) -> Iterator[Trial]:
    sides = {1: (32, 128, 1024), 4: (32, 128, 1024), 16: (32, 128, 512), 64: (64, 256, 1024), 256: (256, 768)}
    for rows in (1, 64) if quick else sides:
        for side in (128, 512) if quick else sides[rows]:
            yield Trial("product", lambda m=rows, n=side: _chained(m, n, "float32"))
    if not quick:
        yield Trial("product", lambda: _chained(64, 256, "float64"), double=True)
        yield Trial("product", lambda: _once_int(64, 256, "int8"))
        yield Trial("product", lambda: _chained(64, 128, "int32"))
    for side, batch in ((16, 64),) if quick else ((4, 512), (12, 128), (48, 32), (160, 8)):
        yield Trial("product.batched", lambda n=side, b=batch: _chained_batch(b, n))


def _chained(rows: int, side: int, dtype: str) -> Made:
    steps = int(max(2, min(100, 8e7 // (8 * rows * side * side))))

    def step(_: Any, x: Any, w: Any) -> Any:
        return x @ w @ w @ w @ w

    def chain(x: Any, w: Any) -> Any:
        return _lax.fori_loop(0, steps, lambda i, x: step(i, x, w), x)

    return chain, (_np.ones((rows, side), dtype), _np.full((side, side), 1 / side, dtype))


def _chained_batch(batch: int, side: int) -> Made:
    def chain(x: Any, w: Any) -> Any:
        for _ in range(8):
            x = x @ w
        return x

    return chain, (_np.ones((batch, side, side), "f4"), _np.full((batch, side, side), 1 / side, "f4"))


def _once_int(rows: int, side: int, dtype: str) -> Made:
    def multiplied(x: Any, w: Any) -> Any:
        return _lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type="int32")

    return multiplied, (integers(100, rows, side, dtype=dtype), integers(100, side, side, dtype=dtype))


def _convolutions(quick: bool) -> Iterator[Trial]:
    for channels in (32,) if quick else (3, 16, 64, 192):
        side = 28 if channels > 100 else 50
        yield Trial("convolution", lambda c=channels, s=side: _convolution((1, s, s), c, c, 3))
    yield Trial("convolution", lambda: _convolution((1, 30, 30), 64, 64, 3, groups=64))
    if quick:
        return
    yield Trial("convolution", lambda: _convolution((1, 30, 30), 64, 64, 7, groups=64))
    yield Trial("convolution", lambda: _convolution((1, 30, 30), 64, 64, 3, groups=8))
    for channels in (8, 48):
        yield Trial("convolution", lambda c=channels: _convolution((2, 1500), c, c, 5))
        yield Trial("convolution", lambda c=channels: _convolution((1, 24, 24), c, c, 3, lhs_dilation=(2, 2)))
    for channels in (4, 24):
        yield Trial("convolution", lambda c=channels: _convolution((1, 12, 12, 12), c, c, 3))


def _convolution(image: Sequence[int], inner: int, outer: int, side: int, groups: int = 1, **options: Any) -> Made:
    rank = len(image) - 1
    letters = "DHW"[-rank:]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def convolved(x: Any, kernel: Any) -> Any:
        return _lax.conv_general_dilated(
            x,
            kernel,
            (1,) * rank,
            "SAME" if not options else [(1, 2)] * rank,
            dimension_numbers=numbers,
            feature_group_count=groups,
            **options,
        )

    return convolved, (normal(*image, inner), normal(*(side,) * rank, inner // groups, outer))
