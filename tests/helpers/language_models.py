"""Decoders of today's language models in plain JAX, with full-size shapes: tracing them allocates nothing.

A model is a sequence of groups; a group is a period of layers that a scan repeats. The sizes are those of MaxText's
configurations (src/maxtext/configs/models), and every layer computes what the published model computes, so far as
products are concerned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import costax


@dataclass(frozen=True)
class Layer:
    """The sizes of a layer; see `Model` for the letters. experts: 0 for a dense feed-forward network of `hidden`."""

    width: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    gated: bool = True
    window: int = 0
    chunk: int = 0
    shared_kv: bool = False
    experts: int = 0
    chosen: int = 0
    shared: int = 0
    dispatch: str = "ragged"
    q_rank: int = 0
    kv_rank: int = 0
    rope: int = 64
    value: int = 128
    causal: bool = True


@dataclass(frozen=True)
class Model:
    """A decoder. groups: (repetitions, layers of a period)."""

    vocab: int
    groups: tuple[tuple[int, tuple[Layer, ...]], ...]

    @property
    def width(self) -> int:
        return self.groups[0][1][0].width


def dense(layers: int, width: int, heads: int, kv: int, head: int, hidden: int, vocab: int, **more: Any) -> Model:
    """A model of equal layers."""
    return Model(vocab, ((layers, (Layer(width, heads, kv, head, hidden, **more),)),))


def local_and_global(model: Model, window: int, period: int) -> Model:
    """The model with a window in all layers but the last of each period."""
    ((layers, (layer,)),) = model.groups
    local = replace(layer, window=window)
    rest = layers % period
    groups = [(layers // period, (*(local,) * (period - 1), layer)), *([(1, (local,) * rest)] if rest else [])]
    return Model(model.vocab, tuple(groups))


def latent(dense_layers: int, layers: int, width: int, heads: int, hidden: int, expert: int, vocab: int, **moe: Any):
    """A DeepSeek: latent attention, some dense layers, then experts with shared ones."""
    ranks = {name: moe.pop(name) for name in ("q_rank", "kv_rank", "rope") if name in moe}
    head = moe.pop("head", 128)
    one = Layer(width, heads, heads, head, hidden, **ranks)
    other = replace(one, hidden=expert, **moe)
    return Model(vocab, ((dense_layers, (one,)), (layers - dense_layers, (other,))))


def shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters of a layer."""
    w, n, k, d, f = layer.width, layer.heads, layer.kv_heads, layer.head, layer.hidden
    if layer.kv_rank:
        q = d + layer.rope
        queries = {"q_down": (w, layer.q_rank), "q_norm": (layer.q_rank,), "q_up": (layer.q_rank, n, q)}
        attention = {
            **(queries if layer.q_rank else {"q": (w, n, q)}),
            "kv_down": (w, layer.kv_rank + layer.rope),
            "kv_norm": (layer.kv_rank,),
            "kv_up": (layer.kv_rank, n, d + layer.value),
            "out": (n, layer.value, w),
        }
    else:
        attention = {"q": (w, n, d), "k": (w, k, d), "out": (n, d, w)}
        attention |= {} if layer.shared_kv else {"v": (w, k, d)}
    norms = {"norm_1": (w,), "norm_2": (w,)}
    if not layer.experts:
        return attention | norms | {"up": (w, f), "down": (f, w)} | ({"gate": (w, f)} if layer.gated else {})
    e, s = layer.experts, layer.shared
    experts = {"router": (w, e), "up": (e, w, f), "gate": (e, w, f), "down": (e, f, w)}
    shared = {"s_up": (w, s), "s_gate": (w, s), "s_down": (s, w)} if s else {}
    return attention | norms | experts | shared


def norm(x, scale):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def mask_of(layer: Layer, s: int):
    i, j = jnp.arange(s)[:, None], jnp.arange(s)[None, :]
    mask = i >= j
    if layer.window:
        mask &= i - j < layer.window
    if layer.chunk:
        mask &= i // layer.chunk == j // layer.chunk
    return mask


