"""Worked examples of special functions."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case, differs, since

CASES = [
    case(
        "bessel_i0e",
        lambda x: lax.bessel_i0e(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("two Chebyshev series", flops=83 * 4 * 5),
    ),
    case(
        "bessel_i1e",
        lambda x: lax.bessel_i1e(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("two Chebyshev series", flops=83 * 4 * 5),
    ),
    case(
        "digamma",
        lambda x: lax.digamma(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "Lanczos approximation and reflection",
            flops=since({(0,): 73, (0, 11, 2): 75}) * 4 * 5,
            transcendentals=3 * 4 * 5,
        ),
    ),
    case("erf", lambda x: lax.erf(x), "f32[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "erf_inv",
        lambda x: lax.erf_inv(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("rational approximation", flops=37 * 4 * 5, transcendentals=2 * 4 * 5),
    ),
    case(
        "erfc",
        lambda x: lax.erfc(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("rational approximation", flops=62 * 4 * 5),
    ),
    case(
        "lgamma",
        lambda x: lax.lgamma(x),
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "approximations that differ between versions of jax",
            flops=since({(0,): 53, (0, 12): 292}) * 4 * 5,
            transcendentals=since({(0,): 4, (0, 12): 0}) * 4 * 5,
        ),
    ),
    case("erf", lambda x: lax.erf(x), "bf16[4,5]", transcendentals=4 * 5, flops=0, ops=4 * 5),
    case(
        "igamma",
        lambda a, x: lax.igamma(a, x),
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "a series and a continued fraction, loops whose bodies count once",
            flops=since({(0,): 183, (0, 11): 188, (0, 12): 427}) * 4 * 5 + 1,
            transcendentals=since({(0,): 6, (0, 12): 2}) * 4 * 5,
        ),
    ),
    case(
        "igammac",
        lambda a, x: lax.igammac(a, x),
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "a series and a continued fraction, loops whose bodies count once",
            flops=since({(0,): 183, (0, 11): 188, (0, 12): 427}) * 4 * 5 + 1,
            transcendentals=since({(0,): 6, (0, 12): 2}) * 4 * 5,
        ),
    ),
    case(
        "igamma_grad_a",
        lambda a, x: lax.igamma_grad_a(a, x),
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "a series and a continued fraction, loops whose bodies count once",
            flops=since({(0,): 335, (0, 11, 2): 339, (0, 12): 578}) * 4 * 5 + 1,
            transcendentals=since({(0,): 14, (0, 12): 10}) * 4 * 5,
        ),
    ),
    case(
        "polygamma",
        lambda a, x: lax.polygamma(a, x),
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "zeta, lgamma and digamma, all expanded",
            flops=since({(0,): 260, (0, 11, 2): 262}) * 4 * 5,
            transcendentals=19 * 4 * 5,
        ),
    ),
    case(
        "zeta",
        lambda a, x: lax.zeta(a, x),
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs("Euler-Maclaurin summation", flops=121 * 4 * 5, transcendentals=11 * 4 * 5),
    ),
    case(
        "regularized_incomplete_beta",
        lambda a, b, x: lax.betainc(a, b, x),
        "f32[4,5]",
        "f32[4,5]",
        "f32[4,5]",
        transcendentals=4 * 5,
        flops=0,
        ops=4 * 5,
        xla=differs(
            "a continued fraction, a loop whose body counts once",
            flops=since({(0,): 293, (0, 12): 1014}) * 4 * 5 + 2,
            transcendentals=since({(0,): 17, (0, 12): 5}) * 4 * 5,
        ),
    ),
]
