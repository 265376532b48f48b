"""Worked examples of transcendental elementwise primitives."""

# pyright: basic, reportAttributeAccessIssue=false
# The examples are written as users write them, without annotations, some for newer jax alone.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case, differs, since

CASES = [
    case(
        "acos",
        lambda x: lax.acos(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to atan2 and sqrt", flops=3 * 4 * 5, transcendentals=2 * 4 * 5),
    ),
    case(
        "acosh",
        lambda x: lax.acosh(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to log, log1p and two sqrt", flops=7 * 4 * 5, transcendentals=4 * 4 * 5),
    ),
    case(
        "asin",
        lambda x: lax.asin(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "expanded to atan2 and sqrt", flops=since({(0,): 5, (0, 12): 3}) * 4 * 5, transcendentals=2 * 4 * 5
        ),
    ),
    case(
        "asinh",
        lambda x: lax.asinh(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to log1p, log and sqrt", flops=11 * 4 * 5, transcendentals=3 * 4 * 5),
    ),
    case("atan", lambda x: lax.atan(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "atanh",
        lambda x: lax.atanh(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to two log1p", flops=6 * 4 * 5, transcendentals=2 * 4 * 5),
    ),
    case("cbrt", lambda x: lax.cbrt(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("cos", lambda x: lax.cos(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "cosh",
        lambda x: lax.cosh(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to two exp", flops=3 * 4 * 5, transcendentals=2 * 4 * 5),
    ),
    case("exp", lambda x: lax.exp(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "exp2",
        lambda x: lax.exp2(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("exp(x * log 2)", flops=4 * 5),
    ),
    case("expm1", lambda x: lax.expm1(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("log", lambda x: lax.log(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("log1p", lambda x: lax.log1p(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "logistic",
        lambda x: lax.logistic(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("1 / (1 + exp(-x))", flops=3 * 4 * 5),
    ),
    case("rsqrt", lambda x: lax.rsqrt(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("sin", lambda x: lax.sin(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "sinh",
        lambda x: lax.sinh(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to two exp and an expm1", flops=10 * 4 * 5, transcendentals=3 * 4 * 5),
    ),
    case("sqrt", lambda x: lax.sqrt(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("tan", lambda x: lax.tan(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("tanh", lambda x: lax.tanh(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("atan2", lambda x, y: lax.atan2(x, y), "f32[4,5]", "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("pow", lambda x, y: lax.pow(x, y), "f32[4,5]", "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "pow",
        lambda x, y: lax.pow(x, y),
        "f32[4,5]",
        "i32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("the exponent is converted to f32 first", flops=4 * 5),
    ),
    case("tanh", lambda x: lax.tanh(x), "bf16[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case("exp", lambda x: lax.exp(x), "bf16[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "logistic",
        lambda x: lax.logistic(x),
        "bf16[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("1 / (1 + exp(-x))", flops=3 * 4 * 5),
    ),
    case("tanh", lambda x: lax.tanh(x), "c64[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "exp",
        lambda x: lax.exp(x),
        "c64[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to exp, cos and sin of the parts", flops=15 * 4 * 5, transcendentals=4 * 4 * 5),
    ),
    case(
        "log",
        lambda x: lax.log(x),
        "c64[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("expanded to log, atan2 and a scaled magnitude", flops=62 * 4 * 5, transcendentals=4 * 4 * 5),
    ),
    case(
        "sqrt",
        lambda x: lax.sqrt(x),
        "c64[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "expanded to sqrt, rsqrt and scaled magnitudes of the parts", flops=86 * 4 * 5, transcendentals=7 * 4 * 5
        ),
    ),
]

if hasattr(lax, "log2"):
    CASES += [
        case(
            "log2",
            lambda x: lax.log2(x),
            "f32[4,5]",
            transcendentals=4 * 5,
            flops=0,
            ops=4 * 5,
            xla=differs("log(x) / log 2", flops=4 * 5),
        ),
    ]
