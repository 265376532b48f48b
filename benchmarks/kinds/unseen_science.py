"""Numerical programs and serving of models that the other files lack."""

import functools
import math

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import optax
from jax import lax
from jax.experimental.ode import odeint
from jax.flatten_util import ravel_pytree

from kinds.registry import BF16, F16, F32, I8, I32, S, attention, conv, layer_norm, like, program, rms_norm, split_heads


@program
def prefill_writes_key_value_cache_bf16():
    d, heads, t, length = 1024, 16, 512, 2048
    block = {"qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d), "down": (4 * d, d), "g": (d,)}
    p = like({"embed": (16384, d), "blocks": [block] * 2}, BF16)
    cache = [(S(4, length, heads, 64, dtype=BF16),) * 2] * 2

    def prefill(p, cache, tokens):
        x, made = p["embed"][tokens], []
        for b, (ck, cv) in zip(p["blocks"], cache, strict=True):
            q, k, v = (split_heads(a, heads) for a in jnp.split(rms_norm(x, b["g"]) @ b["qkv"], 3, -1))
            made.append((lax.dynamic_update_slice(ck, k, (0, 0, 0, 0)), lax.dynamic_update_slice(cv, v, (0, 0, 0, 0))))
            x = x + attention(q, k, v, jnp.tril(jnp.ones((t, t), bool))).reshape(x.shape) @ b["o"]
            x = x + jax.nn.gelu(rms_norm(x, b["g"]) @ b["up"]) @ b["down"]
        return (x[:, -1] @ p["embed"].T).argmax(-1), made

    return jax.jit(prefill, donate_argnums=1), (p, cache, S(4, t, dtype=I32))


@program
def paged_cache_gather_decode_bf16():
    def decode(q, k_pages, v_pages, table, lengths):
        k, v = k_pages[table], v_pages[table]
        b, pages, size, heads, d = k.shape
        k, v = k.reshape(b, pages * size, heads, d), v.reshape(b, pages * size, heads, d)
        s = jnp.einsum("bhd,bthd->bht", q, k, preferred_element_type=F32) / math.sqrt(d)
        s = jnp.where(jnp.arange(pages * size) < lengths[:, None, None], s, -1e30)
        return jnp.einsum("bht,bthd->bhd", jax.nn.softmax(s).astype(BF16), v)

    pages = S(2048, 16, 8, 64, dtype=BF16)
    return decode, (S(32, 8, 64, dtype=BF16), pages, pages, S(32, 64, dtype=I32), S(32, dtype=I32))


@program
def int8_cache_decode_step_donated():
    def step(q, k, v, ck, cv, scale, position):
        quantise = lambda a: jnp.round(a / jnp.abs(a).max(-1, keepdims=True) * 127).astype(I8)
        ck = lax.dynamic_update_slice(ck, quantise(k), (0, position, 0, 0))
        cv = lax.dynamic_update_slice(cv, quantise(v), (0, position, 0, 0))
        s = jnp.einsum("bqhd,bthd->bhqt", q, ck.astype(BF16) * scale)
        w = jax.nn.softmax(s.astype(F32), -1).astype(BF16)
        return jnp.einsum("bhqt,bthd->bqhd", w, cv.astype(BF16) * scale), ck, cv

    new, cache = S(16, 1, 8, 128, dtype=BF16), S(16, 2048, 8, 128, dtype=I8)
    return jax.jit(step, donate_argnums=(3, 4)), (new, new, new, cache, cache, S(dtype=BF16), S(dtype=I32))


@program
def packed_int4_weights_group_scales():
    def layer(x, packed, scales, packed2, scales2):
        def unpack(packed, scales):
            low, high = (packed << 4) >> 4, packed >> 4
            w = jnp.stack([low, high], 1).reshape(-1, packed.shape[1]).astype(BF16)
            return (w.reshape(-1, 128, w.shape[1]) * scales[:, None]).reshape(w.shape)

        return jax.nn.silu(x @ unpack(packed, scales)) @ unpack(packed2, scales2)

    a, b = (2048, 4096), (4096, 2048)
    weights = [(S(i // 2, o, dtype=I8), S(i // 128, o, dtype=BF16)) for i, o in (a, b)]
    return layer, (S(64, 2048, dtype=BF16), *weights[0], *weights[1])


@program
def int8_dynamic_activation_projections():
    def layer(x, *weights):
        for w, scale in zip(weights[::2], weights[1::2], strict=True):
            size = jnp.abs(x).max(-1, keepdims=True) / 127
            y = lax.dot(jnp.round(x / size).astype(I8), w, preferred_element_type=I32)
            x = jax.nn.relu(y.astype(F32) * size * scale)
        return x

    weights = [a for _ in range(3) for a in (S(2048, 2048, dtype=I8), S(2048))]
    return layer, (S(1024, 2048), *weights)


@program
def nucleus_generate_fori_loop():
    d, vocab, length = 512, 32000, 64
    p = like({"embed": (vocab, d), "w": (d, d), "u": (d, d), "head": (d, vocab)})

    def generate(p, tokens, seed):
        def step(i, carry):
            tokens, h, key = carry
            key, used = jax.random.split(key)
            h = jnp.tanh(p["embed"][tokens[:, i]] @ p["w"] + h @ p["u"])
            logits = h @ p["head"]
            ordered = jnp.sort(logits, -1)[:, ::-1]
            mass = jnp.cumsum(jax.nn.softmax(ordered), -1)
            least = jnp.take_along_axis(ordered, (mass < 0.9).sum(-1, keepdims=True), -1)
            token = jax.random.categorical(used, jnp.where(logits < least, -jnp.inf, logits))
            return tokens.at[:, i + 1].set(token.astype(I32)), h, key

        return lax.fori_loop(0, length - 1, step, (tokens, jnp.zeros((32, d)), jax.random.key(seed)))[0]

    return generate, (p, S(32, length, dtype=I32), S(dtype=I32))


@program
def speech_encoder_conv_attention_fp16():
    d, heads = 512, 8
    block = {"qkv": (d, 3 * d), "o": (d, d), "up": (d, 4 * d), "down": (4 * d, d), "g": (d,), "b": (d,)}
    p = like({"c1": (3, 80, d), "c2": (3, d, d), "blocks": [block] * 3}, F16)

    def encode(p, x):
        x = jax.nn.gelu(conv(jax.nn.gelu(conv(x, p["c1"])), p["c2"], 2))
        for b in p["blocks"]:
            y = layer_norm(x, b["g"], b["b"])
            q, k, v = (split_heads(a, heads) for a in jnp.split(y @ b["qkv"], 3, -1))
            x = x + attention(q, k, v).reshape(x.shape) @ b["o"]
            x = x + jax.nn.gelu(layer_norm(x, b["g"], b["b"]) @ b["up"]) @ b["down"]
        return x

    return encode, (p, S(4, 1500, 80, dtype=F16))


@program
def conformer_block_grad():
    d = 256
    p = like(
        {
            "f1": (d, 4 * d),
            "f2": (4 * d, d),
            "qkv": (d, 3 * d),
            "o": (d, d),
            "p1": (d, 2 * d),
            "depth": (31, 1, d),
            "p2": (d, d),
            "g": (d,),
            "b": (d,),
        }
    )

    def loss(p, x):
        norm = lambda x: layer_norm(x, p["g"], p["b"])
        x = x + 0.5 * jax.nn.silu(norm(x) @ p["f1"]) @ p["f2"]
        q, k, v = (split_heads(a, 4) for a in jnp.split(norm(x) @ p["qkv"], 3, -1))
        x = x + attention(q, k, v).reshape(x.shape) @ p["o"]
        y = jax.nn.glu(norm(x) @ p["p1"])
        y = jax.nn.silu(norm(conv(y, p["depth"], feature_group_count=d)))
        return jnp.square(norm(x + y @ p["p2"])).mean()

    return jax.grad(loss), (p, S(16, 400, d))


@program
def multi_resolution_spectral_loss_grad():
    def loss(x, y):
        total = 0.0
        for size in (256, 512, 1024):
            hop = size // 4
            frames = lambda a: a[:, jnp.arange(0, a.shape[1] - size, hop)[:, None] + jnp.arange(size)]
            mag = lambda a: jnp.abs(jnp.fft.rfft(frames(a) * jnp.hanning(size))) + 1e-5
            a, b = mag(x), mag(y)
            total += jnp.abs(jnp.log(a) - jnp.log(b)).mean() + jnp.sqrt(jnp.square(a - b).sum() / jnp.square(b).sum())
        return total

    return jax.value_and_grad(loss), (S(8, 32768), S(8, 32768))


@program
def blockwise_attention_remat_scan_grad():
    def attend(q, k, v):
        blocks = lambda a: a.reshape(a.shape[0], 8, 256, *a.shape[2:]).swapaxes(0, 1)

        @jax.checkpoint
        def step(carry, kv):
            top, norm, total = carry
            k, v = kv
            s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8
            new = jnp.maximum(top, s.max(-1))
            w, keep = jnp.exp(s - new[..., None]), jnp.exp(top - new)
            total = total * keep[..., None] + jnp.einsum("bhqk,bkhd->bhqd", w, v)
            return (new, norm * keep + w.sum(-1), total), None

        b, t, h, d = q.shape
        start = jnp.full((b, h, t), -jnp.inf), jnp.zeros((b, h, t)), jnp.zeros((b, h, t, d))
        (_, norm, total), _ = lax.scan(step, start, (blocks(k), blocks(v)))
        return jnp.square(total / norm[..., None]).sum()

    return jax.grad(attend, (0, 1, 2)), (S(2, 2048, 8, 64),) * 3


@program
def latent_attention_decode_absorbed():
    d, heads, rank, length = 2048, 16, 512, 4096
    p = like(
        {
            "q": (d, heads, 128),
            "down": (d, rank),
            "uk": (rank, heads, 128),
            "uv": (rank, heads, 128),
            "o": (heads, 128, d),
        },
        BF16,
    )

    def step(p, x, cache, position):
        cache = lax.dynamic_update_slice(cache, (x @ p["down"])[:, None], (0, position, 0))
        q = jnp.einsum("bhk,rhk->bhr", jnp.einsum("bd,dhk->bhk", x, p["q"]), p["uk"])
        s = jnp.einsum("bhr,btr->bht", q, cache, preferred_element_type=F32)
        w = jax.nn.softmax(jnp.where(jnp.arange(length) <= position, s, -1e30)).astype(BF16)
        o = jnp.einsum("bhr,rhk->bhk", jnp.einsum("bht,btr->bhr", w, cache), p["uv"])
        return jnp.einsum("bhk,hkd->bd", o, p["o"]), cache

    return step, (p, S(16, d, dtype=BF16), S(16, length, rank, dtype=BF16), S(dtype=I32))


@program
def three_projections_activated_reused():
    def heads(x, q, k, v, g):
        return tuple(jax.nn.gelu(x @ w) @ g for w in (q, k, v))

    return heads, (S(8192, 768), *(S(768, 768),) * 4)


@program
def full_hessian_small_network():
    p = like([(32, 32), (32, 16), (16, 1)])

    def run(p, x, y):
        flat, back = ravel_pytree(jax.tree.map(lambda a: jnp.zeros(a.shape), p))

        def loss(v, x, y):
            h = x
            w = back(v)
            for a in w[:-1]:
                h = jnp.tanh(h @ a)
            return jnp.square(h @ w[-1] - y).mean()

        return jax.hessian(loss)(flat + ravel_pytree(p)[0], x, y)

    return run, (p, S(128, 32), S(128, 1))


@program
def per_example_gradient_norms_clipped():
    p = like({"c": (3, 3, 3, 32), "d": (3, 3, 32, 32), "w": (32, 10)})

    def loss(p, x, y):
        h = jax.nn.relu(conv(x[None], p["c"], 2))
        h = jax.nn.relu(conv(h, p["d"], 2)).mean((1, 2))
        return optax.softmax_cross_entropy_with_integer_labels(h @ p["w"], y[None]).mean()

    def run(p, x, y):
        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(p, x, y)
        norms = jnp.sqrt(sum(jnp.square(g).reshape(g.shape[0], -1).sum(1) for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1, 1 / norms)
        return jax.tree.map(lambda g: jnp.einsum("b,b...->...", scale, g), grads), norms

    return run, (p, S(128, 32, 32, 3), S(128, dtype=I32))


@program
def ensemble_vmapped_training_scan():
    p = like([(16, 64, 256), (16, 256, 256), (16, 256, 1)])

    def fit(p, x, y):
        def one(p, x, y):
            def loss(p, x, y):
                for w in p[:-1]:
                    x = jnp.tanh(x @ w)
                return jnp.square(x @ p[-1] - y).mean()

            def step(p, batch):
                value, grads = jax.value_and_grad(loss)(p, *batch)
                return jax.tree.map(lambda a, g: a - 0.1 * g, p, grads), value

            return lax.scan(step, p, (x, y))

        return jax.vmap(one, (0, None, None))(p, x, y)

    return fit, (p, S(20, 256, 64), S(20, 256, 1))


@program
def implicit_equilibrium_network_grad():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def fixed(f, w, x):
        step = lambda c: (f(w, x, c[0]), jnp.abs(f(w, x, c[0]) - c[0]).max(), c[2] + 1)
        return lax.while_loop(lambda c: (c[1] > 1e-4) & (c[2] < 50), step, (jnp.zeros_like(x), jnp.inf, 0))[0]

    def forward(f, w, x):
        z = fixed(f, w, x)
        return z, (w, x, z)

    def backward(f, kept, g):
        w, x, z = kept
        _, pull = jax.vjp(lambda z: f(w, x, z), z)
        u = lax.fori_loop(0, 30, lambda _, u: g + pull(u)[0], g)
        return jax.vjp(lambda w, x: f(w, x, z), w, x)[1](u)

    fixed.defvjp(forward, backward)
    f = lambda w, x, z: jnp.tanh(z @ w + x)
    return jax.grad(lambda w, x: jnp.square(fixed(f, w, x)).mean(), (0, 1)), (S(1024, 1024), S(2048, 1024))


@program
def adjoint_neural_ode_grad():
    p = like([(64, 256), (256, 64)])

    def loss(p, x, times):
        field = lambda x, t, p: jnp.tanh(x @ p[0] + t) @ p[1]
        return jnp.square(odeint(field, x, times, p, rtol=1e-4)[-1]).mean()

    return jax.grad(loss), (p, S(4096, 64), S(4))


@program
def acoustic_wave_scan_records_grad():
    def misfit(speed, source, data):
        laplace = lambda u: sum(jnp.roll(u, s, a) for s in (-1, 1) for a in (0, 1)) - 4 * u

        def step(carry, s):
            u, old = carry
            new = 2 * u - old + (speed * 0.001) ** 2 * laplace(u)
            new = new.at[128, 128].add(s)
            return (new, u), new[::8, 10]

        zero = jnp.zeros_like(speed)
        _, seen = lax.scan(step, (zero, zero), source)
        return jnp.square(seen - data).sum()

    return jax.value_and_grad(misfit), (S(256, 256), S(200), S(200, 32))


@program
def shallow_water_scan():
    def run(h, u, v):
        dx = lambda a: (jnp.roll(a, -1, 1) - jnp.roll(a, 1, 1)) / 2
        dy = lambda a: (jnp.roll(a, -1, 0) - jnp.roll(a, 1, 0)) / 2

        def step(state, _):
            h, u, v = state
            u2 = u - 0.01 * (u * dx(u) + v * dy(u) + 9.8 * dx(h))
            v2 = v - 0.01 * (u * dx(v) + v * dy(v) + 9.8 * dy(h))
            h2 = h - 0.01 * (dx(h * u) + dy(h * v))
            return (h2, u2, v2), h2.max()

        return lax.scan(step, (h, u, v), length=100)

    return run, (S(1024, 1024),) * 3


@program
def molecular_dynamics_neighbour_list():
    n, near = 8192, 64

    def energy(x, neighbours):
        shift = x[:, None] - x[neighbours]
        shift = shift - 20 * jnp.round(shift / 20)
        r2 = jnp.square(shift).sum(-1) + 1e-6
        inverse = (1 / r2) ** 3
        return 2 * jnp.where(r2 < 9, inverse * inverse - inverse, 0).sum()

    def run(x, v, neighbours):
        def step(c, _):
            x, v, f = c
            v = v + 0.001 * f
            x = x + 0.002 * v
            f = -jax.grad(energy)(x, neighbours)
            return (x, v + 0.001 * f, f), None

        return lax.scan(step, (x, v, -jax.grad(energy)(x, neighbours)), length=20)[0]

    return run, (S(n, 3), S(n, 3), S(n, near, dtype=I32))


@program
def multigrid_v_cycle():
    laplace = lambda u: (
        jnp.pad(u, 1)[2:, 1:-1] + jnp.pad(u, 1)[:-2, 1:-1] + jnp.pad(u, 1)[1:-1, 2:] + jnp.pad(u, 1)[1:-1, :-2] - 4 * u
    )

    def cycle(u, f):
        smooth = lambda u: u + 0.2 * (laplace(u) - f)
        for _ in range(3):
            u = smooth(u)
        if u.shape[0] > 32:
            rest = f - laplace(u)
            coarse = rest.reshape(rest.shape[0] // 2, 2, rest.shape[1] // 2, 2).mean((1, 3))
            e = cycle(jnp.zeros_like(coarse), 4 * coarse)
            u = u + jnp.repeat(jnp.repeat(e, 2, 0), 2, 1)
        for _ in range(3):
            u = smooth(u)
        return u

    return cycle, (S(1024, 1024), S(1024, 1024))


@program
def conjugate_gradient_stencil_while():
    def solve(b, k):
        def apply(u):
            p = jnp.pad(u, 1)
            return 6.1 * u - k * (
                p[2:, 1:-1, 1:-1]
                + p[:-2, 1:-1, 1:-1]
                + p[1:-1, 2:, 1:-1]
                + p[1:-1, :-2, 1:-1]
                + p[1:-1, 1:-1, 2:]
                + p[1:-1, 1:-1, :-2]
            )

        return jsp.sparse.linalg.cg(apply, b, maxiter=200)[0]

    return solve, (S(128, 128, 128), S(128, 128, 128))


@program
def kalman_smoother_associative_scan():
    def combine(a, b):
        (a1, b1, c1), (a2, b2, c2) = a, b
        inner = jnp.linalg.inv(jnp.eye(8) + c1 @ b2.mT * 0.1)
        left = a2 @ inner
        return left @ a1, (left @ b1) + b2, left @ c1 @ a2.mT + c2

    return lambda a, b, c: lax.associative_scan(jax.vmap(combine), (a, b, c)), (
        S(8192, 8, 8),
        S(8192, 8, 8),
        S(8192, 8, 8),
    )


@program
def gaussian_process_marginal_grad():
    def loss(scale, noise, x, y):
        d = ((x[:, None] - x[None]) ** 2).sum(-1)
        k = jnp.exp(-d / scale**2) + noise * jnp.eye(x.shape[0])
        low = jnp.linalg.cholesky(k)
        a = jsp.linalg.cho_solve((low, True), y)
        return 0.5 * y @ a + jnp.log(jnp.diag(low)).sum()

    return jax.value_and_grad(loss, (0, 1)), (S(), S(), S(1024, 8), S(1024))


@program
def orthogonal_iteration_qr():
    def run(a, q):
        step = lambda _, q: jnp.linalg.qr(a @ (a.T @ q))[0]
        q = lax.fori_loop(0, 10, step, q)
        s = q.T @ a
        return jnp.linalg.eigvalsh(s @ s.T), q

    return run, (S(4096, 1024), S(4096, 64))


@program
def ridge_regression_vmapped_folds():
    def run(x, y, penalties):
        gram, xy = x.T @ x, x.T @ y
        fit = lambda a: jnp.linalg.solve(gram + a * jnp.eye(x.shape[1]), xy)
        w = jax.vmap(fit)(penalties)
        return jnp.square(jnp.einsum("nd,sdo->sno", x, w) - y).mean((1, 2))

    return run, (S(8192, 256), S(8192, 8), S(16))


@program
def matrix_exponential_batched():
    return jax.vmap(jsp.linalg.expm), (S(64, 64, 64),)


@program
def spectral_poisson_3d():
    def solve(f):
        k = jnp.fft.fftfreq(f.shape[0]) * 2 * math.pi
        k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + (jnp.fft.rfftfreq(f.shape[2]) * 2 * math.pi) ** 2
        return jnp.fft.irfftn(jnp.fft.rfftn(f) / -jnp.where(k2 == 0, 1, k2), f.shape)

    return solve, (S(160, 160, 160),)


@program
def tomography_rotate_and_sum():
    def project(image, angles):
        n = image.shape[0]
        grid = jnp.stack(jnp.meshgrid(*(jnp.arange(n) - n / 2,) * 2, indexing="ij"))

        def one(a):
            turn = jnp.array([[jnp.cos(a), -jnp.sin(a)], [jnp.sin(a), jnp.cos(a)]])
            at = jnp.einsum("ij,jxy->ixy", turn, grid) + n / 2
            return jsp.ndimage.map_coordinates(image, list(at), 1).sum(0)

        return jax.vmap(one)(angles)

    return project, (S(256, 256), S(32))


@program
def bootstrap_quantiles_vmapped():
    def run(x, seed):
        def one(key):
            return jnp.quantile(x[jax.random.randint(key, x.shape, 0, x.shape[0])], jnp.array([0.05, 0.5, 0.95]))

        return jax.vmap(one)(jax.random.split(jax.random.key(seed), 256))

    return run, (S(20000), S(dtype=I32))


@program
def american_option_least_squares():
    def price(seed, spot):
        z = jax.random.normal(jax.random.key(seed), (50, 65536))
        paths = spot * jnp.exp(jnp.cumsum(0.02 * z - 0.0002, 0))

        def back(value, s):
            basis = jnp.stack([jnp.ones_like(s), s, s * s], 1)
            weight = jnp.linalg.solve(basis.T @ basis + 1e-6 * jnp.eye(3), basis.T @ value)
            exercise = jnp.maximum(100 - s, 0)
            return jnp.where(exercise > basis @ weight, exercise, value * 0.999), None

        return lax.scan(back, jnp.maximum(100 - paths[-1], 0), paths[:-1], reverse=True)[0].mean()

    return price, (S(dtype=I32), S())


@program
def hidden_markov_forward_grad():
    def loss(transition, emission, observations):
        log_a, log_b = jax.nn.log_softmax(transition), jax.nn.log_softmax(emission)

        def step(alpha, o):
            alpha = jax.nn.logsumexp(alpha[:, :, None] + log_a, 1) + log_b[:, o].T
            return alpha, None

        start = jnp.zeros((observations.shape[1], log_a.shape[0]))
        return -jax.nn.logsumexp(lax.scan(step, start, observations)[0], -1).mean()

    return jax.grad(loss, (0, 1)), (S(128, 128), S(128, 1000), S(60, 64, dtype=I32))


@program
def viterbi_decode_scan():
    def decode(scores, transition):
        def step(best, s):
            every = best[:, :, None] + transition
            return every.max(1) + s, every.argmax(1).astype(I32)

        best, back = lax.scan(step, scores[0], scores[1:])
        follow = lambda tag, b: (jnp.take_along_axis(b, tag[:, None], 1)[:, 0],) * 2
        return lax.scan(follow, best.argmax(-1).astype(I32), back, reverse=True)[1]

    return decode, (S(256, 64, 128), S(128, 128))


@program
def tsne_gradient_descent():
    def run(p, y):
        def loss(y):
            d = jnp.square(y).sum(1)
            q = 1 / (1 + d[:, None] + d[None] - 2 * y @ y.T)
            q = q * (1 - jnp.eye(y.shape[0]))
            q = q / q.sum()
            return (p * (jnp.log(p + 1e-9) - jnp.log(q + 1e-9))).sum()

        return lax.fori_loop(
            0, 50, lambda _, c: (c[0] - 100 * c[1], jax.grad(loss)(c[0]) + 0.8 * c[1]), (y, jnp.zeros_like(y))
        )[0]

    return run, (S(2048, 2048), S(2048, 2))


@program
def word_vectors_negative_sampling_update():
    def step(centre, context, words, positive, negative):
        def loss(c, o):
            u, v, n = c[words], o[positive], o[negative]
            return -(
                jax.nn.log_sigmoid((u * v).sum(-1)) + jax.nn.log_sigmoid(-jnp.einsum("bd,bkd->bk", u, n)).sum(-1)
            ).mean()

        g1, g2 = jax.grad(loss, (0, 1))(centre, context)
        return centre - 0.05 * g1, context - 0.05 * g2

    table, words = S(50000, 128), S(8192, dtype=I32)
    return jax.jit(step, donate_argnums=(0, 1)), (table, table, words, words, S(8192, 5, dtype=I32))


@program
def nearest_neighbours_mapped_chunks():
    def search(queries, base):
        def chunk(q):
            d = jnp.square(base).sum(1) - 2 * q @ base.T
            return lax.top_k(-d, 10)

        return lax.map(chunk, queries.reshape(16, -1, queries.shape[1]))

    return search, (S(4096, 64), S(50000, 64))


@program
def soft_dynamic_time_warping_grad():
    def loss(x, y):
        cost = jnp.square(x[:, :, None] - y[:, None]).sum(-1)
        n = cost.shape[1]
        diagonals = jnp.stack([jnp.pad(cost[:, i], ((0, 0), (i, n - 1 - i))) for i in range(n)], 1)

        def step(carry, d):
            last, before = carry
            left = jnp.pad(last, ((0, 0), (1, 0)), constant_values=1e6)[:, :-1]
            corner = jnp.pad(before, ((0, 0), (1, 0)), constant_values=1e6)[:, :-1]
            new = d - jax.nn.logsumexp(-jnp.stack([last, left, corner]), 0)
            return (new, last), None

        start = jnp.zeros(cost.shape[:2]), jnp.full(cost.shape[:2], 1e6)
        return lax.scan(step, start, diagonals.transpose(2, 0, 1))[0][0][:, -1].mean()

    return jax.grad(loss), (S(32, 128, 16), S(32, 128, 16))


@program
def leapfrog_chains_hierarchical():
    def logp(q, x, y):
        mu, w = q[:1], q[1:]
        logits = x @ w
        return (
            -(jax.nn.softplus(logits) - y * logits).sum() - 0.5 * jnp.square(w - mu).sum() - 0.5 * jnp.square(mu).sum()
        )

    def run(q, x, y, seed):
        slope = jax.vmap(jax.grad(logp), (0, None, None))

        def step(carry, key):
            q = carry
            p = jax.random.normal(key, q.shape)
            inner = lambda _, c: (c[0] + 0.01 * c[1], c[1] + 0.01 * slope(c[0] + 0.01 * c[1], x, y))
            new, _ = lax.fori_loop(0, 8, inner, (q, p))
            return new, new.mean(0)

        return lax.scan(step, q, jax.random.split(jax.random.key(seed), 20))

    return run, (S(64, 129), S(8192, 128), S(8192), S(dtype=I32))


@program
def homography_warp_mixup_augment():
    def augment(images, other, matrix, lam):
        h, w = images.shape[1:3]
        y, x = jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij")
        ones = jnp.stack([x, y, jnp.ones_like(x)], -1).reshape(-1, 3).astype(F32)

        def warp(image, m):
            at = ones @ m.T
            at = at[:, :2] / at[:, 2:]
            i = jnp.clip(at.astype(I32), 0, h - 1)
            return image[i[:, 1], i[:, 0]].reshape(image.shape)

        warped = jax.vmap(warp)(images.astype(F32) / 255, matrix)
        mixed = lam[:, None, None, None] * warped + (1 - lam[:, None, None, None]) * (other.astype(F32) / 255)[::-1]
        return ((mixed - mixed.mean((1, 2), keepdims=True)) / (mixed.std((1, 2), keepdims=True) + 1e-6)).astype(BF16)

    images = S(64, 128, 128, 3, dtype=jnp.uint8)
    return augment, (images, images, S(64, 3, 3), S(64))


@program
def sparse_autoencoder_top_k_train():
    p = like({"enc": (512, 8192), "dec": (8192, 512), "b": (512,)})

    def loss(p, x):
        h = jax.nn.relu((x - p["b"]) @ p["enc"])
        value, index = lax.top_k(h, 32)
        sparse = jnp.zeros_like(h).at[jnp.arange(h.shape[0])[:, None], index].set(value)
        return jnp.square(sparse @ p["dec"] + p["b"] - x).mean()

    optimizer = optax.adam(1e-4)

    def step(p, state, x):
        updates, state = optimizer.update(jax.grad(loss)(p, x), state)
        p = optax.apply_updates(p, updates)
        return {**p, "dec": p["dec"] / jnp.linalg.norm(p["dec"], axis=1, keepdims=True)}, state

    return jax.jit(step, donate_argnums=(0, 1)), (p, jax.eval_shape(optimizer.init, p), S(2048, 512))
