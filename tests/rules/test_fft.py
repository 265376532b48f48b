"""Fourier transforms: 5 N log2 N, exactly."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import costax
from costax.rules.leaf.fft import operations


def radix_2(n: int) -> int:
    """Count the operations of a radix-2 transform: n/2 butterflies after the two halves.

    A butterfly is a complex product (4 multiplications, 2 additions), a complex sum and a complex difference.
    """
    return 0 if n == 1 else 2 * radix_2(n // 2) + n // 2 * (4 + 2 + 2 + 2)


@pytest.mark.parametrize("levels", range(12))
def test_a_power_of_two_counts_the_butterflies(levels):
    assert operations(2**levels) == radix_2(2**levels)


@given(st.integers(1, 2000))
def test_other_lengths_are_rounded_up_exactly(n):
    # ceil(5 n log2 n) = ceil(log2(n ** (5 n))), and 2 ** bits is the first power that is no smaller.
    bits = (n ** (5 * n) - 1).bit_length()
    assert operations(n) == bits
    assert operations(n, halved=True) == -(-bits // 2)


def test_lengths_past_every_float_stay_exact():
    n = 3**80
    # log2(3) between two convergents of its continued fraction.
    low, high = (50508, 31867), (125743, 79335)
    assert 2 ** low[0] < 3 ** low[1]
    assert 2 ** high[0] > 3 ** high[1]
    assert 5 * n * 80 * low[0] // low[1] < operations(n) <= 5 * n * 80 * high[0] // high[1] + 1


@pytest.mark.parametrize(
    ("function", "arg", "flops"),
    [
        (jnp.fft.fft, "c64[16]", 5 * 16 * 4),
        (jnp.fft.ifft, "c64[3,16]", 3 * 5 * 16 * 4),
        (jnp.fft.rfft, "f32[3,16]", 3 * 5 * 16 * 4 // 2),
        (jnp.fft.irfft, "c64[3,9]", 3 * 5 * 16 * 4 // 2),
        (jnp.fft.fft2, "c64[7,8,16]", 7 * 5 * 8 * 16 * (3 + 4)),
        (jnp.fft.rfft2, "f32[7,8,16]", 7 * 5 * 8 * 16 * (3 + 4) // 2),
        (jnp.fft.irfft2, "c64[7,8,9]", 7 * 5 * 8 * 16 * (3 + 4) // 2),
        (lambda x: jnp.fft.fftn(x), "c64[4,8,16]", 5 * 4 * 8 * 16 * (2 + 3 + 4)),
        (jnp.fft.fft, "c64[0,16]", 0),
    ],
)
def test_several_axes_add_their_levels_and_real_ones_are_half(function, arg, flops):
    analysis = costax.analyze(function)(costax.spec(arg))
    assert analysis.by_primitive()["fft"].flops == flops
