"""
From costax's count to XLA's
============================

A small network, with the cause of every difference from XLA's cost analysis.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from jax import lax

import costax


def net(w, x):
    """Return five steps of a loop on a convolution of x."""
    with jax.named_scope("conv"):
        x = lax.conv(x, w, (1, 1), "SAME")
    with jax.named_scope("loop"):
        return lax.fori_loop(0, 5, lambda i, c: jnp.tanh(c) * 2, x)


comparison = costax.compare(net)(costax.spec("f32[8,3,3,3]"), costax.spec("f32[1,3,32,32]"))
print(comparison)

# %%
# The same as a picture: each bar is the sum of the differences of one cause.

causes = {}
for delta in comparison.deltas:
    causes[delta.cause] = causes.get(delta.cause, 0) + delta.flops
_, ax = plt.subplots(figsize=(9, 3), layout="constrained")
bars = ax.barh(list(causes), list(causes.values()))
ax.bar_label(bars, fmt="{:+,.0f}", padding=3)
ax.invert_yaxis()
ax.margins(x=0.25)
ax.axvline(0, color="#888888", linewidth=1)
ax.set_xlabel("FLOPs added or taken away")
