"""A sample of realistic programs, written by someone who knew nothing of costax's models: 46 of 7 MB to 1.7 GB.

`PROGRAMS` has a function by name that returns (fn, args). What is tuned to the corpus of the tests is tried on these.
"""

import functools
import math
import os

os.environ.setdefault("EQX_ON_ERROR", "nan")  # no host callbacks: they do not lower for cuda on a cpu host

import diffrax
import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

F32, BF16, I32, U32 = jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint32
PROGRAMS = {}


def S(*shape, dtype=F32):
    return jax.ShapeDtypeStruct(shape, dtype)


KEY = S(2, dtype=U32)


def program(make):
    PROGRAMS[make.__name__] = make
    return make


def dense_init(key, n_in, n_out):
    return {"w": jax.random.normal(key, (n_in, n_out)) / math.sqrt(n_in), "b": jnp.zeros(n_out)}


def dense(p, x):
    return x @ p["w"] + p["b"]


def mlp_init(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    return [dense_init(k, a, b) for k, a, b in zip(keys, sizes[:-1], sizes[1:])]


def mlp_apply(params, x, act=jax.nn.relu):
    for p in params[:-1]:
        x = act(dense(p, x))
    return dense(params[-1], x)


def shapes(init, *args):
    return jax.eval_shape(init, *args)


# ---------------------------------------------------------------- transformers
def layer_norm(p, x):
    mu = x.mean(-1, keepdims=True)
    var = ((x - mu) ** 2).mean(-1, keepdims=True)
    return (x - mu) * lax.rsqrt(var + 1e-5) * p["g"] + p["b"]


@program
def gpt_train_f32_adam():
    V, T, D, H, L, B = 9000, 256, 384, 6, 5, 12

    def init(key):
        ks = jax.random.split(key, L + 2)

        def block(k):
            a, b, c, d = jax.random.split(k, 4)
            ln = {"g": jnp.ones(D), "b": jnp.zeros(D)}
            return dict(
                ln1=ln,
                ln2=ln,
                qkv=dense_init(a, D, 3 * D),
                o=dense_init(b, D, D),
                up=dense_init(c, D, 4 * D),
                down=dense_init(d, 4 * D, D),
            )

        return dict(
            wte=jax.random.normal(ks[0], (V, D)) * 0.02,
            wpe=jax.random.normal(ks[1], (T, D)) * 0.02,
            blocks=[block(k) for k in ks[2:]],
            lnf={"g": jnp.ones(D), "b": jnp.zeros(D)},
        )

    opt = optax.adam(3e-4)

    def attention(p, x):
        b, t, _ = x.shape
        q, k, v = jnp.split(dense(p["qkv"], x), 3, -1)
        q, k, v = (a.reshape(b, t, H, D // H).transpose(0, 2, 1, 3) for a in (q, k, v))
        s = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // H)
        s = jnp.where(jnp.tril(jnp.ones((t, t), bool)), s, -1e9)
        y = jax.nn.softmax(s) @ v
        return dense(p["o"], y.transpose(0, 2, 1, 3).reshape(b, t, D))

    def loss_fn(params, tokens):
        x, y = tokens[:, :-1], tokens[:, 1:]
        h = params["wte"][x] + params["wpe"]
        for p in params["blocks"]:
            h = h + attention(p, layer_norm(p["ln1"], h))
            h = h + dense(p["down"], jax.nn.gelu(dense(p["up"], layer_norm(p["ln2"], h))))
        logits = layer_norm(params["lnf"], h) @ params["wte"].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, tokens):
        loss, g = jax.value_and_grad(loss_fn)(params, tokens)
        up, state = opt.update(g, state, params)
        return optax.apply_updates(params, up), state, loss

    params = shapes(init, KEY)
    return step, (params, shapes(opt.init, params), S(B, T + 1, dtype=I32))


def rms(x, g):
    x32 = x.astype(F32)
    return (x32 * lax.rsqrt((x32 * x32).mean(-1, keepdims=True) + 1e-6)).astype(x.dtype) * g


def rope(x, base=10000.0, offset=0):
    t, d = x.shape[1], x.shape[-1]
    inv = base ** (-jnp.arange(0, d, 2, dtype=F32) / d)
    ang = (jnp.arange(t) + offset)[:, None] * inv
    c, s = jnp.cos(ang)[None, :, None], jnp.sin(ang)[None, :, None]
    x1, x2 = jnp.split(x.astype(F32), 2, -1)
    return jnp.concatenate([x1 * c - x2 * s, x1 * s + x2 * c], -1).astype(x.dtype)


def llama_shapes(D, H, KV, dh, F, lead=(), dtype=F32):
    return dict(
        n1=S(*lead, D, dtype=dtype),
        n2=S(*lead, D, dtype=dtype),
        wq=S(*lead, D, H, dh, dtype=dtype),
        wk=S(*lead, D, KV, dh, dtype=dtype),
        wv=S(*lead, D, KV, dh, dtype=dtype),
        wo=S(*lead, H, dh, D, dtype=dtype),
        gate=S(*lead, D, F, dtype=dtype),
        up=S(*lead, D, F, dtype=dtype),
        down=S(*lead, F, D, dtype=dtype),
    )


def llama_block(p, x):
    H, KV, dh = p["wq"].shape[1], p["wk"].shape[1], p["wq"].shape[2]
    h = rms(x, p["n1"])
    q = rope(jnp.einsum("btd,dhk->bthk", h, p["wq"]))
    k = rope(jnp.einsum("btd,dhk->bthk", h, p["wk"]))
    v = jnp.einsum("btd,dhk->bthk", h, p["wv"])
    b, t = x.shape[:2]
    q = q.reshape(b, t, KV, H // KV, dh)
    s = jnp.einsum("btgrk,bsgk->bgrts", q, k, preferred_element_type=F32) / math.sqrt(dh)
    s = jnp.where(jnp.arange(t)[:, None] >= jnp.arange(t), s, -jnp.inf)
    a = jax.nn.softmax(s, axis=-1).astype(x.dtype)
    o = jnp.einsum("bgrts,bsgk->btgrk", a, v).reshape(b, t, H, dh)
    x = x + jnp.einsum("bthk,hkd->btd", o, p["wo"])
    h = rms(x, p["n2"])
    return x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]


@program
def llama_block_bf16_forward():
    p = llama_shapes(1920, 20, 4, 96, 5120, dtype=BF16)
    return llama_block, (p, S(2, 1024, 1920, dtype=BF16))


@program
def llama_train_scan_remat_bf16():
    V, L, D, B, T = 14000, 6, 768, 4, 640
    params = dict(emb=S(V, D), head=S(D, V), nf=S(D), layers=llama_shapes(D, 12, 4, 64, 2048, lead=(L,)))
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-4, weight_decay=0.1))

    def loss_fn(params, tok):
        c = jax.tree.map(lambda a: a.astype(BF16), params)
        x = c["emb"][tok[:, :-1]]
        body = jax.checkpoint(llama_block)
        x, _ = lax.scan(lambda h, p: (body(p, h), None), x, c["layers"])
        logits = (rms(x, c["nf"]) @ c["head"]).astype(F32)
        lse = jax.nn.logsumexp(logits, -1)
        pick = jnp.take_along_axis(logits, tok[:, 1:, None], -1)[..., 0]
        return (lse - pick).mean() + 1e-4 * (lse**2).mean()

    def step(params, state, tok):
        loss, g = jax.value_and_grad(loss_fn)(params, tok)
        up, state = opt.update(g, state, params)
        return optax.apply_updates(params, up), state, {"loss": loss, "gnorm": optax.global_norm(g)}

    return jax.jit(step, donate_argnums=(0, 1)), (params, shapes(opt.init, params), S(B, T + 1, dtype=I32))


@program
def vit_flax_train_adamw():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=6)(y, y)
            y = nn.LayerNorm()(x)
            return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(4 * x.shape[-1])(y)))

    class ViT(nn.Module):
        @nn.compact
        def __call__(self, img):
            x = nn.Conv(384, (16, 16), (16, 16))(img)
            x = x.reshape(x.shape[0], -1, x.shape[-1])
            x = x + self.param("pos", nn.initializers.normal(0.02), (1, x.shape[1], 384))
            for _ in range(4):
                x = Block()(x)
            return nn.Dense(200)(nn.LayerNorm()(x).mean(1))

    model, opt, B = ViT(), optax.adamw(1e-3), 40
    params = shapes(lambda k: model.init(k, jnp.zeros((1, 256, 256, 3)))["params"], KEY)

    def step(params, state, img, lab):
        def loss_fn(p):
            logits = model.apply({"params": p}, img)
            return optax.softmax_cross_entropy_with_integer_labels(logits, lab).mean()

        loss, g = jax.value_and_grad(loss_fn)(params)
        up, state = opt.update(g, state, params)
        return optax.apply_updates(params, up), state, loss

    return step, (params, shapes(opt.init, params), S(B, 256, 256, 3), S(B, dtype=I32))


