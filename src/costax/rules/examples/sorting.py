"""Worked examples of sorting and selecting."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case, differs

CASES = [
    case("sort", lambda x: lax.sort(x), "f32[1000]", flops=0, ops=1000 * 10),
    case(
        "sort",
        lambda x: lax.sort(x),
        "f32[4,1000]",
        flops=0,
        ops=4 * 1000 * 10,
        xla=differs("XLA takes the elements of all rows together for n", flops=4000 * 12),
    ),
    case(
        "sort",
        lambda x: lax.sort(x, dimension=0),
        "f32[4,1000]",
        flops=0,
        ops=1000 * 4 * 2,
        xla=differs("XLA takes the elements of all rows together for n", flops=4000 * 12),
    ),
    case("sort", lambda x, y: lax.sort((x, y), num_keys=2), "f32[1000]", "i32[1000]", flops=0, ops=1000 * 10),
    case("sort", lambda x, i: lax.sort((x, i), num_keys=1), "f32[1000]", "i32[1000]", flops=0, ops=1000 * 10),
    case(
        "top_k",
        lambda x: lax.top_k(x, 5),
        "f32[4,1000]",
        flops=0,
        ops=4 * 1000 * 3,
        xla=differs("`topk` counts nothing", flops=0),
    ),
    case(
        "top_k",
        lambda x: lax.top_k(x, 1),
        "f32[4,1000]",
        flops=0,
        ops=4 * 1000,
        xla=differs("`topk` counts nothing", flops=0),
    ),
    case(
        "approx_top_k",
        lambda x: lax.approx_max_k(x, 5),
        "f32[4,1000]",
        flops=0,
        ops=4 * 1000 * 3,
        xla=differs("on CPU a sort of all rows together, with values and indices", flops=4000 * 12),
    ),
]
