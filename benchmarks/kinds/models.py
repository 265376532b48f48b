"""Convolutional networks: U-Nets, densenets, transposed convolutions, detection, video, audio."""

import jax
import jax.numpy as jnp
from jax import lax

from kinds.registry import BF16, F16, S, batch_norm, conv, group_norm, like, program, sgd


def _unet_args(width, levels, channels=4):
    down, up = [], []
    c = channels
    for level in range(levels):
        n = width << level
        down.append({"a": (3, 3, c, n), "b": (3, 3, n, n), "g": (n,), "s": (n,)})
        c = n
    for level in reversed(range(levels - 1)):
        n = width << level
        up.append({"t": (2, 2, c, n), "a": (3, 3, 2 * n, n), "b": (3, 3, n, n), "g": (n,), "s": (n,)})
        c = n
    return like({"down": down, "up": up, "out": (1, 1, width, channels)})


def _unet(p, x):
    skips = []
    for level, w in enumerate(p["down"]):
        if level:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.silu(group_norm(conv(x, w["a"]), w["g"], w["s"]))
        x = jax.nn.silu(conv(x, w["b"]))
        skips.append(x)
    skips.pop()
    for w in p["up"]:
        x = lax.conv_transpose(x, w["t"], (2, 2), "SAME")
        x = jnp.concatenate([x, skips.pop()], -1)
        x = jax.nn.silu(group_norm(conv(x, w["a"]), w["g"], w["s"]))
        x = jax.nn.silu(conv(x, w["b"]))
    return conv(x, p["out"])


@program
def unet_segmentation_forward():
    return _unet, (_unet_args(32, 4), S(4, 128, 128, 4))


@program
def unet_segmentation_train():
    def step(p, x, y):
        value, grads = jax.value_and_grad(lambda p: jnp.square(_unet(p, x) - y).mean())(p)
        return sgd(p, grads), value

    return jax.jit(step, donate_argnums=0), (_unet_args(32, 4), S(4, 96, 96, 4), S(4, 96, 96, 4))


