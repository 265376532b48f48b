"""Training steps of models that the other files lack: language, vision, graphs, reinforcement learning."""

import functools
import math

import jax
import jax.numpy as jnp
import optax
from jax import lax

from kinds.registry import (
    BF16,
    F16,
    F32,
    I32,
    U32,
    S,
    attention,
    batch_norm,
    conv,
    group_norm,
    layer_norm,
    like,
    program,
    rms_norm,
    split_heads,
)


def _opt(optimizer, params):
    return jax.eval_shape(optimizer.init, params)


def _train(optimizer, loss, donate=True):
    def step(params, state, *batch):
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step, donate_argnums=(0, 1) if donate else ())


def _rope(x, theta=10000.0):
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] / theta ** (jnp.arange(half) / half)
    cos, sin = jnp.cos(angles)[:, None].astype(x.dtype), jnp.sin(angles)[:, None].astype(x.dtype)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def _gqa(p, x, heads, kv, mask=None, cap=None):
    b, t, _ = x.shape
    q = _rope(split_heads(x @ p["q"], heads))
    k, v = _rope(split_heads(x @ p["k"], kv)), split_heads(x @ p["v"], kv)
    q = q.reshape(b, t, kv, heads // kv, -1)
    s = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=F32) / math.sqrt(q.shape[-1])
    if cap:
        s = cap * jnp.tanh(s / cap)
    mask = jnp.tril(jnp.ones((t, t), bool)) if mask is None else mask
    w = jax.nn.softmax(jnp.where(mask, s, -1e30), -1).astype(x.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", w, v).reshape(b, t, -1) @ p["o"]


def _decoder(layers, d, hidden, heads, kv, vocab, dtype):
    head = d // heads
    block = {"q": (d, d), "k": (d, kv * head), "v": (d, kv * head), "o": (d, d), "g1": (d,), "g2": (d,),
             "gate": (d, hidden), "up": (d, hidden), "down": (hidden, d)}  # fmt: skip
    return like({"embed": (vocab, d), "blocks": [block] * layers, "g": (d,), "head": (d, vocab)}, dtype)


def _decode(p, tokens, heads, kv, block=None, cap=None):
    x = p["embed"][tokens]
    for number, b in enumerate(p["blocks"]):
        t = tokens.shape[1]
        near = (jnp.arange(t)[:, None] - jnp.arange(t)[None] < 128) if number % 2 and cap else True
        mask = jnp.tril(jnp.ones((t, t), bool)) & near
        x = x + _gqa(b, rms_norm(x, b["g1"]), heads, kv, mask, cap)
        y = rms_norm(x, b["g2"])
        x = x + (jax.nn.silu(y @ b["gate"]) * (y @ b["up"])) @ b["down"]
    return rms_norm(x, p["g"]) @ p["head"]


def _next_token(logits, tokens):
    logits = logits[:, :-1].astype(F32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


@program
def llama_unrolled_gqa_bf16_adamw():
    p = _decoder(3, 512, 1408, 8, 2, 16384, BF16)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-4, mu_dtype=F32))
    loss = lambda p, tokens: _next_token(_decode(p, tokens, 8, 2), tokens)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(4, 512, dtype=I32))


@program
def gemma_softcap_local_global_grad():
    p = _decoder(4, 384, 1024, 6, 3, 8192, F32)
    loss = lambda p, tokens: _next_token(30 * jnp.tanh(_decode(p, tokens, 6, 3, cap=50.0) / 30), tokens)
    return jax.value_and_grad(loss), (p, S(4, 512, dtype=I32))


