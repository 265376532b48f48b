"""Two real programs, lowered and compiled, for the tests that read modules."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from costax import _jax


def scanned(w, xs):
    def body(c, x):
        return jnp.tanh(c @ w) + x, c.sum()

    with jax.named_scope("outer"):
        return lax.scan(body, xs[0], xs)


def convolved(x, w):
    y = lax.conv_general_dilated(x, w, (2, 1), ((1, 2), (0, 3)), (1, 2), (2, 1), feature_group_count=2)
    return lax.reduce_window(y, 0.0, lax.add, (1, 1, 2, 3), (1, 1, 2, 1), "SAME")


SPECS = {
    scanned: (jax.ShapeDtypeStruct((8, 8), jnp.float32), jax.ShapeDtypeStruct((7, 4, 8), jnp.float32)),
    convolved: (jax.ShapeDtypeStruct((2, 4, 9, 9), jnp.float32), jax.ShapeDtypeStruct((6, 2, 3, 3), jnp.float32)),
}


@functools.cache
def stage(fn, compiled):
    lowered = jax.jit(fn).lower(*SPECS[fn])
    return lowered.compile() if compiled else lowered


@functools.cache
def module_bytes(fn, compiled=True) -> bytes:
    return _jax.hlo_of(stage(fn, compiled))
