"""
From costax's count to XLA's
============================

A small network, with the cause of every difference from XLA's cost analysis.
"""

import jax
import jax.numpy as jnp
from jax import lax

import costax


def net(w, x):
    """Return five steps of a loop on a convolution of x."""
    with jax.named_scope("conv"):
        x = lax.conv(x, w, (1, 1), "SAME")
    with jax.named_scope("loop"):
        return lax.fori_loop(0, 5, lambda i, c: jnp.tanh(c) * 2, x)


print(costax.compare(net)(costax.spec("f32[8,3,3,3]"), costax.spec("f32[1,3,32,32]")))
