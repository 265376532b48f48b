"""Programs that no calibration has seen: 54 kinds of computation, to predict on a calibrated CPU and to measure.

The calibration and its model are made from small trials of one mechanism each (`costax.measure.calibration`) and must
never be tuned to these programs. `programs()` yields the name of each, its function and its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_PROGRAMS: dict[str, Callable[[np.random.Generator], tuple[Any, ...]]] = {}


def programs() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Yield (name, function, arguments) of each program."""
    for name, make in _PROGRAMS.items():
        fn, *args = make(np.random.default_rng(0))
        yield name, fn, tuple(args)


def program(make):
    _PROGRAMS[make.__name__] = make
    return make


def normal(rng, *shape, dtype="float32"):
    return jnp.asarray(rng.standard_normal(shape).astype("float32")).astype(dtype)


def positive(rng, *shape):
    return jnp.abs(normal(rng, *shape)) + 0.5


def integers(rng, most, *shape, dtype="int32"):
    return jnp.asarray(rng.integers(0, most, shape).astype(dtype))


def definite(rng, *shape):
    a = normal(rng, *shape)
    return a @ jnp.swapaxes(a, -1, -2) / shape[-1] + jnp.eye(shape[-1])


# Simulation.


@program
def n_body(rng):
    def accelerations(x, m):
        d = x[None] - x[:, None]
        r2 = (d**2).sum(-1) + 1e-3
        return (d * (m[None] * r2**-1.5)[..., None]).sum(1)

    def steps(x, v, m):
        for _ in range(3):
            v = v + 1e-3 * accelerations(x, m)
            x = x + 1e-3 * v
        return x, v

    return steps, normal(rng, 384, 3), normal(rng, 384, 3), positive(rng, 384)


@program
def kalman_scan(rng):
    n, m = 6, 3
    a, c = 0.1 * normal(rng, n, n) + 0.9 * jnp.eye(n), normal(rng, m, n)

    def run(ys):
        def step(carry, y):
            x, p = carry
            x, p = a @ x, a @ p @ a.T + 0.1 * jnp.eye(n)
            s = c @ p @ c.T + 0.5 * jnp.eye(m)
            k = jnp.linalg.solve(s, c @ p).T
            return (x + k @ (y - c @ x), p - k @ c @ p), x

        return lax.scan(step, (jnp.zeros(n), jnp.eye(n)), ys)

    return run, normal(rng, 120, m)


@program
def heat_stencil_scan(rng):
    def run(u):
        def step(u, _):
            around = jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1)
            return u + 0.1 * (around - 4 * u), None

        return lax.scan(step, u, None, length=60)[0]

    return run, normal(rng, 160, 160)


@program
def lorenz_ode_scan(rng):
    def field(s):
        x, y, z = s
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    def run(s):
        def step(s, _):
            h = 0.01
            k1 = field(s)
            k2 = field(s + h / 2 * k1)
            k3 = field(s + h / 2 * k2)
            k4 = field(s + h * k3)
            return s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), s

        return lax.scan(step, s, None, length=400)

    return run, normal(rng, 3, 64)


@program
def advection_cumsum(rng):
    return lambda q, f: jnp.cumsum(jnp.exp(-jnp.abs(q)) * f, axis=1), normal(rng, 200, 700), normal(rng, 200, 700)


@program
def monte_carlo_option(rng):
    def price(key):
        z = jax.random.normal(key, (150_000,))
        paths = 100 * jnp.exp(0.02 + 0.2 * z)
        return jnp.maximum(paths - 105, 0).mean()

    return price, jax.random.key(0)


@program
def monte_carlo_pi_bits(rng):
    def inside(key):
        points = jax.random.uniform(key, (2, 300_000))
        return ((points**2).sum(0) < 1).mean()

    return inside, jax.random.key(1)


@program
def metropolis_scan(rng):
    def run(key, x):
        def step(x, key):
            here, there = jax.random.split(key)
            new = x + 0.3 * jax.random.normal(here, x.shape)
            accept = jnp.log(jax.random.uniform(there, x.shape)) < 0.5 * (x**2 - new**2)
            x = jnp.where(accept, new, x)
            return x, x.mean()

        return lax.scan(step, x, jax.random.split(key, 50))

    return run, jax.random.key(2), normal(rng, 500)


# Sorting, searching, selecting.


@program
def sort_rows(rng):
    return lambda x: jnp.sort(x, axis=-1), normal(rng, 48, 6000)


