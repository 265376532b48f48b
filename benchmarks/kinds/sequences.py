"""Scans, state-space models, remat, recurrences, ODEs and flows."""

import jax
import jax.numpy as jnp
from jax import lax

from kinds.registry import BF16, F32, I32, S, like, program, rms_norm


@program
def remat_scan_blocks_grad():
    @jax.checkpoint
    def block(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=32)[0]

    def loss(ws, x):
        for w in ws:
            x = block(w, x)
        return x.sum()

    return jax.grad(loss), ([S(256, 256)] * 6, S(512, 256))


@program
def remat_nested_scan_grad():
    def loss(w, x):
        inner = jax.checkpoint(lambda c, _: (c + jnp.sin(c @ w), None))
        outer = jax.checkpoint(lambda c, _: (lax.scan(inner, c, None, length=12)[0], None))
        return lax.scan(outer, x, None, length=12)[0].sum()

    return jax.grad(loss), (S(384, 384), S(1024, 384))


@program
def scan_layers_policy_dots_bf16():
    def layer(x, w):
        y = rms_norm(x, w["n"])
        y = (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"]
        return x + y, None

    layer = jax.checkpoint(layer, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)

    def loss(ws, x):
        return lax.scan(layer, x, ws)[0].astype(F32).mean()

    ws = {"n": (8, 512), "gate": (8, 512, 1536), "up": (8, 512, 1536), "down": (8, 1536, 512)}
    return jax.grad(loss), (like(ws, BF16), S(4, 512, 512, dtype=BF16))


def _gru(p, h, x):
    z, r = jnp.split(jax.nn.sigmoid(jnp.concatenate([x, h], -1) @ p["zr"]), 2, -1)
    n = jnp.tanh(jnp.concatenate([x, r * h], -1) @ p["n"])
    return (1 - z) * h + z * n


@program
def gru_stacked_grad():
    def loss(ps, x):
        for p in ps:
            h = jnp.zeros((x.shape[1], p["n"].shape[1]))
            x = lax.scan(lambda h, x: (_gru(p, h, x),) * 2, h, x)[1]
        return jnp.square(x[-1]).mean()

    ps = [{"zr": (512, 512), "n": (512, 256)}] * 2
    return jax.grad(loss), (like(ps), S(128, 64, 256))


@program
def seq2seq_attention_decoder_grad():
    def loss(p, source, target):
        b = source.shape[1]
        encoded = lax.scan(lambda h, x: (_gru(p["enc"], h, x),) * 2, jnp.zeros((b, 256)), source)[1]

        def step(h, y):
            s = jax.nn.softmax(jnp.einsum("bd,tbd->bt", h @ p["att"], encoded), -1)
            context = jnp.einsum("bt,tbd->bd", s, encoded)
            h = _gru(p["dec"], h, jnp.concatenate([y, context], -1))
            return h, h @ p["out"]

        return jnp.square(lax.scan(step, encoded[-1], target)[1]).mean()

    p = {
        "enc": {"zr": (384, 512), "n": (384, 256)},
        "dec": {"zr": (640, 512), "n": (640, 256)},
        "att": (256, 256),
        "out": (256, 2000),
    }
    return jax.value_and_grad(loss), (like(p), S(64, 32, 128), S(48, 32, 128))


@program
def diagonal_ssm_associative_scan_grad():
    def combine(a, b):
        return a[0] * b[0], b[0] * a[1] + b[1]

    def loss(p, x):
        gate = jax.nn.sigmoid(x @ p["g"])
        u = (1 - gate) * (x @ p["b"])
        h = lax.associative_scan(combine, (gate, u), axis=1)[1]
        return jnp.square(h @ p["c"]).mean()

    return jax.grad(loss), (like({"g": (128, 256), "b": (128, 256), "c": (256, 128)}), S(8, 512, 128))


@program
def associative_scan_linear_recurrence_forward():
    def combine(a, b):
        return a[0] * b[0], b[0] * a[1] + b[1]

    return lambda a, x: lax.associative_scan(combine, (a, x), axis=0)[1], (S(1024, 16, 128), S(1024, 16, 128))


@program
def s4_convolution_kernel_fft_grad():
    def loss(p, x):
        length = x.shape[1]
        t = jnp.arange(length)
        k = (jnp.exp(-jnp.exp(p["l"])[..., None] * t) * p["c"][..., None]).sum(1)
        y = jnp.fft.irfft(jnp.fft.rfft(x, 2 * length, axis=1) * jnp.fft.rfft(k.T, 2 * length, axis=0), axis=1)
        return jnp.square(jax.nn.gelu(y[:, :length] + x * p["d"]) @ p["o"]).mean()

    return jax.grad(loss), (like({"l": (128, 32), "c": (128, 32), "d": (128,), "o": (128, 128)}), S(16, 1024, 128))


@program
def rwkv_time_mixing_scan():
    def fn(p, x):
        r, k, v = jax.nn.sigmoid(x @ p["r"]), jnp.exp(x @ p["k"]), x @ p["v"]
        decay = jnp.exp(-jnp.exp(p["w"]))

        def step(carry, kv):
            num, den = carry
            k, v = kv
            out = (num + k * v) / (den + k)
            return (decay * num + k * v, decay * den + k), out

        zero = jnp.zeros(x.shape[1:])
        return (r * lax.scan(step, (zero, zero), (k, v))[1]) @ p["o"]

    return fn, (
        like({"r": (512, 512), "k": (512, 512), "v": (512, 512), "w": (512,), "o": (512, 512)}),
        S(512, 16, 512),
    )


@program
def delta_rule_memory_scan_grad():
    def loss(q, k, v, beta):
        def step(memory, t):
            q, k, v, beta = t
            error = v - jnp.einsum("bhkv,bhk->bhv", memory, k)
            memory = memory + jnp.einsum("bhk,bhv->bhkv", k, beta[..., None] * error)
            return memory, jnp.einsum("bhkv,bhk->bhv", memory, q)

        first = jnp.zeros((q.shape[1], q.shape[2], q.shape[3], v.shape[3]))
        return jnp.square(lax.scan(step, first, (q, k, v, beta))[1]).sum()

    return jax.grad(loss, argnums=(0, 1, 2)), (S(64, 8, 8, 48), S(64, 8, 8, 48), S(64, 8, 8, 48), S(64, 8, 8))


@program
def cnf_hutchinson_ode_grad():
    def field(p, t, x):
        h = jnp.tanh(x @ p["a"] + t * p["t"])
        return jnp.tanh(h @ p["b"]) @ p["c"]

    def loss(p, x, noise):
        def step(carry, t):
            x, logdet = carry
            dx, jv = jax.jvp(lambda x: field(p, t, x), (x,), (noise,))
            return (x + 0.05 * dx, logdet + 0.05 * (jv * noise).sum(-1)), None

        (x, logdet), _ = lax.scan(step, (x, jnp.zeros(x.shape[0])), jnp.linspace(0, 1, 20))
        return (0.5 * jnp.square(x).sum(-1) - logdet).mean()

    return jax.grad(loss), (
        like({"a": (64, 256), "t": (256,), "b": (256, 256), "c": (256, 64)}),
        S(1024, 64),
        S(1024, 64),
    )


@program
def rk4_reaction_diffusion():
    def laplace(u):
        return sum(jnp.roll(u, s, a) for a in (0, 1) for s in (1, -1)) - 4 * u

    def rate(u, v):
        return laplace(u) - u * v * v + 0.04 * (1 - u), 0.5 * laplace(v) + u * v * v - 0.1 * v

    def fn(u, v):
        def step(carry, _):
            u, v = carry
            a, b = rate(u, v)
            c, d = rate(u + 0.5 * a, v + 0.5 * b)
            e, f = rate(u + 0.5 * c, v + 0.5 * d)
            g, h = rate(u + e, v + f)
            return (u + (a + 2 * c + 2 * e + g) / 6, v + (b + 2 * d + 2 * f + h) / 6), None

        return lax.scan(step, (u, v), None, length=50)[0]

    return fn, (S(1024, 1024), S(1024, 1024))


@program
def coupling_flow_spline_grad():
    def loss(ps, x):
        total = 0.0
        for p in ps:
            a, b = jnp.split(x, 2, -1)
            h = jax.nn.relu(a @ p["u"]) @ p["v"]
            widths = jnp.cumsum(jax.nn.softmax(h.reshape(*b.shape, 8)), -1)
            which = (b[..., None] > widths).sum(-1)
            left = jnp.take_along_axis(widths, jnp.clip(which, 0, 7)[..., None], -1)[..., 0]
            b = b * left + jax.nn.softplus(b)
            total = total + jnp.log(jnp.abs(left) + 1e-3).sum(-1)
            x = jnp.concatenate([b, a], -1)
        return (jnp.square(x).sum(-1) - total).mean()

    return jax.grad(loss), (like([{"u": (32, 256), "v": (256, 256)}] * 4), S(4096, 64))


@program
def while_newton_batched_roots():
    def fn(a, b):
        def body(state):
            x, i = state
            f = jnp.einsum("bij,bj->bi", a, jnp.tanh(x)) - b
            return x - 0.1 * f, i + 1

        return lax.while_loop(lambda s: s[1] < 100, body, (b, 0))[0]

    return fn, (S(256, 256, 256), S(256, 256))


@program
def truncated_bptt_unrolled_grad():
    def loss(p, x):
        h = jnp.zeros((x.shape[1], 512))
        total = 0.0
        for t in range(16):
            h = jnp.tanh(x[t] @ p["i"] + h @ p["h"])
            total += jnp.square(h @ p["o"]).mean()
        return total

    return jax.grad(loss), (like({"i": (256, 512), "h": (512, 512), "o": (512, 256)}), S(16, 1024, 256))


@program
def dynamic_slices_gradient():
    def loss(x, starts):
        return sum(jnp.sin(lax.dynamic_slice(x, (starts[i], 0), (256, x.shape[1]))).sum() for i in range(8))

    return jax.grad(loss), (S(4096, 1024), S(8, dtype=I32))


@program
def sliding_frames_dynamic_slice_scan():
    def fn(x, w):
        def frame(_, start):
            piece = lax.dynamic_slice(x, (0, start), (x.shape[0], 400))
            return None, jnp.log1p(jnp.square(piece @ w))

        return lax.scan(frame, None, jnp.arange(0, x.shape[1] - 400, 160))[1]

    return fn, (S(16, 64000), S(400, 257))


@program
def switch_branches_large():
    def fn(i, x, w):
        branches = [
            lambda x: jnp.tanh(x @ w),
            lambda x: jnp.sort(x, axis=-1),
            lambda x: jnp.cumsum(x, 0) - x.mean(),
        ]
        return lax.switch(i, branches, x) + x

    return fn, (S(dtype=I32), S(2048, 1024), S(1024, 1024))