@program
def decode_step_kv_cache_donated():
    V, L, D, H, KV, dh, B, T = 20000, 10, 1024, 16, 4, 64, 6, 1200
    layers = llama_shapes(D, H, KV, dh, 2816, lead=(L,), dtype=BF16)
    params = dict(emb=S(V, D, dtype=BF16), nf=S(D, dtype=BF16), layers=layers)
    cache = S(L, B, T, KV, dh, dtype=BF16)

    def decode(params, kc, vc, tok, pos):
        x = params["emb"][tok][:, None]

        def layer(x, inp):
            p, k_old, v_old = inp
            h = rms(x, p["n1"])
            q = rope(jnp.einsum("btd,dhk->bthk", h, p["wq"]), offset=pos)
            k = rope(jnp.einsum("btd,dhk->bthk", h, p["wk"]), offset=pos)
            v = jnp.einsum("btd,dhk->bthk", h, p["wv"])
            k_new = lax.dynamic_update_slice(k_old, k, (0, pos, 0, 0))
            v_new = lax.dynamic_update_slice(v_old, v, (0, pos, 0, 0))
            q = q.reshape(B, KV, H // KV, dh)
            s = jnp.einsum("bgrk,bsgk->bgrs", q, k_new).astype(F32) / math.sqrt(dh)
            s = jnp.where(jnp.arange(T) <= pos, s, -1e30)
            o = jnp.einsum("bgrs,bsgk->bgrk", jax.nn.softmax(s).astype(BF16), v_new)
            x = x + jnp.einsum("bhk,hkd->bd", o.reshape(B, H, dh), p["wo"])[:, None]
            h = rms(x, p["n2"])
            x = x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]
            return x, (k_new, v_new)

        x, (kc, vc) = lax.scan(layer, x, (params["layers"], kc, vc))
        logits = rms(x[:, 0], params["nf"]) @ params["emb"].T
        return jnp.argmax(logits, -1), kc, vc

    return (jax.jit(decode, donate_argnums=(1, 2)), (params, cache, cache, S(B, dtype=I32), S(dtype=I32)))


@program
def sliding_window_attention_grad():
    B, T, H, dh, W = 2, 4000, 8, 64, 250

    def attend(q, k, v):
        n = T // W
        q, k, v = (a.reshape(B, n, W, H, dh) for a in (q, k, v))
        prev = lambda a: jnp.concatenate([jnp.zeros_like(a[:, :1]), a[:, :-1]], 1)
        k2, v2 = (jnp.concatenate([prev(a), a], 2) for a in (k, v))
        s = jnp.einsum("bnqhd,bnkhd->bnhqk", q, k2) / math.sqrt(dh)
        i, j = jnp.arange(W)[:, None] + W, jnp.arange(2 * W)[None]
        ok = (j <= i) & (j > i - W)
        first = ok & (j >= W)
        mask = jnp.where(jnp.arange(n)[:, None, None] == 0, first, ok)[None, :, None]
        p = jax.nn.softmax(jnp.where(mask, s, -1e9), -1)
        return jnp.einsum("bnhqk,bnkhd->bnqhd", p, v2).reshape(B, T, H, dh)

    def grads(q, k, v, ct):
        out, vjp = jax.vjp(attend, q, k, v)
        return out, vjp(ct)

    x = S(B, T, H, dh)
    return grads, (x, x, x, x)


@program
def moe_top2_layer_grad():
    N, D, F, E, C = 2400, 512, 1408, 8, 750

    def moe(p, x):
        gates = jax.nn.softmax((x @ p["router"]).astype(F32))
        w, idx = lax.top_k(gates, 2)
        w = w / w.sum(-1, keepdims=True)
        onehot = jax.nn.one_hot(idx, E, dtype=I32)  # N,2,E
        flat = onehot.transpose(1, 0, 2).reshape(2 * N, E)
        pos = (jnp.cumsum(flat, 0) - 1).reshape(2, N, E).transpose(1, 0, 2)
        keep = (pos < C) & (onehot > 0)
        slot = jax.nn.one_hot(jnp.where(keep, pos, -1), C, dtype=BF16)  # N,2,E,C
        dispatch = slot.sum(1)
        combine = (slot * w[:, :, None, None].astype(BF16)).sum(1)
        xe = jnp.einsum("nec,nd->ecd", dispatch, x)
        h = jax.nn.silu(jnp.einsum("ecd,edf->ecf", xe, p["w1"])) * jnp.einsum("ecd,edf->ecf", xe, p["w3"])
        y = jnp.einsum("nec,ecd->nd", combine, jnp.einsum("ecf,efd->ecd", h, p["w2"]))
        aux = E * (gates.mean(0) * onehot[:, 0].mean(0)).sum()
        return y, aux

    def loss(p, x, t):
        y, aux = moe(p, x)
        return ((y - t).astype(F32) ** 2).mean() + 0.01 * aux

    p = dict(
        router=S(D, E, dtype=BF16), w1=S(E, D, F, dtype=BF16), w3=S(E, D, F, dtype=BF16), w2=S(E, F, D, dtype=BF16)
    )
    return jax.value_and_grad(loss), (p, S(N, D, dtype=BF16), S(N, D, dtype=BF16))


# ---------------------------------------------------------------- vision
@program
def mlp_mixer_nnx_sgd_momentum():
    class MixerBlock(nnx.Module):
        def __init__(self, n, d, rngs):
            self.n1, self.n2 = nnx.LayerNorm(d, rngs=rngs), nnx.LayerNorm(d, rngs=rngs)
            self.t1, self.t2 = nnx.Linear(n, 2 * n, rngs=rngs), nnx.Linear(2 * n, n, rngs=rngs)
            self.c1, self.c2 = nnx.Linear(d, 4 * d, rngs=rngs), nnx.Linear(4 * d, d, rngs=rngs)

        def __call__(self, x):
            y = self.n1(x).swapaxes(1, 2)
            x = x + self.t2(nnx.gelu(self.t1(y))).swapaxes(1, 2)
            return x + self.c2(nnx.gelu(self.c1(self.n2(x))))

    class Mixer(nnx.Module):
        def __init__(self, rngs):
            self.stem = nnx.Conv(3, 192, (12, 12), strides=12, rngs=rngs)
            for i in range(4):
                setattr(self, f"block{i}", MixerBlock(144, 192, rngs))
            self.norm, self.head = nnx.LayerNorm(192, rngs=rngs), nnx.Linear(192, 101, rngs=rngs)

        def __call__(self, x):
            x = self.stem(x)
            x = x.reshape(x.shape[0], -1, x.shape[-1])
            for i in range(4):
                x = getattr(self, f"block{i}")(x)
            return self.head(self.norm(x).mean(1))

    abstract = nnx.eval_shape(lambda: Mixer(nnx.Rngs(0)))
    graph, params = nnx.split(abstract)
    params = nnx.to_pure_dict(params)
    template = nnx.split(abstract)[1]

    def step(params, mom, img, lab):
        def loss_fn(p):
            state = jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(p))
            logits = nnx.merge(graph, state)(img)
            return optax.softmax_cross_entropy_with_integer_labels(logits, lab).mean()

        loss, g = jax.value_and_grad(loss_fn)(params)
        mom = jax.tree.map(lambda m, a: 0.9 * m + a, mom, g)
        return jax.tree.map(lambda p, m: p - 0.05 * m, params, mom), mom, loss

    return step, (params, params, S(36, 144, 144, 3), S(36, dtype=I32))


