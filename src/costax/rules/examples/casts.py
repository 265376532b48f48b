"""Worked examples of casts."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case

CASES = [
    case("convert_element_type", lambda x: lax.convert_element_type(x, "bfloat16"), "f32[4,5]", flops=0, ops=4 * 5),
    case("convert_element_type", lambda x: lax.convert_element_type(x, "int32"), "f32[4,5]", flops=0, ops=4 * 5),
    case("convert_element_type", lambda x: lax.convert_element_type(x, "bool"), "f32[4,5]", flops=0, ops=4 * 5),
    case("convert_element_type", lambda x: lax.convert_element_type(x, "complex64"), "f32[4,5]", flops=0, ops=4 * 5),
    case("convert_element_type", lambda x: lax.convert_element_type(x, "float32"), "bf16[4,5]", flops=0, ops=4 * 5),
    case("convert_element_type", lambda x: lax.convert_element_type(x, "float32"), "bool[4,5]", flops=0, ops=4 * 5),
    case("real", lambda x: lax.real(x), "c64[4,5]", flops=0, ops=4 * 5),
    case("imag", lambda x: lax.imag(x), "c64[4,5]", flops=0, ops=4 * 5),
    case("complex", lambda x, y: lax.complex(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case(
        "reduce_precision",
        lambda x: lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7),
        "f32[4,5]",
        flops=0,
        ops=4 * 5,
    ),
    case("bitcast_convert_type", lambda x: lax.bitcast_convert_type(x, "int32"), "f32[4,5]", flops=0, ops=4 * 5),
    case("bitcast_convert_type", lambda x: lax.bitcast_convert_type(x, "uint8"), "f32[4,5]", flops=0, ops=4 * 5 * 4),
]
