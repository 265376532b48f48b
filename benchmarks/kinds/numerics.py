"""Sorting, sparse work, spectra, graphs, linear algebra, statistics, 64-bit numbers."""

import jax
import jax.numpy as jnp
from jax import lax

from kinds.registry import F32, F64, I32, S, like, program


@program
def top_k_wide_rows():
    return lambda x: lax.top_k(x, 100), (S(256, 100000),)


@program
def sort_pairs_and_unique_ranks():
    def fn(keys, values):
        order = jnp.argsort(keys, axis=-1)
        ranked = jnp.take_along_axis(values, order, -1)
        new = jnp.concatenate(
            [jnp.ones_like(order[:, :1]), (jnp.diff(jnp.sort(keys, -1)) != 0).astype(order.dtype)], -1
        )
        return ranked, jnp.cumsum(new, -1)

    return fn, (S(64, 65536, dtype=I32), S(64, 65536))


@program
def nucleus_sampling_sorted():
    def fn(key, logits):
        ordered = jnp.sort(logits, -1)[:, ::-1]
        mass = jnp.cumsum(jax.nn.softmax(ordered), -1)
        cut = jnp.take_along_axis(ordered, (mass < 0.9).sum(-1)[:, None], -1)
        return jax.random.categorical(key, jnp.where(logits >= cut, logits, -jnp.inf))

    return fn, (S(2, dtype=jnp.uint32), S(128, 50000))


@program
def median_filter_sorted_windows():
    def fn(x):
        windows = jnp.stack([jnp.roll(x, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)], -1)
        return jnp.sort(windows, -1)[..., 4]

    return fn, (S(8, 512, 512),)


@program
def gnn_segment_attention_grad():
    def loss(p, nodes, senders, receivers):
        n = nodes.shape[0]
        for w in p:
            h = nodes @ w["w"]
            score = jax.nn.leaky_relu(h[senders] @ w["a"] + h[receivers] @ w["b"])
            top = jax.ops.segment_max(score, receivers, n)
            weight = jnp.exp(score - top[receivers])
            total = jax.ops.segment_sum(weight, receivers, n)
            nodes = jax.nn.elu(jax.ops.segment_sum(h[senders] * (weight / total[receivers])[:, None], receivers, n))
        return jnp.square(nodes).mean()

    p = like([{"w": (128, 128), "a": (128,), "b": (128,)}] * 2)
    return jax.grad(loss), (p, S(20000, 128), S(100000, dtype=I32), S(100000, dtype=I32))


@program
def gnn_edge_mlp_forward():
    def fn(p, nodes, edges, senders, receivers):
        for w in p:
            message = jax.nn.relu(jnp.concatenate([nodes[senders], nodes[receivers], edges], -1) @ w["e"])
            edges = edges + message
            nodes = nodes + jax.nn.relu(jax.ops.segment_sum(message, receivers, nodes.shape[0]) @ w["n"])
        return nodes.mean(0)

    p = like([{"e": (192, 64), "n": (64, 64)}] * 3)
    return fn, (p, S(10000, 64), S(80000, 64), S(80000, dtype=I32), S(80000, dtype=I32))


@program
def sparse_matrix_power_iteration():
    def fn(data, rows, columns, v):
        def step(v, _):
            w = jax.ops.segment_sum(data[:, None] * v[columns], rows, v.shape[0])
            return w / jnp.linalg.norm(w, axis=0), None

        return lax.scan(step, v, None, length=30)[0]

    return fn, (S(1000000), S(1000000, dtype=I32), S(1000000, dtype=I32), S(50000, 16))


@program
def scatter_histogram_vmapped():
    def one(values, weights):
        bins = jnp.clip((values * 64).astype(I32), 0, 63)
        return jnp.zeros(64 * 64).at[bins[:, 0] * 64 + bins[:, 1]].add(weights)

    return jax.vmap(one), (S(32, 50000, 2), S(32, 50000))


@program
def scatter_rows_vmapped_indices():
    return jax.vmap(lambda x, i, v: x.at[i].set(v)), (S(64, 2048, 64), S(64, 512, dtype=I32), S(64, 512, 64))


@program
def voxel_scatter_mean_grad():
    def loss(p, points, features):
        cell = jnp.clip((points * 32).astype(I32), 0, 31)
        flat = (cell[..., 0] * 32 + cell[..., 1]) * 32 + cell[..., 2]
        h = jax.nn.relu(features @ p["a"])
        total = jax.vmap(lambda h, i: jax.ops.segment_sum(h, i, 32768))(h, flat)
        return jnp.square(total @ p["b"]).mean()

    return jax.grad(loss), (like({"a": (16, 64), "b": (64, 32)}), S(4, 30000, 3), S(4, 30000, 16))


@program
def fft_convolution_2d():
    def fn(x, k):
        spectrum = jnp.fft.rfft2(x) * jnp.fft.rfft2(k, x.shape[-2:])
        return jnp.fft.irfft2(spectrum)

    return fn, (S(16, 512, 512), S(31, 31))