@program
def resnet_flax_batchnorm_train():
    class Block(nn.Module):
        ch: int
        stride: int = 1

        @nn.compact
        def __call__(self, x, train=True):
            norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
            y = nn.relu(norm()(nn.Conv(self.ch, (3, 3), (self.stride,) * 2, use_bias=False)(x)))
            y = norm()(nn.Conv(self.ch, (3, 3), use_bias=False)(y))
            if x.shape != y.shape:
                x = norm()(nn.Conv(self.ch, (1, 1), (self.stride,) * 2, use_bias=False)(x))
            return nn.relu(x + y)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=True):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(48, (7, 7), (2, 2), use_bias=False)(x)))
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            x = Block(48)(x, train)
            x = Block(96, 2)(x, train)
            x = Block(192, 2)(x, train)
            return nn.Dense(120)(x.mean((1, 2)))

    net, opt, B = Net(), optax.sgd(0.1, momentum=0.9, nesterov=True), 50
    var = shapes(lambda k: net.init(k, jnp.zeros((1, 160, 160, 3))), KEY)

    def step(params, stats, state, img, lab):
        def loss_fn(p):
            logits, new = net.apply({"params": p, "batch_stats": stats}, img, mutable=["batch_stats"])
            l2 = sum((a**2).sum() for a in jax.tree.leaves(p))
            ce = optax.softmax_cross_entropy_with_integer_labels(logits, lab).mean()
            return ce + 1e-4 * l2, (new["batch_stats"], logits)

        (loss, (stats, logits)), g = jax.value_and_grad(loss_fn, has_aux=True)(params)
        up, state = opt.update(g, state, params)
        acc = (logits.argmax(-1) == lab).mean()
        return optax.apply_updates(params, up), stats, state, loss, acc

    p = var["params"]
    return (
        jax.jit(step, donate_argnums=(0, 1, 2)),
        (p, var["batch_stats"], shapes(opt.init, p), S(B, 160, 160, 3), S(B, dtype=I32)),
    )


def conv(x, w, stride=1, pad="SAME", dn=("NHWC", "HWIO", "NHWC"), **kw):
    nd = x.ndim - 2
    return lax.conv_general_dilated(x, w, (stride,) * nd, pad, dimension_numbers=dn, **kw)


@program
def mobilenet_depthwise_bf16_forward_backward():
    chans = [(24, 48, 1), (48, 72, 2), (72, 72, 1), (72, 144, 2), (144, 144, 1)]
    params = dict(
        stem=S(3, 3, 3, 24),
        head=S(144, 60),
        blocks=[dict(dw=S(3, 3, 1, a), pw=S(1, 1, a, b), g1=S(a), b1=S(a), g2=S(b), b2=S(b)) for a, b, _ in chans],
    )

    def bn(x, g, b):
        x = x.astype(F32)
        m, v = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return ((x - m) * lax.rsqrt(v + 1e-3) * g + b).astype(BF16)

    def forward(params, img):
        x = jax.nn.relu6(conv(img.astype(BF16), params["stem"].astype(BF16), 2))
        for p, (a, b, s) in zip(params["blocks"], chans):
            y = conv(x, p["dw"].astype(BF16), s, feature_group_count=a)
            y = jax.nn.relu6(bn(y, p["g1"], p["b1"]))
            y = bn(conv(y, p["pw"].astype(BF16)), p["g2"], p["b2"])
            x = x + y if x.shape == y.shape else jax.nn.relu6(y)
        x = lax.reduce_window(x.astype(F32), 0.0, lax.add, (1, 4, 4, 1), (1, 4, 4, 1), "VALID") / 16
        return x.mean((1, 2)) @ params["head"]

    def loss(params, img, lab):
        lp = jax.nn.log_softmax(forward(params, img))
        return -(lp * jax.nn.one_hot(lab, 60)).sum(-1).mean()

    return jax.grad(loss), (params, S(28, 160, 160, 3), S(28, dtype=I32))


