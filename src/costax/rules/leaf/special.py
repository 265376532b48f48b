"""Special functions: one transcendental operation an element, whichever series or fraction computes them."""

from __future__ import annotations

from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import ELEMENTWISE, OPAQUE, SPECIAL_FUNCTION, TRANSCENDENTAL, Function, Implementation


@cost_rule("erf", "erfc", traits=TRANSCENDENTAL.but(function=Function.ACTIVATION))
@cost_rule("erf_inv", traits=SPECIAL_FUNCTION)
def error_function(eqn: Equation) -> Cost:
    """One transcendental operation for each output element: the error function, its complement or its inverse.

    transcendentals = |out|.
    XLA: `erf` has an opcode and counts the same. The others are expanded to rational approximations before XLA counts:
    an f32 `erf_inv` is 37 FLOPs and 2 transcendentals an element, f64 100 and 2.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


@cost_rule("lgamma", "digamma", "zeta", traits=SPECIAL_FUNCTION)
@cost_rule("polygamma", traits=ELEMENTWISE)
def gamma_function(eqn: Equation) -> Cost:
    """One transcendental operation for each output element: log-gamma, its derivatives, the Hurwitz zeta function.

    transcendentals = |out|.
    XLA: expanded before it counts, to Lanczos' approximation (`lgamma`, `digamma`) and Euler-Maclaurin summation
    (`polygamma`, `zeta`). With jax 0.10 an f32 `lgamma` is 53 FLOPs and 4 transcendentals an element, `digamma` 73 and
    3, `zeta` 121 and 11, `polygamma` 260 and 19; with jax 0.12 `lgamma` is 292 FLOPs and no transcendental.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


@cost_rule("igamma", traits=OPAQUE.but(implementation=Implementation.SERIES, series_arrays=23))
@cost_rule("igammac", traits=OPAQUE.but(implementation=Implementation.SERIES, series_arrays=21))
@cost_rule("igamma_grad_a", traits=OPAQUE.but(implementation=Implementation.SERIES, series_arrays=26))
def incomplete_gamma(eqn: Equation) -> Cost:
    """One transcendental operation for each output element: the regularised incomplete gamma functions.

    transcendentals = |out|.
    XLA: expanded to loops over a series and a continued fraction; it counts one iteration of each. The number of
    iterations depends on the values: at most 2000.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


@cost_rule("regularized_incomplete_beta", traits=OPAQUE.but(implementation=Implementation.SERIES, series_arrays=13))
def incomplete_beta(eqn: Equation) -> Cost:
    """One transcendental operation for each output element: the regularised incomplete beta function.

    transcendentals = |out|.
    XLA: expanded to a loop over a continued fraction (Lentz's method); it counts one iteration. The number of
    iterations depends on the values: at most 200 in f32, 600 in f64.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


@cost_rule("bessel_i0e", "bessel_i1e", traits=SPECIAL_FUNCTION)
def bessel(eqn: Equation) -> Cost:
    """One transcendental operation for each output element: the exponentially scaled modified Bessel functions.

    transcendentals = |out|.
    XLA: expanded before it counts to two Chebyshev series and a square root: 83 FLOPs and 1 transcendental an element
    in f32, 173 and 1 in f64. Source of the series: Cephes.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)
