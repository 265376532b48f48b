"""Programs written on 2026-12-01 after the rules of that day, which were tried once and have changed no rule."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from kinds.registry import BF16, F32, I32, S, attention, batch_norm, conv, layer_norm, like, program, sgd, split_heads


@program
def vision_transformer_small_batch_norm_head_sgd():
    d, depth = 384, 4
    block = {"g": (d,), "b": (d,), "qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
    params = like({"patch": (16, 16, 3, d), "blocks": [block] * depth, "head": (d, 100)})

    def loss(p, images, labels):
        x = conv(images, p["patch"], 16, "VALID").reshape(images.shape[0], -1, d)
        for w in p["blocks"]:
            q, k, v = (split_heads(a, 6) for a in jnp.split(layer_norm(x, w["g"], w["b"]) @ w["qkv"], 3, -1))
            x = x + attention(q, k, v).reshape(x.shape) @ w["o"]
            x = x + jax.nn.gelu(layer_norm(x, w["g"], w["b"]) @ w["up"]) @ w["down"]
        return optax.softmax_cross_entropy_with_integer_labels(x.mean(1) @ p["head"], labels).mean()

    def step(p, images, labels):
        value, grads = jax.value_and_grad(loss)(p, images, labels)
        return sgd(p, grads), value

    return step, (params, S(32, 224, 224, 3), S(32, dtype=I32))


@program
def max_pool_convolution_classifier_momentum():
    params = like({"c1": (3, 3, 3, 32), "c2": (3, 3, 32, 64), "c3": (3, 3, 64, 128), "w": (2048, 10)})

    def loss(p, x, y):
        for name in ("c1", "c2", "c3"):
            x = jax.nn.relu(conv(x, p[name]))
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        logits = x.reshape(x.shape[0], -1) @ p["w"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(p, m, x, y):
        value, grads = jax.value_and_grad(loss)(p, x, y)
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, grads)
        return sgd(p, m), m, value

    return step, (params, params, S(256, 32, 32, 3), S(256, dtype=I32))


@program
def remat_convolution_blocks_unrolled_grad():
    params = like([{"a": (3, 3, 64, 64), "b": (3, 3, 64, 64), "g": (64,), "s": (64,)}] * 6)

    @jax.checkpoint
    def block(w, x):
        return x + conv(jax.nn.relu(batch_norm(conv(x, w["a"]), w["g"], w["s"])), w["b"])

    def loss(p, x):
        for w in p:
            x = block(w, x)
        return jnp.square(x).mean()

    return jax.value_and_grad(loss), (params, S(16, 64, 64, 64))


@program
def multi_head_latent_recurrent_unit_grad():
    d = 512
    params = like({"in": (d, 2 * d), "r": (d,), "o": (d, d)})

    def loss(p, x):
        gate, value = jnp.split(x @ p["in"], 2, -1)
        decay = jax.nn.sigmoid(gate + p["r"])

        def step(h, now):
            a, v = now
            h = a * h + jnp.sqrt(1 - a**2) * v
            return h, h

        _, y = lax.scan(step, jnp.zeros((x.shape[0], d)), (decay.swapaxes(0, 1), value.swapaxes(0, 1)))
        return jnp.square(y.swapaxes(0, 1) @ p["o"]).mean()

    return jax.grad(loss), (params, S(8, 512, d))


@program
def graph_attention_two_layers_classification():
    nodes, edges, d = 16384, 131072, 64
    layer = {"w": (d, d), "l": (d,), "r": (d,)}
    params = like([layer, layer])

    def loss(p, x, source, target, labels):
        for w in p:
            h = x @ w["w"]
            score = jax.nn.leaky_relu((h @ w["l"])[source] + (h @ w["r"])[target])
            score = jnp.exp(score - jax.ops.segment_max(score, target, nodes)[target])
            weight = score / (jax.ops.segment_sum(score, target, nodes)[target] + 1e-9)
            x = jax.nn.elu(jax.ops.segment_sum(weight[:, None] * h[source], target, nodes))
        return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()

    index = S(edges, dtype=I32)
    return jax.value_and_grad(loss), (params, S(nodes, d), index, index, S(nodes, dtype=I32))


@program
def top_two_experts_scatter_gather_f32_grad():
    tokens, d, hidden, experts = 4096, 256, 512, 8
    params = like({"gate": (d, experts), "up": (experts, d, hidden), "down": (experts, hidden, d)})
    capacity = tokens // 2

    def loss(p, x):
        weights, chosen = lax.top_k(jax.nn.softmax(x @ p["gate"]), 2)
        place = jnp.cumsum(jax.nn.one_hot(chosen.reshape(-1), experts, dtype=I32), 0)
        place = jnp.take_along_axis(place, chosen.reshape(-1, 1), 1)[:, 0] - 1
        slots = jnp.zeros((experts, capacity, d)).at[chosen.reshape(-1), place].set(jnp.repeat(x, 2, 0), mode="drop")
        out = jnp.einsum("ech,ehd->ecd", jax.nn.gelu(jnp.einsum("ecd,edh->ech", slots, p["up"])), p["down"])
        back = out.at[chosen.reshape(-1), place].get(mode="fill", fill_value=0).reshape(tokens, 2, d)
        return jnp.square((back * weights[..., None]).sum(1)).mean()

    return jax.grad(loss), (params, S(tokens, d))


@program
def adamw_bf16_weights_f32_moments_large_matrices():
    params = like([(2048, 4096), (4096, 2048)] * 3, BF16)
    moments = like([(2048, 4096), (4096, 2048)] * 3)

    def step(p, m, v, x):
        def loss(p):
            h = x
            for w in p:
                h = jnp.tanh(h @ w)
            return jnp.square(h.astype(F32)).mean()

        grads = jax.grad(loss)(p)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g.astype(F32), m, grads)
        v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * jnp.square(g.astype(F32)), v, grads)
        p = jax.tree.map(lambda p, m, v: (p - 1e-3 * m / (jnp.sqrt(v) + 1e-8)).astype(BF16), p, m, v)
        return p, m, v

    return jax.jit(step, donate_argnums=(0, 1, 2)), (params, moments, moments, S(2048, 2048, dtype=BF16))


@program
def maxwell_yee_grid_checkpointed_grad():
    n = 64

    def curl(f, shift):
        def d(a, axis):
            return jnp.roll(a, shift, axis) - a

        x, y, z = f
        return jnp.stack([d(z, 1) - d(y, 2), d(x, 2) - d(z, 0), d(y, 0) - d(x, 1)]) * -shift

    def loss(permittivity, source):
        @jax.checkpoint
        def step(fields, amplitude):
            e, h = fields
            h = h - 0.4 * curl(e, -1)
            e = e + 0.4 / permittivity * curl(h, 1)
            e = e.at[2, n // 2, n // 2, n // 2].add(amplitude)
            return (e, h), None

        zero = jnp.zeros((3, n, n, n))
        (e, _), _ = lax.scan(step, (zero, zero), source)
        return jnp.square(e).sum()

    return jax.grad(loss), (S(n, n, n), S(50))


@program
def wiener_filter_spectra_2d():
    def restore(images, kernel, noise):
        h = jnp.fft.rfft2(kernel, images.shape[1:])
        spectrum = jnp.fft.rfft2(images)
        filtered = jnp.conj(h) * spectrum / (jnp.abs(h) ** 2 + noise)
        return jnp.clip(jnp.fft.irfft2(filtered, images.shape[1:]), 0, 1)

    return restore, (S(16, 512, 512), S(15, 15), S())


@program
def segment_pooled_set_encoder_contrastive_grad():
    items, sets, d = 65536, 1024, 128
    params = like({"a": (d, 256), "b": (256, d), "t": (d, d)})

    def loss(p, x, owner, other):
        h = jax.nn.relu(x @ p["a"]) @ p["b"]
        pooled = jax.ops.segment_max(h, owner, sets) @ p["t"]
        logits = pooled @ other.T
        return (jax.nn.logsumexp(logits, 1) - jnp.diag(logits)).mean()

    return jax.value_and_grad(loss), (params, S(items, d), S(items, dtype=I32), S(sets, d))


@program
def speculative_verification_of_eight_tokens_bf16():
    layers, b, t, length, heads, dim, vocab = 4, 8, 8, 2048, 8, 64, 32000
    d = heads * dim
    params = like({"embed": (vocab, d), "blocks": [{"qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d),
                                                    "down": (4 * d, d)}] * layers}, BF16)  # fmt: skip

    def verify(p, keys, values, tokens, draft, start):
        x = p["embed"][tokens]
        new = []
        for n, w in enumerate(p["blocks"]):
            q, k, v = (split_heads(a, heads) for a in jnp.split(x @ w["qkv"], 3, -1))
            ks = lax.dynamic_update_slice(keys[n], k, (0, start, 0, 0))
            vs = lax.dynamic_update_slice(values[n], v, (0, start, 0, 0))
            mask = jnp.arange(length)[None] <= start + jnp.arange(t)[:, None]
            x = x + attention(q, ks, vs, mask).reshape(x.shape) @ w["o"]
            x = x + jax.nn.silu(x @ w["up"]) @ w["down"]
            new.append((ks, vs))
        target = jax.nn.softmax((x @ p["embed"].T).astype(F32))
        ratio = jnp.take_along_axis(target, tokens[..., None], -1) / jnp.take_along_axis(draft, tokens[..., None], -1)
        return new, jnp.cumprod(ratio[..., 0] > 0.5, 1).sum(1)

    cache = [S(b, length, heads, dim, dtype=BF16)] * layers
    args = params, cache, cache, S(b, t, dtype=I32), S(b, t, vocab), S(dtype=I32)
    return jax.jit(verify, donate_argnums=(1, 2)), args


@program
def poisson_matrix_factorization_multiplicative_update():
    users, items, rank = 4096, 8192, 64

    def update(counts, theta, beta):
        rate = theta @ beta.T + 1e-6
        ratio = counts / rate
        theta = theta * (ratio @ beta) / (beta.sum(0) + 1e-6)
        beta = beta * (ratio.T @ theta) / (theta.sum(0) + 1e-6)
        return theta, beta, (counts * jnp.log(rate) - rate).sum()

    return update, (S(users, items), S(users, rank), S(items, rank))