@program
def t5_encoder_decoder_relative_bias():
    d, heads, t = 384, 6, 256
    att = {"q": (d, d), "k": (d, d), "v": (d, d), "o": (d, d), "g": (d,)}
    mlp = {"up": (d, 4 * d), "down": (4 * d, d), "g": (d,)}
    p = like({"embed": (8192, d), "bias": (2 * t, heads),
              "enc": [{"a": att, "m": mlp}] * 2, "dec": [{"a": att, "c": att, "m": mlp}] * 2})  # fmt: skip

    def att_fn(p, x, y, bias):
        q, k, v = (split_heads(a @ p[n], heads) for a, n in ((x, "q"), (y, "k"), (y, "v")))
        w = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias, -1)
        return jnp.einsum("bhqk,bkhd->bqhd", w, v).reshape(x.shape) @ p["o"]

    def ff(p, x):
        return x + jax.nn.relu(rms_norm(x, p["g"]) @ p["up"]) @ p["down"]

    def loss(p, source, target):
        distance = jnp.arange(t)[None] - jnp.arange(t)[:, None]
        bias = p["bias"][distance + t].transpose(2, 0, 1)
        causal = jnp.where(distance > 0, -1e9, 0.0) + bias
        x, y = p["embed"][source], p["embed"][target]
        for b in p["enc"]:
            n = rms_norm(x, b["a"]["g"])
            x = ff(b["m"], x + att_fn(b["a"], n, n, bias))
        for b in p["dec"]:
            n = rms_norm(y, b["a"]["g"])
            y = y + att_fn(b["a"], n, n, causal)
            y = ff(b["m"], y + att_fn(b["c"], rms_norm(y, b["c"]["g"]), x, 0.0))
        return _next_token(y @ p["embed"].T, target)

    optimizer = optax.adafactor(1e-3)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(8, t, dtype=I32), S(8, t, dtype=I32))


@program
def bert_masked_lm_dropout_adam():
    d, heads = 256, 4
    block = {"qkv": (d, 3 * d), "b": (3 * d,), "o": (d, d), "g1": (d,), "b1": (d,), "g2": (d,), "b2": (d,),
             "up": (d, 4 * d), "down": (4 * d, d)}  # fmt: skip
    p = like({"embed": (8192, d), "position": (256, d), "blocks": [block] * 3})

    def drop(key, x):
        return jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0)

    def loss(p, tokens, masked, seed):
        key = jax.random.key(seed)
        x = p["embed"][jnp.where(masked, 3, tokens)] + p["position"]
        for n, b in enumerate(p["blocks"]):
            k1, k2, k3 = jax.random.split(jax.random.fold_in(key, n), 3)
            q, k, v = jnp.split(x @ b["qkv"] + b["b"], 3, -1)
            q, k, v = (split_heads(a, heads) for a in (q, k, v))
            w = drop(k1, jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8, -1))
            y = jnp.einsum("bhqk,bkhd->bqhd", w, v).reshape(x.shape) @ b["o"]
            x = layer_norm(x + drop(k2, y), b["g1"], b["b1"])
            x = layer_norm(x + drop(k3, jax.nn.gelu(x @ b["up"]) @ b["down"]), b["g2"], b["b2"])
        logits = x @ p["embed"].T
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        return (losses * masked).sum() / masked.sum()

    optimizer = optax.adam(1e-4)
    batch = S(16, 256, dtype=I32), S(16, 256, dtype=jnp.bool_), S(dtype=I32)
    return _train(optimizer, loss), (p, _opt(optimizer, p), *batch)


@program
def preference_optimisation_two_models_grad():
    p = _decoder(2, 384, 1024, 6, 6, 12288, BF16)

    def logp(p, tokens):
        logits = jax.nn.log_softmax(_decode(p, tokens, 6, 6)[:, :-1].astype(F32))
        return jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0].sum(-1)

    def loss(p, reference, chosen, rejected):
        margin = logp(p, chosen) - logp(p, rejected)
        base = lax.stop_gradient(logp(reference, chosen) - logp(reference, rejected))
        return -jax.nn.log_sigmoid(0.1 * (margin - base)).mean()

    return jax.grad(loss), (p, p, S(4, 256, dtype=I32), S(4, 256, dtype=I32))


@program
def policy_gradient_clipped_tokens_update():
    p = _decoder(2, 512, 1024, 8, 8, 8192, F32)

    def loss(p, tokens, old, advantage):
        logits = jax.nn.log_softmax(_decode(p, tokens, 8, 8)[:, :-1])
        new = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        entropy = -(jnp.exp(logits) * logits).sum(-1).mean()
        ratio = jnp.exp(new - old)
        gain = jnp.minimum(ratio * advantage[:, None], jnp.clip(ratio, 0.8, 1.2) * advantage[:, None])
        return -gain.mean() - 0.01 * entropy

    optimizer = optax.adamw(1e-5)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(8, 256, dtype=I32), S(8, 255), S(8))


