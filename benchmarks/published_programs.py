"""Programs of published runs: one device's share of a training step, a prompt, images. Traced, never run."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

import costax

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "examples")]

DTYPES = {"bf16": jnp.bfloat16, "fp16": jnp.float16, "fp32": jnp.float32, "fp8": jnp.float8_e4m3fn}


def fused(q, k, v, *, causal: bool = True):
    """Attention by cuDNN's primitive, which stands for the fused kernel of any device."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")


_ATTENTION = frozenset(("q", "k", "v", "out", "q_down", "q_norm", "q_up", "kv_down", "kv_norm", "kv_up"))
_FEED_FORWARD = frozenset(("up", "gate", "down", "router", "s_up", "s_gate", "s_down"))


def _axis(shape, shards: int) -> int | None:
    """Return the first axis that `shards` devices can share; None for a small array, which each of them has."""
    if shards == 1 or len(shape) < 2:
        return None
    return next((axis for axis, n in enumerate(shape) if n % shards == 0 and n >= 1024), None)


def _shard(stacked, shards: int):
    """Return the shape of one device's part of the weights of all layers, (layers, ...)."""
    shape = list(stacked.shape)
    axis = _axis(shape[1:], shards)
    if axis is not None:
        shape[axis + 1] //= shards
    return jax.ShapeDtypeStruct(tuple(shape), stacked.dtype)


def _rotated(x):
    """Rotary position embedding, (batch, length, heads, size): in float32, as MaxText and PyTorch compute it."""
    length, size = x.shape[1], x.shape[-1] // 2
    angle = jnp.arange(length)[:, None] * jnp.exp(-jnp.arange(size) / size)
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def _fused_attention(p: dict[str, Any], x, layer):
    """The attention of `language_models` with a fused kernel instead of plain softmax."""
    import language_models as models

    b, s, _ = x.shape
    if layer.kv_rank:
        latents = models.norm(x @ p["q_down"], p["q_norm"]) if layer.q_rank else x
        q = jnp.einsum("bsr,rnd->bsnd", latents, p["q_up"] if layer.q_rank else p["q"])
        down = x @ p["kv_down"]
        both = jnp.einsum("bsr,rnd->bsnd", models.norm(down[..., : layer.kv_rank], p["kv_norm"]), p["kv_up"])
        rope = jnp.broadcast_to(down[:, :, None, layer.kv_rank :], (b, s, layer.heads, layer.rope))
        k, v = jnp.concatenate([both[..., : layer.head], rope], -1), both[..., layer.head :]
        # The primitive wants one size of heads: keys and values of 192 stand for 192 and 128.
        v = jnp.pad(v, ((0, 0), (0, 0), (0, 0), (0, k.shape[-1] - v.shape[-1])))
        mixed = fused(q, k, v)[..., : both.shape[-1] - layer.head]
        return jnp.einsum("bsnd,ndw->bsw", mixed, p["out"])
    q = checkpoint_name(jnp.einsum("bsw,wnd->bsnd", x, p["q"]), "query_proj")
    k = checkpoint_name(jnp.einsum("bsw,wkd->bskd", x, p["k"]), "key_proj")
    v = k if layer.shared_kv else checkpoint_name(jnp.einsum("bsw,wkd->bskd", x, p["v"]), "value_proj")
    q, k = _rotated(q), _rotated(k)
    size = min(q.shape[-1], 256)
    # Heads of 512 are two of 256 for the primitive.
    q, k, v = (a.reshape(*a.shape[:2], -1, size) for a in (q, k, v))
    window = layer.window and s > layer.window
    if window:
        # A window of w: blocks of w queries meet the 2 w keys before them.
        w = layer.window
        q, k, v = (a.reshape(-1, w, *a.shape[2:]) for a in (q, k, v))
        k, v = (jnp.concatenate([jnp.roll(a, 1, 0), a], 1) for a in (k, v))
        return jnp.einsum("bsnd,ndw->bsw", fused(q, k, v, causal=False).reshape(b, s, layer.heads, -1), p["out"])
    return jnp.einsum("bsnd,ndw->bsw", fused(q, k, v).reshape(b, s, layer.heads, -1), p["out"])


