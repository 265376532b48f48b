"""Programs that XLA's partitioner splits over eight devices."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kinds.registry import BF16, F32, attention, layer_norm, program, split_heads


def _mesh(*sizes):
    import numpy as np

    return Mesh(np.array(jax.devices()[:8]).reshape(sizes), ("data", "model")[: len(sizes)])


def _arg(mesh, shape, *spec, dtype=F32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


@program
def sharded_fsdp_mlp_grad():
    mesh = _mesh(8)
    loss = lambda ws, x: jnp.square(jax.nn.relu(jax.nn.relu(x @ ws[0]) @ ws[1])).mean()
    ws = [_arg(mesh, (2048, 8192), "data"), _arg(mesh, (8192, 2048), "data")]
    return jax.jit(jax.grad(loss)), (ws, _arg(mesh, (8192, 2048), "data"))


@program
def sharded_tensor_parallel_forward():
    mesh = _mesh(2, 4)
    fn = lambda x, a, b: jax.nn.gelu(x @ a) @ b
    args = _arg(mesh, (8192, 2048), "data"), _arg(mesh, (2048, 8192), None, "model"), _arg(mesh, (8192, 2048), "model")
    return jax.jit(fn), args


@program
def sharded_data_parallel_train():
    mesh = _mesh(8)

    def step(ws, x, y):
        g = jax.grad(lambda ws: jnp.square(jnp.tanh(x @ ws[0]) @ ws[1] - y).mean())(ws)
        return [w - 0.1 * d for w, d in zip(ws, g, strict=True)]

    ws = [_arg(mesh, (1024, 4096)), _arg(mesh, (4096, 1024))]
    return jax.jit(step), (ws, _arg(mesh, (16384, 1024), "data"), _arg(mesh, (16384, 1024), "data"))


@program
def sharded_attention_heads_bf16():
    mesh = _mesh(2, 4)

    def fn(x, qkv, o):
        q, k, v = (split_heads(a, 16) for a in jnp.split(layer_norm(x, 1.0, 0.0) @ qkv, 3, -1))
        return x + attention(q, k, v).reshape(x.shape) @ o

    x = _arg(mesh, (8, 1024, 1024), "data", dtype=BF16)
    return jax.jit(fn), (
        x,
        _arg(mesh, (1024, 3072), None, "model", dtype=BF16),
        _arg(mesh, (1024, 1024), "model", dtype=BF16),
    )
