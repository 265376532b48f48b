"""Worked examples of windowed reductions."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from costax.rules.examples import case, differs

CASES = (
    case(
        "reduce_window_max",
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        "f32[2,8,8,5]",
        flops=(3 * 3 - 1) * (2 * 4 * 4 * 5),
        note="The pooling at the head of a ResNet: 8 maxima for each output element.",
    ),
    case(
        "reduce_window_min",
        lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2, 2), (2, 2), "VALID"),
        "f32[8,8]",
        flops=3 * (4 * 4),
    ),
    case(
        "reduce_window_sum",
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        "f32[2,8,8,5]",
        flops=3 * (2 * 4 * 4 * 5),
    ),
    case(
        "reduce_window_sum",
        lambda x: lax.reduce_window(x, 0, lax.add, (3,), (1,), "VALID"),
        "i32[10]",
        flops=0,
        ops=2 * 8,
    ),
    case(
        "reduce_window_sum",
        lambda x: lax.reduce_window(x, 0.0, lax.add, (15,), (1,), ((7, 7),)),
        "f32[8]",
        flops=14 * 8,
        xla=differs("a window over everything, padded on both sides alike, is counted as one running sum", flops=1 + 7),
    ),
    case(
        "select_and_scatter_add",
        lambda x, g: jax.vjp(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID"), x)[1](g),
        "f32[8,8]",
        "f32[4,4]",
        flops=4 * 4,
        ops=4 * 4 + 3 * (4 * 4),
        note="The gradient of a maximum over windows: 3 comparisons and 1 addition for each of the 4 x 4 windows.",
    ),
    case(
        "select_and_gather_add",
        lambda x, t: jax.jvp(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID"), (x,), (t,))[1],
        "f32[8,8]",
        "f32[8,8]",
        flops=0,
        ops=3 * 3 * (4 * 4),
        note="The tangent of a maximum over windows: 3 steps for each, of a comparison and two selections.",
    ),
)
