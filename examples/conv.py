"""One convolution in its common forms: standard, depthwise-separable, grouped, pointwise, bottleneck.

    costax diff examples/conv.py:standard examples/conv.py:depthwise_separable

Each form maps a 56 x 56 image with 128 channels to one with 128 channels.
"""

import jax
import jax.numpy as jnp
from jax import lax

import costax

SIDE, CHANNELS = 56, 128


def conv(x: jax.Array, kernel: jax.Array, name: str, groups: int = 1) -> jax.Array:
    """Convolve an image (batch, height, width, channels) with padding that keeps its size."""
    with jax.named_scope(name):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, dimensions, groups)


def _target(network, kernels: dict[str, tuple[int, ...]]) -> costax.Target:
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in kernels.items()}
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, CHANNELS), jnp.float32)
    return costax.Target(network, (params, image), params_argnums=0)


def standard() -> costax.Target:
    """Return a 3 x 3 convolution over all channels."""

    def network(params, x):
        return jax.nn.relu(conv(x, params["block"], "block"))

    return _target(network, {"block": (3, 3, CHANNELS, CHANNELS)})


def grouped() -> costax.Target:
    """Return a 3 x 3 convolution in four groups: a quarter of the work."""

    def network(params, x):
        return jax.nn.relu(conv(x, params["block"], "block", groups=4))

    return _target(network, {"block": (3, 3, CHANNELS // 4, CHANNELS)})


def depthwise_separable() -> costax.Target:
    """Return a 3 x 3 convolution of each channel alone and a 1 x 1 convolution over all, as in MobileNet."""

    def network(params, x):
        with jax.named_scope("block"):
            x = jax.nn.relu(conv(x, params["depthwise"], "depthwise", groups=CHANNELS))
            return jax.nn.relu(conv(x, params["pointwise"], "pointwise"))

    return _target(network, {"depthwise": (3, 3, 1, CHANNELS), "pointwise": (1, 1, CHANNELS, CHANNELS)})


def bottleneck() -> costax.Target:
    """Return a 3 x 3 convolution of a quarter of the channels between two 1 x 1 convolutions, as in ResNet-50."""
    narrow = CHANNELS // 4

    def network(params, x):
        with jax.named_scope("block"):
            h = jax.nn.relu(conv(x, params["down"], "down"))
            h = jax.nn.relu(conv(h, params["middle"], "middle"))
            return x + conv(h, params["up"], "up")

    kernels = {"down": (1, 1, CHANNELS, narrow), "middle": (3, 3, narrow, narrow), "up": (1, 1, narrow, CHANNELS)}
    return _target(network, kernels)
