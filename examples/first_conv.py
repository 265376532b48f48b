"""The first convolution of VGG: one layer that shows what MACs, FLOPs and padding mean.

    costax compare examples/first_conv.py:first_conv

A 3 x 3 kernel maps 3 channels to 64 on a 224 x 224 image, so each of the 64 * 224 * 224 outputs sums 3 * 3 * 3
products: 86,704,128 MACs, or 173,408,256 FLOPs. XLA reports 172,377,600, because it does not count the products
with the zeros of the padding.
"""

import jax
from jax import lax

import costax


def conv2d(kernel: jax.Array, image: jax.Array) -> jax.Array:
    """Convolve a batch of images; the output is as large as the input.

    kernel: (3, 3, c_in, c_out). image: (batch, height, width, c_in).
    """
    with jax.named_scope("conv"):
        return lax.conv_general_dilated(
            image,
            kernel,
            window_strides=(1, 1),
            padding=((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def first_conv() -> costax.Target:
    """Return the layer and the shapes of its arguments."""
    kernel = costax.spec("f32[3,3,3,64]")
    image = costax.spec("f32[1,224,224,3]")
    return costax.Target(conv2d, (kernel, image), params_argnums=0)


def first_conv_gradient() -> costax.Target:
    """Return the gradients of kernel and image: twice the work of the layer, with the same padding in each."""

    def loss(kernel: jax.Array, image: jax.Array) -> jax.Array:
        return conv2d(kernel, image).sum()

    kernel = costax.spec("f32[3,3,3,64]")
    image = costax.spec("f32[1,224,224,3]")
    return costax.Target(jax.grad(loss, argnums=(0, 1)), (kernel, image), params_argnums=0)