def _dropped(p, rows, weights, chosen, layer, *, length: int, capacity: float):
    """Experts with a fixed number of rows for each sequence, as MaxText has them without `sparse_matmul`."""
    places = int(length * layer.chosen * capacity / layer.experts)
    rows = rows.reshape(-1, length, rows.shape[-1])
    chosen, weights = (a.reshape(-1, length, layer.chosen) for a in (chosen, weights))
    one_hot = jax.nn.one_hot(chosen, layer.experts, dtype=rows.dtype)
    position = jnp.cumsum(one_hot.sum(2), 1).astype(jnp.int32)
    dispatch = one_hot.sum(2)[..., None] * jax.nn.one_hot(position, places, dtype=rows.dtype)
    given = jnp.einsum("gsec,gsw->gecw", dispatch, rows)
    up, gate = (jnp.einsum("gecw,ewf->gecf", given, p[name]) for name in ("up", "gate"))
    out = jnp.einsum("gecf,efw->gecw", jax.nn.silu(gate) * up, p["down"])
    combine = dispatch * (one_hot * weights[..., None]).sum(2)[..., None]
    return jnp.einsum("gsec,gecw->gsw", combine, out).reshape(-1, rows.shape[-1])


def _adam(weight, gradient, state):
    """AdamW in float32, of one array. state: the weight in float32 and the two moments."""
    exact, mean, square = state
    gradient = gradient.astype(jnp.float32)
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient * gradient
    exact = exact - 3e-4 * (mean * jax.lax.rsqrt(square + 1e-16) + 0.1 * exact)
    return exact.astype(weight.dtype), (exact, mean, square)


class _OneHot:
    """Weights of an embedding; a product with a one-hot matrix picks its rows (`use_iota_embed` of MaxText)."""

    def __init__(self, weights) -> None:
        self.weights = weights

    def __getitem__(self, tokens):
        return jax.nn.one_hot(tokens, self.weights.shape[0], dtype=self.weights.dtype) @ self.weights


@cache
def training(
    model: str,
    length: int,
    batch: int,
    recompute: str = "",
    shards: int = 1,
    replicas: int = 1,
    saved: str = "",
    capacity: float = 0.0,
    one_hot: bool = False,
) -> costax.Analysis:
    """A training step of a language model on one device. AdamW updates the weights of the layers that it has.

    recompute: "full", "mlp" for the feed-forward part alone, or "" for nothing. saved: what is kept of it, as MaxText
    names it. shards: devices that share the weights (FSDP): each layer gathers them, and scatters their gradients.
    replicas: how many such groups sum their gradients. capacity: of the experts, over an even share of the tokens;
    each gets as many rows, by products with one-hot matrices. 0: experts get the tokens that chose them. one_hot: the
    embedding is such a product too. The logits are float32, as MaxText has them by default (`cast_logits_to_fp32`).
    """
    import language_models
    import published_models

    attention, feed_forward = language_models.attention, language_models.feed_forward

    def gathered(layer_of):
        def apply(p, x, layer):
            axes = {name: _axis(shape, shards) for name, shape in language_models.shapes(layer).items()}
            whole = {
                name: w if axes[name] is None else jax.lax.all_gather(w, "shards", axis=axes[name], tiled=True)
                for name, w in p.items()
                if name in layer_of
            }
            return (_fused_attention if layer_of is _ATTENTION else feed_forward)(whole, x, layer)

        return apply

    language_models.attention = gathered(_ATTENTION)
    language_models.feed_forward = gathered(_FEED_FORWARD)
    policy = jax.checkpoint_policies.save_only_these_names(*saved.split())
    if recompute == "full":
        language_models.attention = jax.checkpoint(language_models.attention, policy=policy, static_argnums=2)
    if recompute:
        language_models.feed_forward = jax.checkpoint(language_models.feed_forward, static_argnums=2)
    language_models.DISPATCH["dropped"] = partial(_dropped, length=length, capacity=capacity)
    try:
        sizes = published_models.MODELS[model]
        if capacity:
            layers = [(n, tuple(replace(x, dispatch="dropped") for x in group)) for n, group in sizes.groups]
            sizes = replace(sizes, groups=tuple(layers))
        params = language_models.parameters(sizes)
        groups = [[{n: _shard(w, shards) for n, w in p.items()} for p in group] for group in params["groups"]]
        params = {**params, "groups": groups}

        def loss(params, tokens):
            embed = _OneHot(params["embed"]) if one_hot else params["embed"]
            logits = language_models.forward({**params, "embed": embed}, tokens, sizes).astype(jnp.float32)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1).mean()

        gradient = jax.value_and_grad(loss)

        exact = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), groups)

        def step(params, state, tokens):
            value, found = gradient(params, tokens)
            found = jax.lax.psum(found, "replicas") if replicas > 1 else found
            leaves, tree = jax.tree.flatten(params["groups"])
            parts = zip(leaves, jax.tree.leaves(found["groups"]), *map(jax.tree.leaves, state), strict=True)
            updated = [_adam(weight, ours, rest) for weight, ours, *rest in parts]
            others = {name: x for name, x in found.items() if name != "groups"}
            return value, others, jax.tree.unflatten(tree, updated)

        if shards > 1:
            mesh = AbstractMesh((replicas, shards), ("replicas", "shards"))
            step = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P()), out_specs=P(), check_vma=False)
        return costax.analyze(step)(params, [exact] * 3, costax.spec(f"i32[{batch},{length}]"))
    finally:
        language_models.attention, language_models.feed_forward = attention, feed_forward