@program
def moe_all_experts_einsum_train():
    d, h, e = 384, 768, 8
    p = like({"router": (d, e), "up": (e, d, h), "gate": (e, d, h), "down": (e, h, d)})

    def loss(p, x, y):
        weights, chosen = lax.top_k(x @ p["router"], 2)
        gates = jnp.zeros((*x.shape[:-1], e)).at[jnp.arange(x.shape[0])[:, None], chosen].set(jax.nn.softmax(weights))
        z = jax.nn.silu(jnp.einsum("td,edf->tef", x, p["gate"])) * jnp.einsum("td,edf->tef", x, p["up"])
        return jnp.square(jnp.einsum("tef,efd,te->td", z, p["down"], gates) - y).mean()

    optimizer = optax.adam(1e-3)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(2048, d), S(2048, d))


@program
def moe_switch_scatter_slots_bf16_grad():
    d, h, e, capacity = 512, 1536, 8, 640
    p = like({"router": (d, e), "up": (e, d, h), "down": (e, h, d)}, BF16)

    def loss(p, x):
        probs = jax.nn.softmax((x @ p["router"]).astype(F32))
        expert, gate = probs.argmax(-1), probs.max(-1)
        place = jnp.take_along_axis(jnp.cumsum(jax.nn.one_hot(expert, e, dtype=I32), 0), expert[:, None], 1)[:, 0] - 1
        slots = jnp.zeros((e, capacity, d), BF16).at[expert, place].set(x, mode="drop")
        y = jnp.einsum("ech,ehd->ecd", jax.nn.relu(jnp.einsum("ecd,edh->ech", slots, p["up"])), p["down"])
        y = y.at[expert, place].get(mode="fill", fill_value=0) * gate[:, None].astype(BF16)
        return jnp.square((x + y).astype(F32)).mean()

    return jax.grad(loss), (p, S(4096, d, dtype=BF16))


@program
def ragged_gated_experts_bf16_adam():
    d, h, e = 512, 1024, 8
    p = like({"gate": (e, d, h), "up": (e, d, h), "down": (e, h, d)}, BF16)

    def loss(p, x, sizes, y):
        z = jax.nn.silu(lax.ragged_dot(x, p["gate"], sizes)) * lax.ragged_dot(x, p["up"], sizes)
        return jnp.square((lax.ragged_dot(z, p["down"], sizes) - y).astype(F32)).mean()

    optimizer = optax.adam(1e-3)
    rows = S(4096, d, dtype=BF16)
    return _train(optimizer, loss), (p, _opt(optimizer, p), rows, S(e, dtype=I32), rows)


@program
def diffusion_transformer_adaln_bf16_train():
    d, heads, t = 384, 6, 256
    block = {"mod": (d, 6 * d), "qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
    p = like({"patch": (16, d), "time": (256, d), "blocks": [block] * 4, "out": (d, 16)}, F32)

    def norm(x):
        x = x.astype(F32)
        return ((x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)).astype(BF16)

    def loss(p, x, noise, time):
        p = jax.tree.map(lambda a: a.astype(BF16), p)
        mixed = jnp.cos(time)[:, None, None] * x + jnp.sin(time)[:, None, None] * noise
        angles = time[:, None] * jnp.exp(-jnp.arange(128) / 16.0)
        c = jax.nn.silu(jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1).astype(BF16) @ p["time"])
        y = mixed.astype(BF16) @ p["patch"]
        for b in p["blocks"]:
            s1, b1, g1, s2, b2, g2 = jnp.split((c @ b["mod"])[:, None], 6, -1)
            q, k, v = (split_heads(a, heads) for a in jnp.split((norm(y) * (1 + s1) + b1) @ b["qkv"], 3, -1))
            y = y + g1 * (attention(q, k, v).reshape(y.shape) @ b["o"])
            y = y + g2 * (jax.nn.gelu((norm(y) * (1 + s2) + b2) @ b["up"]) @ b["down"])
        return jnp.square((norm(y) @ p["out"]).astype(F32) - (noise - x)).mean()

    optimizer = optax.adamw(1e-4)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(16, t, 16), S(16, t, 16), S(16))


