"""The small programs that a calibration times: matrix products, convolutions, memory traffic, start-up.

A trial repeats its step inside one program, so that the start of the program hardly counts. A repeated step would find
its weights in the cache, where a model reads them from memory; trials of this kind have layers with separate weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import lax

from costax import _jax
from costax.hlo.read import read_bytes

_api: Any = jax
_jnp: Any = jnp
_lax: Any = lax

_DTYPES: Final[Mapping[str, str]] = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A program to time.

    table, dtype, size: the place of the point in the tables of rates. work: operations or bytes of one step. steps: how
    many steps the program runs. make: returns a function that runs the program.
    """

    table: str
    dtype: str
    size: float
    work: float
    steps: int
    make: Callable[[], Callable[[], Any]]


def all_trials(*, quick: bool) -> Iterator[Trial]:
    """Yield the trials. quick: fewer sizes, and a tenth of the work of each."""
    steady = _STEADY / 10 if quick else _STEADY
    yield Trial("dispatch", "", 1, 1, 1, _dispatch)
    chain, kernels = _launches()
    yield Trial("launch", "", 1, 1, kernels, lambda: chain)
    for dtype in ("fp32",) if quick else _DTYPES:
        if dtype != "fp64" or _api.config.jax_enable_x64:
            for n in (64, 512) if quick else (16, 32, 64, 128, 256, 512, 1024):
                yield _product(n, dtype, steady)
    yield _layers("threads", 1, 32, 512, 1)
    for rows in (32,) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 512):
        yield _layers("layers", rows, rows, 512, 8)
    for n, count in () if quick else ((512, 8), (512, 16), (512, 24), (1024, 8), (1024, 16), (1024, 32)):
        yield _layers("reading", 4 * n * n * count, 1, n, count)
    for side, channels in ((28, 32),) if quick else ((14, 32), (28, 32), (28, 64), (56, 32), (56, 64), (112, 32)):
        yield _convolution("convolution", side, channels, steady)
    for channels in () if quick else (64, 128, 256, 512):
        yield _convolution("packing", 7, channels, steady)
    for channels in () if quick else (64, 128, 256, 512):
        yield _chain(7, channels, 3)
    for channels in () if quick else (128, 256, 512):
        # XLA:CPU compiles a convolution of 2 x 2 images to a plain loop, whose time is proportional to the filter.
        yield _convolution("plain_convolution", 2, channels, steady)
    for side, channels in () if quick else ((7, 96), (14, 96), (28, 96), (56, 96)):
        yield _convolution("depthwise", side, channels, steady, groups=channels)
    for power in (14, 22) if quick else (10, 13, 16, 18, 20, 22, 23, 24, 25, 26, 27):
        # An array of n elements that is updated in place moves 8 n bytes: 4 n are read and 4 n are written.
        yield _pointwise("bandwidth", "", 2**power, 2 * 2**power, 2**power // 4, lambda x: x * 0.5 + 1.0, steady)
    for power in () if quick else (6, 7, 8, 9, 10, 11):
        yield Trial("transpose", "", 8 * 4**power, 8 * 4**power, 1, _transposition(2**power))
    for power in (14, 22) if quick else (16, 18, 20, 22, 24, 26):
        yield Trial("allocation", "", 2**power, 2**power, 1, _allocation(2**power // 4))
    for power in (16,) if quick else (8, 11, 14, 17, 20):
        yield _pointwise("transcendental", "fp32", 4 * 2**power, 4 * 2**power, 2**power, _transcendentals, steady)
    for power in (16,) if quick else (8, 11, 14, 17, 20):
        yield _pointwise("vector", "fp32", 32 * 2**power, 32 * 2**power, 2**power, _arithmetic, steady)


def _dispatch() -> Callable[[], Any]:
    def increment(x: Any) -> Any:
        return x + 1

    compiled = _api.jit(increment)
    x = _jnp.zeros(4)
    return lambda: compiled(x)


def _launches() -> tuple[Callable[[], Any], int]:
    """Return a program of many small kernels that depend on each other, and the number of kernels."""

    def chain(x: Any) -> Any:
        for _ in range(200):
            x = x - x.sum()
        return x

    x = _jnp.zeros(4)
    compiled = _api.jit(chain).lower(x).compile()
    entry = read_bytes(_jax.hlo_of(compiled)).entry
    kernels = sum(ins.opcode not in ("parameter", "constant", "bitcast", "tuple") for ins in entry.instructions)
    return lambda: compiled(x), kernels


# Operations or bytes of a trial, which take a CPU a few milliseconds.
_STEADY: Final = 2e8


def _looped(
    table: str, dtype: str, size: float, work: float, step: Callable[[Any], Any], start: Any, steady: float
) -> Trial:
    """Return a trial that repeats a step in a loop inside one program, until `steady` operations or bytes are done."""
    steps = int(min(max(steady / work, 2), 1000))

    def once(_: Any, x: Any) -> Any:
        return step(x)

    def loop(x: Any) -> Any:
        return _lax.fori_loop(0, steps, once, x)

    def make() -> Callable[[], Any]:
        x = start()
        compiled = _api.jit(loop)
        return lambda: compiled(x)

    return Trial(table, dtype, size, work, steps, make)


def _product(n: int, dtype: str, steady: float) -> Trial:
    def step(x: Any) -> Any:
        return (x[0] @ x[1], x[1])

    def start() -> Any:
        return (_jnp.ones((n, n), _DTYPES[dtype]), _jnp.full((n, n), 1 / n, _DTYPES[dtype]))

    return _looped("matmul", dtype, 2 * n**3, 2 * n**3, step, start, steady)


def _convolution(table: str, side: int, channels: int, steady: float, *, groups: int = 1) -> Trial:
    inner = channels // groups
    flops, kernel = 2 * 9 * side**2 * channels * inner, 4 * 9 * channels * inner

    def step(x: Any) -> Any:
        return (_convolved(x[0], x[1], groups), x[1])

    def start() -> Any:
        return (_jnp.ones((1, side, side, channels)), _jnp.full((3, 3, inner, channels), 1 / (9 * inner)))

    size, work = (kernel, kernel) if table == "plain_convolution" else (flops, flops)
    return _looped(table, "fp32", kernel if table == "packing" else size, work, step, start, steady)


def _layers(table: str, size: float, rows: int, n: int, count: int) -> Trial:
    """Return a trial of layers with separate weights, as in a model; a step is a layer."""

    def layers(x: Any, weights: Sequence[Any]) -> Any:
        for weight in weights:
            x = _jnp.maximum(x @ weight, 0.0)
        return x

    def make() -> Callable[[], Any]:
        x = _jnp.ones((rows, n))
        weights = [_jnp.full((n, n), 1 / n) for _ in range(count)]
        compiled = _api.jit(layers)
        return lambda: compiled(x, weights)

    work = 4 * n * n if table == "reading" else 2 * rows * n * n
    return Trial(table, "", size, work, count, make)


def _chain(side: int, channels: int, count: int) -> Trial:
    """Return a trial of convolutions that XLA fuses into one kernel, as before a mean; a step is one convolution."""

    def chain(x: Any, kernels: Sequence[Any]) -> Any:
        for kernel in kernels:
            x = _jnp.maximum(_convolved(x, kernel), 0.0)
        return x.mean((1, 2))

    def make() -> Callable[[], Any]:
        x = _jnp.ones((1, side, side, channels))
        kernels = [_jnp.full((3, 3, channels, channels), 1 / (9 * channels)) for _ in range(count)]
        compiled = _api.jit(chain)
        return lambda: compiled(x, kernels)

    kernel = 4 * 9 * channels**2
    return Trial("chained_convolution", "", kernel, 2 * side**2 * kernel / 4, count, make)


def _convolved(x: Any, kernel: Any, groups: int = 1) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return _lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def _transposition(n: int) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        x = _jnp.ones((n, n))
        compiled = _api.jit(_jnp.transpose)
        return lambda: compiled(x)

    return make


def _pointwise(
    table: str, dtype: str, size: float, work: float, elements: int, step: Callable[[Any], Any], steady: float
) -> Trial:
    def start() -> Any:
        # Rows of 256 elements, as usual in a model.
        return _jnp.ones((max(elements // 256, 1), min(elements, 256)), "float32")

    return _looped(table, dtype, size, work, step, start, steady)


def _allocation(elements: int) -> Callable[[], Callable[[], Any]]:
    """Return a program that allocates and writes a result at each call."""

    def filled(x: Any) -> Any:
        return _jnp.broadcast_to(x, (elements,))

    def make() -> Callable[[], Any]:
        x = _jnp.ones(1)
        compiled = _api.jit(filled)
        return lambda: compiled(x)

    return make


def _transcendentals(x: Any) -> Any:
    return _jnp.tanh(x) + _jnp.exp(-x) + _jnp.log(x + 2.0) + _lax.rsqrt(x + 3.0)


def _arithmetic(x: Any) -> Any:
    for step in range(16):
        x = x * 0.5 + float(step)
    return x
