"""Mamba in Flax nnx, the model of 130 million parameters.

    costax analyze examples/mamba.py:mamba_130m --depth 2

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023. The recurrence
h_t = a_t * h_{t-1} + b_t is an associative scan: no loop in the jaxpr, but about 2 log2(tokens) rounds of slices,
multiplies and adds. All of them are elementwise, so a tool that counts only MACs misses them.
"""

import jax
import jax.numpy as jnp
from flax import nnx

import costax


def selective_scan(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return every h_t = a_t * h_{t-1} + b_t along axis 1; all are (batch, tokens, inner, state)."""

    def combine(left: tuple, right: tuple) -> tuple:
        (a1, b1), (a2, b2) = left, right
        return a1 * a2, a2 * b1 + b2

    with jax.named_scope("selective_scan"):
        _, h = jax.lax.associative_scan(combine, (a, b), axis=1)
    return h


class MambaBlock(nnx.Module):
    """Widen, mix neighbours, run a state space model with input-dependent parameters, gate, narrow."""

    def __init__(self, width: int, state: int, rngs: nnx.Rngs):
        inner, self.rank, self.state = 2 * width, width // 16, state
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.into = nnx.Linear(width, 2 * inner, use_bias=False, rngs=rngs)
        self.conv = nnx.Conv(inner, inner, (4,), padding="CAUSAL", feature_group_count=inner, rngs=rngs)
        self.select = nnx.Linear(inner, self.rank + 2 * state, use_bias=False, rngs=rngs)
        self.step = nnx.Linear(self.rank, inner, rngs=rngs)
        self.log_a = nnx.Param(jnp.log(jnp.broadcast_to(jnp.arange(1.0, state + 1), (inner, state))))
        self.skip = nnx.Param(jnp.ones(inner))
        self.out = nnx.Linear(inner, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return x plus the block's output: (batch, tokens, width)."""
        u, gate = jnp.split(self.into(self.norm(x)), 2, axis=-1)
        u = nnx.silu(self.conv(u))
        step, b, c = jnp.split(self.select(u), (self.rank, self.rank + self.state), axis=-1)
        step = nnx.softplus(self.step(step))[..., None]
        # (batch, tokens, inner, state)
        decay = jnp.exp(-step * jnp.exp(self.log_a[...]))
        h = selective_scan(decay, step * b[..., None, :] * u[..., None])
        y = jnp.einsum("btis,bts->bti", h, c) + self.skip[...] * u
        return x + self.out(y * nnx.silu(gate))


class Mamba(nnx.Module):
    """A language model whose head is tied to its embedding."""

    def __init__(self, *, layers: int = 24, width: int = 768, state: int = 16, vocab: int = 50280, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocab, width, rngs=rngs)
        self.blocks = nnx.List([MambaBlock(width, state, rngs) for _ in range(layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Return logits (batch, tokens, vocab)."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))


def mamba_130m() -> tuple[Mamba, tuple]:
    """Return Mamba 130M on 1024 tokens: 129,135,360 parameters, as published."""
    model = nnx.eval_shape(lambda: Mamba(rngs=nnx.Rngs(0)))
    return model, (costax.spec("i32[1,1024]"),)