def _linear(x, w, dtype: str):
    if dtype != "fp8":
        return x @ w
    return jax.lax.dot_general(
        x.astype(w.dtype), w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.float16
    )


@cache
def decoder(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    vocab: int,
    batch: int,
    length: int,
    gated: bool = True,
    tensor: int = 1,
    dtype: str = "fp16",
    causal: bool = True,
) -> costax.Analysis:
    """One device's share of a prompt, with `tensor` devices that split every layer."""
    size, stored, act = width // heads, DTYPES[dtype], jnp.float16 if dtype == "fp8" else DTYPES[dtype]
    ours, kv, inner = heads // tensor, max(1, kv_heads // tensor), hidden // tensor

    def array(*shape, kind=stored):
        return jax.ShapeDtypeStruct(shape, kind)

    params = {
        "embed": array(vocab, width, kind=act),
        "head": array(width, vocab // tensor, kind=act),
        "layers": {
            "qkv": array(layers, width, (ours + 2 * kv) * size),
            "out": array(layers, ours * size, width),
            "up": array(layers, width, inner * (2 if gated else 1)),
            "down": array(layers, inner, width),
            "norm": array(layers, 2, width, kind=act),
        },
    }

    def norm(x, scale):
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale

    def total(x):
        return jax.lax.psum(x, "tensor") if tensor > 1 else x

    def block(x, p):
        b, s, _ = x.shape
        q, k, v = jnp.split(_linear(norm(x, p["norm"][0]), p["qkv"], dtype), [ours * size, (ours + kv) * size], -1)
        q, k, v = (a.reshape(b, s, -1, size) for a in (q, k, v))
        if dtype == "fp32":
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="xla")
        else:
            mixed = fused(q, k, v, causal=causal)
        x = x + total(_linear(mixed.reshape(b, s, -1), p["out"], dtype))
        up = _linear(norm(x, p["norm"][1]), p["up"], dtype)
        up = jax.nn.silu(up[..., :inner]) * up[..., inner:] if gated else jax.nn.gelu(up)
        return x + total(_linear(up, p["down"], dtype)), None

    def forward(params, tokens):
        x, _ = jax.lax.scan(block, params["embed"][tokens], params["layers"])
        # A prompt needs the logits of its last token alone.
        return x[:, -1] @ params["head"]

    fn = forward
    if tensor > 1:
        mesh = AbstractMesh((tensor,), ("tensor",))
        fn = jax.shard_map(fn, mesh=mesh, in_specs=(P(), P()), out_specs=P(), check_vma=False)
    # PyTorch multiplies float32 without TF32 by default.
    with jax.default_matmul_precision("highest" if dtype == "fp32" else "default"):
        return costax.analyze(fn)(params, costax.spec(f"i32[{batch},{length}]"))