def _dense_args(blocks, layers, growth, channels):
    p, c = [], channels
    for block in range(blocks):
        ws = []
        for _ in range(layers):
            ws.append(
                {
                    "g": (c,),
                    "b": (c,),
                    "w1": (1, 1, c, 4 * growth),
                    "g2": (4 * growth,),
                    "b2": (4 * growth,),
                    "w2": (3, 3, 4 * growth, growth),
                }
            )
            c += growth
        p.append({"layers": ws, "t": (1, 1, c, c // 2)})
        c //= 2
    return like(p)


def _densenet(p, x):
    for block in p:
        for w in block["layers"]:
            y = conv(jax.nn.relu(batch_norm(x, w["g"], w["b"])), w["w1"])
            y = conv(jax.nn.relu(batch_norm(y, w["g2"], w["b2"])), w["w2"])
            x = jnp.concatenate([x, y], -1)
        x = lax.reduce_window(conv(x, block["t"]), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    return x.mean((1, 2))


@program
def densenet_batchnorm_forward():
    return _densenet, (_dense_args(3, 5, 24, 48), S(16, 56, 56, 48))


@program
def densenet_batchnorm_grad():
    return jax.grad(lambda p, x: jnp.square(_densenet(p, x)).sum()), (_dense_args(2, 5, 16, 32), S(16, 48, 48, 32))


@program
def densenet_inference_folded_bf16():
    def fn(p, x):
        for block in p:
            for w in block["layers"]:
                y = conv(jax.nn.relu(x * w["g"] + w["b"]), w["w1"])
                y = conv(jax.nn.relu(y * w["g2"] + w["b2"]), w["w2"])
                x = jnp.concatenate([x, y], -1)
            x = conv(x, block["t"])
        return x

    return fn, (
        jax.tree.map(lambda s: S(*s.shape, dtype=BF16), _dense_args(2, 6, 32, 64)),
        S(16, 56, 56, 64, dtype=BF16),
    )


@program
def transposed_convolution_decoder():
    def fn(ws, x):
        for w in ws:
            x = jax.nn.relu(lax.conv_transpose(x, w, (2, 2), "SAME"))
        return jnp.tanh(x)

    return fn, ([S(4, 4, 256, 128), S(4, 4, 128, 64), S(4, 4, 64, 32), S(4, 4, 32, 3)], S(16, 16, 16, 256))


@program
def transposed_convolution_grad():
    def loss(ws, x, y):
        for w in ws:
            x = jax.nn.leaky_relu(lax.conv_transpose(x, w, (2, 2), "SAME"))
        return jnp.abs(x - y).mean()

    return jax.value_and_grad(loss), (
        [S(3, 3, 128, 96), S(3, 3, 96, 48), S(3, 3, 48, 3)],
        S(8, 16, 16, 128),
        S(8, 128, 128, 3),
    )


@program
def autoencoder_strided_nchw():
    def fn(ws, vs, x):
        for w in ws:
            x = jax.nn.relu(lax.conv_general_dilated(x, w, (2, 2), "SAME"))
        for w in vs:
            x = jax.nn.relu(lax.conv_general_dilated(x, w, (1, 1), ((2, 1), (2, 1)), lhs_dilation=(2, 2)))
        return x

    return fn, ([S(64, 3, 3, 3), S(128, 64, 3, 3)], [S(64, 128, 3, 3), S(3, 64, 3, 3)], S(8, 3, 128, 128))


@program
def depthwise_convnext_block_grad():
    def loss(ps, x):
        for p in ps:
            y = conv(x, p["dw"], feature_group_count=x.shape[-1])
            mean = y.mean(-1, keepdims=True)
            y = (y - mean) * lax.rsqrt(y.var(-1, keepdims=True) + 1e-6) * p["g"]
            x = x + jax.nn.gelu(y @ p["up"]) @ p["down"]
        return x.mean()

    layer = {"dw": (7, 7, 1, 96), "g": (96,), "up": (96, 384), "down": (384, 96)}
    return jax.grad(loss), (like([layer] * 3), S(8, 56, 56, 96))


@program
def squeeze_excite_fp16_forward():
    def fn(ps, x):
        for p in ps:
            y = jax.nn.silu(conv(x, p["w"]))
            s = jax.nn.sigmoid(jax.nn.relu(y.mean((1, 2)) @ p["a"]) @ p["b"])
            x = x + y * s[:, None, None]
        return x.mean((1, 2))

    return fn, (like([{"w": (3, 3, 128, 128), "a": (128, 16), "b": (16, 128)}] * 4, F16), S(16, 56, 56, 128, dtype=F16))


@program
def video_3d_convolution_forward():
    def fn(ws, x):
        for w in ws:
            x = jax.nn.relu(conv(x, w))
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2, 1), (1, 1, 2, 2, 1), "VALID")
        return x

    return fn, ([S(3, 3, 3, 3, 32), S(3, 3, 3, 32, 64), S(3, 3, 3, 64, 64)], S(2, 16, 112, 112, 3))


@program
def feature_pyramid_resize_concat():
    def fn(ws, c2, c3, c4):
        up = lambda x, like: jax.image.resize(x, (*like.shape[:3], x.shape[-1]), "bilinear")
        p4 = c4 @ ws[2]
        p3 = c3 @ ws[1] + up(p4, c3)
        p2 = c2 @ ws[0] + up(p3, c2)
        return jnp.concatenate([p2, up(p3, p2), up(p4, p2)], -1) @ ws[3]

    ws = [S(64, 96), S(128, 96), S(256, 96), S(288, 64)]
    return fn, (ws, S(4, 112, 112, 64), S(4, 56, 56, 128), S(4, 28, 28, 256))


@program
def detection_anchor_matching():
    def fn(boxes, truth, scores):
        tl = jnp.maximum(boxes[:, :, None, :2], truth[:, None, :, :2])
        br = jnp.minimum(boxes[:, :, None, 2:], truth[:, None, :, 2:])
        inter = jnp.prod(jnp.clip(br - tl, 0), -1)
        area = lambda b: jnp.prod(b[..., 2:] - b[..., :2], -1)
        iou = inter / (area(boxes)[:, :, None] + area(truth)[:, None] - inter)
        match = iou.argmax(-1)
        assigned = jnp.take_along_axis(truth, match[..., None], 1)
        best, index = lax.top_k(scores * iou.max(-1), 1000)
        return jnp.take_along_axis(assigned, index[..., None], 1), best

    return fn, (S(8, 20000, 4), S(8, 40, 4), S(8, 20000))


@program
def optical_flow_correlation_warp():
    def fn(a, b, flow):
        corr = jnp.einsum("bhwc,bkwc->bhwk", a, b)
        h, w = jnp.meshgrid(jnp.arange(a.shape[1]), jnp.arange(a.shape[2]), indexing="ij")
        y, x = h + flow[..., 0], w + flow[..., 1]

        def sample(image, y, x):
            return jax.scipy.ndimage.map_coordinates(image, [y, x], order=1, mode="nearest")

        warped = jax.vmap(lambda im, y, x: jax.vmap(lambda c: sample(c, y, x), -1, -1)(im))(b, y, x)
        return jnp.concatenate([corr, warped - a], -1)

    return fn, (S(4, 96, 96, 64), S(4, 96, 96, 64), S(4, 96, 96, 2))


@program
def audio_conv1d_wave_unet_grad():
    def loss(ps, x):
        skips, y = [], x
        for p in ps[:4]:
            y = jax.nn.leaky_relu(conv(y, p["d"], stride=2))
            skips.append(y)
        skips.pop()
        for p in reversed(ps[1:4]):
            y = jnp.repeat(y, 2, axis=1)
            y = jnp.concatenate([y, skips.pop()], -1)
            y = jax.nn.leaky_relu(conv(y, p["u"]))
        return jnp.square(y).mean()

    ch = [1, 32, 64, 96, 128]
    ps = [{"d": (15, ch[i], ch[i + 1]), "u": (5, ch[i + 1] + ch[i], ch[i])} for i in range(4)]
    return jax.grad(loss), (like(ps), S(8, 16384, 1))


@program
def style_gram_matrices_grad():
    def loss(x, ws, targets):
        total = 0.0
        for w, target in zip(ws, targets, strict=True):
            x = jax.nn.relu(conv(x, w))
            gram = jnp.einsum("bhwc,bhwd->bcd", x, x) / x.shape[1] ** 2
            total += jnp.square(gram - target).sum()
            x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return total

    ws = [S(3, 3, 3, 64), S(3, 3, 64, 128), S(3, 3, 128, 128)]
    return jax.grad(loss), (S(2, 224, 224, 3), ws, [S(2, 64, 64), S(2, 128, 128), S(2, 128, 128)])


@program
def patch_masked_autoencoder():
    def fn(p, images, noise):
        b = images.shape[0]
        x = images.reshape(b, 14, 16, 14, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, 196, 768)
        keep = jnp.argsort(noise, axis=1)[:, :49]
        y = jnp.take_along_axis(x @ p["embed"], keep[..., None], 1)
        for w in p["blocks"]:
            y = y + jax.nn.gelu(y @ w["up"]) @ w["down"]
        full = jnp.zeros((b, 196, y.shape[-1])).at[jnp.arange(b)[:, None], keep].set(y)
        return jnp.square(full @ p["out"] - x).mean(-1)

    p = {"embed": (768, 512), "blocks": [{"up": (512, 2048), "down": (2048, 512)}] * 3, "out": (512, 768)}
    return fn, (like(p), S(64, 224, 224, 3), S(64, 196))