@program
def vector_quantised_autoencoder_train():
    p = like(
        {"e1": (4, 4, 3, 64), "e2": (4, 4, 64, 128), "code": (512, 128), "d1": (3, 3, 128, 64), "d2": (3, 3, 64, 3)}
    )

    def loss(p, x):
        z = conv(jax.nn.relu(conv(x, p["e1"], 2)), p["e2"], 2)
        flat = z.reshape(-1, 128)
        distance = (flat**2).sum(1)[:, None] - 2 * flat @ p["code"].T + (p["code"] ** 2).sum(1)
        q = p["code"][distance.argmin(1)].reshape(z.shape)
        commit = jnp.square(q - lax.stop_gradient(z)).mean() + 0.25 * jnp.square(lax.stop_gradient(q) - z).mean()
        y = z + lax.stop_gradient(q - z)
        for name in ("d1", "d2"):
            y = jax.image.resize(y, (y.shape[0], 2 * y.shape[1], 2 * y.shape[2], y.shape[3]), "nearest")
            y = conv(jax.nn.relu(y) if name == "d2" else y, p[name])
        return jnp.square(y - x).mean() + commit

    optimizer = optax.adam(2e-4)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(16, 64, 64, 3))


@program
def mbconv_efficientnet_sgd_momentum():
    def block(c, out):
        return {"expand": (1, 1, c, 4 * c), "depth": (3, 3, 1, 4 * c), "project": (1, 1, 4 * c, out),
                "g": (4 * c,), "b": (4 * c,), "se1": (4 * c, c // 2), "se2": (c // 2, 4 * c)}  # fmt: skip

    p = like({"stem": (3, 3, 3, 24), "blocks": [block(24, 24), block(24, 40), block(40, 40)], "head": (40, 100)})

    def loss(p, x, y):
        x = jax.nn.silu(conv(x, p["stem"], 2))
        for b in p["blocks"]:
            z = jax.nn.silu(batch_norm(conv(x, b["expand"]), b["g"], b["b"]))
            z = conv(z, b["depth"], feature_group_count=z.shape[-1])
            z = z * jax.nn.sigmoid(jax.nn.silu(z.mean((1, 2)) @ b["se1"]) @ b["se2"])[:, None, None]
            z = conv(z, b["project"])
            x = x + z if z.shape == x.shape else z
        return optax.softmax_cross_entropy_with_integer_labels(x.mean((1, 2)) @ p["head"], y).mean()

    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9, nesterov=True))
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(16, 96, 96, 3), S(16, dtype=I32))


@program
def segmentation_atrous_pyramid_bf16():
    p = like(
        {"stem": (3, 3, 3, 64), "rates": [(3, 3, 64, 64)] * 4, "merge": (1, 1, 256, 64), "out": (1, 1, 64, 21)}, BF16
    )

    def forward(p, x):
        y = jax.nn.relu(conv(x, p["stem"], 2))
        y = jnp.concatenate(
            [jax.nn.relu(conv(y, w, rhs_dilation=(r, r))) for w, r in zip(p["rates"], (1, 6, 12, 18), strict=True)], -1
        )
        y = conv(jax.nn.relu(conv(y, p["merge"])), p["out"])
        y = jax.image.resize(y, (*x.shape[:3], 21), "bilinear")
        return y.argmax(-1)

    return forward, (p, S(4, 256, 256, 3, dtype=BF16))


@program
def residual_network_fp16_loss_scale_grad():
    block = {"a": (3, 3, 64, 64), "b": (3, 3, 64, 64), "g": (64,), "h": (64,)}
    p = like({"stem": (7, 7, 3, 64), "blocks": [block] * 3, "head": (64, 10)})

    def loss(p, x, y, scale):
        p = jax.tree.map(lambda a: a.astype(F16), p)
        x = conv(x.astype(F16), p["stem"], 2)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for b in p["blocks"]:
            z = jax.nn.relu(batch_norm(conv(x, b["a"]), b["g"], b["h"]))
            x = jax.nn.relu(x + conv(z, b["b"]))
        logits = (x.mean((1, 2)) @ p["head"]).astype(F32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() * scale

    def step(p, x, y, scale):
        grads = jax.tree.map(lambda g: g.astype(F32) / scale, jax.grad(loss)(p, x, y, scale))
        finite = jnp.all(jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]))
        return jax.tree.map(lambda p, g: jnp.where(finite, p - 0.1 * g, p), p, grads), jnp.where(
            finite, scale, scale / 2
        )

    return step, (p, S(16, 128, 128, 3), S(16, dtype=I32), S())


