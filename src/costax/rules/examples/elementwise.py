"""Worked examples of elementwise primitives."""

# pyright: basic, reportAttributeAccessIssue=false
# The examples are written as users write them, without annotations, some for newer jax alone.

from __future__ import annotations

import inspect

import jax
from jax import lax

from costax import _jax
from costax.rules.examples import case, differs

CASES = [
    case("abs", lambda x: lax.abs(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("ceil", lambda x: lax.ceil(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("floor", lambda x: lax.floor(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("neg", lambda x: lax.neg(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("sign", lambda x: lax.sign(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("square", lambda x: lax.square(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("round", lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("round", lambda x: lax.round(x), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("add", lambda x, y: lax.add(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("div", lambda x, y: lax.div(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("max", lambda x, y: lax.max(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("min", lambda x, y: lax.min(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("mul", lambda x, y: lax.mul(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("rem", lambda x, y: lax.rem(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("sub", lambda x, y: lax.sub(x, y), "f32[4,5]", "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case(
        "nextafter",
        lambda x, y: lax.nextafter(x, y),
        "f32[4,5]",
        "f32[4,5]",
        flops=4 * 5,
        ops=4 * 5,
        xla=differs("computed on bits: 24 integer operations", flops=24 * 4 * 5),
    ),
    case(
        "add_any",
        lambda x, a, b: jax.vjp(lambda x: (2 * x, 3 * x), x)[1]((a, b)),
        "f32[4,5]",
        "f32[4,5]",
        "f32[4,5]",
        flops=3 * 4 * 5,
        ops=3 * 4 * 5,
    ),
    case("abs", lambda x: lax.abs(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("neg", lambda x: lax.neg(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("sign", lambda x: lax.sign(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("square", lambda x: lax.square(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("add", lambda x, y: lax.add(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("div", lambda x, y: lax.div(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("max", lambda x, y: lax.max(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("min", lambda x, y: lax.min(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("mul", lambda x, y: lax.mul(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("rem", lambda x, y: lax.rem(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("sub", lambda x, y: lax.sub(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("add", lambda x, y: lax.add(x, y), "bf16[4,5]", "bf16[4,5]", flops=4 * 5, ops=4 * 5),
    case("mul", lambda x, y: lax.mul(x, y), "bf16[4,5]", "bf16[4,5]", flops=4 * 5, ops=4 * 5),
    case("mul", lambda x, y: lax.mul(x, y), "f16[4,5]", "f16[4,5]", flops=4 * 5, ops=4 * 5),
    case("add", lambda x, y: lax.add(x, y), "c64[4,5]", "c64[4,5]", flops=4 * 5, ops=4 * 5),
    case("div", lambda x, y: lax.div(x, y), "c64[4,5]", "c64[4,5]", flops=4 * 5, ops=4 * 5),
    case(
        "max",
        lambda x, y: lax.max(x, y),
        "c64[4,5]",
        "c64[4,5]",
        flops=4 * 5,
        ops=4 * 5,
        xla=differs("the larger complex number is determined by comparing both parts: 9 operations", flops=9 * 4 * 5),
    ),
    case("mul", lambda x, y: lax.mul(x, y), "c64[4,5]", "c64[4,5]", flops=4 * 5, ops=4 * 5),
    case(
        "conj",
        lambda x: lax.conj(x),
        "c64[4,5]",
        flops=4 * 5,
        ops=4 * 5,
        xla=differs("real part, imaginary part, a negation, and a complex number of both", flops=4 * 4 * 5),
    ),
    case("neg", lambda x: lax.neg(x), "c64[4,5]", flops=4 * 5, ops=4 * 5),
    case("sign", lambda x: lax.sign(x), "c64[4,5]", flops=4 * 5, ops=4 * 5),
    case(
        "square",
        lambda x: lax.square(x),
        "c64[4,5]",
        flops=4 * 5,
        ops=4 * 5,
        xla=differs("chlo squares complex numbers without overflow: 14 operations", flops=14 * 4 * 5),
    ),
    case("max", lambda x, y: lax.max(x, y), "bool[4,5]", "bool[4,5]", flops=0, ops=4 * 5),
    case("clamp", lambda x: lax.clamp(0.0, x, 1.0), "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("clamp", lambda x: lax.clamp(0, x, 9), "i32[4,5]", flops=0, ops=4 * 5),
    case("mul", lambda x: 2 * x, "f32[4,5]", flops=4 * 5, ops=4 * 5),
    case("clz", lambda x: lax.clz(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("population_count", lambda x: lax.population_count(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("not", lambda x: lax.bitwise_not(x), "i32[4,5]", flops=0, ops=4 * 5),
    case("not", lambda x: lax.bitwise_not(x), "bool[4,5]", flops=0, ops=4 * 5),
    case("and", lambda x, y: lax.bitwise_and(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("and", lambda x, y: lax.bitwise_and(x, y), "bool[4,5]", "bool[4,5]", flops=0, ops=4 * 5),
    case("or", lambda x, y: lax.bitwise_or(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("or", lambda x, y: lax.bitwise_or(x, y), "bool[4,5]", "bool[4,5]", flops=0, ops=4 * 5),
    case("xor", lambda x, y: lax.bitwise_xor(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("xor", lambda x, y: lax.bitwise_xor(x, y), "bool[4,5]", "bool[4,5]", flops=0, ops=4 * 5),
    case("shift_left", lambda x, y: lax.shift_left(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case(
        "shift_right_arithmetic",
        lambda x, y: lax.shift_right_arithmetic(x, y),
        "i32[4,5]",
        "i32[4,5]",
        flops=0,
        ops=4 * 5,
    ),
    case("shift_right_logical", lambda x, y: lax.shift_right_logical(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("eq", lambda x, y: lax.eq(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("ge", lambda x, y: lax.ge(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("gt", lambda x, y: lax.gt(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("le", lambda x, y: lax.le(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("lt", lambda x, y: lax.lt(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("ne", lambda x, y: lax.ne(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("eq", lambda x, y: lax.eq(x, y), "c64[4,5]", "c64[4,5]", flops=0, ops=4 * 5),
    case("lt", lambda x, y: lax.lt(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    case("eq_to", lambda x, y: lax.eq_to_p.bind(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("le_to", lambda x, y: lax.le_to_p.bind(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("lt_to", lambda x, y: lax.lt_to_p.bind(x, y), "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("is_finite", lambda x: lax.is_finite(x), "f32[4,5]", flops=0, ops=4 * 5),
    case("select_n", lambda p, x, y: lax.select_n(p, x, y), "bool[4,5]", "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case("select_n", lambda p, x, y: lax.select_n(p, x, y), "bool[]", "f32[4,5]", "f32[4,5]", flops=0, ops=4 * 5),
    case(
        "select_n",
        lambda i, x, y, z: lax.select_n(i, x, y, z),
        "i32[4,5]",
        "f32[4,5]",
        "f32[4,5]",
        "f32[4,5]",
        flops=0,
        ops=2 * 2 * 4 * 5,
    ),
    case(
        "select_n",
        lambda i, x, y, z: lax.select_n(i, x, y, z),
        "i32[]",
        "f32[4,5]",
        "f32[4,5]",
        "f32[4,5]",
        flops=0,
        ops=2 * (1 + 4 * 5),
    ),
    case("integer_pow", lambda x: lax.integer_pow(x, 2), "f32[4,5]", flops=4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, 3), "f32[4,5]", flops=2 * 4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, 7), "f32[4,5]", flops=4 * 4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, 8), "f32[4,5]", flops=3 * 4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, -1), "f32[4,5]", flops=4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, -2), "f32[4,5]", flops=2 * 4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, 5), "i32[4,5]", flops=0, ops=3 * 4 * 5),
    case("integer_pow", lambda x: lax.integer_pow(x, 3), "c64[4,5]", flops=2 * 4 * 5),
]

if hasattr(lax, "mulhi"):
    CASES += [
        case("mulhi", lambda x, y: lax.mulhi(x, y), "i32[4,5]", "i32[4,5]", flops=0, ops=4 * 5),
    ]

if "out_dtype" in inspect.signature(lax.mul).parameters:
    CASES += [
        case(
            "mul",
            lambda x, y: lax.mul(x, y, out_dtype="int32"),
            "i8[4,5]",
            "i8[4,5]",
            flops=0,
            ops=4 * 5,
            xla=differs("both factors are converted first", flops=3 * 4 * 5),
        ),
        case(
            "mul",
            lambda x, y: lax.mul(x, y, out_dtype="float32"),
            "bf16[4,5]",
            "bf16[4,5]",
            flops=4 * 5,
            xla=differs("both factors are converted first", flops=3 * 4 * 5),
        ),
    ]

if _jax.VERSION >= (0, 12):
    CASES += [
        case(
            "one_minus_square",
            lambda x, t: jax.jvp(lax.tanh, (x,), (t,)),
            "f32[4,5]",
            "f32[4,5]",
            flops=(3 + 1) * 4 * 5,
            transcendentals=4 * 5,
        ),
    ]

if hasattr(lax, "polynomial"):
    CASES += [
        case("polynomial", lambda x: lax.polynomial(x, [1.0, 2.0, 3.0, 4.0]), "f32[4,5]", flops=2 * 3 * 4 * 5),
        case(
            "polynomial",
            lambda x: lax.polynomial(x, [0.5] * 20),
            "f32[4,5]",
            flops=2 * 19 * 4 * 5,
            xla=differs("more than 8 coefficients run in a loop, whose body counts once", flops=482),
        ),
    ]
