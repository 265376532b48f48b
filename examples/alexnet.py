"""The original AlexNet in Haiku, with its grouped convolutions.

    costax analyze examples/alexnet.py:alexnet

Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012. Each of two GPUs held half
of the channels, so the second, fourth and fifth convolutions have two groups. The 55 x 55 outputs of the first layer
need a 227 x 227 image, or the paper's 224 x 224 image with two pixels of padding: as many MACs, some on padding.
torchvision's AlexNet ("one weird trick") is a different network: fewer channels, no groups, 714 MMAC.
"""

import haiku as hk
import jax

import costax


def local_response_norm(x: jax.Array) -> jax.Array:
    """Divide each activation by the energy of its five neighbours along the channels."""
    energy = hk.avg_pool(x**2, (1, 1, 1, 5), (1, 1, 1, 1), padding="SAME", channel_axis=None)
    return x / (2.0 + 1e-4 * 5 * energy) ** 0.75


def pool(x: jax.Array) -> jax.Array:
    """Halve the image by max pooling over overlapping 3 x 3 windows."""
    return hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), padding="VALID")


def network(image: jax.Array, first_padding: int = 0) -> jax.Array:
    """Return logits (batch, 1000) of images (batch, height, width, 3)."""

    def conv(x: jax.Array, channels: int, kernel: int, name: str, *, stride=1, padding=0, groups=1) -> jax.Array:
        pad = ((padding, padding), (padding, padding))
        layer = hk.Conv2D(channels, kernel, stride, padding=pad, feature_group_count=groups, name=name)
        return jax.nn.relu(layer(x))

    x = conv(image, 96, 11, "conv1", stride=4, padding=first_padding)
    x = pool(local_response_norm(x))
    x = conv(x, 256, 5, "conv2", padding=2, groups=2)
    x = pool(local_response_norm(x))
    x = conv(x, 384, 3, "conv3", padding=1)
    x = conv(x, 384, 3, "conv4", padding=1, groups=2)
    x = conv(x, 256, 3, "conv5", padding=1, groups=2)
    x = hk.Flatten()(pool(x))
    x = jax.nn.relu(hk.Linear(4096, name="fc6")(x))
    x = jax.nn.relu(hk.Linear(4096, name="fc7")(x))
    return hk.Linear(1000, name="fc8")(x)


def alexnet() -> tuple[hk.Transformed, tuple]:
    """Return AlexNet on one image of 227 x 227: 724 MMAC, 61 M parameters."""
    return hk.transform(network), (costax.spec("f32[1,227,227,3]"),)


def alexnet_224() -> tuple[hk.Transformed, tuple]:
    """Return AlexNet on one image of 224 x 224, padded by two: the same 724 MMAC."""
    padded = hk.transform(lambda image: network(image, first_padding=2))
    return padded, (costax.spec("f32[1,224,224,3]"),)
