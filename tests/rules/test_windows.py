"""Windowed reductions, against enumeration and XLA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from costax.core.conventions import as_xla

REDUCTIONS = {"max": (lax.max, -jnp.inf), "min": (lax.min, jnp.inf), "sum": (lax.add, 0.0)}


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 3))
    axes = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2))
    drawn = [draw(axes) for _ in range(rank)]
    extents, sizes, strides, lows, highs = zip(*drawn, strict=True)
    assume(all(low < size and high < size for size, low, high in zip(sizes, lows, highs, strict=True)))
    assume(all(e + low + high >= w for e, w, low, high in zip(extents, sizes, lows, highs, strict=True)))
    return extents, sizes, strides, tuple(zip(lows, highs, strict=True))


def counts(function, *args):
    return as_xla(costax.analyze(function)(*args).total)


def xla_counts(function, *args):
    found = jax.jit(function).lower(*args).cost_analysis()
    return found.get("flops", 0), found.get("transcendentals", 0)


def is_running_reduction(extents, sizes, strides, padding) -> bool:
    """Say whether XLA takes the window for a running reduction: over one axis, from end to end."""
    wide = [i for i, size in enumerate(sizes) if size != 1]
    return len(wide) == 1 and padding[wide[0]] == (sizes[wide[0]] // 2,) * 2


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from(sorted(REDUCTIONS)))
def test_pooling_counts_as_xla_does(window, kind):
    assume(not is_running_reduction(*window))
    extents, sizes, strides, padding = window
    combine, start = REDUCTIONS[kind]

    def pool(x):
        return lax.reduce_window(x, start, combine, sizes, strides, padding)

    x = jax.ShapeDtypeStruct(extents, jnp.float32)
    assert counts(pool, x) == xla_counts(pool, x)


@settings(max_examples=40, deadline=None)
@given(windows())
def test_derivatives_of_pooling_count_as_xla_does(window):
    assume(not is_running_reduction(*window))
    extents, sizes, strides, padding = window

    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, padding)

    x = jax.ShapeDtypeStruct(extents, jnp.float32)
    out = jax.eval_shape(pool, x)

    def gradient(x, g):
        return jax.vjp(pool, x)[1](g)

    def tangent(x, t):
        return jax.jvp(pool, (x,), (t,))[1]

    assert counts(gradient, x, out) == xla_counts(gradient, x, out)
    assert counts(tangent, x, x) == xla_counts(tangent, x, x)


@pytest.mark.parametrize("dtype", ["i32", "u8"])
def test_pooling_integers_is_integer_work(dtype):
    total = costax.analyze(lambda x: lax.reduce_window(x, jnp.zeros((), x.dtype), lax.add, (3,), (1,), "VALID"))(
        costax.spec(f"{dtype}[10]")
    ).total
    assert (total.flops, total.ops) == (0, 2 * 8)
