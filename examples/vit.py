"""ViT-B/16 in Flax nnx, as torchvision defines it.

    costax analyze examples/vit.py:vit_b_16

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020. Some web pages say 81.9 billion FLOPs; the true
figures are 17.56 GMAC, which is 35.1 GFLOP, and 86.6 million parameters.
"""

import jax
import jax.numpy as jnp
from flax import nnx

import costax


class SelfAttention(nnx.Module):
    """Multi-head attention; queries, keys and values come from one matrix."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (batch, tokens, width) from (batch, tokens, width)."""
        b, s, width = x.shape
        q, k, v = jnp.split(self.qkv(x).reshape(b, s, 3 * self.heads, -1), 3, axis=2)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // self.heads) ** 0.5
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
        return self.out(mixed.reshape(b, s, width))


class Mlp(nnx.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (batch, tokens, width) from (batch, tokens, width)."""
        return self.down(nnx.gelu(self.up(x), approximate=False))


class EncoderBlock(nnx.Module):
    """Attention and an MLP, each with a norm before it and a shortcut around it."""

    def __init__(self, width: int, heads: int, hidden: int, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.attention = SelfAttention(width, heads, rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.mlp = Mlp(width, hidden, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (batch, tokens, width) from (batch, tokens, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nnx.Module):
    """Patches become tokens, a class token is added, and its last state is classified."""

    def __init__(
        self,
        *,
        image: int = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        tokens = (image // patch) ** 2 + 1
        self.patches = nnx.Conv(3, width, (patch, patch), strides=(patch, patch), padding="VALID", rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, tokens, width)))
        self.blocks = nnx.List([EncoderBlock(width, heads, hidden, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return logits (batch, classes) of images (batch, height, width, 3)."""
        x = self.patches(images)
        b, *_, width = x.shape
        x = x.reshape(b, -1, width)
        x = jnp.concatenate([jnp.broadcast_to(self.class_token[...], (b, 1, width)), x], axis=1)
        x = x + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def vit_b_16() -> tuple[VisionTransformer, tuple]:
    """Return ViT-B/16 on one image: 17.56 GMAC, 86.6 M parameters."""
    model = nnx.eval_shape(lambda: VisionTransformer(rngs=nnx.Rngs(0)))
    return model, (costax.spec("f32[1,224,224,3]"),)