@program
def radiance_field_ray_marching_train():
    p = like([(63, 256), (256, 256), (256, 256), (256, 4)])

    def loss(p, origins, directions, colours):
        depth = jnp.linspace(2.0, 6.0, 64)
        points = origins[:, None] + depth[:, None] * directions[:, None]
        angles = points[..., None, :] * 2.0 ** jnp.arange(10)[:, None]
        code = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -2).reshape(*points.shape[:-1], 60)
        h = jnp.concatenate([points, code], -1)
        for w in p[:-1]:
            h = jax.nn.relu(h @ w)
        h = h @ p[-1]
        alpha = 1 - jnp.exp(-jax.nn.softplus(h[..., 3]) * (4 / 64))
        through = jnp.cumprod(jnp.concatenate([jnp.ones_like(alpha[:, :1]), 1 - alpha[:, :-1] + 1e-10], 1), 1)
        image = ((alpha * through)[..., None] * jax.nn.sigmoid(h[..., :3])).sum(1)
        return jnp.square(image - colours).mean()

    optimizer = optax.adam(optax.exponential_decay(5e-4, 1000, 0.1))
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(1024, 3), S(1024, 3), S(1024, 3))


@program
def point_cloud_max_pool_adam():
    p = like({"a": [(3, 64), (64, 128), (128, 512)], "b": [(512, 256), (256, 40)]})

    def loss(p, x, y):
        for w in p["a"]:
            x = jax.nn.relu(x @ w)
            x = (x - x.mean((0, 1))) * lax.rsqrt(x.var((0, 1)) + 1e-5)
        x = x.max(1)
        logits = jax.nn.relu(x @ p["b"][0]) @ p["b"][1]
        return optax.softmax_cross_entropy(logits, jax.nn.one_hot(y, 40)).mean()

    optimizer = optax.adam(1e-3)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(32, 1024, 3), S(32, dtype=I32))


@program
def graph_convolution_normalised_train():
    n, edges = 20000, 120000
    p = like([(256, 128), (128, 128), (128, 32)])

    def loss(p, x, senders, receivers, labels):
        degree = jax.ops.segment_sum(jnp.ones(edges), receivers, n) + 1
        weight = lax.rsqrt(degree[senders] * degree[receivers])[:, None]
        for number, w in enumerate(p):
            h = x @ w
            x = jax.ops.segment_sum(h[senders] * weight, receivers, n) + h / degree[:, None]
            x = jax.nn.relu(x) if number < 2 else x
        return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()

    optimizer = optax.adam(1e-2)
    edge = S(edges, dtype=I32)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(n, 256), edge, edge, S(n, dtype=I32))


@program
def molecular_energy_and_forces():
    atoms, edges, d = 4096, 65536, 64
    p = like({"embed": (100, d), "filter": [(32, d), (d, d)], "update": [(d, d), (d, d)], "out": (d, 1)})

    def energy(positions, p, kinds, i, j):
        h = p["embed"][kinds]
        for w, u in zip(p["filter"][:1] * 2, p["update"], strict=True):
            distance = jnp.sqrt(jnp.square(positions[i] - positions[j]).sum(-1) + 1e-9)
            basis = jnp.exp(-10 * jnp.square(distance[:, None] - jnp.linspace(0, 5, 32)))
            weight = jax.nn.softplus(basis @ w) * (0.5 * (jnp.cos(math.pi * distance / 5) + 1))[:, None]
            h = h + jax.nn.softplus(jax.ops.segment_sum(h[j] * weight, i, atoms) @ u)
        return (h @ p["out"]).sum()

    def run(p, positions, kinds, i, j):
        value, slope = jax.value_and_grad(energy)(positions, p, kinds, i, j)
        return value, -slope

    edge = S(edges, dtype=I32)
    return run, (p, S(atoms, 3), S(atoms, dtype=I32), edge, edge)