@cache
def megatron(
    *, layers: int, width: int, heads: int, hidden: int, vocab: int, batch: int, length: int, tensor: int
) -> costax.Analysis:
    """A training step of Megatron-LM on one of `tensor` devices, as Korthikanti et al. (2022) describe it.

    Between the products each device has its part of the tokens (sequence parallelism). The core of the attention, which
    no kernel fuses, is computed again in the backward pass ("selective recomputation"). Dropout reads its masks here,
    which stands for drawing them. AdamW updates the weights of the layers.
    """
    size, ours, inner = width // heads, heads // tensor, hidden // tensor
    half = jnp.float16

    def array(*shape, dtype=half):
        return jax.ShapeDtypeStruct(shape, dtype)

    weights = {
        "qkv": array(layers, width, 3 * ours * size),
        "out": array(layers, ours * size, width),
        "up": array(layers, width, inner),
        "down": array(layers, inner, width),
    }
    norms = {"scale": array(layers, 2, width), "bias": array(layers, 2, width)}
    ends = {"embed": array(vocab, width), "head": array(width, vocab // tensor)}
    masks = {
        "core": array(layers, batch, ours, length, length, dtype=jnp.bool_),
        "hidden": array(layers, 2, length // tensor, batch, width, dtype=jnp.bool_),
    }

    def norm(x, scale, bias):
        wide = x.astype(jnp.float32)
        mean = wide.mean(-1, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(((wide - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        return (y * scale + bias).astype(half)

    def dropout(x, mask):
        return jnp.where(mask, x / 0.9, 0).astype(x.dtype)

    @jax.checkpoint
    def core(q, k, v, mask):
        scores = jnp.einsum("qbnd,kbnd->bnqk", q, k).astype(jnp.float32) / size**0.5
        i, j = jnp.arange(length)[:, None], jnp.arange(length)[None, :]
        share = jax.nn.softmax(jnp.where(i >= j, scores, -1e4)).astype(half)
        return jnp.einsum("bnqk,kbnd->qbnd", dropout(share, mask), v)

    def gathered(x):
        return jax.lax.all_gather(x, "tensor", axis=0, tiled=True)

    def scattered(x):
        return jax.lax.psum_scatter(x, "tensor", scatter_dimension=0, tiled=True)

    def block(x, layer):
        p, n, mask = layer
        y = gathered(norm(x, n["scale"][0], n["bias"][0]))
        q, k, v = jnp.split((y @ p["qkv"]).reshape(length, batch, 3 * ours, size), 3, axis=2)
        mixed = core(q, k, v, mask["core"]).reshape(length, batch, ours * size)
        x = x + dropout(scattered(mixed @ p["out"]), mask["hidden"][0])
        y = gathered(norm(x, n["scale"][1], n["bias"][1]))
        x = x + dropout(scattered(jax.nn.gelu(y @ p["up"]) @ p["down"]), mask["hidden"][1])
        return x, None

    def loss(weights, norms, ends, masks, tokens):
        x, _ = jax.lax.scan(block, ends["embed"][tokens], (weights, norms, masks))
        logits = (gathered(x) @ ends["head"]).astype(jnp.float32)
        total = jax.lax.psum(jnp.exp(logits).sum(-1), "tensor")
        return (jnp.log(total) - logits[..., 0]).mean()

    def step(weights, state, norms, ends, masks, tokens):
        value, found = jax.value_and_grad(loss, argnums=(0, 1, 2))(weights, norms, ends, masks, tokens)
        updated = {name: _adam(w, found[0][name], [part[name] for part in state]) for name, w in weights.items()}
        return value, found[1:], updated

    exact = {name: array(*w.shape, dtype=jnp.float32) for name, w in weights.items()}
    mesh = AbstractMesh((tensor,), ("tensor",))
    step = jax.shard_map(step, mesh=mesh, in_specs=(P(),) * 6, out_specs=P(), check_vma=False)
    tokens = array(length // tensor, batch, dtype=jnp.int32)
    return costax.analyze(step)(weights, [exact] * 3, norms, ends, masks, tokens)


def _module(model, batch: int, image: int, dtype: str, *, train: bool = False) -> costax.Analysis:
    """A flax model on images. TF32 and "mixed precision" of the publishers are fp32 and fp16 here."""
    act = DTYPES[dtype]
    images = jax.ShapeDtypeStruct((batch, image, image, 3), act)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, image, image, 3), jnp.float32))
    variables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, act), variables)
    if not train:
        return costax.analyze(model.apply)(variables, images)

    def loss(params, stats, images):
        out, _ = model.apply({"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"])
        return jax.nn.log_softmax(out.astype(jnp.float32))[:, 0].mean()

    return costax.analyze(jax.value_and_grad(loss))(variables["params"], variables["batch_stats"], images)


@cache
def images(
    model: str, batch: int, image: int = 224, dtype: str = "fp16", train: bool = False, exact: bool = False
) -> costax.Analysis:
    """A convolutional network on images. exact: float32 without TF32."""
    import mobilenet
    import resnet

    models = {
        "resnet18": lambda: resnet.ResNet18(),
        "resnet34": lambda: resnet.ResNet(resnet.BasicBlock, (3, 4, 6, 3)),
        "resnet50": lambda: resnet.ResNet50(),
        "resnet101": lambda: resnet.ResNet(resnet.Bottleneck, (3, 4, 23, 3)),
        "mobilenet_v2": lambda: mobilenet.MobileNetV2(),
    }
    with jax.default_matmul_precision("highest" if exact else "default"):
        return _module(models[model](), batch, image, dtype, train=train)


@cache
def vision_transformer(batch: int, patch: int, width: int, depth: int, heads: int) -> costax.Analysis:
    """A vision transformer on images of 224 x 224 in fp16; the residual stream is fp32, as under autocast."""
    tokens = (224 // patch) ** 2 + 1

    def array(*shape, dtype=jnp.float16):
        return jax.ShapeDtypeStruct(shape, dtype)

    params = {
        "patch": array(patch * patch * 3, width),
        # PyTorch's attention reads views of one result; three products stand for it, of which nothing is copied.
        "qkv": [array(depth, width, width)] * 3,
        "out": array(depth, width, width),
        "up": array(depth, width, 4 * width),
        "down": array(depth, 4 * width, width),
        "biases": [array(depth, n * width) for n in (1, 1, 1, 1, 4, 1)],
        "position": array(tokens, width, dtype=jnp.float32),
        "head": array(width, 1000),
    }

    def normal(x):
        x = x.astype(jnp.float32)
        mean = x.mean(-1, keepdims=True)
        return ((x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6)).astype(jnp.float16)

    def block(x, p):
        *biases, out, up, down = p["biases"]
        b, s, _ = x.shape
        y = normal(x)
        q, k, v = ((y @ w + bias).reshape(b, s, heads, -1) for w, bias in zip(p["qkv"], biases, strict=True))
        x = x + (fused(q, k, v, causal=False).reshape(b, s, width) @ p["out"] + out)
        hidden = jax.nn.gelu(normal(x) @ p["up"] + up, approximate=False)
        return x + (hidden @ p["down"] + down), None

    def forward(params, patches):
        x = patches @ params["patch"]
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 0))) + params["position"]
        x, _ = jax.lax.scan(block, x, {name: params[name] for name in ("qkv", "out", "up", "down", "biases")})
        return normal(x)[:, 0] @ params["head"]

    return costax.analyze(forward)(params, array(batch, tokens - 1, patch * patch * 3))


PROGRAMS = {
    "training": training,
    "decoder": decoder,
    "megatron": megatron,
    "images": images,
    "vision transformer": vision_transformer,
}
