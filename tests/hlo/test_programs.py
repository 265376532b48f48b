"""Whole programs, before and after optimisation: the replay equals XLA's own numbers bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import hlo_oracle
from costax import _jax
from costax.hlo import read_bytes, replay_module
from hlo_oracle import same


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def of(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def mlp(params, x):
    for w, b in params:
        x = jnp.tanh(x @ w + b)
    return jnp.mean(x**2)


MLP = [(f32(64, 128), f32(128)), (f32(128, 128), f32(128)), (f32(128, 10), f32(10))]


def cnn(params, x):
    for w in params:
        x = lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return x.mean((1, 2)).sum()


CNN = [f32(3, 3, 3, 8), f32(5, 5, 8, 16)]


def attention(params, x):
    q, k, v, o = (x @ w for w in params[:4])
    heads = [t.reshape(*t.shape[:2], 4, -1) for t in (q, k, v)]
    scores = jnp.einsum("bqhd,bkhd->bhqk", heads[0], heads[1]) / 4.0
    mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
    y = jnp.einsum("bhqk,bkhd->bqhd", weights, heads[2]).reshape(x.shape)
    y = y + o
    y = (y - y.mean(-1, keepdims=True)) * lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
    return x + jax.nn.gelu(y @ params[4]) @ params[5]


ATTENTION = [f32(64, 64)] * 4 + [f32(64, 256), f32(256, 64)]


def lstm(params, xs):
    wx, wh = params

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ wx + h @ wh, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((xs.shape[1], wh.shape[0]))
    return lax.scan(step, (zero, zero), xs)[1].sum()


def nested_scan(x):
    inner = lambda c, _: (jnp.sin(c @ c), c.sum())  # noqa: E731
    outer = lambda c, _: lax.scan(inner, c, None, length=3)  # noqa: E731
    return lax.scan(outer, x, None, length=5)


def euclid(a, b):
    return lax.while_loop(lambda s: s[1] > 0, lambda s: (s[1], s[0] % s[1]), (a, b))[0]


def branches(i, x):
    return lax.switch(i, [lambda y: y @ y, jnp.tanh, lambda y: jnp.sort(y, 0), lambda y: y], x)


def loss_of(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.value_and_grad(lambda *args: f(*args).sum())


def big(x):
    return jnp.tanh(x @ x) @ x + jnp.exp(x).sum()


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "mlp": (mlp, (MLP, f32(32, 64))),
    "mlp gradient": (jax.value_and_grad(mlp), (MLP, f32(32, 64))),
    "mlp, per-example gradients": (jax.vmap(jax.grad(mlp), (None, 0)), (MLP, f32(32, 64))),
    "mlp, bfloat16": (
        jax.grad(mlp),
        (jax.tree.map(lambda s: of(jnp.bfloat16, *s.shape), MLP), of(jnp.bfloat16, 32, 64)),
    ),
    "mlp, rematerialised": (jax.grad(jax.checkpoint(mlp)), (MLP, f32(32, 64))),
    "cnn": (cnn, (CNN, f32(2, 32, 32, 3))),
    "cnn gradient": (jax.value_and_grad(cnn), (CNN, f32(2, 32, 32, 3))),
    "transformer block": (attention, (ATTENTION, f32(2, 16, 64))),
    "transformer gradient": (loss_of(attention), (ATTENTION, f32(2, 16, 64))),
    "transformer hessian-vector": (
        lambda p, x, v: jax.jvp(jax.grad(lambda y: attention(p, y).sum()), (x,), (v,)),
        (ATTENTION, f32(2, 16, 64), f32(2, 16, 64)),
    ),
    "lstm": (lstm, ((f32(8, 64), f32(16, 64)), f32(20, 4, 8))),
    "lstm gradient": (jax.grad(lstm), ((f32(8, 64), f32(16, 64)), f32(20, 4, 8))),
    "scan in scan": (nested_scan, (f32(8, 8),)),
    "scan in scan gradient": (jax.grad(lambda x: nested_scan(x)[1].sum()), (f32(8, 8),)),
    "while": (euclid, (of(jnp.int32), of(jnp.int32))),
    "while with vmap": (jax.vmap(euclid), (of(jnp.int32, 7), of(jnp.int32, 7))),
    "fori": (lambda x: lax.fori_loop(0, 9, lambda i, y: y * i + x[i], x), (f32(16),)),
    "switch": (branches, (of(jnp.int32), f32(16, 16))),
    "switch with vmap": (jax.vmap(branches), (of(jnp.int32, 3), f32(3, 16, 16))),
    "fft": (lambda x: jnp.fft.ifft(jnp.fft.fft(x) * 2), (of(jnp.complex64, 4, 128),)),
    "fft in three dimensions": (lambda x: jnp.fft.irfftn(jnp.fft.rfftn(x)), (f32(8, 12, 20),)),
    "cholesky and solve": (
        lambda a, b: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(a @ a.T), True), b),
        (f32(12, 12), f32(12, 3)),
    ),
    "qr svd eigh": (lambda a: (jnp.linalg.qr(a), jnp.linalg.svd(a), jnp.linalg.eigh(a)), (f32(3, 12, 12),)),
    "lu det inverse": (lambda a: (jnp.linalg.det(a), jnp.linalg.inv(a), jnp.linalg.slogdet(a)), (f32(12, 12),)),
    "expm": (jax.scipy.linalg.expm, (f32(6, 6),)),
    "sort": (lambda x: (jnp.sort(x, 0), jnp.argsort(x), jnp.median(x), jnp.quantile(x, 0.3)), (f32(30, 40),)),
    "top k": (lambda x: lax.top_k(x, 5), (f32(4, 100),)),
    "sort several keys": (lambda x, y: lax.sort((x, y), num_keys=2), (f32(4, 100), of(jnp.int32, 4, 100))),
    "scatter": (
        lambda x, i, u: (x.at[i].add(u), x.at[i].set(u), x.at[i].max(u), x.at[i].mul(u)),
        (f32(50, 8), of(jnp.int32, 12), f32(12, 8)),
    ),
    "gather": (lambda x, i: (x[i], x[:, i[0]], jnp.take_along_axis(x, i[:, None], 1)), (f32(12, 8), of(jnp.int32, 12))),
    "embedding gradient": (loss_of(lambda x, i: jnp.sin(x[i])), (f32(100, 16), of(jnp.int32, 3, 7))),
    "slices": (
        lambda x, i: (lax.dynamic_slice(x, (i, i), (3, 4)), x[2:7:2], lax.dynamic_update_slice(x, x[:2] * 2, (i, i))),
        (f32(20, 30), of(jnp.int32)),
    ),
    "random": (
        lambda k: (jax.random.normal(k, (100,)), jax.random.permutation(k, 64), jax.random.gamma(k, 2.0, (8,))),
        (of(jnp.uint32, 2),),
    ),
    "categorical": (lambda k, x: jax.random.categorical(k, x), (of(jnp.uint32, 2), f32(4, 30))),
    "rbg bits": (
        lambda k: lax.rng_bit_generator(k, (100,), dtype=jnp.uint32),
        (of(jnp.uint32, 4),),
    ),
    "pooling gradient": (
        loss_of(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")),
        (f32(2, 8, 8, 3),),
    ),
    "average pooling": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        (f32(2, 9, 9, 3),),
    ),
    "cumulative": (lambda x: (jnp.cumsum(x), jnp.cumprod(x), lax.cummax(x), lax.cumlogsumexp(x)), (f32(100),)),
    "associative scan": (lambda x: lax.associative_scan(jnp.multiply, x), (f32(64, 3),)),
    "argmax and reductions": (
        lambda x: (jnp.argmax(x), jnp.argmin(x, 0), x.sum(), x.prod(1), x.std(), jnp.all(x > 0), jnp.linalg.norm(x)),
        (f32(70, 90),),
    ),
    "one hot and where": (lambda i: jnp.where(jax.nn.one_hot(i, 10) > 0, 1.0, -1.0).cumsum(0), (of(jnp.int32, 30),)),
    "grouped convolution gradient": (
        jax.grad(
            lambda w, x: lax.conv_general_dilated(x, w, (1, 2), "SAME", (1, 1), (2, 1), feature_group_count=4).sum(),
            argnums=(0, 1),
        ),
        (f32(8, 2, 3, 3), f32(2, 8, 15, 16)),
    ),
    "transposed convolution": (
        lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME"),
        (f32(2, 7, 9, 4), f32(3, 3, 4, 6)),
    ),
    "batch-grouped convolution": (
        lambda x, w: lax.conv_general_dilated(x, w, (1,), [(3, -1)], batch_group_count=2),
        (f32(4, 3, 20), f32(6, 3, 5)),
    ),
    "int8 matmul": (
        lambda a, b: lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32),
        (of(jnp.int8, 33, 47), of(jnp.int8, 47, 65)),
    ),
    "int4": (lambda a: (a.astype(jnp.int8) * 3).sum(), (of(jnp.int4, 33, 47),)),
    "float8": (lambda a: a.astype(jnp.float32) @ a.T.astype(jnp.float32), (of(jnp.float8_e4m3fn, 33, 47),)),
    "complex": (lambda a: jnp.exp(a @ a.conj().T) / jnp.abs(a).sum(), (of(jnp.complex64, 9, 9),)),
    "special functions": (
        lambda x: (
            jax.scipy.special.gammaln(x),
            jax.scipy.special.erfinv(x),
            jax.scipy.special.digamma(x),
            jnp.sinc(x),
        ),
        (f32(77),),
    ),
    "incomplete gamma": (jax.scipy.special.gammainc, (f32(5), f32(5))),
    "ragged dot": (lax.ragged_dot, (f32(64, 32), f32(4, 32, 16), of(jnp.int32, 4))),
    "einsum": (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (f32(3, 5, 7), f32(3, 11, 7))),
    "optimization barrier": (lambda a: lax.optimization_barrier((a * 2, a + 1)), (f32(33),)),
    "callback": (lambda a: jax.pure_callback(lambda y: y, f32(10), a) + 1, (f32(10),)),
    "empty arrays": (lambda a: (jnp.concatenate([a, a]), a @ a.T, a.sum(0)), (f32(0, 4),)),
    "scalars": (lambda a, b: jnp.hypot(a, b) + 3, (f32(), f32())),
    "polynomial roots": (lambda p: jnp.polyval(p, jnp.arange(1000.0)), (f32(9),)),
    "interpolation": (lambda x: jnp.interp(x, jnp.arange(10.0), jnp.arange(10.0) ** 2), (f32(50),)),
    "image resize": (lambda x: jax.image.resize(x, (2, 20, 20, 3), "bicubic"), (f32(2, 9, 9, 3),)),
    "beyond float32": (big, (f32(4097, 4097),)),
    "beyond float32, gradient": (jax.grad(lambda x: big(x).sum()), (f32(3001, 3001),)),
    "large and odd": (
        lambda x, y: (jnp.sin(x).sum(), jnp.cumsum(x[:1001]), y * 3 + jnp.tanh(y), x[:100] @ y[:100]),
        (f32(20_000_003), f32(18_000_001)),
    ),
    "large scan": (
        lambda x: lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum()), x[0], x),
        (f32(11, 3003, 3003),),
    ),
}


# Those that take 0.4 seconds of processor time or more to compile and replay.
LONG = {
    "random",
    "transformer hessian-vector",
    "transformer gradient",
    "cnn gradient",
    "lstm gradient",
    "incomplete gamma",
    "special functions",
    "mlp, bfloat16",
    "transformer block",
    "cumulative",
    "expm",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in PROGRAMS])
def test_the_replay_of_a_lowered_and_a_compiled_program_equals_xla(name):
    fn, args = PROGRAMS[name]
    lowered = jax.jit(fn).lower(*args)
    same(replay_module(read_bytes(_jax.hlo_of(lowered))), lowered.cost_analysis())
    compiled = lowered.compile()
    same(replay_module(read_bytes(_jax.hlo_of(compiled))), compiled.cost_analysis())


def test_double_precision_programs_equal_xla():
    with jax.enable_x64(True):
        for fn, shapes in (
            (big, [(65, 65)]),
            (jax.grad(lambda x: jnp.linalg.slogdet(x @ x.T)[1]), [(9, 9)]),
            (lambda x: jnp.fft.fft(x), [(128,)]),
        ):
            lowered = jax.jit(fn).lower(*[of(jnp.float64, *s) for s in shapes])
            for stage in (lowered, lowered.compile()):
                same(replay_module(read_bytes(_jax.hlo_of(stage))), stage.cost_analysis())


def test_sharded_programs_equal_xla_per_device():
    program = """
    import jax, jax.numpy as jnp, numpy as np
    from functools import partial
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    from hlo_oracle import same
    from costax import _jax
    from costax.hlo import read_bytes, replay_module

    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)

    @partial(jax.shard_map, mesh=mesh, in_specs=P("x", "y"), out_specs=P("x", "y"))
    def collectives(a):
        b = jax.lax.psum(a, "y")
        c = jax.lax.all_gather(a, "x", tiled=True)
        d = jax.lax.psum_scatter(c, "x", tiled=True)
        e = jax.lax.ppermute(a, "y", [(i, (i + 1) % 4) for i in range(4)])
        f = jax.lax.all_to_all(a, "x", 0, 0, tiled=True)
        return b + d + e + f + jax.lax.axis_index("x") + jax.lax.pmax(jax.lax.stop_gradient(a), "x")

    def sharded(*specs):
        return dict(in_shardings=tuple(NamedSharding(mesh, s) for s in specs))

    def check(fn, *args, **options):
        lowered = jax.jit(fn, **options).lower(*args)
        for stage in (lowered, lowered.compile()):
            same(replay_module(read_bytes(_jax.hlo_of(stage))), stage.cost_analysis())

    check(collectives, x)
    check(jax.grad(lambda a: collectives(jnp.sin(a)).sum()), x)
    check(lambda a, b: jnp.tanh(a @ b).sum(0), x, x, **sharded(P("x", None), P(None, "y")))
    check(lambda a, b: (a @ b).sum(), x, x, **sharded(P(None, "x"), P("x", "y")))
    check(lambda a: jnp.sort(a, 0).cumsum(1), x, **sharded(P("x", "y")))
    print("same")
    """
    flags = "--xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(hlo_oracle.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.endswith("same\n"), run.stderr[-3000:]
