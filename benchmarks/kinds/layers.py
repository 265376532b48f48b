"""Attention variants, mixtures of experts, einsums, decoding, large vocabularies."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from kinds.registry import BF16, F32, I8, I32, S, attention, like, program, rms_norm, sgd, split_heads


def _moe_args(tokens, d, hidden, experts, dtype=F32):
    weights = {"router": (d, experts), "up": (experts, d, hidden), "down": (experts, hidden, d)}
    return like(weights, dtype), S(tokens, d, dtype=dtype)


def _sorted_moe(p, x, k=2):
    experts = p["up"].shape[0]
    gates, chosen = lax.top_k(jax.nn.softmax(x @ p["router"]), k)
    order = jnp.argsort(chosen.reshape(-1))
    rows = x[order // k]
    sizes = jnp.bincount(chosen.reshape(-1), length=experts).astype(I32)
    y = lax.ragged_dot(jax.nn.silu(lax.ragged_dot(rows, p["up"], sizes)), p["down"], sizes)
    y = jnp.zeros_like(y).at[order].set(y).reshape(*x.shape[:-1], k, x.shape[-1])
    return jnp.einsum("tkd,tk->td", y, gates.astype(y.dtype))


@program
def moe_sorted_ragged_forward():
    return _sorted_moe, _moe_args(4096, 512, 1024, 8)


@program
def moe_sorted_ragged_grad():
    return jax.grad(lambda p, x: jnp.square(_sorted_moe(p, x)).mean()), _moe_args(2048, 512, 1024, 8)


@program
def moe_sorted_ragged_bf16_grad():
    return jax.grad(lambda p, x: _sorted_moe(p, x).astype(F32).mean()), _moe_args(4096, 768, 1536, 16, BF16)


@program
def ragged_weight_gradient():
    loss = lambda w, x, sizes: lax.ragged_dot(x, w, sizes).sum()
    return jax.grad(loss), (S(8, 512, 768), S(4096, 512), S(8, dtype=I32))


@program
def moe_capacity_dispatch_grad():
    def layer(p, x, capacity=512):
        t, experts = x.shape[0], p["up"].shape[0]
        probs = jax.nn.softmax(x @ p["router"])
        expert = jnp.argmax(probs, -1)
        onehot = jax.nn.one_hot(expert, experts)
        place = (jnp.cumsum(onehot, 0) * onehot).astype(I32).max(-1) - 1
        dispatch = onehot[:, :, None] * jax.nn.one_hot(place, capacity)[:, None]
        h = jnp.einsum("tec,td->ecd", dispatch, x)
        h = jnp.einsum("ech,ehd->ecd", jax.nn.gelu(jnp.einsum("ecd,edh->ech", h, p["up"])), p["down"])
        return jnp.einsum("tec,ecd->td", dispatch * probs[:, :, None], h).sum() / t

    return jax.grad(layer), _moe_args(2048, 512, 1024, 8)


@program
def expert_choice_gather():
    def layer(p, x):
        scores = jax.nn.softmax(x @ p["router"], -1)
        weight, chosen = lax.top_k(scores.T, 512)
        h = jnp.einsum("ecd,edh->ech", x[chosen], p["up"])
        y = jnp.einsum("ech,ehd->ecd", jax.nn.relu(h), p["down"]) * weight[..., None]
        return jnp.zeros_like(x).at[chosen.reshape(-1)].add(y.reshape(-1, x.shape[-1]))

    return layer, _moe_args(4096, 512, 2048, 16)


def _qkv(d, heads, kv):
    head = d // heads
    return like({"q": (d, heads * head), "k": (d, kv * head), "v": (d, kv * head), "o": (d, d)})


@program
def grouped_query_attention_grad():
    def loss(p, x):
        q, k, v = split_heads(x @ p["q"], 16), split_heads(x @ p["k"], 4), split_heads(x @ p["v"], 4)
        k, v = (jnp.repeat(a, 4, axis=2) for a in (k, v))
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        return jnp.square(attention(q, k, v, mask).reshape(x.shape) @ p["o"]).mean()

    return jax.value_and_grad(loss), (_qkv(1024, 16, 4), S(4, 512, 1024))


@program
def chunked_attention_online_softmax():
    def fn(q, k, v):
        b, t, h, d = q.shape
        ks, vs = (a.reshape(b, 16, t // 16, h, d).transpose(1, 0, 2, 3, 4) for a in (k, v))

        def step(carry, kv):
            m, l, acc = carry
            s = jnp.einsum("bqhd,bkhd->bhqk", q, kv[0]) * d**-0.5
            new = jnp.maximum(m, s.max(-1))
            p = jnp.exp(s - new[..., None])
            scale = jnp.exp(m - new)
            acc = acc * scale[..., None] + jnp.einsum("bhqk,bkhd->bhqd", p, kv[1])
            return (new, l * scale + p.sum(-1), acc), None

        first = (jnp.full((b, h, t), -jnp.inf), jnp.zeros((b, h, t)), jnp.zeros((b, h, t, d)))
        (_, l, acc), _ = lax.scan(step, first, (ks, vs))
        return acc / l[..., None]

    return fn, (S(2, 2048, 8, 64),) * 3


@program
def linear_attention_feature_map_grad():
    def loss(q, k, v):
        fq, fk = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        kv = jnp.einsum("bthk,bthv->bhkv", fk, v)
        z = 1 / (jnp.einsum("bthk,bhk->bth", fq, fk.sum(1)) + 1e-6)
        return jnp.einsum("bthk,bhkv,bth->bthv", fq, kv, z).var()

    return jax.grad(loss, argnums=(0, 1, 2)), (S(4, 2048, 8, 64),) * 3


@program
def attention_alibi_bias_bf16():
    def fn(x, w):
        q, k, v = jnp.split(x @ w, 3, -1)
        q, k, v = (split_heads(a, 12) for a in (q, k, v))
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=F32)
        t = jnp.arange(x.shape[1])
        s = s - jnp.exp2(-jnp.arange(1, 13.0))[:, None, None] * jnp.abs(t[:, None] - t[None])
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s).astype(BF16), v)

    return fn, (S(4, 768, 768, dtype=BF16), S(768, 2304, dtype=BF16))


@program
def cross_attention_perceiver_grad():
    def loss(p, latents, x):
        for w in p:
            q, k, v = split_heads(latents @ w["q"], 8), split_heads(x @ w["k"], 8), split_heads(x @ w["v"], 8)
            latents = latents + attention(q, k, v).reshape(latents.shape) @ w["o"]
            latents = latents + jax.nn.gelu(latents @ w["up"]) @ w["down"]
        return latents.mean()

    layer = {"q": (512, 512), "k": (256, 512), "v": (256, 512), "o": (512, 512), "up": (512, 2048), "down": (2048, 512)}
    return jax.value_and_grad(loss), (like([layer] * 3), S(8, 128, 512), S(8, 2048, 256))


@program
def swin_window_attention_shifted():
    def fn(x, w, table, index):
        x = jnp.roll(x, (-4, -4), (1, 2))
        b, h, _, c = x.shape
        y = x.reshape(b, h // 8, 8, h // 8, 8, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 64, c)
        q, k, v = (split_heads(a, 6) for a in jnp.split(y @ w, 3, -1))
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k) + table[index].transpose(2, 0, 1)
        y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s), v).reshape(b, h // 8, h // 8, 8, 8, c)
        return jnp.roll(y.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape), (4, 4), (1, 2))

    return fn, (S(16, 56, 56, 192), S(192, 576), S(225, 6), S(64, 64, dtype=I32))


@program
def einsum_tensor_train():
    def fn(cores, x):
        y = x.reshape(-1, 16, 16, 16)
        return jnp.einsum("nabc,apr,rbqs,scu->npqu", y, *cores)

    return fn, ((S(16, 16, 32), S(32, 16, 16, 32), S(32, 16, 16)), S(512, 4096))


@program
def einsum_time_first_heads():
    def fn(q, k, v):
        kv = jnp.einsum("tbhk,tbhkv->hkv", k, v)
        return jnp.einsum("tbhk,hkv->tbhv", q, kv)

    return fn, (S(128, 8, 8, 32), S(128, 8, 8, 32), S(128, 8, 8, 32, 32))


@program
def einsum_bilinear_pairs_grad():
    def loss(a, b, w):
        return jnp.tanh(jnp.einsum("bif,fgr,bjg->bijr", a, w, b)).sum()

    return jax.grad(loss, argnums=(0, 1, 2)), (S(8, 96, 64), S(8, 96, 64), S(64, 64, 32))


@program
def triangle_multiplication_pairs():
    def fn(z, w):
        a, b = jax.nn.sigmoid(z @ w["ga"]) * (z @ w["a"]), jax.nn.sigmoid(z @ w["gb"]) * (z @ w["b"])
        return jax.nn.sigmoid(z @ w["g"]) * (jnp.einsum("ikc,jkc->ijc", a, b) @ w["o"])

    return fn, (S(256, 256, 128), like(dict.fromkeys(("ga", "a", "gb", "b", "g", "o"), (128, 128))))


@program
def merged_projections_forward():
    def fn(p, x):
        return tuple(jnp.tanh(x @ p[name]) @ p["o"] for name in ("q", "k", "v"))

    return fn, (like({"q": (512, 768), "k": (512, 768), "v": (512, 768), "o": (768, 512)}), S(8192, 512))


def _llm(layers, d, hidden, heads, vocab, dtype):
    layer = {
        "n1": (d,),
        "qkv": (d, 3 * d),
        "o": (d, d),
        "n2": (d,),
        "gate": (d, hidden),
        "up": (d, hidden),
        "down": (hidden, d),
    }
    stacked = {name: (layers, *shape) for name, shape in layer.items()}
    return like({"embed": (vocab, d), "blocks": stacked, "norm": (d,)}, dtype)


def _decode(p, cache, token, position, heads):
    x = p["embed"][token]

    def layer(x, inputs):
        w, (k_cache, v_cache) = inputs
        b, d = x.shape
        q, k, v = (a.reshape(b, heads, -1) for a in jnp.split(rms_norm(x, w["n1"]) @ w["qkv"], 3, -1))
        k_cache = lax.dynamic_update_slice(k_cache, k[:, None].astype(k_cache.dtype), (0, position, 0, 0))
        v_cache = lax.dynamic_update_slice(v_cache, v[:, None].astype(v_cache.dtype), (0, position, 0, 0))
        s = jnp.einsum("bhd,bthd->bht", q, k_cache.astype(q.dtype)) * q.shape[-1] ** -0.5
        s = jnp.where(jnp.arange(k_cache.shape[1]) <= position, s, -1e9)
        o = jnp.einsum("bht,bthd->bhd", jax.nn.softmax(s.astype(F32)).astype(q.dtype), v_cache.astype(q.dtype))
        x = x + o.reshape(b, d) @ w["o"]
        y = rms_norm(x, w["n2"])
        return x + (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"], (k_cache, v_cache)

    x, cache = lax.scan(layer, x, (p["blocks"], cache))
    return (rms_norm(x, p["norm"]) @ p["embed"].T).astype(F32), cache


def _decode_args(layers, d, heads, vocab, batch, length, dtype):
    cache = S(layers, batch, length, heads, d // heads, dtype=dtype)
    return _llm(layers, d, 3 * d, heads, vocab, dtype), (cache, cache), S(batch, dtype=I32), S(dtype=I32)


@program
def decode_scan_layers_donated_bf16():
    fn = jax.jit(functools.partial(_decode, heads=16), donate_argnums=1)
    return fn, _decode_args(6, 1024, 16, 16000, 16, 1024, BF16)


@program
def decode_generate_loop_f32():
    def generate(p, cache, token):
        def step(carry, position):
            cache, token = carry
            logits, cache = _decode(p, cache, token, position, heads=8)
            token = jnp.argmax(logits, -1).astype(I32)
            return (cache, token), token

        return lax.scan(step, (cache, token), jnp.arange(64))[1]

    return generate, _decode_args(4, 512, 8, 8000, 8, 512, F32)[:3]


@program
def decode_int8_weights():
    def fn(weights, scales, x):
        for w, s in zip(weights, scales, strict=True):
            x = jax.nn.silu(x @ (w.astype(BF16) * s))
        return x

    return fn, ([S(2048, 2048, dtype=I8)] * 6, [S(2048, dtype=BF16)] * 6, S(64, 2048, dtype=BF16))


@program
def beam_search_step():
    def fn(logits, scores, cache, sequences):
        b, beams, vocab = logits.shape
        total = (jax.nn.log_softmax(logits) + scores[..., None]).reshape(b, -1)
        best, index = lax.top_k(total, beams)
        parent = index // vocab
        take = lambda a: jnp.take_along_axis(a, parent.reshape(b, beams, *(1,) * (a.ndim - 2)), axis=1)
        return best, take(cache), take(sequences), index % vocab

    return fn, (S(8, 6, 32000), S(8, 6), S(8, 6, 256, 512), S(8, 6, 256, dtype=I32))


@program
def large_vocabulary_loss_grad():
    def loss(w, x, labels):
        logits = x @ w
        return (jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]).mean()

    return jax.value_and_grad(loss, argnums=(0, 1)), (S(512, 50000), S(1024, 512), S(1024, dtype=I32))


@program
def large_vocabulary_chunked_loss_bf16():
    def loss(w, x, labels):
        @jax.checkpoint
        def chunk(total, xy):
            logits = (xy[0] @ w).astype(F32)
            return total + (
                jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, xy[1][:, None], 1)[:, 0]
            ).sum(), None

        xs = x.reshape(8, -1, x.shape[-1]), labels.reshape(8, -1)
        return lax.scan(chunk, 0.0, xs)[0]

    return jax.grad(loss, argnums=(0, 1)), (S(768, 50304, dtype=BF16), S(4096, 768, dtype=BF16), S(4096, dtype=I32))


@program
def sampled_softmax_embedding_sgd():
    def step(table, context, target, negative):
        def loss(table):
            h = table[context].mean(1)
            positive = (h * table[target]).sum(-1)
            other = jnp.einsum("bd,bnd->bn", h, table[negative])
            return -(jax.nn.log_sigmoid(positive) + jax.nn.log_sigmoid(-other).sum(-1)).mean()

        return sgd(table, jax.grad(loss)(table))

    return step, (S(100000, 128), S(4096, 8, dtype=I32), S(4096, dtype=I32), S(4096, 16, dtype=I32))