@program
def diffusion_unet_flax_step():
    class Res(nn.Module):
        ch: int

        @nn.compact
        def __call__(self, x, emb):
            h = nn.Conv(self.ch, (3, 3))(nn.swish(nn.GroupNorm(8)(x)))
            h = h + nn.Dense(self.ch)(nn.swish(emb))[:, None, None]
            h = nn.Conv(self.ch, (3, 3))(nn.swish(nn.GroupNorm(8)(h)))
            return h + (x if x.shape[-1] == self.ch else nn.Conv(self.ch, (1, 1))(x))

    class UNet(nn.Module):
        @nn.compact
        def __call__(self, x, t):
            freqs = jnp.exp(-math.log(1e4) * jnp.arange(32) / 32)
            emb = jnp.concatenate([jnp.sin(t[:, None] * freqs), jnp.cos(t[:, None] * freqs)], -1)
            emb = nn.Dense(256)(nn.swish(nn.Dense(256)(emb)))
            x = nn.Conv(56, (3, 3))(x)
            skips = []
            for ch in (56, 112):
                x = Res(ch)(x, emb)
                skips.append(x)
                x = nn.Conv(ch, (3, 3), (2, 2))(x)
            x = Res(192)(x, emb)
            b, hh, ww, c = x.shape
            y = nn.GroupNorm(8)(x).reshape(b, hh * ww, c)
            x = x + nn.SelfAttention(num_heads=3)(y).reshape(x.shape)
            x = Res(192)(x, emb)
            for ch in (112, 56):
                x = nn.ConvTranspose(ch, (4, 4), (2, 2))(x)
                x = Res(ch)(jnp.concatenate([x, skips.pop()], -1), emb)
            return nn.Conv(3, (3, 3))(nn.swish(nn.GroupNorm(8)(x)))

    net, opt, B = UNet(), optax.adam(1e-4), 14
    params = shapes(lambda k: net.init(k, jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"], KEY)

    def step(params, ema, state, key, img):
        kt, kn = jax.random.split(key)
        t = jax.random.randint(kt, (B,), 0, 1000)
        betas = jnp.linspace(1e-4, 0.02, 1000)
        abar = jnp.cumprod(1 - betas)[t][:, None, None, None]
        noise = jax.random.normal(kn, img.shape)
        xt = jnp.sqrt(abar) * img + jnp.sqrt(1 - abar) * noise
        loss, g = jax.value_and_grad(lambda p: ((net.apply({"params": p}, xt, t.astype(F32)) - noise) ** 2).mean())(
            params
        )
        up, state = opt.update(g, state)
        params = optax.apply_updates(params, up)
        ema = jax.tree.map(lambda e, p: 0.999 * e + 0.001 * p, ema, params)
        return params, ema, state, loss

    return (jax.jit(step, donate_argnums=(0, 1, 2)), (params, params, shapes(opt.init, params), KEY, S(B, 64, 64, 3)))


@program
def vae_haiku_train():
    def net(img):
        x = img
        for ch in (32, 64, 128):
            x = jax.nn.leaky_relu(hk.Conv2D(ch, 4, 2)(x))
        x = hk.Flatten()(x)
        mu, logvar = hk.Linear(100)(x), hk.Linear(100)(x)
        z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(hk.next_rng_key(), mu.shape)
        y = jax.nn.relu(hk.Linear(9 * 9 * 128)(z)).reshape(-1, 9, 9, 128)
        for ch in (64, 32):
            y = jax.nn.leaky_relu(hk.Conv2DTranspose(ch, 4, 2)(y))
        return hk.Conv2DTranspose(3, 4, 2)(y), mu, logvar

    f = hk.transform(net)
    opt, B = optax.adam(1e-3), 90
    params = shapes(lambda k: f.init(k, jnp.zeros((1, 72, 72, 3))), KEY)

    def loss_fn(p, key, img):
        logits, mu, logvar = f.apply(p, key, img)
        rec = optax.sigmoid_binary_cross_entropy(logits, img).sum((1, 2, 3))
        kl = -0.5 * (1 + logvar - mu**2 - jnp.exp(logvar)).sum(-1)
        return (rec + kl).mean()

    def step(p, state, key, img):
        loss, g = jax.value_and_grad(loss_fn)(p, key, img)
        up, state = opt.update(g, state)
        return optax.apply_updates(p, up), state, loss

    return step, (params, shapes(opt.init, params), KEY, S(B, 72, 72, 3))


@program
def dcgan_alternating_step():
    B, Z = 100, 120
    gp = dict(fc=S(Z, 4 * 4 * 256), c1=S(5, 5, 256, 128), c2=S(5, 5, 128, 64), c3=S(5, 5, 64, 3), g=S(256))
    dp = dict(c1=S(5, 5, 3, 64), c2=S(5, 5, 64, 128), c3=S(5, 5, 128, 256), fc=S(4 * 4 * 256, 1))

    def up(x, w):
        return lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def norm(x):
        return (x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + 1e-5)

    def gen(p, z):
        x = jax.nn.relu((z @ p["fc"]).reshape(-1, 4, 4, 256) * p["g"])
        x = jax.nn.relu(norm(up(x, p["c1"])))
        x = jax.nn.relu(norm(up(x, p["c2"])))
        return jnp.tanh(up(x, p["c3"]))

    def disc(p, x):
        for c in ("c1", "c2", "c3"):
            x = jax.nn.leaky_relu(conv(x, p[c], 2), 0.2)
        return x.reshape(x.shape[0], -1) @ p["fc"]

    opt = optax.adam(2e-4, b1=0.5)

    def step(gp, dp, gs, ds, key, real):
        k1, k2 = jax.random.split(key)
        z = jax.random.normal(k1, (B, Z))

        def d_loss(dp):
            fake = lax.stop_gradient(gen(gp, z))
            return jax.nn.softplus(-disc(dp, real)).mean() + jax.nn.softplus(disc(dp, fake)).mean()

        ld, gd = jax.value_and_grad(d_loss)(dp)
        u, ds = opt.update(gd, ds)
        dp = optax.apply_updates(dp, u)
        z2 = jax.random.normal(k2, (B, Z))
        lg, gg = jax.value_and_grad(lambda q: jax.nn.softplus(-disc(dp, gen(q, z2))).mean())(gp)
        u, gs = opt.update(gg, gs)
        return optax.apply_updates(gp, u), dp, gs, ds, ld, lg

    return step, (gp, dp, shapes(opt.init, gp), shapes(opt.init, dp), KEY, S(B, 32, 32, 3))


@program
def simclr_contrastive_loss_grad():
    B = 384
    params = dict(
        c=[S(3, 3, 3, 40), S(3, 3, 40, 80), S(3, 3, 80, 160)],
        proj=[dict(w=S(160, 512), b=S(512)), dict(w=S(512, 96), b=S(96))],
    )

    def encode(p, x):
        for w in p["c"]:
            x = jax.nn.relu(conv(x, w))
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        z = mlp_apply(p["proj"], x.mean((1, 2)))
        return z / jnp.linalg.norm(z, axis=-1, keepdims=True)

    def loss(p, a, b):
        z = encode(p, jnp.concatenate([a, b]))
        s = z @ z.T / 0.2
        s = jnp.where(jnp.eye(2 * B, dtype=bool), -1e9, s)
        target = jnp.concatenate([jnp.arange(B) + B, jnp.arange(B)])
        return optax.softmax_cross_entropy_with_integer_labels(s, target).mean()

    return jax.value_and_grad(loss), (params, S(B, 32, 32, 3), S(B, 32, 32, 3))


@program
def image_augmentation_pipeline():
    B, H, W, C = 96, 240, 200, 160

    def one(key, img):
        ks = jax.random.split(key, 6)
        x = img.astype(F32) / 255
        off = jax.random.randint(ks[0], (2,), 0, jnp.array([H - C, W - C]))
        x = lax.dynamic_slice(x, (off[0], off[1], 0), (C, C, 3))
        x = jnp.where(jax.random.bernoulli(ks[1]), x[:, ::-1], x)
        th = jax.random.uniform(ks[2], minval=-0.3, maxval=0.3)
        yy, xx = jnp.meshgrid(jnp.arange(C) - C / 2, jnp.arange(C) - C / 2, indexing="ij")
        ry = jnp.cos(th) * yy - jnp.sin(th) * xx + C / 2
        rx = jnp.sin(th) * yy + jnp.cos(th) * xx + C / 2
        rot = lambda ch: jax.scipy.ndimage.map_coordinates(ch, [ry, rx], order=1, mode="nearest")
        x = jax.vmap(rot, in_axes=2, out_axes=2)(x)
        gray = x @ jnp.array([0.299, 0.587, 0.114])
        sat = jax.random.uniform(ks[3], minval=0.6, maxval=1.4)
        x = gray[..., None] + sat * (x - gray[..., None])
        x = (x - x.mean()) * jax.random.uniform(ks[4], minval=0.6, maxval=1.4) + x.mean()
        cy, cx = jax.random.randint(ks[5], (2,), 0, C)
        r = jnp.arange(C)
        hole = (jnp.abs(r - cy) < 20)[:, None] & (jnp.abs(r - cx) < 20)
        return jnp.where(hole[..., None], 0.5, jnp.clip(x, 0, 1))

    def batch(key, imgs, labels):
        k1, k2, k3 = jax.random.split(key, 3)
        x = jax.vmap(one)(jax.random.split(k1, B), imgs)
        lam = jax.random.beta(k2, 0.4, 0.4, (B,))
        perm = jax.random.permutation(k3, B)
        y = jax.nn.one_hot(labels, 100)
        x = lam[:, None, None, None] * x + (1 - lam)[:, None, None, None] * x[perm]
        x = (x - jnp.array([0.48, 0.45, 0.41])) / jnp.array([0.23, 0.22, 0.23])
        return x, lam[:, None] * y + (1 - lam)[:, None] * y[perm]

    return batch, (KEY, S(B, H, W, 3, dtype=jnp.uint8), S(B, dtype=I32))


@program
def conv3d_segmentation_train():
    dn = ("NDHWC", "DHWIO", "NDHWC")
    B, D, H, W = 2, 48, 60, 60
    params = dict(
        a=S(3, 3, 3, 1, 16),
        b=S(3, 3, 3, 16, 32),
        c=S(3, 3, 3, 32, 32),
        d=S(2, 2, 2, 32, 16),
        e=S(3, 3, 3, 32, 16),
        out=S(1, 1, 1, 16, 3),
    )

    def inorm(x):
        m = x.mean((1, 2, 3), keepdims=True)
        return (x - m) * lax.rsqrt(x.var((1, 2, 3), keepdims=True) + 1e-5)

    def net(p, v):
        s = jax.nn.relu(inorm(conv(v, p["a"], dn=dn)))
        x = lax.reduce_window(s, -jnp.inf, lax.max, (1, 2, 2, 2, 1), (1, 2, 2, 2, 1), "VALID")
        x = jax.nn.relu(inorm(conv(x, p["b"], dn=dn)))
        x = jax.nn.relu(inorm(conv(x, p["c"], dn=dn)))
        x = lax.conv_transpose(x, p["d"], (2, 2, 2), "SAME", dimension_numbers=dn)
        x = jax.nn.relu(inorm(conv(jnp.concatenate([x, s], -1), p["e"], dn=dn)))
        return conv(x, p["out"], dn=dn)

    def loss(p, v, lab):
        pr = jax.nn.softmax(net(p, v))
        y = jax.nn.one_hot(lab, 3)
        inter, tot = (pr * y).sum((1, 2, 3)), (pr + y).sum((1, 2, 3))
        return 1 - (2 * inter / (tot + 1e-5)).mean()

    opt = optax.adam(1e-3)

    def step(p, st, v, lab):
        l, g = jax.value_and_grad(loss)(p, v, lab)
        u, st = opt.update(g, st)
        return optax.apply_updates(p, u), st, l

    return step, (params, shapes(opt.init, params), S(B, D, H, W, 1), S(B, D, H, W, dtype=I32))


@program
def wavenet_dilated_conv1d_grad():
    B, T, C, Q = 6, 6000, 48, 256
    dil = [2**i for i in range(8)]
    params = dict(
        emb=S(Q, C),
        layers=[dict(f=S(2, C, C), g=S(2, C, C), r=S(1, C, C), s=S(1, C, 96)) for _ in dil],
        o1=S(96, 128),
        o2=S(128, Q),
    )
    dn = ("NWC", "WIO", "NWC")

    def causal(x, w, d):
        return lax.conv_general_dilated(x, w, (1,), [(d, 0)], rhs_dilation=(d,), dimension_numbers=dn)

    def loss(p, q):
        x, skip = p["emb"][q], 0.0
        for lp, d in zip(p["layers"], dil):
            h = jnp.tanh(causal(x, lp["f"], d)) * jax.nn.sigmoid(causal(x, lp["g"], d))
            skip = skip + h @ lp["s"][0]
            x = x + h @ lp["r"][0]
        logits = jax.nn.relu(jax.nn.relu(skip) @ p["o1"]) @ p["o2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], q[:, 1:]).mean()

    return jax.value_and_grad(loss), (params, S(B, T, dtype=I32))


# ---------------------------------------------------------------- recurrent
@program
def lstm_lm_ptb_train():
    V, D, T, B = 10000, 650, 35, 20
    params = dict(emb=S(V, D), l=[dict(w=S(2 * D, 4 * D), b=S(4 * D)) for _ in range(2)], out=dict(w=S(D, V), b=S(V)))

    def cell(p, carry, x):
        c, h = carry
        i, f, g, o = jnp.split(dense(p, jnp.concatenate([x, h], -1)), 4, -1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    def loss(p, carry, x, y, key):
        h = p["emb"][x]
        new = []
        for i, lp in enumerate(p["l"]):
            c, h = lax.scan(functools.partial(cell, lp), carry[i], h)
            h = h * jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, h.shape) * 2
            new.append(c)
        logits = dense(p["out"], h)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

    def step(p, carry, x, y, key, lr):
        (l, carry), g = jax.value_and_grad(loss, has_aux=True)(p, carry, x, y, key)
        n = optax.global_norm(g)
        scale = jnp.minimum(1.0, 5.0 / n)
        return jax.tree.map(lambda a, b: a - lr * scale * b, p, g), carry, l

    carry = [(S(B, D), S(B, D))] * 2
    return (jax.jit(step, donate_argnums=0), (params, carry, S(T, B, dtype=I32), S(T, B, dtype=I32), KEY, S()))


@program
def bigru_haiku_speech_grad():
    T, B = 300, 44

    def net(x):
        for _ in range(2):
            f, b = hk.GRU(200), hk.GRU(200)
            yf, _ = hk.dynamic_unroll(f, x, f.initial_state(B))
            yb, _ = hk.dynamic_unroll(b, x, b.initial_state(B), reverse=True)
            x = hk.LayerNorm(-1, True, True)(jnp.concatenate([yf, yb], -1))
        return hk.Linear(61)(x)

    f = hk.without_apply_rng(hk.transform(net))
    params = shapes(lambda k: f.init(k, jnp.zeros((T, B, 80))), KEY)

    def loss(p, x, y, mask):
        lp = jax.nn.log_softmax(f.apply(p, x))
        nll = -jnp.take_along_axis(lp, y[..., None], -1)[..., 0]
        return (nll * mask).sum() / mask.sum()

    return jax.value_and_grad(loss), (params, S(T, B, 80), S(T, B, dtype=I32), S(T, B))


@program
def rate_rnn_neuro_bptt():
    N, T, B, I, O = 450, 500, 30, 6, 2
    params = dict(win=S(I, N), w=S(N, N), wout=S(N, O), b=S(N), h0=S(N))

    def run(p, u, key):
        noise = 0.05 * jax.random.normal(key, (T, B, N))

        def f(h, inp):
            u, e = inp
            r = jnp.tanh(h)
            h = 0.8 * h + 0.2 * (r @ p["w"] + u @ p["win"] + p["b"]) + e
            return h, (r, r @ p["wout"])

        _, (r, y) = lax.scan(f, jnp.broadcast_to(p["h0"], (B, N)), (u, noise))
        return r, y

    def loss(p, u, tgt, mask, key):
        r, y = run(p, u, key)
        return (((y - tgt) ** 2) * mask).mean() + 1e-3 * (r**2).mean()

    def step(p, m, v, t, u, tgt, mask, key):
        l, g = jax.value_and_grad(loss)(p, u, tgt, mask, key)
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        t = t + 1
        p = jax.tree.map(lambda a, b, c: a - 1e-3 * (b / (1 - 0.9**t)) / (jnp.sqrt(c / (1 - 0.999**t)) + 1e-8), p, m, v)
        return p, m, v, t, l

    return step, (params, params, params, S(), S(T, B, I), S(T, B, O), S(T, B, 1), KEY)


@program
def mamba_selective_scan_grad():
    B, T, D, E, N, R = 3, 480, 320, 640, 16, 20
    p = dict(
        inp=S(D, 2 * E), conv=S(4, 1, E), xp=S(E, R + 2 * N), dt=S(R, E), dtb=S(E), A=S(E, N), Dp=S(E), out=S(E, D)
    )

    def block(p, x):
        u, z = jnp.split(x @ p["inp"], 2, -1)
        u = lax.conv_general_dilated(
            u, p["conv"], (1,), [(3, 0)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=E
        )
        u = jax.nn.silu(u)
        dt, Bm, Cm = jnp.split(u @ p["xp"], [R, R + N], -1)
        dt = jax.nn.softplus(dt @ p["dt"] + p["dtb"])
        a = jnp.exp(dt[..., None] * -jnp.exp(p["A"]))
        b = (dt * u)[..., None] * Bm[:, :, None, :]
        _, h = lax.associative_scan(lambda l, r: (l[0] * r[0], r[0] * l[1] + r[1]), (a, b), axis=1)
        y = jnp.einsum("bten,btn->bte", h, Cm) + p["Dp"] * u
        return x + (y * jax.nn.silu(z)) @ p["out"]

    return jax.grad(lambda p, x, t: ((block(p, x) - t) ** 2).mean()), (p, S(B, T, D), S(B, T, D))


@program
def s5_complex_ssm_forward():
    L, H, P, B = 2000, 128, 96, 5
    p = dict(lre=S(P), lim=S(P), Bre=S(P, H), Bim=S(P, H), Cre=S(H, P), Cim=S(H, P), D=S(H), step=S(P), gate=S(H, H))

    def layer(p, u):
        lam = -jnp.exp(p["lre"]) + 1j * p["lim"]
        dt = jnp.exp(p["step"])
        lbar = jnp.exp(lam * dt)
        Bbar = ((lbar - 1) / lam)[:, None] * (p["Bre"] + 1j * p["Bim"])
        Bu = u @ Bbar.T
        A = jnp.broadcast_to(lbar, Bu.shape)
        _, xs = lax.associative_scan(lambda i, j: (j[0] * i[0], j[0] * i[1] + j[1]), (A, Bu))
        y = 2 * (xs @ (p["Cre"] + 1j * p["Cim"]).T).real + p["D"] * u
        y = jax.nn.gelu(y)
        return u + y * jax.nn.sigmoid(y @ p["gate"])

    return (lambda p, u: jax.vmap(layer, in_axes=(None, 0))(p, u)), (p, S(B, L, H))


@program
def ctc_loss_grad():
    B, T, K, N = 16, 180, 34, 40
    params = dict(w1=S(120, 256), w2=S(256, K))

    def loss(p, feats, pad, labels, lpad):
        logits = jax.nn.relu(feats @ p["w1"]) @ p["w2"]
        return optax.ctc_loss(logits, pad, labels, lpad).mean()

    return jax.value_and_grad(loss), (params, S(B, T, 120), S(B, T), S(B, N, dtype=I32), S(B, N))


# ---------------------------------------------------------------- scientific ML
@program
def neural_ode_rk4_scan_grad():
    B, D = 640, 72
    params = shapes(lambda k: mlp_init(k, [D + 1, 200, 200, D]), KEY)

    def field(p, t, y):
        return mlp_apply(p, jnp.concatenate([y, jnp.full((y.shape[0], 1), t)], -1), jnp.tanh)

    def solve(p, y0, n=40):
        h = 1.0 / n

        def rk4(y, t):
            k1 = field(p, t, y)
            k2 = field(p, t + h / 2, y + h / 2 * k1)
            k3 = field(p, t + h / 2, y + h / 2 * k2)
            k4 = field(p, t + h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            return y, y

        return lax.scan(rk4, y0, jnp.arange(n) * h)[1]

    def loss(p, y0, traj):
        return ((solve(p, y0) - traj) ** 2).mean()

    return jax.value_and_grad(loss), (params, S(B, D), S(40, B, D))


@program
def diffrax_lotka_volterra_sweep():
    N, T = 6000, 150

    def solve(theta, y0):
        a, b, c, d = theta
        f = lambda t, y, args: jnp.stack([a * y[0] - b * y[0] * y[1], d * y[0] * y[1] - c * y[1]])
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(f),
            diffrax.Tsit5(),
            0.0,
            30.0,
            0.05,
            y0,
            saveat=diffrax.SaveAt(ts=jnp.linspace(0, 30, T)),
            stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-5),
            max_steps=600,
            throw=False,
        )
        return sol.ys

    def sweep(theta, y0, obs):
        ys = jax.vmap(solve)(theta, y0)
        return ys, ((ys - obs) ** 2).sum((1, 2))

    return sweep, (S(N, 4), S(N, 2), S(T, 2))


@program
def pinn_burgers_adam():
    N, NB = 9000, 600
    params = shapes(lambda k: mlp_init(k, [2, 64, 64, 64, 64, 1]), KEY)
    u = lambda p, x, t: mlp_apply(p, jnp.stack([x, t]), jnp.tanh)[0]

    def residual(p, x, t):
        ut = jax.grad(u, 2)(p, x, t)
        ux = jax.grad(u, 1)(p, x, t)
        uxx = jax.grad(jax.grad(u, 1), 1)(p, x, t)
        return ut + u(p, x, t) * ux - 0.01 / math.pi * uxx

    def loss(p, xt, xb, ub):
        r = jax.vmap(residual, (None, 0, 0))(p, xt[:, 0], xt[:, 1])
        b = jax.vmap(u, (None, 0, 0))(p, xb[:, 0], xb[:, 1])
        return (r**2).mean() + ((b - ub) ** 2).mean()

    opt = optax.adam(optax.exponential_decay(1e-3, 1000, 0.9))

    def step(p, st, xt, xb, ub):
        l, g = jax.value_and_grad(loss)(p, xt, xb, ub)
        up, st = opt.update(g, st)
        return optax.apply_updates(p, up), st, l

    return step, (params, shapes(opt.init, params), S(N, 2), S(NB, 2), S(NB))


@program
def realnvp_flow_nll_adam():
    D, HID, L, B = 63, 240, 8, 5000
    half = D // 2

    def init(key):
        return [
            mlp_init(k, [half + (i % 2), HID, HID, 2 * (D - half - (i % 2))])
            for i, k in enumerate(jax.random.split(key, L))
        ]

    def log_prob(params, x):
        logdet = jnp.zeros(x.shape[0])
        for i, p in enumerate(params):
            n = half + (i % 2)
            a, b = x[:, :n], x[:, n:]
            s, t = jnp.split(mlp_apply(p, a), 2, -1)
            s = jnp.tanh(s)
            x = jnp.concatenate([a, b * jnp.exp(s) + t], -1)[:, ::-1]
            logdet = logdet + s.sum(-1)
        return jax.scipy.stats.norm.logpdf(x).sum(-1) + logdet

    opt = optax.adam(5e-4)
    params = shapes(init, KEY)

    def step(p, st, x):
        l, g = jax.value_and_grad(lambda p: -log_prob(p, x).mean())(p)
        up, st = opt.update(g, st)
        return optax.apply_updates(p, up), st, l

    return jax.jit(step, donate_argnums=(0, 1)), (params, shapes(opt.init, params), S(B, D))


@program
def dpsgd_per_example_gradients():
    B = 250
    params = dict(c1=S(8, 8, 1, 16), c2=S(4, 4, 16, 32), d1=dict(w=S(512, 32), b=S(32)), d2=dict(w=S(32, 10), b=S(10)))

    def loss(p, x, y):
        h = jax.nn.relu(conv(x[None], p["c1"], 2))
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        h = jax.nn.relu(conv(h, p["c2"], 2, "VALID"))
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        h = h.reshape(-1)
        return optax.softmax_cross_entropy_with_integer_labels(dense(p["d2"], jax.nn.relu(dense(p["d1"], h))), y)

    def step(p, key, x, y):
        g = jax.vmap(jax.grad(loss), (None, 0, 0))(p, x, y)
        sq = sum((a.reshape(B, -1) ** 2).sum(1) for a in jax.tree.leaves(g))
        factor = jnp.minimum(1.0, 1.0 / jnp.sqrt(sq))
        leaves, tree = jax.tree.flatten(g)
        ks = jax.random.split(key, len(leaves))
        noisy = [
            (jnp.tensordot(factor, a, 1) + 1.1 * jax.random.normal(k, a.shape[1:])) / B for a, k in zip(leaves, ks)
        ]
        return jax.tree.map(lambda w, a: w - 0.15 * a, p, jax.tree.unflatten(tree, noisy)), jnp.sqrt(sq)

    probe = jax.eval_shape(lambda x, a, b: conv(x, a, 2), S(1, 28, 28, 1), params["c1"], params["c2"])
    assert probe.shape == (1, 14, 14, 16)
    return step, (params, KEY, S(B, 28, 28, 1), S(B, dtype=I32))


@program
def hessian_free_cg_step():
    B = 3000
    params = shapes(lambda k: mlp_init(k, [300, 500, 250, 20]), KEY)

    def loss(p, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(mlp_apply(p, x, jnp.tanh), y).mean()

    def step(p, x, y):
        f = lambda q: loss(q, x, y)
        g = jax.grad(f)(p)
        hvp = lambda v: jax.tree.map(lambda a, b: a + 0.1 * b, jax.jvp(jax.grad(f), (p,), (v,))[1], v)
        d, _ = jax.scipy.sparse.linalg.cg(hvp, g, maxiter=12)
        return jax.tree.map(lambda a, b: a - b, p, d)

    return step, (params, S(B, 300), S(B, dtype=I32))


@program
def mlp_ensemble_vmap_equinox():
    M, B = 10, 1500
    model = eqx.filter_eval_shape(eqx.nn.MLP, 90, 1, 320, 3, activation=jax.nn.silu, key=KEY)
    is_s = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    params, static = eqx.partition(model, is_s)
    params = jax.tree.map(lambda s: S(M, *s.shape), params)
    opt = optax.adamw(1e-3)
    state = jax.eval_shape(jax.vmap(opt.init), params)

    def one(p, st, x, y):
        def loss(p):
            pred = jax.vmap(eqx.combine(p, static))(x)[:, 0]
            return optax.huber_loss(pred, y).mean()

        l, g = jax.value_and_grad(loss)(p)
        up, st = opt.update(g, st, p)
        return optax.apply_updates(p, up), st, l

    def step(p, st, key, X, Y):
        idx = jax.random.randint(key, (M, B), 0, X.shape[0])
        return jax.vmap(one)(p, st, X[idx], Y[idx])

    return step, (params, state, KEY, S(40000, 90), S(40000))


@program
def gnn_message_passing_train():
    Nn, Ne, D, G = 18000, 150000, 80, 700

    def init(key):
        ks = jax.random.split(key, 8)
        return dict(
            enc=dense_init(ks[0], 30, D),
            edge=[mlp_init(k, [2 * D + 6, D, D]) for k in ks[1:4]],
            node=[mlp_init(k, [2 * D, D, D]) for k in ks[4:7]],
            out=mlp_init(ks[7], [D, 64, 1]),
        )

    def predict(p, nodes, edges, snd, rcv, graph):
        h = dense(p["enc"], nodes)
        for e, n in zip(p["edge"], p["node"]):
            m = mlp_apply(e, jnp.concatenate([h[snd], h[rcv], edges], -1), jax.nn.silu)
            agg = jax.ops.segment_sum(m, rcv, Nn)
            h = h + mlp_apply(n, jnp.concatenate([h, agg], -1), jax.nn.silu)
        pooled = jax.ops.segment_sum(h, graph, G) / (jax.ops.segment_sum(jnp.ones(Nn), graph, G)[:, None] + 1e-6)
        return mlp_apply(p["out"], pooled)[:, 0]

    opt = optax.adam(1e-3)
    params = shapes(init, KEY)

    def step(p, st, nodes, edges, snd, rcv, graph, y):
        l, g = jax.value_and_grad(lambda q: jnp.abs(predict(q, nodes, edges, snd, rcv, graph) - y).mean())(p)
        up, st = opt.update(g, st)
        return optax.apply_updates(p, up), st, l

    i = lambda n: S(n, dtype=I32)
    return step, (params, shapes(opt.init, params), S(Nn, 30), S(Ne, 6), i(Ne), i(Ne), i(Nn), S(G))


@program
def two_tower_embedding_lion():
    NU, NI, D, B, HIST = 250000, 70000, 48, 3000, 25
    params = dict(
        user=S(NU, D),
        item=S(NI, D),
        ut=[dict(w=S(2 * D, 128), b=S(128)), dict(w=S(128, 64), b=S(64))],
        it=[dict(w=S(D, 128), b=S(128)), dict(w=S(128, 64), b=S(64))],
    )
    opt = optax.lion(1e-4, weight_decay=1e-2)

    def loss(p, uid, hist, pos):
        mask = (hist > 0)[..., None]
        h = (p["item"][hist] * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
        u = mlp_apply(p["ut"], jnp.concatenate([p["user"][uid], h], -1))
        v = mlp_apply(p["it"], p["item"][pos])
        return -jnp.diag(jax.nn.log_softmax(u @ v.T / 0.07)).mean()

    def step(p, st, uid, hist, pos):
        l, g = jax.value_and_grad(loss)(p, uid, hist, pos)
        up, st = opt.update(g, st, p)
        return optax.apply_updates(p, up), st, l

    return (
        jax.jit(step, donate_argnums=(0, 1)),
        (params, shapes(opt.init, params), S(B, dtype=I32), S(B, HIST, dtype=I32), S(B, dtype=I32)),
    )


# ---------------------------------------------------------------- statistics
@program
def softmax_regression_epoch_sgd():
    N, D, K, BS = 20000, 784, 10, 250

    def epoch(w, b, vw, vb, key, X, y):
        perm = jax.random.permutation(key, N).reshape(N // BS, BS)

        def body(c, idx):
            w, b, vw, vb = c

            def loss(w, b):
                lg = X[idx] @ w + b
                return optax.softmax_cross_entropy_with_integer_labels(lg, y[idx]).mean() + 1e-4 * (w**2).sum()

            l, (gw, gb) = jax.value_and_grad(loss, (0, 1))(w, b)
            vw, vb = 0.9 * vw - 0.1 * gw, 0.9 * vb - 0.1 * gb
            return (w + vw, b + vb, vw, vb), l

        c, ls = lax.scan(body, (w, b, vw, vb), perm)
        return (*c, ls.mean())

    return (jax.jit(epoch, donate_argnums=(0, 1, 2, 3)), (S(D, K), S(K), S(D, K), S(K), KEY, S(N, D), S(N, dtype=I32)))


@program
def kmeans_lloyd():
    N, D, K = 60000, 50, 37

    def fit(X, c0):
        def assign(c):
            d = (X**2).sum(1)[:, None] - 2 * X @ c.T + (c**2).sum(1)
            return d.argmin(1), d.min(1)

        def body(state):
            c, _, it = state
            lab, _ = assign(c)
            tot = jax.ops.segment_sum(X, lab, K)
            cnt = jax.ops.segment_sum(jnp.ones(N), lab, K)
            new = jnp.where(cnt[:, None] > 0, tot / jnp.maximum(cnt, 1)[:, None], c)
            return new, jnp.abs(new - c).max(), it + 1

        c, _, it = lax.while_loop(lambda s: (s[1] > 1e-4) & (s[2] < 100), body, (c0, jnp.inf, 0))
        lab, d = assign(c)
        return c, lab, d.sum(), it

    return fit, (S(N, D), S(K, D))


@program
def gmm_em_full_covariance():
    N, D, K = 30000, 18, 12

    def em(X, mu, cov, logw):
        def step(c, _):
            mu, cov, logw = c
            Lc = jnp.linalg.cholesky(cov + 1e-4 * jnp.eye(D))
            diff = X[None] - mu[:, None]
            z = jax.vmap(lambda L, d: jax.scipy.linalg.solve_triangular(L, d.T, lower=True))(Lc, diff)
            ld = jnp.log(jnp.diagonal(Lc, axis1=1, axis2=2)).sum(1)
            lp = logw[:, None] - 0.5 * (z**2).sum(1) - ld[:, None] - 0.5 * D * math.log(2 * math.pi)
            ll = jax.nn.logsumexp(lp, 0)
            r = jnp.exp(lp - ll)
            nk = r.sum(1) + 1e-6
            mu = (r @ X) / nk[:, None]
            diff = X[None] - mu[:, None]
            cov = jnp.einsum("kn,knd,kne->kde", r, diff, diff) / nk[:, None, None]
            return (mu, cov, jnp.log(nk / N)), ll.mean()

        return lax.scan(step, (mu, cov, logw), None, length=30)

    return em, (S(N, D), S(K, D), S(K, D, D), S(K))


@program
def gp_marginal_likelihood_and_predict():
    N, M, D = 1800, 700, 8

    def kern(h, a, b):
        a, b = a / jnp.exp(h["ls"]), b / jnp.exp(h["ls"])
        d2 = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return jnp.exp(2 * h["amp"]) * jnp.exp(-0.5 * jnp.maximum(d2, 0))

    def nlml(h, X, y):
        K = kern(h, X, X) + jnp.exp(2 * h["noise"]) * jnp.eye(N)
        L = jnp.linalg.cholesky(K)
        a = jax.scipy.linalg.cho_solve((L, True), y)
        return 0.5 * y @ a + jnp.log(jnp.diag(L)).sum(), (L, a)

    def f(h, X, y, Xs):
        (v, (L, a)), g = jax.value_and_grad(nlml, has_aux=True)(h, X, y)
        Ks = kern(h, Xs, X)
        w = jax.scipy.linalg.solve_triangular(L, Ks.T, lower=True)
        var = jnp.exp(2 * h["amp"]) - (w**2).sum(0)
        return v, g, Ks @ a, var

    h = dict(ls=S(D), amp=S(), noise=S())
    return f, (h, S(N, D), S(N), S(M, D))


@program
def randomized_pca_power_iteration():
    N, D, K = 9000, 1500, 40

    def pca(key, X):
        Xc = X - X.mean(0)
        Q = jax.random.normal(key, (D, K + 10))

        def body(_, Q):
            Y, _ = jnp.linalg.qr(Xc @ Q)
            Q, _ = jnp.linalg.qr(Xc.T @ Y)
            return Q

        Q = lax.fori_loop(0, 6, body, Q)
        B = Xc @ Q
        U, s, Vt = jnp.linalg.svd(B.T @ B)
        comps = (Q @ U)[:, :K]
        return Xc @ comps, comps, jnp.sqrt(s[:K])

    return pca, (KEY, S(N, D))


@program
def heston_mc_price_and_greeks():
    P, T = 90000, 100

    def price(theta, key, strikes):
        S0, v0, kappa, vbar, sig, rho, r = theta
        dt = 1.0 / T

        def step(c, k):
            x, v = c
            z = jax.random.normal(k, (2, P // 2))
            z = jnp.concatenate([z, -z], 1)
            z2 = rho * z[0] + jnp.sqrt(1 - rho**2) * z[1]
            vp = jnp.maximum(v, 1e-6)
            x = x + (r - 0.5 * vp) * dt + jnp.sqrt(vp * dt) * z[0]
            v = v + kappa * (vbar - vp) * dt + sig * jnp.sqrt(vp * dt) * z2
            return (x, v), None

        x0 = jnp.full(P, jnp.log(S0))
        (x, _), _ = lax.scan(step, (x0, jnp.full(P, v0)), jax.random.split(key, T))
        pay = jnp.maximum(jnp.exp(x)[:, None] - strikes, 0.0)
        return jnp.exp(-r) * pay.mean(0)

    def run(theta, key, strikes):
        p = price(theta, key, strikes)
        return p, jax.grad(lambda t: price(t, key, strikes).sum())(theta)

    return run, (S(7), KEY, S(15))


@program
def hmc_logistic_many_chains():
    N, D, C = 4000, 45, 60

    def logp(b, X, y):
        z = X @ b
        return (y * z - jax.nn.softplus(z)).sum() - 0.5 * (b**2).sum()

    def sample(key, q0, X, y, eps):
        g = jax.grad(logp)

        def one(key, q):
            k1, k2 = jax.random.split(key)
            p0 = jax.random.normal(k1, (D,))
            p = p0 + 0.5 * eps * g(q, X, y)

            def leap(_, s):
                q, p = s
                q = q + eps * p
                return q, p + eps * g(q, X, y)

            q1, p = lax.fori_loop(0, 15, leap, (q, p))
            p = p - 0.5 * eps * g(q1, X, y)
            dH = logp(q1, X, y) - 0.5 * p @ p - logp(q, X, y) + 0.5 * p0 @ p0
            ok = jnp.log(jax.random.uniform(k2)) < dH
            return jnp.where(ok, q1, q), ok

        def step(q, k):
            q, ok = jax.vmap(one)(jax.random.split(k, C), q)
            return q, (q, ok)

        _, (qs, oks) = lax.scan(step, q0, jax.random.split(key, 200))
        return qs, oks.mean(0), qs.mean((0, 1)), qs.std((0, 1))

    return sample, (KEY, S(C, D), S(N, D), S(N), S())


@program
def particle_filter_bearings():
    P, T = 120000, 60

    def run(key, obs, x0):
        F = jnp.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.1], [0, 0, 0, 1.0]])

        def step(c, inp):
            x, ll = c
            k, y = inp
            k1, k2 = jax.random.split(k)
            x = x @ F.T + 0.02 * jax.random.normal(k1, x.shape)
            ang = jnp.arctan2(x[:, 2], x[:, 0])
            d = jnp.mod(y - ang + jnp.pi, 2 * jnp.pi) - jnp.pi
            lw = -0.5 * (d / 0.05) ** 2
            mx = lw.max()
            w = jnp.exp(lw - mx)
            ll = ll + mx + jnp.log(w.mean())
            w = w / w.sum()
            mean = w @ x
            u = (jnp.arange(P) + jax.random.uniform(k2)) / P
            idx = jnp.searchsorted(jnp.cumsum(w), u)
            return (x[jnp.clip(idx, 0, P - 1)], ll), (mean, 1 / (w**2).sum())

        (x, ll), (m, ess) = lax.scan(step, (x0, 0.0), (jax.random.split(key, T), obs))
        return x, ll, m, ess

    return run, (KEY, S(T), S(P, 4))


@program
def portfolio_quantiles_sort_cumsum():
    DAYS, A = 2500, 900

    def analyse(prices, w):
        r = jnp.diff(jnp.log(prices), axis=0)
        wealth = jnp.cumsum(r, axis=0)
        dd = lax.cummax(wealth, axis=0) - wealth
        ranks = jnp.argsort(jnp.argsort(r, axis=1), axis=1) / (A - 1)
        q = jnp.quantile(r, jnp.array([0.01, 0.05, 0.5, 0.95, 0.99]), axis=0)
        port = jnp.sort(r @ w)
        k = int(0.025 * (DAYS - 1))
        es = port[:k].mean()
        csum = jnp.cumsum(r, 0)
        mom = jnp.where(jnp.arange(DAYS - 1)[:, None] >= 120, csum - jnp.roll(csum, 120, 0), 0.0)
        signal = jnp.sign(mom) * (ranks - 0.5)
        pnl = (signal[:-1] * r[1:]).sum(1)
        return dd.max(0), q, es, pnl, jnp.median(dd, axis=0)

    return analyse, (S(DAYS, A), S(A))


# ---------------------------------------------------------------- PDE / physics
@program
def lattice_boltzmann_d2q9():
    NX, NY = 900, 310
    cs = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [1, 1], [-1, 1], [-1, -1], [1, -1]])
    wt = np.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4, np.float32)
    opp = np.array([0, 3, 4, 1, 2, 7, 8, 5, 6])

    def equilibrium(rho, u):
        cu = 3 * jnp.einsum("id,dxy->ixy", jnp.asarray(cs, F32), u)
        return wt[:, None, None] * rho * (1 + cu + 0.5 * cu**2 - 1.5 * (u**2).sum(0))

    def run(f, wall):
        def step(_, f):
            rho = f.sum(0)
            u = jnp.einsum("id,ixy->dxy", jnp.asarray(cs, F32), f) / rho
            out = f - (f - equilibrium(rho, u)) / 0.56
            out = jnp.where(wall, f[opp], out)
            out = jnp.stack([jnp.roll(out[i], tuple(int(v) for v in cs[i]), (0, 1)) for i in range(9)])
            inlet = equilibrium(jnp.ones((1, NY)), jnp.stack([jnp.full((1, NY), 0.08), jnp.zeros((1, NY))]))
            return out.at[:, :1].set(inlet)

        f = lax.fori_loop(0, 400, step, f)
        u = jnp.einsum("id,ixy->dxy", jnp.asarray(cs, F32), f) / f.sum(0)
        return f, jnp.gradient(u[1], axis=0) - jnp.gradient(u[0], axis=1)

    return jax.jit(run, donate_argnums=0), (S(9, NX, NY), S(NX, NY, dtype=jnp.bool_))


@program
def heat3d_implicit_jacobi_while():
    n = 110

    def solve(u, src, kappa, dt):
        def lap(v):
            p = jnp.pad(v, 1, mode="edge")
            return (
                p[2:, 1:-1, 1:-1]
                + p[:-2, 1:-1, 1:-1]
                + p[1:-1, 2:, 1:-1]
                + p[1:-1, :-2, 1:-1]
                + p[1:-1, 1:-1, 2:]
                + p[1:-1, 1:-1, :-2]
            )

        def tstep(u, _):
            rhs = u + dt * src

            def body(s):
                v, _, k = s
                new = (rhs + dt * kappa * lap(v)) / (1 + 6 * dt * kappa)
                return new, jnp.abs(new - v).max(), k + 1

            v, _, k = lax.while_loop(lambda s: (s[1] > 1e-5) & (s[2] < 200), body, (u, jnp.array(jnp.inf), 0))
            return v, k

        return lax.scan(tstep, u, None, length=20)

    return solve, (S(n, n, n), S(n, n, n), S(n, n, n), S())


@program
def seismic_fwi_gradient():
    NZ, NX, NT, NS = 150, 260, 350, 3

    def shot(vel, wavelet, sx):
        c2 = (vel * 0.001) ** 2 / 100.0
        damp = jnp.ones((NZ, NX)).at[-15:].set(0.985).at[:, :15].set(0.985).at[:, -15:].set(0.985)

        def step(c, w):
            p0, p1 = c
            lap = -4 * p1 + jnp.roll(p1, 1, 0) + jnp.roll(p1, -1, 0) + jnp.roll(p1, 1, 1) + jnp.roll(p1, -1, 1)
            p2 = (2 * p1 - p0 + c2 * lap) * damp
            p2 = p2.at[4, sx].add(w)
            return (p1 * damp, p2), p2[2, ::4]

        z = jnp.zeros((NZ, NX))
        return lax.scan(step, (z, z), wavelet)[1]

    def misfit(vel, wavelet, sx, data):
        syn = jax.vmap(shot, (None, None, 0))(vel, wavelet, sx)
        return 0.5 * ((syn - data) ** 2).sum()

    return jax.value_and_grad(misfit), (S(NZ, NX), S(NT), S(NS, dtype=I32), S(NS, NT, NX // 4))


@program
def navier_stokes_pseudospectral():
    n = 360

    def simulate(w, nu, dt):
        kx = jnp.fft.fftfreq(n, 1 / n)[:, None]
        ky = jnp.fft.rfftfreq(n, 1 / n)[None]
        k2 = kx**2 + ky**2
        inv = jnp.where(k2 > 0, 1 / jnp.where(k2 > 0, k2, 1), 0)
        mask = (jnp.abs(kx) < n / 3) & (ky < n / 3)

        def rhs(wh):
            psi = wh * inv
            u, v = jnp.fft.irfft2(1j * ky * psi, (n, n)), jnp.fft.irfft2(-1j * kx * psi, (n, n))
            wx, wy = jnp.fft.irfft2(1j * kx * wh, (n, n)), jnp.fft.irfft2(1j * ky * wh, (n, n))
            return -1.0 * mask * jnp.fft.rfft2(u * wx + v * wy) - nu * k2 * wh

        def step(_, wh):
            a = rhs(wh)
            b = rhs(wh + dt / 2 * a)
            c = rhs(wh + dt / 2 * b)
            d = rhs(wh + dt * c)
            return wh + dt / 6 * (a + 2 * b + 2 * c + d)

        def outer(wh, _):
            wh = lax.fori_loop(0, 10, step, wh)
            return wh, jnp.fft.irfft2(wh, (n, n))

        return lax.scan(outer, jnp.fft.rfft2(w), None, length=25)[1]

    return simulate, (S(n, n), S(), S())


@program
def ising_checkerboard_metropolis():
    R, n = 24, 500

    def run(key, spins, beta):
        par = (jnp.arange(n)[:, None] + jnp.arange(n)) % 2

        def half(s, k, c):
            nb = jnp.roll(s, 1, 1) + jnp.roll(s, -1, 1) + jnp.roll(s, 1, 2) + jnp.roll(s, -1, 2)
            dE = 2.0 * (s * nb).astype(F32)
            acc = jax.random.uniform(k, s.shape) < jnp.exp(-beta[:, None, None] * dE)
            return jnp.where(acc & (par == c), -s, s)

        def sweep(s, k):
            k1, k2 = jax.random.split(k)
            s = half(half(s, k1, 0), k2, 1)
            m = s.astype(F32).mean((1, 2))
            return s, m

        s, ms = lax.scan(sweep, spins, jax.random.split(key, 300))
        return s, jnp.abs(ms).mean(0), ms.var(0)

    return jax.jit(run, donate_argnums=1), (KEY, S(R, n, n, dtype=jnp.int8), S(R))