@program
def argsort_columns(rng):
    return lambda x: jnp.argsort(x, axis=0), normal(rng, 3000, 24)


@program
def top_k_logits(rng):
    return lambda x: lax.top_k(x, 50), normal(rng, 32, 20_000)


@program
def median_filter(rng):
    return lambda x: jnp.median(x, axis=1), normal(rng, 500, 301)


@program
def sort_integers_unique_counts(rng):
    def counts(x):
        s = jnp.sort(x)
        return (s[1:] != s[:-1]).sum(), s

    return counts, integers(rng, 10_000, 120_000)


@program
def searchsorted_interp(rng):
    return lambda x, xp, fp: jnp.interp(x, xp, fp), normal(rng, 40_000), jnp.linspace(-3, 3, 500), normal(rng, 500)


@program
def argmax_rows(rng):
    return lambda x: jnp.argmax(x, axis=-1), normal(rng, 512, 5000)


@program
def histogram_uniform(rng):
    return lambda x: jnp.histogram(x, bins=64, range=(-3, 3))[0], normal(rng, 60_000)


# Linear algebra.


@program
def cholesky_solves(rng):
    def solve(a, b):
        return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(a), True), b)

    return solve, definite(rng, 400, 400), normal(rng, 400, 20)


@program
def gaussian_process(rng):
    def predict(x, y, t):
        def kernel(a, b):
            return jnp.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))

        k = kernel(x, x) + 0.1 * jnp.eye(len(x))
        chol = jnp.linalg.cholesky(k)
        alpha = jax.scipy.linalg.cho_solve((chol, True), y)
        return kernel(t, x) @ alpha, jnp.log(jnp.diagonal(chol)).sum()

    return predict, normal(rng, 300, 4), normal(rng, 300), normal(rng, 150, 4)


@program
def small_solves_vmapped(rng):
    a = normal(rng, 600, 8, 8) + 4 * jnp.eye(8)
    return jax.vmap(jnp.linalg.solve), a, normal(rng, 600, 8, 3)


@program
def eigh_covariance(rng):
    return jnp.linalg.eigh, definite(rng, 150, 150)


@program
def svd_low_rank(rng):
    def low(x):
        u, s, vt = jnp.linalg.svd(x, full_matrices=False)
        return (u[:, :10] * s[:10]) @ vt[:10]

    return low, normal(rng, 260, 120)


@program
def qr_least_squares(rng):
    def fit(x, y):
        q, r = jnp.linalg.qr(x)
        return jax.scipy.linalg.solve_triangular(r, q.T @ y)

    return fit, normal(rng, 1500, 60), normal(rng, 1500)


@program
def newton_while(rng):
    def run(x):
        def unfinished(state):
            i, _ = state
            return i < 40

        def step(state):
            i, x = state
            return i + 1, x - (x**3 - 2 * x - 5) / (3 * x**2 - 2)

        return lax.while_loop(unfinished, step, (0, x))

    return run, positive(rng, 5000) + 2


@program
def einsum_tensor_network(rng):
    return (
        lambda a, b, c: jnp.einsum("aij,bjk,cki->abc", a, b, c),
        normal(rng, 24, 20, 20),
        normal(rng, 24, 20, 20),
        normal(rng, 24, 20, 20),
    )


@program
def einsum_bilinear_batched(rng):
    return (
        lambda x, w, y: jnp.einsum("bi,oij,bj->bo", x, w, y),
        normal(rng, 64, 96),
        normal(rng, 32, 96, 96),
        normal(rng, 64, 96),
    )


@program
def power_iteration(rng):
    def run(a, v):
        def step(_, v):
            v = a @ v
            return v / jnp.linalg.norm(v)

        return lax.fori_loop(0, 50, step, v)

    return run, normal(rng, 700, 700), normal(rng, 700)


# Networks.


@program
def lstm_scan(rng):
    def run(wx, wh, xs):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ wx + h @ wh, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((16, 128))
        return lax.scan(step, (zeros, zeros), xs)

    return run, 0.1 * normal(rng, 64, 512), 0.1 * normal(rng, 128, 512), normal(rng, 40, 16, 64)


@program
def attention_causal(rng):
    def attend(q, k, v):
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8
        s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -1e9)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s), v)

    shape = (2, 192, 6, 64)
    return attend, normal(rng, *shape), normal(rng, *shape), normal(rng, *shape)


