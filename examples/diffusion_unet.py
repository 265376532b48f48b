"""The U-Net of DDPM in Equinox: the network that denoises CIFAR-10.

    costax analyze examples/diffusion_unet.py:ddpm_unet --depth 2

Ho et al., "Denoising Diffusion Probabilistic Models", 2020: 35.7 M parameters. The model takes one image, channels
first, as Equinox does; a batch is `jax.vmap` of it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn

import costax

WIDTH, LEVELS, REPEATS = 128, (128, 256, 256, 256), 2


def conv3x3(c_in: int, c_out: int, key: jax.Array, stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the image's size, or halves it."""
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1, key=key)


class ResBlock(eqx.Module):
    """Two convolutions and a shortcut; the time step is added between the convolutions."""

    norm1: nn.GroupNorm
    conv1: nn.Conv2d
    time: nn.Linear
    norm2: nn.GroupNorm
    conv2: nn.Conv2d
    shortcut: nn.Conv2d | None

    def __init__(self, c_in: int, c_out: int, key: jax.Array):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.norm1 = nn.GroupNorm(32, c_in)
        self.conv1 = conv3x3(c_in, c_out, k1)
        self.time = nn.Linear(4 * WIDTH, c_out, key=k2)
        self.norm2 = nn.GroupNorm(32, c_out)
        self.conv2 = conv3x3(c_out, c_out, k3)
        self.shortcut = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1, key=k4)

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """Return (c_out, h, w) from (c_in, h, w) and the embedded time step."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = y + self.time(jax.nn.silu(t))[:, None, None]
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(eqx.Module):
    """Self-attention between the pixels, with one head."""

    norm: nn.GroupNorm
    qkv: nn.Conv2d
    out: nn.Conv2d

    def __init__(self, channels: int, key: jax.Array):
        k1, k2 = jax.random.split(key)
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, key=k1)
        self.out = nn.Conv2d(channels, channels, 1, key=k2)

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """Return (c, h, w) from (c, h, w); this layer ignores the time step."""
        q, k, v = jnp.split(self.qkv(self.norm(x)).reshape(3 * x.shape[0], -1), 3)
        weights = jax.nn.softmax(q.T @ k / x.shape[0] ** 0.5)
        return x + self.out((v @ weights.T).reshape(x.shape))


class Resize(eqx.Module):
    """Halve the image with a stride, or double it by repeating pixels, and convolve."""

    conv: nn.Conv2d
    up: bool = eqx.field(static=True)

    def __init__(self, channels: int, key: jax.Array, *, up: bool):
        self.conv = conv3x3(channels, channels, key, stride=1 if up else 2)
        self.up = up

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """Return (c, h / 2, w / 2) or (c, 2 h, 2 w) from (c, h, w)."""
        return self.conv(x.repeat(2, axis=1).repeat(2, axis=2) if self.up else x)


class UNet(eqx.Module):
    """Four levels down and four levels up, with skip connections between them; attention at 16 x 16."""

    time1: nn.Linear
    time2: nn.Linear
    first: nn.Conv2d
    down: list[list[eqx.Module]]
    middle: list[eqx.Module]
    up: list[list[eqx.Module]]
    norm: nn.GroupNorm
    last: nn.Conv2d

    def __init__(self, key: jax.Array):
        keys = iter(jax.random.split(key, 64))
        self.time1 = nn.Linear(WIDTH, 4 * WIDTH, key=next(keys))
        self.time2 = nn.Linear(4 * WIDTH, 4 * WIDTH, key=next(keys))
        self.first = conv3x3(3, WIDTH, next(keys))
        self.down, self.up, skips, c = [], [], [WIDTH], WIDTH
        for level, c_out in enumerate(LEVELS):
            for _ in range(REPEATS):
                attention = [Attention(c_out, next(keys))] if level == 1 else []
                self.down.append([ResBlock(c, c_out, next(keys)), *attention])
                c = c_out
                skips.append(c)
            if level < len(LEVELS) - 1:
                self.down.append([Resize(c, next(keys), up=False)])
                skips.append(c)
        self.middle = [ResBlock(c, c, next(keys)), Attention(c, next(keys)), ResBlock(c, c, next(keys))]
        for level, c_out in reversed(list(enumerate(LEVELS))):
            for i in range(REPEATS + 1):
                attention = [Attention(c_out, next(keys))] if level == 1 else []
                resize = [Resize(c_out, next(keys), up=True)] if i == REPEATS and level > 0 else []
                self.up.append([ResBlock(c + skips.pop(), c_out, next(keys)), *attention, *resize])
                c = c_out
        self.norm = nn.GroupNorm(32, c)
        self.last = conv3x3(c, 3, next(keys))

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """Return the noise in an image (3, 32, 32) at the time step t."""
        frequencies = jnp.exp(-jnp.log(10_000) * jnp.arange(WIDTH // 2) / (WIDTH // 2 - 1))
        t = jnp.concatenate([jnp.sin(t * frequencies), jnp.cos(t * frequencies)])
        t = self.time2(jax.nn.silu(self.time1(t)))
        x = self.first(x)
        states = [x]
        for layers in self.down:
            for layer in layers:
                x = layer(x, t)
            states.append(x)
        for layer in self.middle:
            x = layer(x, t)
        for layers in self.up:
            x = jnp.concatenate([x, states.pop()])
            for layer in layers:
                x = layer(x, t)
        return self.last(jax.nn.silu(self.norm(x)))


def ddpm_unet() -> tuple[UNet, tuple]:
    """Return the network on one image and one time step: 6.22 GMAC with attention, 35.7 M parameters."""
    model = eqx.filter_eval_shape(UNet, costax.spec("key<fry>[]"))
    return model, (costax.spec("f32[3,32,32]"), costax.spec("f32[]"))
