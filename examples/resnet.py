"""ResNet-18 and ResNet-50 in Flax linen, as torchvision defines them, and a training step with AdamW.

    costax analyze examples/resnet.py:resnet18
    costax compare examples/resnet.py:resnet50_train_step --depth 1

He et al., "Deep Residual Learning for Image Recognition", 2015. torchvision puts the stride of a bottleneck on its
3 x 3 convolution ("ResNet v1.5"), pads explicitly, and has a bias only in the classifier.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import optax

import costax


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    features: int
    stride: int = 1
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return relu(f(x) + shortcut(x)), (batch, h / stride, w / stride, features)."""
        norm = partial(nn.BatchNorm, use_running_average=not train)
        y = nn.Conv(self.features, (3, 3), self.stride, padding=1, use_bias=False, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = nn.Conv(self.features, (3, 3), padding=1, use_bias=False, name="conv2")(y)
        y = norm(name="bn2")(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), self.stride, use_bias=False, name="downsample")(x)
            x = norm(name="bn_downsample")(x)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, of which the last is four times as wide, and a shortcut."""

    features: int
    stride: int = 1
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return relu(f(x) + shortcut(x)), (batch, h / stride, w / stride, 4 * features)."""
        norm = partial(nn.BatchNorm, use_running_average=not train)
        wide = self.features * self.expansion
        y = nn.Conv(self.features, (1, 1), use_bias=False, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = nn.Conv(self.features, (3, 3), self.stride, padding=1, use_bias=False, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(y))
        y = nn.Conv(wide, (1, 1), use_bias=False, name="conv3")(y)
        y = norm(name="bn3")(y)
        if x.shape != y.shape:
            x = nn.Conv(wide, (1, 1), self.stride, use_bias=False, name="downsample")(x)
            x = norm(name="bn_downsample")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A stem, four stages of residual blocks that halve the image and double the channels, a classifier."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: Sequence[int]
    classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return logits (batch, classes) of images (batch, height, width, 3)."""
        x = nn.Conv(64, (7, 7), 2, padding=3, use_bias=False, name="conv1")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="bn1")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.block(64 * 2**stage, stride, name=f"layer{stage + 1}_{i}")(x, train)
        return nn.Dense(self.classes, name="fc")(x.mean(axis=(1, 2)))


ResNet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
ResNet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
IMAGE = costax.spec("f32[1,224,224,3]")


def resnet18() -> tuple[ResNet, tuple]:
    """Return ResNet-18 on one image: 1.814 GMAC, 11.7 M parameters."""
    return ResNet18(), (IMAGE,)


def resnet50() -> tuple[ResNet, tuple]:
    """Return ResNet-50 on one image: 4.089 GMAC, 25.6 M parameters."""
    return ResNet50(), (IMAGE,)


def resnet50_train_step() -> costax.Target:
    """Return one step of AdamW on 32 images: loss, gradients, running statistics, update."""
    model, optimizer = ResNet50(), optax.adamw(1e-3)

    def loss_fn(params, batch_stats, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, updated["batch_stats"]

    def train_step(params, batch_stats, opt_state, images, labels):
        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch_stats, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss

    images, labels = costax.spec("f32[32,224,224,3]"), costax.spec("i32[32]")
    variables = jax.eval_shape(model.init, costax.spec("key<fry>[]"), images)
    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = jax.eval_shape(optimizer.init, params)
    return costax.Target(train_step, (params, batch_stats, opt_state, images, labels), params_argnums=0)
