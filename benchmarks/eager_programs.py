"""Programs that PyTorch runs without a compiler: one kernel an operation, in the order and the dtypes of the framework.

A program is a list of operations with the number of their runs. Each is analysed alone, so that nothing fuses across
the boundary of two operations, as in PyTorch's eager mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
from published_programs import DTYPES, fused

import costax

Shape = tuple[int, ...]


class Operations:
    """Records operations: what each computes, of which shapes, and how often it runs."""

    def __init__(self, *, train: bool = False, exact: bool = False) -> None:
        """Prepare an empty record. train: also the gradient of each. exact: float32 without TF32."""
        self.runs: Counter[tuple[Callable[..., Any], bool, tuple[tuple[Shape, Any], ...]]] = Counter()
        self.train, self.exact = train, exact

    def run(
        self, operation: Callable[..., Any], *operands: jax.ShapeDtypeStruct, result: Any = None, alone: bool = False
    ) -> jax.ShapeDtypeStruct:
        """Record one run of an operation, and return the shape of its result, which jax finds if it is not given.

        alone: without its gradient, also in training.
        """
        self.runs[operation, self.train and not alone, tuple((x.shape, x.dtype) for x in operands)] += 1
        return jax.eval_shape(operation, *operands) if result is None else result

    def analyses(self) -> list[tuple[costax.Analysis, int]]:
        """Return the analysis of each operation, and how often it runs."""
        with jax.default_matmul_precision("highest" if self.exact else "default"):
            return [(self._analysis(*run), times) for run, times in self.runs.items()]

    @staticmethod
    def _analysis(
        operation: Callable[..., Any], gradient: bool, shapes: tuple[tuple[Shape, Any], ...]
    ) -> costax.Analysis:
        operands = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
        if not gradient:
            return costax.analyze(operation)(*operands)

        def both(cotangent, *operands):
            result, gradient = jax.vjp(operation, *operands)
            return result, gradient(cotangent)

        return costax.analyze(both)(jax.eval_shape(operation, *operands), *operands)


@cache
def _convolution(stride: int, padding: int, groups: int = 1):
    def convolution(x, w):
        dims = ("NHWC", "HWIO", "NHWC")
        pad = [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), pad, dimension_numbers=dims, feature_group_count=groups
        )

    return convolution


def _other_layout(x):
    """The array with channels last, from channels first, or the other way."""
    return jnp.moveaxis(x, -1, 1)


def _norm_of_batch(x, scale):
    """Batch norm with known mean and variance."""
    mean, deviation, scale, bias = scale
    y = (x.astype(jnp.float32) - mean) * (scale / deviation) + bias
    return y.astype(x.dtype)


def _norm_by_batch(x, scale):
    """Batch norm in training: mean and variance are those of the batch."""
    wide = x.astype(jnp.float32)
    mean, square = wide.mean((0, 1, 2)), (wide * wide).mean((0, 1, 2))
    y = (wide - mean) * jax.lax.rsqrt(square - mean * mean + 1e-5) * scale[2] + scale[3]
    return y.astype(x.dtype)


def _relu(x):
    return jnp.maximum(x, 0)


def _relu6(x):
    return jnp.clip(x, 0, 6)


def _add(x, y):
    return x + y


def _max_pool(x):
    return flax.linen.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


def _mean(x):
    return x.mean((1, 2))


def _linear(x, w, bias):
    return (x @ w + bias).astype(x.dtype)


class _Network:
    """The operations of a convolutional network of torchvision."""

    def __init__(self, dtype: Any, *, train: bool, exact: bool, converted: bool) -> None:
        """converted: arrays have channels first, and tensor cores want them last: the library converts them."""
        self.ops, self.dtype, self.train = Operations(train=train, exact=exact), dtype, train
        self.converted = converted

    def array(self, *shape: int, dtype: Any = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype or self.dtype)

    def conv(self, x, features: int, size: int = 1, stride: int = 1, groups: int = 1, act: Any = None):
        w = self.array(size, size, x.shape[-1] // groups, features)
        y = self.ops.run(_convolution(stride, size // 2, groups), x, w)
        if self.converted:
            # The convolution converts x and y; its gradient of x, and that of w, convert as many bytes again. Source:
            # NVIDIA, Convolutional Layers User's Guide, "Tensor layouts in memory".
            for array in (x, y) * (3 if self.train else 1):
                self.ops.run(_other_layout, array, alone=True)
        norm = _norm_by_batch if self.train else _norm_of_batch
        y = self.ops.run(norm, y, self.array(4, features, dtype=jnp.float32))
        return self.ops.run(act, y) if act else y

    def resnet(self, batch: int, image: int, depths: tuple[int, ...], *, bottleneck: bool):
        ops = self.ops
        x = self.conv(self.array(batch, image, image, 3), 64, 7, 2, act=_relu)
        x = ops.run(_max_pool, x)
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            wide = 4 * width if bottleneck else width
            for block in range(depth):
                stride = 2 if stage and not block else 1
                if bottleneck:
                    y = self.conv(x, width, act=_relu)
                    y = self.conv(self.conv(y, width, 3, stride, act=_relu), wide)
                else:
                    y = self.conv(self.conv(x, width, 3, stride, act=_relu), width, 3)
                short = self.conv(x, wide, stride=stride) if x.shape != y.shape else x
                x = ops.run(_relu, ops.run(_add, y, short))
        self._head(x)

    def mobilenet_v2(self, batch: int, image: int):
        from mobilenet import STAGES

        x = self.conv(self.array(batch, image, image, 3), 32, 3, 2, act=_relu6)
        for expansion, features, repeats, first in STAGES:
            for block in range(repeats):
                wide, y = x.shape[-1] * expansion, x
                if expansion > 1:
                    y = self.conv(y, wide, act=_relu6)
                y = self.conv(self.conv(y, wide, 3, 1 if block else first, wide, act=_relu6), features)
                x = self.ops.run(_add, x, y) if x.shape == y.shape else y
        self._head(self.conv(x, 1280, act=_relu6))

    def _head(self, x):
        pooled = self.ops.run(_mean, x)
        self.ops.run(_linear, pooled, self.array(x.shape[-1], 1000), self.array(1000))


@cache
def images(
    model: str,
    batch: int,
    image: int = 224,
    dtype: str = "fp16",
    train: bool = False,
    exact: bool = False,
    converted: bool = False,
) -> list[tuple[costax.Analysis, int]]:
    """A convolutional network on images. Training has no optimizer.

    exact: float32 without TF32. converted: the program has channels first, and runs on tensor cores.
    """
    network = _Network(DTYPES[dtype], train=train, exact=exact, converted=converted)
    if model == "mobilenet_v2":
        network.mobilenet_v2(batch, image)
    else:
        depths = {"resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}.get(model, (3, 4, 6, 3))
        network.resnet(batch, image, depths, bottleneck=model in ("resnet50", "resnet101"))
    return network.ops.analyses()


def _layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def _half(x):
    return x.astype(jnp.float16)


def _gelu(x):
    return jax.nn.gelu(x.astype(jnp.float32), approximate=False).astype(x.dtype)


def _attention(q, k, v):
    return fused(q, k, v, causal=False)


@cache
def vision_transformer(batch: int, patch: int, width: int, depth: int, heads: int) -> list[tuple[costax.Analysis, int]]:
    """timm's vision transformer under autocast: products in fp16; the residual stream and norms stay in fp32."""
    ops = Operations()

    def half(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float16)

    def single(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def linear(x, features):
        # Autocast casts the weights at each call.
        w = ops.run(_half, single(x.shape[-1], features))
        return ops.run(_linear, x, w, half(features))

    side = 224 // patch
    ops.run(_convolution(patch, 0), half(batch, 224, 224, 3), half(patch, patch, 3, width))
    x = ops.run(_add, single(batch, side * side + 1, width), single(1, side * side + 1, width))
    for _ in range(depth):
        y = ops.run(_half, ops.run(_layer_norm, x, single(width), single(width)))
        # Queries, keys and values are views of one result.
        linear(y, 3 * width)
        view = half(*x.shape[:2], heads, width // heads)
        # jax finds no shape of a fused attention where cuDNN is missing.
        y = ops.run(_attention, view, view, view, result=half(*x.shape))
        x = ops.run(_add, x, linear(y, width))
        y = ops.run(_half, ops.run(_layer_norm, x, single(width), single(width)))
        x = ops.run(_add, x, linear(ops.run(_gelu, linear(y, 4 * width)), width))
    ops.run(_layer_norm, x, single(width), single(width))
    return ops.analyses()
