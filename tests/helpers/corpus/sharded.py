"""Programs for several devices: shard_map on 4 and 8, collectives, arrays with a sharding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from corpus import SHARDED, factory

ROWS = P("x")


def mesh(shape=(8,), names=("x",)):
    return jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(shape))


def shards(name, body, *args, in_specs=ROWS, out_specs=ROWS, shape=(8,), names=("x",), outside=lambda fn: fn):
    """Register `body` on a mesh of that shape; `outside` wraps the mapped function, with jax.grad say."""

    def make():
        specs = in_specs if isinstance(in_specs, tuple) and not isinstance(in_specs, P) else (in_specs,) * len(args)
        mapped = jax.shard_map(body, mesh=mesh(shape, names), in_specs=specs, out_specs=out_specs, check_vma=False)
        return outside(mapped), args

    make.__name__ = name
    devices = 1
    for size in shape:
        devices *= size
    factory(differs=SHARDED, devices=devices)(make)


TALL = "f32[16,8]"

shards("elementwise", lambda x: jnp.sin(x) * 2, TALL)
shards("psum", lambda x: lax.psum(x, "x"), TALL, out_specs=P())
shards("pmean", lambda x: lax.pmean(x.sum(), "x"), TALL, out_specs=P())
shards("pmax", lambda x: lax.pmax(x, "x"), TALL, out_specs=P())
shards("all_gather", lambda x: lax.all_gather(x, "x", tiled=True), TALL, out_specs=P())
shards("psum_scatter", lambda x: lax.psum_scatter(x, "x", tiled=True), "f32[64,8]")
shards("ppermute", lambda x: lax.ppermute(x, "x", [(i, (i + 1) % 8) for i in range(8)]), TALL)
shards("all_to_all", lambda x: lax.all_to_all(x, "x", 1, 1, tiled=True), TALL)
shards("axis_index", lambda x: x + lax.axis_index("x"), TALL)
shards("four_devices", lambda x: lax.psum(x @ x.T, "x"), TALL, out_specs=P(), shape=(4,))
shards(
    "column_parallel", lambda x, w: x @ w, "f32[4,8]", "f32[8,16]", in_specs=(P(), P(None, "x")), out_specs=P(None, "x")
)
shards(
    "row_parallel",
    lambda x, w: lax.psum(x @ w, "x"),
    "f32[4,16]",
    "f32[16,8]",
    in_specs=(P(None, "x"), P("x")),
    out_specs=P(),
)
shards(
    "two_axes",
    lambda x, w: lax.psum(x @ w, "y"),
    "f32[8,8]",
    "f32[8,4]",
    in_specs=(P("x", "y"), P("y")),
    shape=(4, 2),
    names=("x", "y"),
)
shards(
    "data_parallel_gradient",
    lambda w, x: lax.pmean(jax.grad(lambda w: jnp.square(x @ w).mean())(w), "x"),
    "f32[8,4]",
    "f32[16,8]",
    in_specs=(P(), ROWS),
    out_specs=P(),
)
shards(
    "gradient_of_shards",
    lambda w, x: lax.psum(jnp.square(x @ w).sum(), "x"),
    "f32[8,4]",
    "f32[16,8]",
    in_specs=(P(), ROWS),
    out_specs=P(),
    outside=jax.grad,
)
shards("scan_of_psum", lambda x: lax.scan(lambda c, _: (lax.pmean(c, "x"), None), x, None, length=3)[0], TALL)


def ring(x, w):
    """A product whose right side travels around the ring of devices."""

    def turn(state, _):
        total, block = state
        total = total + x @ block
        return (total, lax.ppermute(block, "x", [(i, (i + 1) % 8) for i in range(8)])), None

    return lax.scan(turn, (jnp.zeros((x.shape[0], w.shape[1])), w), None, length=8)[0][0]


shards("ring", ring, "f32[16,2]", "f32[16,4]")


def jitted(name, fn, *placed):
    """Register a jitted function of arrays that carry a sharding: (shape, partition) pairs."""

    def make():
        on = mesh((4, 2), ("data", "model"))
        args = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(on, part)) for shape, part in placed]
        return jax.jit(fn), tuple(args)

    make.__name__ = name
    factory(devices=8)(make)


jitted("jit_rows", lambda x, w: jnp.tanh(x @ w), ((8, 16), P("data")), ((16, 4), P()))
jitted(
    "jit_tensor_parallel",
    lambda x, w, v: jnp.tanh(x @ w) @ v,
    ((8, 16), P("data")),
    ((16, 4), P(None, "model")),
    ((4, 16), P("model")),
)


@factory(devices=8, differs=SHARDED)
def jit_constrained():
    on = NamedSharding(mesh((4, 2), ("data", "model")), P("data"))
    return jax.jit(lambda x: lax.with_sharding_constraint(jnp.sin(x), on) + 1), ("f32[8,16]",)