@program
def dqn_replay_target_network_update():
    p = like({"c": [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)], "d": [(7744, 512), (512, 18)]})

    def q(p, x):
        x = x.astype(F32) / 255
        for w, stride in zip(p["c"], (4, 2, 1), strict=True):
            x = jax.nn.relu(conv(x, w, stride))
        return jax.nn.relu(x.reshape(x.shape[0], -1) @ p["d"][0]) @ p["d"][1]

    def loss(p, target, x, action, reward, following):
        best = reward + 0.99 * q(target, following).max(-1)
        chosen = jnp.take_along_axis(q(p, x), action[:, None], -1)[:, 0]
        return optax.huber_loss(chosen, lax.stop_gradient(best)).mean()

    optimizer = optax.rmsprop(2.5e-4, decay=0.95)

    def step(p, target, state, *batch):
        grads = jax.grad(loss)(p, target, *batch)
        updates, state = optimizer.update(grads, state, p)
        p = optax.apply_updates(p, updates)
        return p, optax.incremental_update(p, target, 0.005), state

    frames = S(128, 84, 84, 4, dtype=jnp.uint8)
    return step, (p, p, _opt(optimizer, p), frames, S(128, dtype=I32), S(128), frames)


@program
def dreamer_recurrent_state_space_train():
    d, z = 256, 128
    p = like(
        {
            "in": (z + 8, d),
            "gru": (2 * d, 3 * d),
            "prior": (d, 2 * z),
            "post": (2 * d, 2 * z),
            "enc": (512, d),
            "dec": (d + z, 512),
        }
    )

    def loss(p, observations, actions, seed):
        def cell(carry, step):
            h, s = carry
            o, a, key = step
            x = jax.nn.silu(jnp.concatenate([s, a], -1) @ p["in"])
            r, c, u = jnp.split(jnp.concatenate([x, h], -1) @ p["gru"], 3, -1)
            u = jax.nn.sigmoid(u)
            h = u * jnp.tanh(jax.nn.sigmoid(r) * c) + (1 - u) * h
            prior, post = h @ p["prior"], jnp.concatenate([h, o], -1) @ p["post"]
            mean, scale = jnp.split(post, 2, -1)
            s = mean + jax.nn.softplus(scale) * jax.random.normal(key, mean.shape)
            return (h, s), (h, s, prior, post)

        encoded = jax.nn.silu(observations @ p["enc"])
        keys = jax.random.split(jax.random.key(seed), encoded.shape[0])
        start = jnp.zeros((64, d)), jnp.zeros((64, z))
        _, (h, s, prior, post) = lax.scan(cell, start, (encoded, actions, keys))
        rebuilt = jnp.concatenate([h, s], -1) @ p["dec"]
        return jnp.square(rebuilt - observations).mean() + jnp.square(prior - post).mean()

    optimizer = optax.adam(1e-4)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(50, 64, 512), S(50, 64, 8), S(dtype=I32))


@program
def soft_actor_critic_three_updates():
    sizes = lambda i, o: like([(i, 512), (512, 512), (512, o)])
    actor, critics = sizes(64, 16), [sizes(72, 1)] * 2

    def mlp(p, x):
        for w in p[:-1]:
            x = jax.nn.relu(x @ w)
        return x @ p[-1]

    def act(p, x, key):
        mean, log = jnp.split(mlp(p, x), 2, -1)
        u = mean + jnp.exp(jnp.clip(log, -5, 2)) * jax.random.normal(key, mean.shape)
        return jnp.tanh(u), -(log + jnp.log1p(1e-6 - jnp.tanh(u) ** 2)).sum(-1)

    optimizer = optax.adam(3e-4)

    def step(actor, critics, targets, states, x, a, r, n, seed):
        k1, k2 = jax.random.split(jax.random.key(seed))
        value = lambda q, x, a: mlp(q, jnp.concatenate([x, a], -1))[:, 0]

        def critic_loss(critics):
            following, entropy = act(actor, n, k1)
            best = jnp.minimum(*(value(q, n, following) for q in targets)) + 0.1 * entropy
            return sum(jnp.square(value(q, x, a) - lax.stop_gradient(r + 0.99 * best)).mean() for q in critics)

        def actor_loss(actor):
            chosen, entropy = act(actor, x, k2)
            return (-0.1 * entropy - jnp.minimum(*(value(q, x, chosen) for q in critics))).mean()

        made = []
        for p, state, loss in zip((actor, critics), states, (actor_loss, critic_loss), strict=True):
            updates, state = optimizer.update(jax.grad(loss)(p), state, p)
            made.append((optax.apply_updates(p, updates), state))
        return made, optax.incremental_update(made[1][0], targets, 0.005)

    states = (_opt(optimizer, actor), _opt(optimizer, critics))
    batch = S(2048, 64), S(2048, 8), S(2048), S(2048, 64), S(dtype=I32)
    return step, (actor, critics, critics, states, *batch)