@program
def stft_mel_spectrogram():
    def fn(x, mel):
        frames = jnp.arange(0, x.shape[1] - 1024, 256)[:, None] + jnp.arange(1024)
        pieces = x[:, frames] * jnp.hanning(1024)
        return jnp.log(jnp.square(jnp.abs(jnp.fft.rfft(pieces))) @ mel + 1e-6)

    return fn, (S(16, 65536), S(513, 80))


@program
def phase_retrieval_complex_grad():
    def loss(z, masks, measured):
        x = z[0] + 1j * z[1]
        return jnp.square(jnp.abs(jnp.fft.fft2(x * masks)) - measured).mean()

    return jax.grad(loss), (S(2, 256, 256), S(16, 256, 256), S(16, 256, 256))


@program
def kalman_filter_batched_solve():
    def fn(a, h, q, r, ys):
        def step(carry, y):
            m, p = carry
            m, p = m @ a.T, a @ p @ a.T + q
            s = h @ p @ h.T + r
            gain = jnp.linalg.solve(s, h @ p).swapaxes(-1, -2)
            m = m + jnp.einsum("bij,bj->bi", gain, y - m @ h.T)
            return (m, p - gain @ h @ p), m

        b = ys.shape[1]
        return lax.scan(step, (jnp.zeros((b, 32)), jnp.broadcast_to(jnp.eye(32), (b, 32, 32))), ys)[1]

    return fn, (S(32, 32), S(16, 32), S(32, 32), S(16, 16), S(60, 512, 16))


@program
def cholesky_solve_batched_f32():
    def fn(a, b):
        l = jnp.linalg.cholesky(a @ a.swapaxes(-1, -2) + jnp.eye(a.shape[-1]))
        return lax.linalg.triangular_solve(l, b, left_side=True, lower=True)

    return fn, (S(64, 192, 192), S(64, 192, 32))


@program
def pairwise_distances_knn():
    def fn(x, y):
        d = jnp.square(x).sum(-1)[:, None] + jnp.square(y).sum(-1) - 2 * x @ y.T
        return lax.top_k(-d, 10)

    return fn, (S(2048, 64), S(20000, 64))


@program
def nbody_forces_direct():
    def fn(x, m):
        d = x[:, None] - x[None]
        r = jnp.square(d).sum(-1) + 1e-3
        return (d * (m[None] * r**-1.5)[..., None]).sum(1)

    return fn, (S(4096, 3), S(4096))


@program
def sinkhorn_transport():
    def fn(x, y):
        cost = jnp.square(x[:, None] - y[None]).sum(-1) / 0.1

        def step(carry, _):
            f, g = carry
            f = -jax.nn.logsumexp(g - cost, axis=1)
            return (f, -jax.nn.logsumexp(f[:, None] - cost, axis=0)), None

        f, g = lax.scan(step, (jnp.zeros(x.shape[0]), jnp.zeros(y.shape[0])), None, length=50)[0]
        return jnp.exp(f[:, None] + g - cost)

    return fn, (S(2048, 8), S(2048, 8))


@program
def jacobian_mlp_forward_mode():
    def f(p, x):
        for w in p[:-1]:
            x = jnp.tanh(x @ w)
        return x @ p[-1]

    return jax.vmap(jax.jacfwd(f, argnums=1), (None, 0)), ([S(64, 256), S(256, 256), S(256, 16)], S(256, 64))


@program
def hessian_diagonal_vmapped():
    def energy(p, x):
        return jnp.log(jnp.cosh(jnp.tanh(x @ p["a"]) @ p["b"])).sum()

    def laplacian(p, x):
        return jnp.trace(jax.hessian(energy, argnums=1)(p, x))

    return jax.vmap(laplacian, (None, 0)), (like({"a": (24, 128), "b": (128, 128)}), S(1024, 24))


@program
def ntk_per_example_jacobians():
    def f(p, x):
        return (jax.nn.relu(x @ p["a"]) @ p["b"]).sum()

    def kernel(p, x):
        js = jax.vmap(jax.grad(f), (None, 0))(p, x)
        return sum((j := v.reshape(x.shape[0], -1)) @ j.T for v in jax.tree.leaves(js))

    return kernel, (like({"a": (128, 512), "b": (512, 64)}), S(256, 128))


@program
def option_pricing_lattice_f64():
    def fn(spot, vol):
        steps = 512
        dt = 1 / steps
        up = jnp.exp(vol * dt**0.5)
        price = jnp.maximum(spot[:, None] * up[:, None] ** (2 * jnp.arange(steps + 1) - steps) - 100, 0)

        def back(_, v):
            return 0.5 * (jnp.roll(v, -1, 1) + v)

        return lax.fori_loop(0, steps, back, price)[:, 0]

    return fn, (S(2048, dtype=F64), S(2048, dtype=F64))


@program
def mixed_precision_refinement_f64():
    def fn(a, b):
        low = a.astype(F32)
        x = jnp.zeros_like(b)
        for _ in range(3):
            x = x + (low.T @ (b - a @ x).astype(F32)).astype(F64) * 1e-3
        return x

    return fn, (S(2048, 2048, dtype=F64), S(2048, 64, dtype=F64))
