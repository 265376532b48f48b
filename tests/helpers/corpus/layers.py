"""Layers of neural networks, each by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax, nn

from corpus import EXPANDED, FOLDED, LOWERED, MERGED, one, program

NCHW = ("NCHW", "OIHW", "NCHW")
NHWC = ("NHWC", "HWIO", "NHWC")


@program("f32[8,16]", "f32[16,32]", "f32[32]", "f32[32,4]", "f32[4]")
def mlp(x, w1, b1, w2, b2):
    return nn.relu(x @ w1 + b1) @ w2 + b2


@program("bf16[8,16]", "bf16[16,32]", "bf16[32,4]")
def mlp_bf16(x, w1, w2):
    return jnp.tanh(x @ w1) @ w2


@program("f32[8,16]", "f32[16,32]", "f32[32]")
def dense_named(x, w, b):
    with jax.named_scope("dense"):
        return x @ w + b


# Convolutions.


def conv(x, w, dimensions=NCHW, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=dimensions, **options)


one("conv_same", lambda x, w: conv(x, w), "f32[2,3,9,9]", "f32[8,3,3,3]")
one("conv_valid_nhwc", lambda x, w: conv(x, w, NHWC, padding="VALID"), "f32[2,9,9,3]", "f32[3,3,3,8]")
one("conv_strided", lambda x, w: conv(x, w, strides=(2, 3)), "f32[2,3,9,9]", "f32[8,3,3,3]")
one("conv_dilated", lambda x, w: conv(x, w, rhs_dilation=(2, 1)), "f32[2,3,9,9]", "f32[8,3,3,3]")
one(
    "conv_holes", lambda x, w: conv(x, w, padding=[(0, 0), (1, 2)], lhs_dilation=(2, 2)), "f32[2,3,9,9]", "f32[8,3,3,3]"
)
one("conv_groups", lambda x, w: conv(x, w, feature_group_count=4), "f32[2,8,6,6]", "f32[12,2,3,3]")
one("conv_depthwise", lambda x, w: conv(x, w, feature_group_count=8), "f32[2,8,6,6]", "f32[8,1,3,3]")
one("conv_batch_groups", lambda x, w: conv(x, w, batch_group_count=2), "f32[4,3,6,6]", "f32[8,3,3,3]")
one("conv_pointwise", lambda x, w: conv(x, w), "f32[2,8,6,6]", "f32[16,8,1,1]")
one("conv_bf16", lambda x, w: conv(x, w, preferred_element_type=jnp.float32), "bf16[2,3,6,6]", "bf16[8,3,3,3]")
one("conv_transposed", lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME"), "f32[2,5,5,3]", "f32[3,3,3,8]")
one(
    "conv_local",
    lambda x, w: lax.conv_general_dilated_local(x, w, (1,), "VALID", (3,)),
    "f32[2,3,9]",
    "f32[8,9,7]",
    differs=FOLDED,
)
one(
    "conv_patches",
    lambda x: lax.conv_general_dilated_patches(x, (3, 3), (1, 1), "SAME"),
    "f32[2,3,6,6]",
    differs=FOLDED,
)
one("conv_1d", lambda x, w: lax.conv(x, w, (2,), "SAME"), "f32[2,3,16]", "f32[8,3,5]")
one("conv_3d", lambda x, w: lax.conv(x, w, (1, 1, 1), "SAME"), "f32[1,2,4,4,4]", "f32[3,2,3,3,3]")
one("conv_asymmetric", lambda x, w: conv(x, w, padding=[(2, 0), (0, 3)]), "f32[2,3,7,7]", "f32[4,3,3,2]")
one("conv_cropped", lambda x, w: conv(x, w, padding=[(-1, 0), (0, -2)]), "f32[2,3,9,9]", "f32[4,3,3,3]")


@program("f32[2,8,8,3]", "f32[3,3,3,8]", "f32[3,3,8,8]", "f32[128,10]")
def cnn(x, w1, w2, w3):
    with jax.named_scope("stem"):
        x = nn.relu(conv(x, w1, NHWC))
    with jax.named_scope("block"):
        x = x + nn.relu(conv(x, w2, NHWC))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(2, -1) @ w3


# Pooling.


def pool(x, start, join, size=2, stride=2, padding="VALID"):
    return lax.reduce_window(x, start, join, (1, size, size, 1), (1, stride, stride, 1), padding)


one("max_pool", lambda x: pool(x, -jnp.inf, lax.max), "f32[2,8,8,3]")
one("max_pool_overlapping", lambda x: pool(x, -jnp.inf, lax.max, 3, 2, "SAME"), "f32[2,8,8,3]")
one("average_pool", lambda x: pool(x, 0.0, lax.add) / 4, "f32[2,8,8,3]")
one("global_average_pool", lambda x: x.mean((1, 2)), "f32[2,8,8,3]")

# Normalisation.


@program("f32[4,16]", "f32[16]", "f32[16]")
def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale + bias


@program("bf16[4,16]", "bf16[16]")
def rms_norm(x, scale):
    wide = x.astype(jnp.float32)
    return (wide * lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-6)).astype(x.dtype) * scale


@program("f32[4,8,8,6]", "f32[6]", "f32[6]")
def batch_norm(x, scale, bias):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + bias


@program("f32[2,4,4,8]")
def group_norm(x):
    groups = x.reshape(2, 16, 4, 2)
    mean = groups.mean((1, 3), keepdims=True)
    spread = jnp.square(groups - mean).mean((1, 3), keepdims=True)
    return ((groups - mean) / jnp.sqrt(spread + 1e-5)).reshape(x.shape)


one("standardize", lambda x: nn.standardize(x), "f32[4,16]")

# Attention.


@program("f32[2,8,4,16]", "f32[2,8,4,16]", "f32[2,8,4,16]")
def attention(q, k, v):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 4.0
    return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v)


@program("f32[2,8,4,16]", "f32[2,8,4,16]", "f32[2,8,4,16]")
def attention_causal(q, k, v):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * 0.25
    mask = lax.broadcasted_iota(jnp.int32, (8, 8), 0) >= lax.broadcasted_iota(jnp.int32, (8, 8), 1)
    return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(jnp.where(mask, scores, -1e9)), v)


@program("f32[2,8,6,16]", "f32[2,8,2,16]", "f32[2,8,2,16]")
def attention_grouped_query(q, k, v):
    grouped = q.reshape(2, 8, 2, 3, 16)
    scores = jnp.einsum("bqhgd,bkhd->bhgqk", grouped, k)
    return jnp.einsum("bhgqk,bkhd->bqhgd", nn.softmax(scores), v).reshape(q.shape)


one("sdpa", lambda q, k, v: nn.dot_product_attention(q, k, v), *["f32[2,8,4,16]"] * 3)
one(
    "sdpa_causal",
    lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True),
    *["f32[2,8,4,16]"] * 3,
    differs=FOLDED,
)
one("sdpa_grouped", lambda q, k, v: nn.dot_product_attention(q, k, v), "bf16[2,8,4,16]", *["bf16[2,8,2,16]"] * 2)
one(
    "sdpa_window",
    lambda q, k, v: nn.dot_product_attention(q, k, v, local_window_size=2),
    *["f32[2,8,4,16]"] * 3,
    differs=FOLDED,
)


@program("f32[2,8,32]")
def rotary(x):
    angle = jnp.arange(8.0)[:, None] * (10000.0 ** (-jnp.arange(16.0) / 16))
    left, right = jnp.split(x, 2, -1)
    return jnp.concatenate(
        [left * jnp.cos(angle) - right * jnp.sin(angle), left * jnp.sin(angle) + right * jnp.cos(angle)], -1
    )


# Embeddings, activations, losses.

one("embedding", lambda table, ids: table[ids], "f32[50,16]", "i32[2,8]")
one("embedding_one_hot", lambda table, ids: nn.one_hot(ids, 50) @ table, "f32[50,16]", "i32[2,8]")
one("embedding_attend", lambda table, x: x @ table.T, "f32[50,16]", "f32[2,8,16]")
one("relu", lambda x: nn.relu(x), "f32[8,16]")
one("relu6", lambda x: nn.relu6(x), "f32[8,16]")
one("gelu", lambda x: nn.gelu(x), "f32[8,16]")
one("gelu_exact", lambda x: nn.gelu(x, approximate=False), "f32[8,16]", differs=EXPANDED)
one("silu", lambda x: nn.silu(x), "f32[8,16]", differs=EXPANDED)
one("softplus", lambda x: nn.softplus(x), "f32[8,16]", differs=FOLDED)
one("mish", lambda x: nn.mish(x), "f32[8,16]", differs=FOLDED)
one("elu", lambda x: nn.elu(x), "f32[8,16]", differs=MERGED)
one("glu", lambda x: nn.glu(x), "f32[8,16]", differs=EXPANDED)
one("hard_swish", lambda x: nn.hard_swish(x), "f32[8,16]")
one("softmax", lambda x: nn.softmax(x), "f32[8,16]")
one("log_softmax", lambda x: nn.log_softmax(x), "f32[8,16]")
one("logsumexp", lambda x: nn.logsumexp(x, -1), "f32[8,16]")


@program("f32[8,16]", "i32[8]", differs=LOWERED)
def cross_entropy(logits, labels):
    return -jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], -1).mean()


@program("f32[3,16]", "f32[16]", "f32[16,64]", "f32[16,64]", "f32[64]", differs=EXPANDED)
def lstm_cell(x, h, w, u, b):
    i, f, g, o = jnp.split(x @ w + h @ u + b, 4, -1)
    c = nn.sigmoid(f) * h + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c)
