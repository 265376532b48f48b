"""The registry of the programs of this folder, and layers that several of them use."""

import math

import jax
import jax.numpy as jnp
from jax import lax

F32, BF16, F16, F64, I32, U32, I8 = (
    jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64, jnp.int32, jnp.uint32, jnp.int8,
)  # fmt: skip
PROGRAMS = {}


def S(*shape, dtype=F32):
    return jax.ShapeDtypeStruct(shape, dtype)


def program(make):
    """Register a function that returns (fn, args). A name that ends in f64 needs 64-bit numbers."""
    PROGRAMS[make.__name__] = make
    return make


def like(tree, dtype=None):
    """Return a tree of lists, dicts and shapes with a ShapeDtypeStruct for each shape."""
    return jax.tree.map(lambda s: S(*s, dtype=dtype or F32), tree, is_leaf=lambda s: isinstance(s, tuple))


def layer_norm(x, g, b):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * g + b


def rms_norm(x, g):
    return (x.astype(F32) * lax.rsqrt(jnp.mean(jnp.square(x.astype(F32)), -1, keepdims=True) + 1e-6)).astype(
        x.dtype
    ) * g


def conv(x, w, stride=1, padding="SAME", **options):
    rank = x.ndim - 2
    order = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}[rank]
    return lax.conv_general_dilated(x, w, (stride,) * rank, padding, dimension_numbers=order, **options)


def group_norm(x, g, b, groups=8):
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, groups, c // groups)
    mean, var = y.mean((1, 2, 4), keepdims=True), y.var((1, 2, 4), keepdims=True)
    return ((y - mean) * lax.rsqrt(var + 1e-5)).reshape(n, h, w, c) * g + b


def batch_norm(x, g, b):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(var + 1e-5) * g + b


def split_heads(x, heads):
    b, t, d = x.shape
    return x.reshape(b, t, heads, d // heads)


def attention(q, k, v, mask=None):
    """Attention of (b, t, h, d) arrays."""
    s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        s = jnp.where(mask, s, -1e9)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s, -1), v)


def sgd(params, grads, rate=1e-2):
    return jax.tree.map(lambda p, g: p - rate * g, params, grads)
