"""Programs written on 2026-12-01 before the rules of that day, which no rule was made on when they were first tried."""

import functools
import math

import jax
import jax.numpy as jnp
import optax
from jax import lax

from kinds.registry import (
    BF16,
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
    sgd,
    split_heads,
)


@program
def diffusion_block_time_and_self_attention_grad():
    """Two residual blocks with a time embedding and attention over 32 x 32 positions between them."""
    c = 256
    res = {"g1": (c,), "b1": (c,), "w1": (3, 3, c, c), "t": (512, c), "g2": (c,), "b2": (c,), "w2": (3, 3, c, c)}
    params = like({"down": res, "up": res, "qkv": (c, 3 * c), "o": (c, c), "g": (c,), "b": (c,)})

    def block(p, x, t):
        y = conv(jax.nn.silu(group_norm(x, p["g1"], p["b1"], 32)), p["w1"]) + (jax.nn.silu(t) @ p["t"])[:, None, None]
        return x + conv(jax.nn.silu(group_norm(y, p["g2"], p["b2"], 32)), p["w2"])

    def loss(p, x, t, noise):
        x = block(p["down"], x, t)
        n, h, w, _ = x.shape
        q, k, v = jnp.split(group_norm(x, p["g"], p["b"], 32).reshape(n, h * w, c) @ p["qkv"], 3, -1)
        y = attention(*(split_heads(a, 4) for a in (q, k, v))).reshape(n, h * w, c) @ p["o"]
        return jnp.square(block(p["up"], x + y.reshape(x.shape), t) - noise).mean()

    return jax.value_and_grad(loss), (params, S(8, 32, 32, c), S(8, 512), S(8, 32, 32, c))


