"""GPT-2 in Flax linen: the small model forward, and a training step with AdamW.

    costax analyze examples/gpt2.py:gpt2_small --depth 2
    costax compare examples/gpt2.py:gpt2_train_step --by direction

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019. The head is the transposed
embedding: its 38.6 M parameters count once, and its MACs count.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import costax

VOCAB, CONTEXT = 50257, 1024


class CausalSelfAttention(nn.Module):
    """Multi-head attention to the preceding tokens."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (batch, tokens, width) from (batch, tokens, width)."""
        b, s, width = x.shape
        qkv = nn.Dense(3 * width, name="qkv")(x).reshape(b, s, 3, self.heads, width // self.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        with jax.named_scope("scores"):
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // self.heads) ** 0.5
            weights = nn.softmax(jnp.where(jnp.tri(s, dtype=bool), scores, -jnp.inf))
        with jax.named_scope("mix"):
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, s, width)
        return nn.Dense(width, name="out")(mixed)


class Block(nn.Module):
    """Attention and an MLP, each with a layer norm before it and a shortcut around it."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (batch, tokens, width) from (batch, tokens, width)."""
        width = x.shape[-1]
        x = x + CausalSelfAttention(self.heads, name="attention")(nn.LayerNorm(name="norm1")(x))
        y = nn.Dense(4 * width, name="up")(nn.LayerNorm(name="norm2")(x))
        return x + nn.Dense(width, name="down")(nn.gelu(y))


class GPT2(nn.Module):
    """A decoder whose head is tied to its token embedding."""

    layers: int = 12
    heads: int = 12
    width: int = 768

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Return logits (batch, tokens, vocab)."""
        embed = nn.Embed(VOCAB, self.width, name="wte")
        positions = nn.Embed(CONTEXT, self.width, name="wpe")
        x = embed(tokens) + positions(jnp.arange(tokens.shape[-1]))
        for i in range(self.layers):
            x = Block(self.heads, name=f"block_{i}")(x)
        return embed.attend(nn.LayerNorm(name="norm")(x))


def gpt2_small() -> tuple[GPT2, tuple]:
    """Return GPT-2 small on 1024 tokens: 146 GMAC, 124 M parameters."""
    return GPT2(), (costax.spec(f"i32[1,{CONTEXT}]"),)


def gpt2_train_step() -> costax.Target:
    """Return one step of AdamW on eight sequences: loss, gradients, clipping, update."""
    model = GPT2()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(6e-4, b2=0.95, weight_decay=0.1))

    def loss_fn(params, tokens):
        logits = model.apply({"params": params}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def train_step(params, opt_state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    tokens = costax.spec(f"i32[8,{CONTEXT + 1}]")
    variables = jax.eval_shape(model.init, costax.spec("key<fry>[]"), costax.spec(f"i32[8,{CONTEXT}]"))
    params = variables["params"]
    return costax.Target(train_step, (params, jax.eval_shape(optimizer.init, params), tokens), params_argnums=0)
