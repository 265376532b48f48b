"""Whole training steps: optimisers, accumulation, precision mixes, reinforcement learning, distillation."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from kinds.registry import BF16, F32, I32, S, attention, conv, layer_norm, like, program, rms_norm, sgd, split_heads


def _mlp(sizes):
    return like([{"w": (a, b), "b": (b,)} for a, b in zip(sizes[:-1], sizes[1:], strict=True)])


def _apply(p, x, act=jax.nn.relu):
    for w in p[:-1]:
        x = act(x @ w["w"] + w["b"])
    return x @ p[-1]["w"] + p[-1]["b"]


def _step(optimizer, loss, **options):
    def step(params, state, *data):
        value, grads = jax.value_and_grad(loss)(params, *data)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step, **options)


def _with(optimizer, params):
    return params, jax.eval_shape(optimizer.init, params)


@program
def adafactor_wide_mlp():
    opt = optax.adafactor(1e-3)
    loss = lambda p, x, y: jnp.square(_apply(p, x) - y).mean()
    return _step(opt, loss), (*_with(opt, _mlp([1024, 4096, 4096, 256])), S(512, 1024), S(512, 256))


@program
def adamw_clip_schedule_donated():
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, 1000)))
    loss = lambda p, x, y: optax.softmax_cross_entropy_with_integer_labels(_apply(p, x, jax.nn.gelu), y).mean()
    args = (*_with(opt, _mlp([784, 2048, 2048, 2048, 1000])), S(1024, 784), S(1024, dtype=I32))
    return _step(opt, loss, donate_argnums=(0, 1)), args


@program
def lamb_no_donation():
    opt = optax.lamb(1e-3)
    loss = lambda p, x, y: jnp.abs(_apply(p, x, jnp.tanh) - y).mean()
    return _step(opt, loss), (*_with(opt, _mlp([512, 2048, 2048, 512])), S(2048, 512), S(2048, 512))


@program
def muon_newton_schulz_step():
    def orthogonal(g):
        x = g / (jnp.linalg.norm(g) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        return x

    def step(ws, momenta, x):
        def loss(ws):
            y = x
            for w in ws:
                y = jax.nn.relu(y @ w)
            return jnp.square(y).mean()

        grads = jax.grad(loss)(ws)
        momenta = [0.95 * m + g for m, g in zip(momenta, grads, strict=True)]
        return [w - 0.02 * orthogonal(m) for w, m in zip(ws, momenta, strict=True)], momenta

    return step, ([S(1024, 1024)] * 4, [S(1024, 1024)] * 4, S(1024, 1024))


@program
def shampoo_preconditioner_update():
    def fn(ls, rs, gs):
        ls = [l + g @ g.T for l, g in zip(ls, gs, strict=True)]
        rs = [r + g.T @ g for r, g in zip(rs, gs, strict=True)]
        return ls, rs, [l @ g @ r for l, g, r in zip(ls, gs, rs, strict=True)]

    return jax.jit(fn, donate_argnums=(0, 1)), ([S(1024, 1024)] * 3, [S(2048, 2048)] * 3, [S(1024, 2048)] * 3)


@program
def gradient_accumulation_scan():
    def step(p, xs, ys):
        def one(total, xy):
            g = jax.grad(lambda p: jnp.square(_apply(p, xy[0]) - xy[1]).mean())(p)
            return jax.tree.map(jnp.add, total, g), None

        total, _ = lax.scan(one, jax.tree.map(jnp.zeros_like, p), (xs, ys))
        return sgd(p, total)

    return jax.jit(step, donate_argnums=0), (_mlp([512, 2048, 2048, 256]), S(8, 512, 512), S(8, 512, 256))


@program
def mixed_precision_master_weights_bf16():
    def step(p, m, x, y):
        def loss(p):
            low = jax.tree.map(lambda a: a.astype(BF16), p)
            return jnp.square(_apply(low, x.astype(BF16)).astype(F32) - y).mean()

        g = jax.grad(loss)(p)
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
        return sgd(p, m), m

    p = _mlp([1024, 4096, 1024])
    return jax.jit(step, donate_argnums=(0, 1)), (p, p, S(4096, 1024), S(4096, 1024))


@program
def fp8_quantised_forward():
    def quantise(x):
        scale = jnp.abs(x).max() / 448
        return (x / scale).astype(jnp.float8_e4m3fn), scale

    def fn(ws, x):
        for w in ws:
            a, sa = quantise(x)
            b, sb = quantise(w)
            x = jax.nn.relu(lax.dot(a, b, preferred_element_type=F32) * (sa * sb)).astype(BF16)
        return x

    return fn, ([S(2048, 2048, dtype=BF16)] * 3, S(2048, 2048, dtype=BF16))


@program
def int8_quantised_inference():
    def fn(ws, scales, x):
        for w, s in zip(ws, scales, strict=True):
            m = jnp.abs(x).max(-1, keepdims=True) / 127
            q = jnp.round(x / m).astype(jnp.int8)
            x = jax.nn.relu(lax.dot(q, w, preferred_element_type=I32).astype(F32) * m * s)
        return x

    return fn, ([S(1024, 1024, dtype=jnp.int8)] * 3, [S(1024)] * 3, S(4096, 1024))


@program
def ppo_actor_critic_update():
    def loss(p, obs, act, old, adv, ret):
        h = _apply(p["body"], obs, jnp.tanh)
        logits, value = h @ p["pi"], (h @ p["v"])[:, 0]
        logp = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(logp, act[:, None], 1)[:, 0]
        ratio = jnp.exp(chosen - old)
        clip = jnp.minimum(ratio * adv, jnp.clip(ratio, 0.8, 1.2) * adv)
        return -clip.mean() + 0.5 * jnp.square(value - ret).mean() + 0.01 * (jnp.exp(logp) * logp).sum(-1).mean()

    opt = optax.adam(3e-4)
    p = {"body": _mlp([256, 512, 512]), "pi": S(512, 18), "v": S(512, 1)}
    data = S(16384, 256), S(16384, dtype=I32), S(16384), S(16384), S(16384)
    return _step(opt, loss), (*_with(opt, p), *data)


@program
def advantage_estimates_scan():
    def fn(rewards, values, done):
        def back(g, t):
            r, v, n, d = t
            g = r + 0.99 * n * (1 - d) - v + 0.95 * 0.99 * (1 - d) * g
            return g, g

        return lax.scan(back, jnp.zeros(rewards.shape[1]), (rewards, values[:-1], values[1:], done), reverse=True)[1]

    return fn, (S(512, 8192), S(513, 8192), S(512, 8192))


def _block(d, hidden):
    return {
        "g1": (d,),
        "b1": (d,),
        "qkv": (d, 3 * d),
        "o": (d, d),
        "g2": (d,),
        "b2": (d,),
        "up": (d, hidden),
        "down": (hidden, d),
    }


def _encoder(p, x, heads):
    for w in p:
        q, k, v = (split_heads(a, heads) for a in jnp.split(layer_norm(x, w["g1"], w["b1"]) @ w["qkv"], 3, -1))
        x = x + attention(q, k, v).reshape(x.shape) @ w["o"]
        x = x + jax.nn.gelu(layer_norm(x, w["g2"], w["b2"]) @ w["up"]) @ w["down"]
    return x


@program
def distillation_teacher_student():
    def loss(student, teacher, x):
        soft = jax.nn.softmax(_encoder(teacher["blocks"], x, 8) @ teacher["out"] / 2)
        return -(soft * jax.nn.log_softmax(_encoder(student["blocks"], x, 4) @ student["out"] / 2)).sum(-1).mean()

    teacher = like({"blocks": [_block(512, 2048)] * 3, "out": (512, 1000)})
    student = like({"blocks": [_block(512, 1024)] * 2, "out": (512, 1000)})
    return jax.grad(loss), (student, teacher, S(8, 256, 512))


@program
def lora_finetune_adam():
    opt = optax.adam(1e-4)

    def loss(lora, base, x, y):
        for w, l in zip(base, lora, strict=True):
            x = jax.nn.silu(x @ w + (x @ l["a"]) @ l["b"])
        return jnp.square(x - y).mean()

    lora = like([{"a": (1024, 16), "b": (16, 1024)}] * 6)
    return _step(opt, loss), (*_with(opt, lora), [S(1024, 1024)] * 6, S(2048, 1024), S(2048, 1024))


@program
def encoder_remat_blocks_adamw():
    opt = optax.adamw(1e-3)

    def loss(p, x, y):
        for w in p:
            x = jax.checkpoint(lambda x, w: _encoder([w], x, 8))(x, w)
        return jnp.square(x - y).mean()

    p = like([_block(512, 2048)] * 4)
    return _step(opt, loss, donate_argnums=(0, 1)), (*_with(opt, p), S(8, 384, 512), S(8, 384, 512))


@program
def maml_inner_loop_grad():
    def outer(p, xs, ys):
        def task(x, y):
            inner = lambda p: jnp.square(_apply(p, x, jnp.tanh) - y).mean()
            adapted = p
            for _ in range(3):
                adapted = sgd(adapted, jax.grad(inner)(adapted))
            return inner(adapted)

        return jax.vmap(task)(xs, ys).mean()

    return jax.grad(outer), (_mlp([32, 128, 128, 8]), S(32, 64, 32), S(32, 64, 8))


@program
def embedding_bag_recommender_train():
    opt = optax.adagrad(1e-2)

    def loss(p, ids, dense, y):
        bags = [t[i].sum(1) for t, i in zip(p["tables"], ids, strict=True)]
        x = jnp.stack([*bags, _apply(p["bottom"], dense)], 1)
        pairs = jnp.einsum("bid,bjd->bij", x, x).reshape(x.shape[0], -1)
        z = _apply(p["top"], pairs)[:, 0]
        return optax.sigmoid_binary_cross_entropy(z, y).mean()

    p = {"tables": [S(50000, 64)] * 6, "bottom": _mlp([13, 256, 64]), "top": _mlp([49, 256, 1])}
    return _step(opt, loss, donate_argnums=(0, 1)), (*_with(opt, p), [S(2048, 8, dtype=I32)] * 6, S(2048, 13), S(2048))


@program
def barlow_two_views_conv_train():
    def loss(p, a, b):
        def embed(x):
            for w in p["convs"]:
                x = jax.nn.relu(conv(x, w, stride=2))
            return x.mean((1, 2)) @ p["out"]

        za, zb = embed(a), embed(b)
        norm = lambda z: (z - z.mean(0)) / (z.std(0) + 1e-4)
        c = norm(za).T @ norm(zb) / a.shape[0]
        return jnp.square(c - jnp.eye(c.shape[0])).sum()

    p = like({"convs": [(3, 3, 3, 64), (3, 3, 64, 128), (3, 3, 128, 256)], "out": (256, 1024)})
    return jax.value_and_grad(loss), (p, S(64, 64, 64, 3), S(64, 64, 64, 3))


@program
def transformer_tied_embeddings_bf16_train():
    def loss(p, tokens):
        x = p["embed"][tokens[:, :-1]]
        for w in p["blocks"]:
            y = rms_norm(x, w["n"])
            x = x + (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"]
        logits = (x @ p["embed"].T).astype(F32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    block = {"n": (512,), "gate": (512, 1408), "up": (512, 1408), "down": (1408, 512)}
    p = like({"embed": (32000, 512), "blocks": [block] * 4}, BF16)
    opt = optax.adamw(1e-3, mu_dtype=F32)
    return _step(opt, loss, donate_argnums=(0, 1)), (*_with(opt, p), S(4, 513, dtype=I32))