@program
def state_space_duality_chunked_grad():
    """Mamba-2 in chunks: products inside a chunk, a scan over the states between chunks."""
    b, t, heads, dim, states, chunk = 4, 2048, 8, 64, 64, 128
    d = heads * dim
    params = like({"x": (d, 2 * d), "bc": (d, 2 * states), "dt": (d, heads), "a": (heads,), "o": (d, d)})

    def segments(a):
        total = jnp.cumsum(a, -1)
        return jnp.where(jnp.tril(jnp.ones((chunk, chunk), bool)), total[..., :, None] - total[..., None, :], -jnp.inf)

    def mix(p, u):
        x, z = jnp.split(u @ p["x"], 2, -1)
        keys, queries = jnp.split(u @ p["bc"], 2, -1)
        dt = jax.nn.softplus(u @ p["dt"])
        a = -jnp.exp(p["a"]) * dt
        x = (split_heads(x, heads) * dt[..., None]).reshape(b, t // chunk, chunk, heads, dim)
        a = a.reshape(b, t // chunk, chunk, heads).transpose(0, 3, 1, 2)
        keys, queries = (y.reshape(b, t // chunk, chunk, states) for y in (keys, queries))
        inside = jnp.einsum("bcln,bcsn,bhcls,bcshp->bclhp", queries, keys, jnp.exp(segments(a)), x)
        total = jnp.cumsum(a, -1)
        last = jnp.einsum("bcln,bhcl,bclhp->bchpn", keys, jnp.exp(total[..., -1:] - total), x)

        def carry(h, step):
            new, decay = step
            return h * decay[..., None, None] + new, h

        decays = jnp.exp(total[..., -1]).transpose(2, 0, 1)
        _, before = lax.scan(carry, jnp.zeros((b, heads, dim, states)), (last.transpose(1, 0, 2, 3, 4), decays))
        between = jnp.einsum("bcln,cbhpn,bhcl->bclhp", queries, before, jnp.exp(total))
        return ((inside + between).reshape(b, t, d) * jax.nn.silu(z)) @ p["o"]

    return jax.grad(lambda p, u: jnp.square(mix(p, u)).mean(), argnums=(0, 1)), (params, S(b, t, d))


@program
def gated_linear_attention_scan_remat_grad():
    """A matrix-valued state that decays by key, checkpointed in chunks of the sequence."""
    b, t, heads, dim = 4, 1024, 4, 64
    d = heads * dim

    def mix(w, x):
        q, k, v, g = (split_heads(x @ w[n], heads).transpose(1, 0, 2, 3) for n in "qkvg")

        def step(state, now):
            q, k, v, g = now
            state = state * jax.nn.sigmoid(g)[..., None] + k[..., None] * v[..., None, :]
            return state, jnp.einsum("bhk,bhkv->bhv", q, state)

        @jax.checkpoint
        def chunk(state, now):
            return lax.scan(step, state, now)

        parts = jax.tree.map(lambda a: a.reshape(t // 64, 64, b, heads, dim), (q, k, v, g))
        _, y = lax.scan(chunk, jnp.zeros((b, heads, dim, dim)), parts)
        return y.reshape(t, b, d).transpose(1, 0, 2) @ w["o"]

    params = like(dict.fromkeys("qkvgo", (d, d)))
    return jax.grad(lambda w, x: jnp.square(mix(w, x)).mean()), (params, S(b, t, d))


@program
def equivariant_graph_network_train():
    """E(n)-equivariant layers: edge networks on distances, sums by node, moves of the coordinates."""
    nodes, edges, d = 8192, 65536, 64
    layer = {"e1": (2 * d + 1, d), "e2": (d, d), "x1": (d, d), "x2": (d, 1), "h1": (2 * d, d), "h2": (d, d)}
    params = like([layer] * 3)

    def loss(p, h, x, source, target, goal):
        for w in p:
            delta = x[source] - x[target]
            distance = jnp.sum(delta**2, -1, keepdims=True)
            message = jax.nn.silu(jnp.concatenate([h[source], h[target], distance], -1) @ w["e1"])
            message = jax.nn.silu(message @ w["e2"])
            move = delta * (jax.nn.silu(message @ w["x1"]) @ w["x2"])
            x = x + jax.ops.segment_sum(move, target, nodes)
            total = jax.ops.segment_sum(message, target, nodes)
            h = h + jax.nn.silu(jnp.concatenate([h, total], -1) @ w["h1"]) @ w["h2"]
        return jnp.square(x - goal).mean() + jnp.square(h).mean()

    def step(p, *batch):
        value, grads = jax.value_and_grad(loss)(p, *batch)
        return sgd(p, grads), value

    index = S(edges, dtype=I32)
    return step, (params, S(nodes, d), S(nodes, 3), index, index, S(nodes, 3))


@program
def vocoder_upsampling_1d_grad():
    """A vocoder: transposed convolutions in one dimension, each with two dilated residual blocks."""
    widths, rates = (256, 128, 64, 32), (8, 8, 4)
    stages = [
        {"up": (2 * r, a, b), "r1": (3, b, b), "r2": (7, b, b)}
        for a, b, r in zip(widths[:-1], widths[1:], rates, strict=True)
    ]
    params = like({"first": (7, 80, 256), "stages": stages, "last": (7, 32, 1)})

    def generate(p, mel):
        x = conv(mel, p["first"])
        for stage, rate in zip(p["stages"], rates, strict=True):
            x = lax.conv_transpose(jax.nn.leaky_relu(x, 0.1), stage["up"], (rate,), "SAME")
            y = x
            for name, dilation in (("r1", 1), ("r2", 3)):
                y = y + conv(jax.nn.leaky_relu(y, 0.1), stage[name], rhs_dilation=(dilation,))
            x = (x + y) / 2
        return jnp.tanh(conv(x, p["last"]))[..., 0]

    def loss(p, mel, audio):
        return jnp.abs(generate(p, mel) - audio).mean()

    return jax.value_and_grad(loss), (params, S(8, 128, 80), S(8, 128 * 256))


@program
def image_generator_transposed_bf16_forward():
    """A generator of images in bf16: transposed convolutions with batch norm."""
    widths = (512, 256, 128, 64)
    ups = [{"w": (4, 4, a, b), "g": (b,), "b": (b,)} for a, b in zip(widths[:-1], widths[1:], strict=True)]
    params = like({"first": (128, 8 * 8 * 512), "ups": ups, "last": (3, 3, 64, 3)}, BF16)

    def generate(p, z):
        x = (z @ p["first"]).reshape(-1, 8, 8, 512)
        for up in p["ups"]:
            x = lax.conv_transpose(x, up["w"], (2, 2), "SAME")
            x = jax.nn.relu(batch_norm(x, up["g"], up["b"]))
        return jnp.tanh(conv(x, p["last"]))

    return generate, (params, S(32, 128, dtype=BF16))


@program
def sharpness_aware_convolution_step():
    """Two gradients a step: one at the weights, one at the weights moved along the first."""
    params = like({"c1": (5, 5, 3, 64), "c2": (3, 3, 64, 128), "c3": (3, 3, 128, 256), "w": (256, 100)})

    def loss(p, x, y):
        for name in ("c1", "c2", "c3"):
            x = lax.reduce_window(jax.nn.relu(conv(x, p[name])), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        return optax.softmax_cross_entropy_with_integer_labels(x.mean((1, 2)) @ p["w"], y).mean()

    def step(p, x, y):
        first = jax.grad(loss)(p, x, y)
        scale = 0.05 / optax.global_norm(first)
        moved = jax.tree.map(lambda a, g: a + scale * g, p, first)
        value, grads = jax.value_and_grad(loss)(moved, x, y)
        return sgd(p, grads), value

    return step, (params, S(64, 64, 64, 3), S(64, dtype=I32))


@program
def kronecker_factors_update_step():
    """Covariances of inputs and of gradients of three layers, damped inverses by Cholesky, natural gradient."""
    n, d = 4096, 768
    params, factors = like([(d, d)] * 3), like([{"a": (d, d), "g": (d, d)}] * 3)

    def step(ws, factors, x, y):
        def forward(ws, shifts):
            h, inputs = x, []
            for w, shift in zip(ws, shifts, strict=True):
                inputs.append(h)
                h = jnp.tanh(h @ w + shift)
            return jnp.square(h - y).mean(), inputs

        shifts = [jnp.zeros((n, d))] * 3
        (value, inputs), (grads, outer) = jax.value_and_grad(forward, argnums=(0, 1), has_aux=True)(ws, shifts)
        new, kept = [], []
        for w, g, f, a, o in zip(ws, grads, factors, inputs, outer, strict=True):
            f = {"a": 0.95 * f["a"] + 0.05 * a.T @ a / n, "g": 0.95 * f["g"] + 0.05 * o.T @ o}
            damped = [jnp.linalg.cholesky(m + 1e-3 * jnp.eye(d)) for m in (f["a"], f["g"])]
            g = jax.scipy.linalg.cho_solve((damped[0], True), g)
            new.append(w - 0.1 * jax.scipy.linalg.cho_solve((damped[1], True), g.T).T)
            kept.append(f)
        return new, kept, value

    return step, (params, factors, S(n, d), S(n, d))


@program
def shared_and_routed_experts_sigmoid_gates_bf16_grad():
    """Experts with a shared one: sigmoid gates, top 4 of 16, tokens by one-hot dispatch with a capacity."""
    tokens, d, hidden, experts, k, capacity = 2048, 512, 1024, 16, 4, 640
    params = like(
        {"gate": (d, experts), "up": (experts, d, hidden), "down": (experts, hidden, d), "s1": (d, hidden),
         "s2": (hidden, d)}, BF16
    )  # fmt: skip

    def layer(p, x):
        scores = jax.nn.sigmoid((x @ p["gate"]).astype(F32))
        weights, chosen = lax.top_k(scores, k)
        weights = weights / weights.sum(-1, keepdims=True)
        hot = jax.nn.one_hot(chosen, experts)
        place = jnp.cumsum(hot.reshape(-1, experts), 0).reshape(tokens, k, experts) * hot - 1
        slots = jax.nn.one_hot(place.sum(-1) + experts - 1, capacity, dtype=BF16)
        dispatch = jnp.einsum("tae,tac->tec", hot.astype(BF16), slots)
        combine = jnp.einsum("ta,tae,tac->tec", weights.astype(BF16), hot.astype(BF16), slots)
        sent = jnp.einsum("tec,td->ecd", dispatch, x)
        out = jnp.einsum("ech,ehd->ecd", jax.nn.silu(jnp.einsum("ecd,edh->ech", sent, p["up"])), p["down"])
        return jnp.einsum("tec,ecd->td", combine, out) + jax.nn.silu(x @ p["s1"]) @ p["s2"]

    def loss(p, x):
        return jnp.square(layer(p, x).astype(F32)).mean()

    return jax.grad(loss, argnums=(0, 1)), (params, S(tokens, d, dtype=BF16))


@program
def beam_search_reorders_caches_loop():
    """Beam search: a step of a decoder, the best beams of all, and the caches reordered by beam, in a loop."""
    b, beams, layers, heads, dim, length, vocab = 4, 4, 4, 8, 64, 256, 16384
    d = heads * dim
    block = {"qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
    params = like({"embed": (vocab, d), "blocks": [block] * layers})

    def search(p, first):
        def step(i, state):
            tokens, scores, keys, values = state
            x = p["embed"][tokens[:, :, i]]
            for n, w in enumerate(p["blocks"]):
                q, k, v = (split_heads(a, heads) for a in jnp.split(x @ w["qkv"], 3, -1))
                keys = lax.dynamic_update_slice(keys, k[None, :, :, None], (n, 0, 0, i, 0, 0))
                values = lax.dynamic_update_slice(values, v[None, :, :, None], (n, 0, 0, i, 0, 0))
                s = jnp.einsum("bkhd,bkthd->bkht", q, keys[n]) / math.sqrt(dim)
                s = jax.nn.softmax(jnp.where(jnp.arange(length) <= i, s, -1e9), -1)
                x = x + jnp.einsum("bkht,bkthd->bkhd", s, values[n]).reshape(b, beams, d) @ w["o"]
                x = x + jax.nn.gelu(x @ w["up"]) @ w["down"]
            total = scores[..., None] + jax.nn.log_softmax(x @ p["embed"].T)
            scores, chosen = lax.top_k(total.reshape(b, -1), beams)
            origin = chosen // vocab
            tokens = jnp.take_along_axis(tokens, origin[..., None], 1)
            tokens = lax.dynamic_update_slice(tokens, (chosen % vocab)[..., None].astype(I32), (0, 0, i + 1))
            reorder = jax.vmap(jax.vmap(lambda a, o: a[o]), (0, None))
            return tokens, scores, reorder(keys, origin), reorder(values, origin)

        tokens = jnp.zeros((b, beams, length), I32).at[:, :, 0].set(first[:, None])
        cache = jnp.zeros((layers, b, beams, length, heads, dim))
        return lax.fori_loop(0, length - 1, step, (tokens, jnp.zeros((b, beams)), cache, cache))[:2]

    return search, (params, S(b, dtype=I32))


@program
def long_convolution_fft_gated_grad():
    """Hyena: long filters from a small network, multiplied in frequency, gated in time."""
    b, t, d = 4, 4096, 128
    params = like({"in": (d, 3 * d), "f1": (33, 64), "f2": (64, d), "decay": (d,), "o": (d, d)})

    def mix(p, x):
        time = jnp.linspace(0, 1, t)[:, None]
        waves = jnp.concatenate([time, jnp.sin(time * jnp.arange(1, 17)), jnp.cos(time * jnp.arange(1, 17))], -1)
        filters = (jnp.sin(waves @ p["f1"]) @ p["f2"]) * jnp.exp(-time * jax.nn.softplus(p["decay"]))
        a, g, v = jnp.split(x @ p["in"], 3, -1)
        spectrum = jnp.fft.rfft(a * v, n=2 * t, axis=1) * jnp.fft.rfft(filters, n=2 * t, axis=0)
        return (jnp.fft.irfft(spectrum, n=2 * t, axis=1)[:, :t] * g) @ p["o"]

    return jax.grad(lambda p, x: jnp.square(mix(p, x)).mean()), (params, S(b, t, d))


@program
def fourier_operator_2d_train():
    """A Fourier neural operator: four layers that mix the lowest modes, Adam."""
    n, w, modes = 128, 32, 12
    layer = {"re": (2, w, w, modes, modes), "im": (2, w, w, modes, modes), "skip": (w, w)}
    params = like({"in": (3, w), "layers": [layer] * 4, "o1": (w, 128), "o2": (128, 1)})

    def forward(p, x):
        x = x @ p["in"]
        for layer in p["layers"]:
            spectrum = jnp.fft.rfft2(x, axes=(1, 2))
            weights = layer["re"] + 1j * layer["im"]
            out = jnp.zeros(spectrum.shape, spectrum.dtype)
            for part, rows in enumerate((slice(0, modes), slice(-modes, None))):
                mixed = jnp.einsum("bxyi,ioxy->bxyo", spectrum[:, rows, :modes], weights[part])
                out = out.at[:, rows, :modes].set(mixed)
            x = jax.nn.gelu(jnp.fft.irfft2(out, s=(n, n), axes=(1, 2)) + x @ layer["skip"])
        return jax.nn.gelu(x @ p["o1"]) @ p["o2"]

    optimizer = optax.adam(1e-3)
    state = jax.eval_shape(optimizer.init, params)

    def step(p, state, x, y):
        value, grads = jax.value_and_grad(lambda p: jnp.square(forward(p, x) - y).mean())(p)
        updates, state = optimizer.update(grads, state, p)
        return optax.apply_updates(p, updates), state, value

    return step, (params, state, S(8, n, n, 3), S(8, n, n, 1))


@program
def compressible_flow_finite_volume_scan():
    """Euler equations in two dimensions: limited slopes, a Rusanov flux, two stages a step, in a scan."""
    n = 512

    def flux(u, axis):
        density, momentum, energy = u[0], u[1:3], u[3]
        velocity = momentum / density
        pressure = 0.4 * (energy - 0.5 * (momentum * velocity).sum(0))
        across = velocity[axis]
        pushed = momentum * across
        pushed = pushed.at[axis].add(pressure)
        sound = jnp.sqrt(1.4 * pressure / density) + jnp.abs(across)
        return jnp.concatenate([(density * across)[None], pushed, ((energy + pressure) * across)[None]]), sound

    def change(u):
        total = jnp.zeros_like(u)
        for axis in (0, 1):
            left, right = u - jnp.roll(u, 1, axis + 1), jnp.roll(u, -1, axis + 1) - u
            slope = jnp.where(left * right > 0, jnp.where(jnp.abs(left) < jnp.abs(right), left, right), 0)
            below, above = u + 0.5 * slope, jnp.roll(u - 0.5 * slope, -1, axis + 1)
            (f, s), (g, r) = flux(below, axis), flux(above, axis)
            edge = 0.5 * (f + g) - 0.5 * jnp.maximum(s, r) * (above - below)
            total = total - (edge - jnp.roll(edge, 1, axis + 1))
        return total

    def step(u, _):
        half = u + 0.1 * change(u)
        u = 0.5 * (u + half + 0.1 * change(half))
        return u, u[0].mean()

    return lambda u: lax.scan(step, u, None, length=200), (S(4, n, n),)


@program
def particles_to_grid_step_grad():
    """The material point method: nine weights a particle, scattered to a grid and gathered back, for eight steps."""
    particles, n = 65536, 128
    offsets = jnp.array([[i, j] for i in range(3) for j in range(3)], I32)

    def step(state, _):
        x, v, c = state
        base = (x * n - 0.5).astype(I32)
        fx = x * n - base
        w = jnp.stack([0.5 * (1.5 - fx) ** 2, 0.75 - (fx - 1) ** 2, 0.5 * (fx - 0.5) ** 2], 1)
        weights = w[:, offsets[:, 0], 0] * w[:, offsets[:, 1], 1]
        at = base[:, None] + offsets
        place = (at[..., 0] * n + at[..., 1]) % (n * n)
        distance = (offsets - fx[:, None]) / n
        momentum = weights[..., None] * (v[:, None] + jnp.einsum("pij,pkj->pki", c, distance))
        grid = jnp.zeros((n * n, 2)).at[place].add(momentum)
        mass = jnp.zeros(n * n).at[place].add(weights)
        grid = grid / (mass[:, None] + 1e-6) - jnp.array([0, 1e-3])
        near = grid[place]
        v = (weights[..., None] * near).sum(1)
        c = 4 * n * jnp.einsum("pk,pki,pkj->pij", weights, near, distance)
        return (jnp.clip(x + 1e-4 * v, 0.05, 0.95), v, c), None

    def loss(v, x, c):
        (x, _, _), _ = lax.scan(step, (x, v, c), None, length=8)
        return jnp.square(x - 0.5).mean()

    return jax.value_and_grad(loss), (S(particles, 2), S(particles, 2), S(particles, 2, 2))


@program
def contrastive_image_text_large_batch_bf16_grad():
    """Two towers of two layers and the symmetric loss over all pairs of 8,192."""
    b, d = 8192, 512
    tower = {"w1": (d, 2 * d), "w2": (2 * d, d)}
    params = like({"image": tower, "text": tower}, BF16) | {"scale": S()}

    def embed(w, x):
        y = (jax.nn.gelu(x @ w["w1"]) @ w["w2"]).astype(F32)
        return y / jnp.linalg.norm(y, axis=-1, keepdims=True)

    def loss(p, image, text):
        a, b = embed(p["image"], image), embed(p["text"], text)
        logits = jnp.exp(p["scale"]) * a @ b.T
        rows = jnp.diag(jax.nn.log_softmax(logits, 1))
        columns = jnp.diag(jax.nn.log_softmax(logits, 0))
        return -(rows + columns).mean() / 2

    return jax.value_and_grad(loss), (params, S(b, d, dtype=BF16), S(b, d, dtype=BF16))


@program
def label_smoothing_z_loss_large_vocabulary_grad():
    """Cross entropy over 64,000 words with label smoothing and a penalty of the normaliser, bf16 products."""
    b, t, d, vocab = 4, 512, 512, 64000

    def loss(w, x, y):
        logits = jnp.einsum("btd,dv->btv", x, w, preferred_element_type=F32)
        normaliser = jax.nn.logsumexp(logits, -1)
        logp = logits - normaliser[..., None]
        hit = jnp.take_along_axis(logp, y[..., None], -1)[..., 0]
        return (-0.9 * hit - 0.1 * logp.mean(-1) + 1e-4 * normaliser**2).mean()

    args = S(d, vocab, dtype=BF16), S(b, t, d, dtype=BF16), S(b, t, dtype=I32)
    return jax.value_and_grad(loss, argnums=(0, 1)), args


def _block_shapes(d, hidden):
    return {"g1": (d,), "b1": (d,), "q": (d, d), "k": (d, d), "v": (d, d), "o": (d, d), "g2": (d,), "b2": (d,),
            "up": (d, hidden), "down": (hidden, d)}  # fmt: skip


def _block(w, x, heads, mask=None):
    y = layer_norm(x, w["g1"], w["b1"])
    y = attention(*(split_heads(y @ w[n], heads) for n in "qkv"), mask).reshape(x.shape)
    x = x + y @ w["o"]
    return x + jax.nn.gelu(layer_norm(x, w["g2"], w["b2"]) @ w["up"]) @ w["down"]


@program
def remat_dots_policy_unrolled_transformer_grad():
    """Six blocks in a Python loop, each keeping the products without batch axes."""
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    params = like([_block_shapes(512, 2048)] * 6)

    def loss(p, x):
        mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
        for w in p:
            x = jax.checkpoint(functools.partial(_block, heads=8, mask=mask), policy=policy)(w, x)
        return jnp.square(x).mean()

    return jax.value_and_grad(loss), (params, S(8, 512, 512))


@program
def remat_whole_blocks_unrolled_bf16_donated_step():
    """Eight blocks in a Python loop, recomputed whole, and an update of donated weights."""
    params = like([_block_shapes(512, 2048)] * 8, BF16)

    def loss(p, x, y):
        for w in p:
            x = jax.checkpoint(functools.partial(_block, heads=8))(w, x)
        return jnp.square((x - y).astype(F32)).mean()

    def step(p, x, y):
        value, grads = jax.value_and_grad(loss)(p, x, y)
        return sgd(p, grads), value

    batch = S(8, 512, 512, dtype=BF16)
    return jax.jit(step, donate_argnums=0), (params, batch, batch)


@program
def axial_video_attention_grad():
    """Attention along time, then along rows, then along columns of a video."""
    b, t, n, d = 2, 16, 32, 256
    params = like([dict.fromkeys("qkvo", (d, d))] * 3)

    def loss(p, x):
        for axis, w in enumerate(p):
            y = jnp.moveaxis(x, axis + 1, 3)
            shape = y.shape
            y = y.reshape(-1, shape[3], d)
            y = attention(*(split_heads(y @ w[n], 8) for n in "qkv")).reshape(shape) @ w["o"]
            x = x + jnp.moveaxis(y, 3, axis + 1)
        return jnp.square(x).mean()

    return jax.value_and_grad(loss), (params, S(b, t, n, n, d))


@program
def hash_grid_encoding_small_network_train():
    """A multi-resolution hash encoding of points in space and a small network."""
    levels, size, features, points = 8, 1 << 16, 2, 65536
    params = like({"tables": (levels, size, features), "w1": (levels * features, 64), "w2": (64, 4)})
    corners = jnp.array([[i >> a & 1 for a in range(3)] for i in range(8)], U32)

    def encode(tables, x):
        parts = []
        for level in range(levels):
            scaled = x * 16 * 1.5**level
            low = jnp.floor(scaled)
            inside = scaled - low
            at = low.astype(U32)[:, None] + corners
            hashed = at[..., 0] ^ (at[..., 1] * U32(2654435761)) ^ (at[..., 2] * U32(805459861))
            near = tables[level][(hashed % size).astype(I32)]
            weight = jnp.prod(jnp.where(corners == 1, inside[:, None], 1 - inside[:, None]), -1)
            parts.append((near * weight[..., None]).sum(1))
        return jnp.concatenate(parts, -1)

    def step(p, x, colour):
        def loss(p):
            return jnp.square(jax.nn.relu(encode(p["tables"], x) @ p["w1"]) @ p["w2"] - colour).mean()

        value, grads = jax.value_and_grad(loss)(p)
        return sgd(p, grads), value

    return step, (params, S(points, 3), S(points, 4))


@program
def graph_transformer_edge_bias_grad():
    """Attention over all pairs of nodes with a bias and a gate from features of the edges."""
    b, n, d, heads, e = 4, 256, 256, 8, 32
    params = like({**dict.fromkeys("qkvo", (d, d)), "bias": (e, heads), "gate": (e, heads), "edge": (heads, e)})

    def loss(p, x, edges):
        for _ in range(2):
            q, k, v = (split_heads(x @ p[name], heads) for name in "qkv")
            s = jnp.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(d // heads)
            s = s + (edges @ p["bias"]).transpose(0, 3, 1, 2)
            w = jax.nn.softmax(s, -1) * jax.nn.sigmoid(edges @ p["gate"]).transpose(0, 3, 1, 2)
            x = x + jnp.einsum("bhij,bjhd->bihd", w, v).reshape(b, n, d) @ p["o"]
            edges = edges + s.transpose(0, 2, 3, 1) @ p["edge"]
        return jnp.square(x).mean() + jnp.square(edges).mean()

    return jax.value_and_grad(loss), (params, S(b, n, d), S(b, n, n, e))


@program
def alternating_least_squares_sweep():
    """Factors of users by batched normal equations, then of items."""
    users, items, rank = 4096, 2048, 32

    def solve(ratings, seen, factors):
        gram = jnp.einsum("ui,ij,ik->ujk", seen, factors, factors) + 0.1 * jnp.eye(rank)
        right = (ratings * seen) @ factors
        return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(gram), True), right[..., None])[..., 0]

    def sweep(ratings, seen, item_factors):
        user_factors = solve(ratings, seen, item_factors)
        item_factors = solve(ratings.T, seen.T, user_factors)
        error = jnp.square((ratings - user_factors @ item_factors.T) * seen).sum()
        return user_factors, item_factors, error

    return sweep, (S(users, items), S(users, items), S(items, rank))


@program
def transducer_loss_lattice_grad():
    """A speech transducer: logits of every pair of frame and label, and the forward recursion over diagonals."""
    b, t, u, d, vocab = 4, 64, 32, 256, 512

    def loss(w, frames, labels_in, labels):
        joint = jnp.tanh(frames[:, :, None] + labels_in[:, None])
        logp = jax.nn.log_softmax(joint @ w)
        blank = logp[..., 0]
        emit = jnp.take_along_axis(logp[:, :, :-1], jnp.broadcast_to(labels[:, None, :, None], (b, t, u, 1)), -1)
        emit = jnp.pad(emit[..., 0], ((0, 0), (0, 0), (0, 1)), constant_values=-1e9)

        def frame(alpha, now):
            blank, emit = now

            def label(left, here):
                up, emit = here
                out = jnp.logaddexp(up, left + emit)
                return out, out

            stay = alpha + blank
            first = stay[:, 0]
            _, rest = lax.scan(label, first, (stay[:, 1:].T, emit[:, :-1].T))
            return jnp.concatenate([first[:, None], rest.T], 1), None

        start = jnp.concatenate([jnp.zeros((b, 1)), jnp.full((b, u), -1e9)], 1)
        alpha, _ = lax.scan(frame, start, (blank.transpose(1, 0, 2), emit.transpose(1, 0, 2)))
        return -alpha[:, -1].mean()

    args = S(d, vocab), S(b, t, d), S(b, u + 1, d), S(b, u, dtype=I32)
    return jax.value_and_grad(loss, argnums=(0, 1, 2)), args


@program
def chunked_prefill_into_donated_cache_bf16():
    """A chunk of a prompt against a cache that is donated: writes, then attention over all of it."""
    layers, b, t, length, heads, dim = 6, 2, 256, 4096, 8, 64
    d = heads * dim
    params = like([{"g": (d,), "qkv": (d, 3 * d), "o": (d, d), "gate": (d, 4 * d), "down": (4 * d, d)}] * layers, BF16)

    def prefill(cache, p, x, start):
        for n, w in enumerate(p):
            q, k, v = (split_heads(a, heads) for a in jnp.split(rms_norm(x, w["g"]) @ w["qkv"], 3, -1))
            cache = lax.dynamic_update_slice(cache, jnp.stack([k, v])[None], (n, 0, 0, start, 0, 0))
            mask = jnp.arange(length)[None] <= start + jnp.arange(t)[:, None]
            x = x + attention(q, cache[n, 0], cache[n, 1], mask).reshape(x.shape) @ w["o"]
            x = x + jax.nn.silu(rms_norm(x, w["g"]) @ w["gate"]) @ w["down"]
        return cache, x

    cache = S(layers, 2, b, length, heads, dim, dtype=BF16)
    return jax.jit(prefill, donate_argnums=0), (cache, params, S(b, t, d, dtype=BF16), S(dtype=I32))


@program
def path_tracing_spheres_scan():
    """Rays that bounce between spheres: the nearest of 64 for each of 262,144 rays, eight times."""
    rays, spheres = 262144, 64

    def trace(origin, direction, centre, radius, colour):
        def bounce(state, _):
            origin, direction, light, weight = state
            to = centre[None] - origin[:, None]
            along = (to * direction[:, None]).sum(-1)
            inside = radius**2 - ((to**2).sum(-1) - along**2)
            distance = jnp.where((inside > 0) & (along > 0), along - jnp.sqrt(jnp.maximum(inside, 0)), jnp.inf)
            nearest = jnp.argmin(distance, 1)
            far = jnp.take_along_axis(distance, nearest[:, None], 1)
            hit = jnp.isfinite(far)
            point = origin + jnp.where(hit, far, 0) * direction
            normal = (point - centre[nearest]) / radius[nearest][:, None]
            light = light + jnp.where(hit, 0.1 * weight * colour[nearest], weight * 0.5)
            weight = jnp.where(hit, weight * colour[nearest], 0)
            direction = direction - 2 * (direction * normal).sum(-1, keepdims=True) * normal
            return (point, direction, light, weight), None

        start = origin, direction, jnp.zeros_like(origin), jnp.ones_like(origin)
        return lax.scan(bounce, start, None, length=8)[0][2]

    return trace, (S(rays, 3), S(rays, 3), S(spheres, 3), S(spheres), S(spheres, 3))


@program
def late_interaction_retrieval_scores():
    """The sum over the words of a query of the best match in each of 2,048 documents, and the ten best."""
    queries, words, documents, length, d = 16, 32, 2048, 128, 128

    def scores(q, documents, mask):
        s = jnp.einsum("qwd,nld->qnwl", q, documents, preferred_element_type=F32)
        best = jnp.where(mask[None, :, None], s, -1e9).max(-1).sum(-1)
        return lax.top_k(best, 10)

    args = S(queries, words, d, dtype=BF16), S(documents, length, d, dtype=BF16), S(documents, length, dtype=bool)
    return scores, args


@program
def consistency_distillation_average_weights_step():
    """A student against its own moving average on two noise levels, in one step with momentum."""
    params = like({"c1": (3, 3, 3, 128), "c2": (3, 3, 128, 128), "c3": (3, 3, 128, 3), "t": (64, 128)})

    def model(p, x, t):
        scale = jnp.exp(jnp.linspace(0, -5, 32))
        waves = jnp.concatenate([jnp.sin(t[:, None] * scale), jnp.cos(t[:, None] * scale)], -1)
        y = conv(x, p["c1"]) + (waves @ p["t"])[:, None, None]
        y = y + conv(jax.nn.silu(y), p["c2"])
        return x * 0.5 + conv(jax.nn.silu(y), p["c3"])

    def step(p, average, momentum, x, noise, t):
        near, far = x + noise * t[:, None, None, None], x + noise * (t + 0.1)[:, None, None, None]
        goal = model(average, near, t)

        def loss(p):
            delta = model(p, far, t + 0.1) - goal
            return (jnp.sqrt(jnp.square(delta).sum((1, 2, 3)) + 1e-3) - 0.03).mean()

        value, grads = jax.value_and_grad(loss)(p)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        p = sgd(p, momentum)
        average = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b, average, p)
        return p, average, momentum, value

    image = S(16, 64, 64, 3)
    return step, (params, params, params, image, image, S(16))
