"""Worked examples of reductions."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from costax.rules.examples import case, differs

CASES = [
    case("reduce_sum", lambda x: jnp.sum(x, axis=1), "f32[4,1000]", flops=4 * 999, ops=4 * 999),
    case("reduce_prod", lambda x: jnp.prod(x, axis=1), "f32[4,1000]", flops=4 * 999, ops=4 * 999),
    case("reduce_max", lambda x: jnp.max(x, axis=1), "f32[4,1000]", flops=4 * 999, ops=4 * 999),
    case("reduce_min", lambda x: jnp.min(x, axis=1), "f32[4,1000]", flops=4 * 999, ops=4 * 999),
    case("reduce_sum", lambda x: jnp.sum(x), "f32[4,1000]", flops=4 * 1000 - 1, ops=4 * 1000 - 1),
    case("reduce_sum", lambda x: jnp.sum(x, axis=1), "c64[4,1000]", flops=4 * 999, ops=4 * 999),
    case("reduce_sum", lambda x: jnp.sum(x, axis=1), "i32[4,1000]", flops=0, ops=4 * 999),
    case("reduce_sum", lambda x: jnp.sum(x, axis=1), "f32[4,0]", flops=0, ops=0),
    case(
        "reduce_max",
        lambda x: jnp.max(x, axis=1),
        "c64[4,1000]",
        flops=4 * 999,
        ops=4 * 999,
        xla=differs(
            "the larger complex number is determined by comparing both parts: 9 operations an element",
            flops=9 * 4 * 999,
        ),
    ),
    case("reduce_max", lambda x: jnp.max(x, axis=1), "i32[4,1000]", flops=0, ops=4 * 999),
    case("reduce_and", lambda x: jnp.all(x, axis=1), "bool[4,1000]", flops=0, ops=4 * 999),
    case("reduce_or", lambda x: jnp.any(x, axis=1), "bool[4,1000]", flops=0, ops=4 * 999),
    case("reduce_xor", lambda x: lax.reduce_xor(x, [1]), "i32[4,1000]", flops=0, ops=4 * 999),
    case(
        "argmax",
        lambda x: lax.argmax(x, 1, "int32"),
        "f32[4,1000]",
        flops=0,
        ops=4 * 999,
        xla=differs("the combiner carries value and index: 9 operations an element", flops=9 * 4 * 999),
    ),
    case(
        "argmax",
        lambda x: lax.argmax(x, 1, "int32"),
        "i32[4,1000]",
        flops=0,
        ops=4 * 999,
        xla=differs("the combiner carries value and index: 7 operations an element", flops=7 * 4 * 999),
    ),
    case(
        "argmin",
        lambda x: lax.argmin(x, 1, "int32"),
        "f32[4,1000]",
        flops=0,
        ops=4 * 999,
        xla=differs("the combiner carries value and index: 9 operations an element", flops=9 * 4 * 999),
    ),
]
