"""What `symbols.py` sweeps over: training steps of small GPT-style models."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

import costax


def make(layers: int, width: int) -> costax.Target:
    """A decoder whose layers are unrolled, with its gradient."""

    def loss(params, x):
        for w in params:
            q, k, v = jnp.split(x @ w["qkv"], 3, axis=-1)
            x = x + jax.nn.softmax(q @ k.T) @ v
            x = x + jax.nn.gelu(x @ w["up"]) @ w["down"]
        return jnp.mean(x)

    f32 = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    layer = {"qkv": f32((width, 3 * width)), "up": f32((width, 4 * width)), "down": f32((4 * width, width))}
    return costax.Target(jax.value_and_grad(loss), ([layer] * layers, f32((128, width))), params_argnums=0)