def conv(x, w, stride=1, padding="SAME", **options):
    rank = x.ndim - 2
    letters = "DHW"[-rank:]
    numbers = ("N" + letters + "C", letters + "IO", "N" + letters + "C")
    return lax.conv_general_dilated(x, w, (stride,) * rank, padding, dimension_numbers=numbers, **options)


@program
def resnet_block(rng):
    def block(x, w1, w2, g):
        y = conv(x, w1)
        y = (y - y.mean((0, 1, 2))) * lax.rsqrt(y.var((0, 1, 2)) + 1e-5) * g
        return jax.nn.relu(x + conv(jax.nn.relu(y), w2))

    w = 0.05 * normal(rng, 3, 3, 48, 48)
    return block, normal(rng, 2, 24, 24, 48), w, w, positive(rng, 48)


@program
def resnet_block_gradient(rng):
    def loss(w, x):
        return (jax.nn.relu(conv(jax.nn.relu(conv(x, w)), w, stride=2)) ** 2).mean()

    return jax.grad(loss), 0.05 * normal(rng, 3, 3, 32, 32), normal(rng, 4, 20, 20, 32)


@program
def depthwise_separable(rng):
    def block(x, d, p):
        return jax.nn.relu(conv(jax.nn.relu6(conv(x, d, feature_group_count=80)), p))

    return block, normal(rng, 1, 40, 40, 80), normal(rng, 3, 3, 1, 80), normal(rng, 1, 1, 80, 160)


@program
def conv3d_video(rng):
    return lambda x, w: jax.nn.relu(conv(x, w)), normal(rng, 1, 8, 24, 24, 8), normal(rng, 3, 3, 3, 8, 16)


@program
def conv1d_dilated_wavenet(rng):
    def layers(x, ws):
        for i, w in enumerate(ws):
            x = x + jnp.tanh(conv(x, w, rhs_dilation=(2**i,)))
        return x

    return layers, normal(rng, 2, 1000, 32), [0.1 * normal(rng, 3, 32, 32) for _ in range(4)]


@program
def conv_transposed_decoder(rng):
    def up(x, w):
        return jnp.tanh(lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))

    return up, normal(rng, 1, 20, 20, 48), 0.1 * normal(rng, 4, 4, 48, 24)


@program
def pooling_max_avg(rng):
    def pool(x):
        most = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        mean = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME") / 4
        return most + mean

    return pool, normal(rng, 4, 56, 56, 32)


@program
def pooling_gradient(rng):
    def loss(x):
        return (lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") ** 2).sum()

    return jax.grad(loss), normal(rng, 4, 32, 32, 32)


@program
def mlp_bfloat16(rng):
    def mlp(x, ws):
        for w in ws:
            x = jax.nn.gelu(x @ w)
        return x

    ws = [normal(rng, 384, 384, dtype="bfloat16") * 0.05 for _ in range(3)]
    return mlp, normal(rng, 64, 384, dtype="bfloat16"), ws


@program
def mlp_train_step(rng):
    def step(ws, x, y):
        def loss(ws):
            h = x
            for w in ws[:-1]:
                h = jax.nn.silu(h @ w)
            logits = h @ ws[-1]
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

        grads = jax.grad(loss)(ws)
        return [w - 0.1 * g for w, g in zip(ws, grads, strict=True)]

    ws = [0.05 * normal(rng, *s) for s in ((300, 500), (500, 400), (400, 60))]
    return step, ws, normal(rng, 96, 300), integers(rng, 60, 96)


@program
def layernorm_residual(rng):
    def norm(x, y, g, b):
        h = x + y
        c = h - h.mean(-1, keepdims=True)
        return c * lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-6) * g + b

    return norm, normal(rng, 800, 600), normal(rng, 800, 600), positive(rng, 600), normal(rng, 600)


@program
def softmax_large(rng):
    return lambda x: jax.nn.softmax(x, axis=-1), normal(rng, 96, 15_000)


@program
def quantised_int8_layer(rng):
    def layer(x, w, scale):
        y = lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
        return jnp.clip(jnp.round(y * scale), -128, 127).astype(jnp.int8)

    a = integers(rng, 127, 64, 256, dtype="int8")
    return layer, a, integers(rng, 127, 256, 256, dtype="int8"), positive(rng, 256) * 1e-3


# Indexing and moving.


@program
def embedding_gradient_scatter(rng):
    def gradient(table, ids, g):
        return jax.vjp(lambda t: t[ids], table)[1](g)[0]

    return gradient, normal(rng, 8000, 64), integers(rng, 8000, 1024), normal(rng, 1024, 64)


