"""Cumulative operations: the sum, product or maximum of every prefix of a lane."""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import Traits


def joined(eqn: Equation) -> Count:
    """Return the number of combinations: n - 1 for each lane of n elements along `axis`."""
    axis: int = eqn.params["axis"]
    x, n = eqn.out, eqn.out.shape[axis]
    return x.size // n * (n - 1) if x.size else 0


@cost_rule("cumsum", "cumprod", traits=Traits(reads_once=True, xla="lowered to a reduce-window of n terms an element"))
@cost_rule("cummax", "cummin", traits=Traits(xla="lowered to a reduce-window of n terms an element"))
def cumulative(eqn: Equation) -> Cost:
    """Each element is combined with the prefix before it: n - 1 operations for each lane of n elements.

    flops = lanes * (n - 1), on floating and complex dtypes; integer OPs on the others: f32[4,1000] along axis 0 is
    1000 lanes of 4, so 3 * 1000.
    XLA: on CPU and TPU a lane is lowered to a reduce-window of n taps and counted as n * (n - 1) operations; the
    compiler then replaces it by a tree of short ones.
    """
    return Cost.arithmetic(eqn.out.dtype, joined(eqn))


@cost_rule("cumlogsumexp", traits=Traits(xla="lowered to a reduce-window of n terms an element"))
def cumlogsumexp(eqn: Equation) -> Cost:
    """Each element is added to the prefix before it by max(a, b) + log1p(exp(-|a - b|)): n - 1 times for n elements.

    flops = 5 * lanes * (n - 1), transcendentals = 2 * lanes * (n - 1).
    XLA: lowered to a reduce-window of n taps with that combiner and a guard for infinities.
    """
    joins = joined(eqn)
    return Cost.arithmetic(eqn.out.dtype, 5 * joins) + Cost.transcendental(eqn.out.dtype, 2 * joins)
