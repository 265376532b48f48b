"""Llama in plain JAX: Llama 2 7B forward, layer by layer, and a training step of Llama 3.1 405B.

    costax analyze examples/llama.py:llama2_7b --depth 2
    costax analyze examples/llama.py:llama3_405b_train_step --by direction

Touvron et al., "Llama 2", 2023; Grattafiori et al., "The Llama 3 Herd of Models", 2024. RMSNorm, rotary positions,
grouped queries, SwiGLU, an untied head. No array is allocated: the 405 billion parameters are shapes. A token costs
2.6 TFLOP, forward and backward, and 0.65 TFLOP more for recomputation. The paper's 3.8e25 FLOP on 15.6 trillion tokens
are 6 FLOPs for each parameter and token; attention, which that rule ignores, adds 8 %.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import costax


class Config(NamedTuple):
    """The sizes of a Llama; `scan` runs stacked layers in a loop, with rematerialisation."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocab: int
    rope_base: float
    scan: bool = False


LLAMA2_7B = Config(32, 4096, 32, 32, 11008, 32000, rope_base=1e4)
LLAMA3_405B = Config(126, 16384, 128, 8, 53248, 128256, rope_base=5e5, scan=True)
normal = jax.nn.initializers.normal(0.02, jnp.bfloat16)


def init_layer(key: jax.Array, c: Config) -> dict:
    """Return the parameters of one layer."""
    kv_width = c.width // c.heads * c.kv_heads
    into = {"query": c.width, "key": kv_width, "value": kv_width, "gate": c.hidden, "up": c.hidden}
    shapes = {name: (c.width, n) for name, n in into.items()} | {"out": (c.width, c.width), "down": (c.hidden, c.width)}
    keys = jax.random.split(key, len(shapes))
    weights = {name: normal(k, s) for k, (name, s) in zip(keys, shapes.items(), strict=True)}
    return weights | {name: jnp.ones(c.width, jnp.bfloat16) for name in ("attention_norm", "ffn_norm")}


def init(key: jax.Array, c: Config) -> dict:
    """Return the parameters: a list of layers, or one stacked layer for `scan`."""
    layer, keys = partial(init_layer, c=c), jax.random.split(key, c.layers + 2)
    return {
        "layers": jax.vmap(layer)(keys[2:]) if c.scan else [layer(k) for k in keys[2:]],
        "embed": normal(keys[0], (c.vocab, c.width)),
        "norm": jnp.ones(c.width, jnp.bfloat16),
        "head": normal(keys[1], (c.width, c.vocab)),
    }


def linear(params: dict, name: str, x: jax.Array) -> jax.Array:
    """Multiply by the named matrix: (..., m) x (m, n) -> (..., n)."""
    with jax.named_scope(name):
        return x @ params[name]


def rms_norm(params: dict, name: str, x: jax.Array) -> jax.Array:
    """Divide by the root of the mean square, in f32."""
    with jax.named_scope(name):
        wide = x.astype(jnp.float32)
        scale = jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
        return (wide * scale).astype(x.dtype) * params[name]


def rotate(x: jax.Array, c: Config) -> jax.Array:
    """Rotate pairs of features by an angle proportional to the position: (batch, tokens, heads, features)."""
    with jax.named_scope("rotary"):
        _, s, _, d = x.shape
        frequencies = c.rope_base ** (-jnp.arange(0, d, 2) / d)
        angles = (jnp.arange(s)[:, None] * frequencies)[:, None, :]
        sin, cos = jnp.sin(angles).astype(x.dtype), jnp.cos(angles).astype(x.dtype)
        left, right = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


@jax.named_scope("attention")
def attention(layer: dict, x: jax.Array, c: Config) -> jax.Array:
    """Attend to the preceding tokens; `heads / kv_heads` queries share a key and a value."""
    b, s, _ = x.shape
    q = rotate(linear(layer, "query", x).reshape(b, s, c.heads, -1), c)
    k = rotate(linear(layer, "key", x).reshape(b, s, c.kv_heads, -1), c)
    v = linear(layer, "value", x).reshape(b, s, c.kv_heads, -1)
    q = q.reshape(b, s, c.kv_heads, c.heads // c.kv_heads, -1)
    with jax.named_scope("scores"):
        scores = jnp.einsum("bqhgd,bkhd->bhgqk", q, k) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(jnp.tri(s, dtype=bool), scores, -jnp.inf))
    with jax.named_scope("mix"):
        mixed = jnp.einsum("bhgqk,bkhd->bqhgd", weights, v)
    return linear(layer, "out", mixed.reshape(b, s, c.width))


@jax.named_scope("ffn")
def ffn(layer: dict, x: jax.Array) -> jax.Array:
    """SwiGLU: down(silu(gate(x)) * up(x))."""
    return linear(layer, "down", jax.nn.silu(linear(layer, "gate", x)) * linear(layer, "up", x))


def block(x: jax.Array, layer: dict, c: Config) -> jax.Array:
    """Attention and a feed-forward network, each with a norm before it and a shortcut around it."""
    x = x + attention(layer, rms_norm(layer, "attention_norm", x), c)
    return x + ffn(layer, rms_norm(layer, "ffn_norm", x))


def forward(params: dict, tokens: jax.Array, c: Config) -> jax.Array:
    """Return logits (batch, tokens, vocab)."""
    with jax.named_scope("embed"):
        x = params["embed"][tokens]
    if c.scan:
        with jax.named_scope("layers"):
            step = jax.checkpoint(lambda x, layer: (block(x, layer, c), None))
            x, _ = jax.lax.scan(step, x, params["layers"])
    else:
        for i, layer in enumerate(params["layers"]):
            with jax.named_scope(f"layer_{i}"):
                x = block(x, layer, c)
    return linear(params, "head", rms_norm(params, "norm", x))


def llama2_7b() -> costax.Target:
    """Return Llama 2 7B on 128 tokens: 850 GMAC, attention products included, 6.74 B parameters."""
    params = jax.eval_shape(partial(init, c=LLAMA2_7B), costax.spec("key<fry>[]"))
    return costax.Target(partial(forward, c=LLAMA2_7B), (params, costax.spec("i32[1,128]")), params_argnums=0)


def llama3_405b_train_step() -> costax.Target:
    """Return one step of AdamW on 2048 sequences of 8192 tokens, as the 405 B model was trained."""
    optimizer = optax.adamw(8e-5, b2=0.95, weight_decay=0.1, mu_dtype=jnp.float32)

    def loss_fn(params, tokens):
        logits = forward(params, tokens[:, :-1], LLAMA3_405B).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def train_step(params, opt_state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = jax.eval_shape(partial(init, c=LLAMA3_405B), costax.spec("key<fry>[]"))
    opt_state = jax.eval_shape(optimizer.init, params)
    return costax.Target(train_step, (params, opt_state, costax.spec("i32[2048,8193]")), params_argnums=0)
