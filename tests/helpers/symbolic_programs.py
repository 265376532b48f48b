"""Random programs over symbolic shapes: each is a seed, and does with its arguments what the seed says."""

from __future__ import annotations

import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

INPUTS = ("f32[b,s,8]", "f32[8,16]", "i32[b,s]")


def program(seed: int) -> Callable[[Array, Array, Array], Array]:
    """A function of the arguments of `INPUTS`; every third one is a gradient."""

    def function(x: Array, w: Array, tokens: Array) -> Array:
        rng = random.Random(seed)
        values = [x]
        for _ in range(rng.randint(2, 7)):
            values.append(rng.choice(OPERATIONS)(rng, rng.choice(values[-3:]), w, tokens))
        return sum(jnp.mean(value) for value in values[1:])

    return jax.grad(function) if seed % 3 == 0 else function


def _elementwise(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return rng.choice([jnp.tanh, jnp.exp, jax.nn.gelu, jax.nn.silu, lambda v: v * 2.0 + 1.0, jnp.abs, jnp.square])(x)


def _dense(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return x @ jnp.tile(w, (1, 2))[: x.shape[-1], :8] if x.shape[-1] in (4, 8) else x * 3.0


def _attention(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    if x.ndim != 3:
        return x + 1.0
    scores = jnp.einsum("bqd,bkd->bqk", x, x)
    return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -1e9)), x)


def _reduce(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    axis = rng.randrange(x.ndim)
    return x - rng.choice([jnp.sum, jnp.max, jnp.mean])(x, axis=axis, keepdims=True)


def _merged(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    if x.ndim != 3:
        return x
    b, s, d = x.shape
    return jnp.cumsum(x.reshape(b * s, d), axis=rng.randrange(2)).reshape(b, s, d)


def _sliced(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    y = rng.choice([x[..., :4], x[:, ::-1], x[:, :-1], x[..., None, :][..., 0, :], x[:, 1:, :] if x.ndim == 3 else x])
    return jnp.concatenate([y, y], axis=-1) if y.shape[-1] == 4 else y


def _moved(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (0, 0)]) if rng.random() < 0.5 else jnp.roll(x, 1, axis=-1)


def _gathered(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    table = jnp.concatenate([w, w], axis=0)
    return x + jnp.mean(table[tokens][..., :1]) if rng.random() < 0.5 else x + jnp.mean(jax.nn.one_hot(tokens, 5))


def _sorted(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return jnp.sort(x, axis=rng.randrange(x.ndim))


def _looped(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    steps = rng.randint(1, 4)
    return lax.scan(lambda c, _: (jnp.sin(c) + 1.0, None), x, None, length=steps)[0]


def _checkpointed(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return jax.checkpoint(lambda v: jnp.tanh(jnp.sin(v)))(x)


def _convolved(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    if x.ndim != 3 or x.shape[-1] != 8:
        return x
    kernel = jnp.broadcast_to(w[:, :8], (rng.choice([1, 3]), 8, 8))
    stride, padding = rng.choice([(1, "SAME"), (2, "VALID"), (1, "VALID")])
    return lax.conv_general_dilated(x, kernel, (stride,), padding, dimension_numbers=("NWC", "WIO", "NWC"))


def _switched(rng: random.Random, x: Array, w: Array, tokens: Array) -> Array:
    return lax.cond(tokens[0, 0] > 0, lambda v: jnp.exp(v) * v, lambda v: v, x)


OPERATIONS = (
    _elementwise,
    _dense,
    _attention,
    _reduce,
    _merged,
    _sliced,
    _moved,
    _gathered,
    _sorted,
    _looped,
    _checkpointed,
    _convolved,
    _switched,
)
