"""Worked examples of cumulative operations."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case, differs

CASES = [
    case(
        "cumsum",
        lambda x: lax.cumsum(x, axis=0),
        "f32[4,1000]",
        flops=3 * 1000,
        ops=3 * 1000,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=1000 * 4 * 3),
    ),
    case(
        "cumprod",
        lambda x: lax.cumprod(x, axis=0),
        "f32[4,1000]",
        flops=3 * 1000,
        ops=3 * 1000,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=1000 * 4 * 3),
    ),
    case(
        "cummax",
        lambda x: lax.cummax(x, axis=0),
        "f32[4,1000]",
        flops=3 * 1000,
        ops=3 * 1000,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=1000 * 4 * 3),
    ),
    case(
        "cummin",
        lambda x: lax.cummin(x, axis=0),
        "f32[4,1000]",
        flops=3 * 1000,
        ops=3 * 1000,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=1000 * 4 * 3),
    ),
    case(
        "cumsum",
        lambda x: lax.cumsum(x, axis=1),
        "f32[4,1000]",
        flops=4 * 999,
        ops=4 * 999,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=4 * 1000 * 999),
    ),
    case(
        "cumsum",
        lambda x: lax.cumsum(x, axis=0),
        "i32[4,1000]",
        flops=0,
        ops=3 * 1000,
        xla=differs("a reduce-window of n taps: n * (n - 1) operations a lane", flops=1000 * 4 * 3),
    ),
    case(
        "cumlogsumexp",
        lambda x: lax.cumlogsumexp(x, axis=0),
        "f32[4,1000]",
        flops=5 * 3 * 1000,
        transcendentals=2 * 3 * 1000,
        xla=differs(
            "a reduce-window of n taps: n * (n - 1) operations a lane, of 8 operations and 2 transcendentals",
            flops=8 * 1000 * 4 * 3,
            transcendentals=2 * 1000 * 4 * 3,
        ),
    ),
]
