"""MobileNetV2 in Flax linen, as torchvision defines it.

    costax analyze examples/mobilenet.py:mobilenet_v2

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018. Its depthwise convolutions do
7 % of the MACs, and its 1 x 1 convolutions nearly all the others.
"""

import flax.linen as nn
import jax

import costax

# Expansion, channels, repeats, stride of the first block: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvNormActivation(nn.Module):
    """A convolution without bias, a batch norm and, unless `linear` is set, a ReLU6."""

    features: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    linear: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return (batch, h / stride, w / stride, features)."""
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            padding=self.kernel // 2,
            feature_group_count=self.groups,
            use_bias=False,
            name="conv",
        )(x)
        x = nn.BatchNorm(use_running_average=not train, name="bn")(x)
        return x if self.linear else nn.relu6(x)


class InvertedResidual(nn.Module):
    """Widen, convolve each channel alone, narrow; the shortcut connects the narrow ends."""

    features: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return (batch, h / stride, w / stride, features)."""
        wide = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = ConvNormActivation(wide, name="expand")(y, train)
        y = ConvNormActivation(wide, kernel=3, stride=self.stride, groups=wide, name="depthwise")(y, train)
        y = ConvNormActivation(self.features, linear=True, name="project")(y, train)
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residuals, a last 1 x 1 convolution, a classifier."""

    classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return logits (batch, classes) of images (batch, height, width, 3)."""
        x = ConvNormActivation(32, kernel=3, stride=2, name="stem")(x, train)
        for stage, (expansion, features, repeats, first_stride) in enumerate(STAGES, start=1):
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                x = InvertedResidual(features, stride, expansion, name=f"stage{stage}_{i}")(x, train)
        x = ConvNormActivation(1280, name="last")(x, train)
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.classes, name="classifier")(x)


def mobilenet_v2() -> tuple[MobileNetV2, tuple]:
    """Return MobileNetV2 on one image: 301 MMAC, 3.5 M parameters."""
    return MobileNetV2(), (costax.spec("f32[1,224,224,3]"),)