def attention(p: dict[str, Any], x, layer: Layer):
    b, s, _ = x.shape
    if layer.kv_rank:
        latents = norm(x @ p["q_down"], p["q_norm"]) if layer.q_rank else x
        q = jnp.einsum("bsr,rnd->bsnd", latents, p["q_up"] if layer.q_rank else p["q"])
        down = x @ p["kv_down"]
        both = jnp.einsum("bsr,rnd->bsnd", norm(down[..., : layer.kv_rank], p["kv_norm"]), p["kv_up"])
        rope = jnp.broadcast_to(down[:, :, None, layer.kv_rank :], (b, s, layer.heads, layer.rope))
        k, v = jnp.concatenate([both[..., : layer.head], rope], -1), both[..., layer.head :]
    else:
        q, k = jnp.einsum("bsw,wnd->bsnd", x, p["q"]), jnp.einsum("bsw,wkd->bskd", x, p["k"])
        v = k if layer.shared_kv else jnp.einsum("bsw,wkd->bskd", x, p["v"])
    q = q.reshape(b, s, layer.kv_heads, layer.heads // layer.kv_heads, -1)
    scores = jnp.einsum("bqkgd,bskd->bkgqs", q, k) / jnp.sqrt(layer.head)
    if layer.causal:
        scores = jnp.where(mask_of(layer, s), scores, -1e30)
    mixed = jnp.einsum("bkgqs,bskd->bqkgd", jax.nn.softmax(scores), v)
    return jnp.einsum("bsnd,ndw->bsw", mixed.reshape(b, s, layer.heads, -1), p["out"])


def feed_forward(p: dict[str, Any], x, layer: Layer):
    if not layer.experts:
        up = x @ p["up"]
        return (jax.nn.silu(x @ p["gate"]) * up if layer.gated else jax.nn.gelu(up)) @ p["down"]
    b, s, w = x.shape
    rows = x.reshape(b * s, w)
    weights, chosen = jax.lax.top_k(jax.nn.softmax(rows @ p["router"]), layer.chosen)
    out = DISPATCH[layer.dispatch](p, rows, weights, chosen, layer)
    if layer.shared:
        out += (jax.nn.silu(rows @ p["s_gate"]) * (rows @ p["s_up"])) @ p["s_down"]
    return out.reshape(b, s, w)


def ragged(p, rows, weights, chosen, layer: Layer):
    """Sort the tokens by expert; the rows of each expert are a group."""
    order = jnp.argsort(chosen.reshape(-1))
    sizes = jnp.bincount(chosen.reshape(-1), length=layer.experts)
    given = rows[order // layer.chosen]
    up, gate = (jax.lax.ragged_dot(given, p[name], sizes) for name in ("up", "gate"))
    down = jax.lax.ragged_dot(jax.nn.silu(gate) * up, p["down"], sizes)
    return jnp.zeros_like(rows).at[order // layer.chosen].add(down * weights.reshape(-1)[order][:, None])


def every(p, rows, weights, chosen, layer: Layer):
    """Apply all experts to all tokens, and weight the results, most of them with zero."""
    hidden = jax.nn.silu(jnp.einsum("tw,ewf->tef", rows, p["gate"])) * jnp.einsum("tw,ewf->tef", rows, p["up"])
    out = jnp.einsum("tef,efw->tew", hidden, p["down"])
    share = (jax.nn.one_hot(chosen, layer.experts, dtype=rows.dtype) * weights[..., None]).sum(1)
    return jnp.einsum("tew,te->tw", out, share)


def capacity(p, rows, weights, chosen, layer: Layer):
    """Give each expert a fixed number of rows by products with one-hot matrices, as GShard does."""
    places = 2 * len(rows) * layer.chosen // layer.experts
    one_hot = jax.nn.one_hot(chosen, layer.experts, dtype=rows.dtype)
    position = jnp.cumsum(one_hot.sum(1), 0).astype(jnp.int32)
    dispatch = one_hot.sum(1)[..., None] * jax.nn.one_hot(position, places, dtype=rows.dtype)
    given = jnp.einsum("tec,tw->ecw", dispatch, rows)
    linear = lambda x, name: jax.vmap(jnp.matmul)(x, p[name])  # noqa: E731
    out = linear(jax.nn.silu(linear(given, "gate")) * linear(given, "up"), "down")
    combine = dispatch * (one_hot * weights[..., None]).sum(1)[..., None]
    return jnp.einsum("tec,ecw->tw", combine, out)


DISPATCH = {"ragged": ragged, "every": every, "capacity": capacity}


def forward(params: dict[str, Any], tokens, model: Model):
    """Return logits (batch, tokens, vocab)."""
    x = params["embed"][tokens]
    for (_, layers), stacked in zip(model.groups, params["groups"], strict=True):

        def period(x, p, layers=layers):
            for part, layer in zip(p, layers, strict=True):
                x = x + attention(part, norm(x, part["norm_1"]), layer)
                x = x + feed_forward(part, norm(x, part["norm_2"]), layer)
            return x, None

        x, _ = jax.lax.scan(period, x, stacked)
    return norm(x, params["norm"]) @ params["head"]


def loss(params: dict[str, Any], tokens, model: Model):
    logits = jax.nn.log_softmax(forward(params, tokens, model))
    return -jnp.take_along_axis(logits, tokens[..., None], -1).mean()


def parameters(model: Model) -> dict[str, Any]:
    """Return the shapes of all parameters, those of a group stacked."""
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16)  # noqa: E731
    return {
        "embed": array(model.vocab, model.width),
        "norm": array(model.width),
        "head": array(model.width, model.vocab),
        "groups": [
            [{name: array(times, *shape) for name, shape in shapes(layer).items()} for layer in layers]
            for times, layers in model.groups
        ],
    }


def analysis(model: Model, length: int, *, batch: int = 1, training: bool = False) -> costax.Analysis:
    """Return the analysis of a forward pass, or of a training step without an optimizer."""
    function = partial(loss if training else forward, model=model)
    tokens = costax.spec(f"i32[{batch},{length}]")
    return costax.analyze(jax.value_and_grad(function) if training else function, params_argnums=0)(
        parameters(model), tokens
    )
