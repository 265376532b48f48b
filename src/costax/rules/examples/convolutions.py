"""Worked examples of convolutions."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from costax.rules.examples import case, differs

_NHWC = ("NHWC", "HWIO", "NHWC")


CASES = (
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=_NHWC),
        "f32[2,10,10,16]",
        "f32[3,3,16,8]",
        macs=2 * 16 * 8 * (3 * 8) ** 2,
        flops=2 * 2 * 16 * 8 * (3 * 8) ** 2,
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=_NHWC),
        "f32[1,224,224,3]",
        "f32[3,3,3,64]",
        macs=3 * 64 * (3 * 224) ** 2,
        flops=2 * 3 * 64 * (3 * 224) ** 2,
        note="86,704,128 MACs, 173,408,256 FLOPs; XLA counts the valid taps, 3 * 224 - 2 an axis: 172,377,600.",
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", lhs_dilation=(1, 1), dimension_numbers=_NHWC),
        "f32[2,10,10,16]",
        "f32[3,3,16,8]",
        macs=2 * 16 * 8 * (3 * 5) ** 2,
        note="Stride 2: 5 x 5 output positions.",
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=_NHWC, feature_group_count=16),
        "f32[2,10,10,16]",
        "f32[3,3,1,16]",
        macs=2 * 16 * (3 * 10) ** 2,
        note="Depthwise: each of the 16 channels has a kernel of its own.",
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv_transpose(x, w, (2, 2), "VALID", dimension_numbers=_NHWC),
        "f32[1,4,4,8]",
        "f32[2,2,8,16]",
        macs=8 * 16 * (2 * 4) ** 2,
        note="Transposed: each of the 4 x 4 input positions is multiplied by each of the 2 x 2 taps once.",
    ),
    case(
        "conv_general_dilated",
        lambda x, g: jax.vjp(lambda w: lax.conv(x, w, (1, 1), "VALID"), jnp.zeros((8, 16, 3, 3)))[1](g),
        "f32[2,16,10,10]",
        "f32[2,8,8,8]",
        macs=2 * 16 * 8 * (3 * 8) ** 2,
        note="The weight gradient of the first example: the kernel is the gradient, the output are the weights.",
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv(x, w, (1,), "VALID", preferred_element_type=jnp.int32),
        "i8[2,3,8]",
        "i8[4,3,2]",
        macs=2 * 3 * 4 * (2 * 7),
        flops=0,
        note="Filed as i8*i8->i32.",
    ),
    case(
        "conv_general_dilated",
        lambda x, w: lax.conv(x, w, (1,), "VALID"),
        "c64[2,3,8]",
        "c64[4,3,2]",
        macs=2 * 3 * 4 * (2 * 7),
        xla=differs(
            "on the CPU jax makes three real convolutions of it (Gauss), and additions",
            # 3 real convolutions; real and imaginary parts of input, kernel and output, and their sums
            flops=3 * 2 * (2 * 4 * 7 * 3 * 2) + 3 * (2 * 3 * 8) + 4 * (4 * 3 * 2) + 3 * (2 * 4 * 7),
        ),
    ),
)
