"""Worked examples of Fourier transforms."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax.numpy as jnp

from costax.rules.examples import case, differs

CASES = (
    case(
        "fft",
        jnp.fft.fft,
        "c64[3,1024]",
        flops=3 * 5 * 1024 * 10,
        xla=differs("8 instead of 5 for each point and level", flops=3 * 8 * 1024 * 10),
    ),
    case(
        "fft",
        lambda x: jnp.fft.rfft(x),
        "f32[3,1024]",
        flops=3 * 5 * 1024 * 10 // 2,
        xla=differs("a real transform is counted as a complex one", flops=3 * 8 * 1024 * 10),
    ),
    case(
        "fft",
        lambda x: jnp.fft.irfft(x),
        "c64[3,513]",
        flops=3 * 5 * 1024 * 10 // 2,
        xla=differs("8 for each of the 513 inputs and level", flops=3 * 8 * 513 * 10),
    ),
    case(
        "fft",
        lambda x: jnp.fft.fft2(x),
        "c64[32,64]",
        flops=5 * 32 * 64 * (5 + 6),
        xla=differs("the levels of the two axes are multiplied, 5 * 6, not added", flops=8 * 32 * 64 * 5 * 6),
    ),
    case(
        "fft",
        jnp.fft.fft,
        "c64[2,1000]",
        flops=2 * 49829,
        xla=differs("the level count is rounded down: 8 * 1000 * 9", flops=2 * 8 * 1000 * 9),
        note="5 * 1000 * log2(1000) = 49,828.9, rounded up for each of the two transforms.",
    ),
)