@program
def gather_tables(rng):
    return lambda t, i: t[i].sum(1), normal(rng, 20_000, 48), integers(rng, 20_000, 400, 20)


@program
def segment_sum_graph(rng):
    def messages(x, source, target):
        return jax.ops.segment_sum(jnp.tanh(x[source]), target, num_segments=1000)

    return messages, normal(rng, 1000, 32), integers(rng, 1000, 6000), integers(rng, 1000, 6000)


@program
def one_hot_loss(rng):
    def loss(logits, y):
        return -(jax.nn.one_hot(y, 1000) * jax.nn.log_softmax(logits)).sum(-1).mean()

    return loss, normal(rng, 256, 1000), integers(rng, 1000, 256)


@program
def transposes_chain(rng):
    def chain(x):
        y = jnp.transpose(x, (2, 0, 1)) * 2
        return lax.optimization_barrier(jnp.transpose(y, (1, 2, 0))), y

    return chain, normal(rng, 96, 80, 72)


@program
def concatenate_pad(rng):
    def joined(xs):
        return jnp.pad(jnp.concatenate(xs, axis=1), ((1, 1), (3, 3)))

    return joined, [normal(rng, 300, 250) for _ in range(6)]


@program
def dynamic_slices_scan(rng):
    def run(x, starts):
        def step(total, i):
            return total + lax.dynamic_slice(x, (i, 0), (16, 128)), None

        return lax.scan(step, jnp.zeros((16, 128)), starts)[0]

    return run, normal(rng, 3000, 128), integers(rng, 2900, 200)


@program
def bcoo_product(rng):
    from jax.experimental import sparse

    i = np.stack([rng.integers(0, 2000, 20_000), rng.integers(0, 1500, 20_000)], 1)
    matrix = sparse.BCOO((normal(rng, 20_000), jnp.asarray(i.astype("int32"))), shape=(2000, 1500))
    return lambda m, x: m @ x, matrix, normal(rng, 1500, 8)


@program
def prefix_scan_linear_recurrence(rng):
    def run(a, b):
        return lax.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b))

    return run, positive(rng, 1024, 64) * 0.5, normal(rng, 1024, 64)


@program
def fft_filter(rng):
    def smooth(x):
        return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.exp(-jnp.arange(1025) / 100.0), n=2048)

    return smooth, normal(rng, 80, 2048)


@program
def fft_two_dimensional(rng):
    return lambda x: jnp.abs(jnp.fft.fft2(x)), normal(rng, 6, 128, 128)


@program
def k_means_steps(rng):
    def step(x, centres):
        d = ((x[:, None] - centres[None]) ** 2).sum(-1)
        labels = jnp.argmin(d, 1)
        sums = jax.ops.segment_sum(x, labels, num_segments=16)
        counts = jax.ops.segment_sum(jnp.ones(len(x)), labels, num_segments=16)
        return sums / jnp.maximum(counts, 1)[:, None]

    def run(x, centres):
        for _ in range(2):
            centres = step(x, centres)
        return centres

    return run, normal(rng, 3000, 12), normal(rng, 16, 12)


@program
def reduce_columns_variance(rng):
    return lambda x: (x.sum(0), x.var(0), jnp.abs(x).max(0)), normal(rng, 2000, 300)


@program
def special_functions_mix(rng):
    def mix(x):
        return jnp.sin(x) * jax.scipy.special.erf(x) + jnp.log1p(jnp.abs(x)) ** 2.3 + jnp.arctan2(x, 1.5)

    return mix, normal(rng, 120_000)


@program
def complex_mandelbrot(rng):
    def run(c):
        def step(_, state):
            z, n = state
            z = z * z + c
            return z, n + (jnp.abs(z) < 2)

        return lax.fori_loop(0, 30, step, (c, jnp.zeros(c.shape, jnp.int32)))[1]

    return run, (normal(rng, 100, 120) + 1j * normal(rng, 100, 120)) * 0.3


@program
def image_resize_blur(rng):
    def blur(x):
        return jax.image.resize(x, (3, 100, 100), "bilinear") ** 2

    return blur, normal(rng, 3, 160, 160)


@program
def logsumexp_pairs(rng):
    def energy(x):
        d = jnp.sqrt(((x[:, None] - x[None]) ** 2).sum(-1) + 1e-6)
        return jax.nn.logsumexp(-d, axis=1).mean()

    return jax.grad(energy), normal(rng, 250, 8)