@program
def recommender_interactions_adagrad():
    p = like({"tables": (26, 20000, 32), "bottom": [(13, 128), (128, 32)], "top": [(383, 256), (256, 1)]})

    def loss(p, dense, sparse, y):
        x = dense
        for w in p["bottom"]:
            x = jax.nn.relu(x @ w)
        rows = jax.vmap(lambda table, i: table[i], (0, 1), 1)(p["tables"], sparse)
        every = jnp.concatenate([x[:, None], rows], 1)
        i, j = jnp.tril_indices(27, -1)
        dots = jnp.einsum("bid,bjd->bij", every, every)[:, i, j]
        z = jnp.concatenate([x, dots], -1)
        for w in p["top"]:
            z = jax.nn.relu(z @ w) if w.shape[1] > 1 else z @ w
        return optax.sigmoid_binary_cross_entropy(z[:, 0], y).mean()

    optimizer = optax.adagrad(1e-2)
    return _train(optimizer, loss), (p, _opt(optimizer, p), S(2048, 13), S(2048, 26, dtype=I32), S(2048))


@program
def scan_layers_dropout_remat_names_adam():
    layers, d = 8, 384
    stack = like({"qkv": (layers, d, 3 * d), "o": (layers, d, d), "up": (layers, d, 4 * d), "down": (layers, 4 * d, d)})

    def loss(p, x, seed):
        keys = jax.random.split(jax.random.key(seed), layers)

        @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        def block(x, step):
            w, key = step
            q, k, v = (split_heads(a, 6) for a in jnp.split(rms_norm(x, 1.0) @ w["qkv"], 3, -1))
            x = x + attention(q, k, v).reshape(x.shape) @ w["o"]
            y = jax.nn.gelu(rms_norm(x, 1.0) @ w["up"]) @ w["down"]
            return x + jnp.where(jax.random.bernoulli(key, 0.9, y.shape), y / 0.9, 0), None

        x, _ = lax.scan(block, x, (p, keys))
        return jnp.square(x).mean()

    optimizer = optax.adamw(1e-3)
    return _train(optimizer, loss), (stack, _opt(optimizer, stack), S(8, 256, d), S(dtype=U32))


@program
def denoising_unet_sampling_loop():
    p = like({"in": (3, 3, 3, 64), "down": (3, 3, 64, 128), "mid": (3, 3, 128, 128), "up": (3, 3, 192, 64),
              "out": (3, 3, 64, 3), "g": (128,), "b": (128,)})  # fmt: skip

    def noise(p, x):
        a = jax.nn.silu(conv(x, p["in"]))
        b = jax.nn.silu(group_norm(conv(a, p["down"], 2), p["g"], p["b"]))
        b = b + jax.nn.silu(conv(b, p["mid"]))
        b = jax.image.resize(b, (*a.shape[:3], 128), "nearest")
        return conv(jax.nn.silu(conv(jnp.concatenate([a, b], -1), p["up"])), p["out"])

    def sample(p, seed):
        key, first = jax.random.split(jax.random.key(seed))

        def step(carry, t):
            x, key = carry
            key, used = jax.random.split(key)
            alpha = jnp.cos(t / 50)
            x = (x - (1 - alpha) * noise(p, x)) / jnp.sqrt(alpha) + 0.01 * jax.random.normal(used, x.shape)
            return (x, key), None

        return lax.scan(step, (jax.random.normal(first, (8, 64, 64, 3)), key), jnp.arange(50.0))[0][0]

    return sample, (p, S(dtype=I32))
