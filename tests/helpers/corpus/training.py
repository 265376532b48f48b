"""Training steps: models, losses, gradients, optimisers, rematerialisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax, nn
from jax.ad_checkpoint import checkpoint_name

from corpus import EXPANDED, FOLDED, MERGED, abstract, factory, program


def squared_error(model):
    """Return the mean of the squares of a model's answer, a scalar of its parameters."""
    return lambda params, x: jnp.square(model(params, x)).mean()


def gradient(name, model, params, x, **options):
    """Register a model's answer and the gradient of its parameters for a given cotangent."""

    def forward_and_backward(params, x, cotangent):
        answer, pull = jax.vjp(lambda params: model(params, x), params)
        return answer, pull(cotangent)[0]

    def make():
        return forward_and_backward, (params, x, jax.eval_shape(model, *abstract((params, x))))

    make.__name__ = name
    factory(**options)(make)


MLP = {"w1": "f32[16,32]", "b1": "f32[32]", "w2": "f32[32,4]"}


def mlp(params, x):
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"]


def cnn(params, x):
    for w in (params["w1"], params["w2"]):
        x = nn.relu(lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return x.mean((1, 2)) @ params["head"]


def transformer_block(params, x):
    def norm(x):
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    with jax.named_scope("attention"):
        q, k, v = (norm(x) @ params[name] for name in "qkv")
        x = x + nn.softmax(q @ k.T / 4.0) @ v
    with jax.named_scope("feed_forward"):
        return x + nn.gelu(norm(x) @ params["up"]) @ params["down"]


BLOCK = {"q": "f32[16,16]", "k": "f32[16,16]", "v": "f32[16,16]", "up": "f32[16,32]", "down": "f32[32,16]"}
STACK = {name: spec.replace("[", "[3,") for name, spec in BLOCK.items()}


def scanned(block):
    """Return a stack of equal blocks as a scan over their parameters."""
    return lambda params, x: lax.scan(lambda h, layer: (block(layer, h), None), x, params)[0]


def lstm(params, xs):
    def cell(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ params["w"] + h @ params["u"], 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((xs.shape[1], 8))
    return lax.scan(cell, (start, start), xs)[1]


def gru(params, xs):
    def cell(h, x):
        z, r = jnp.split(nn.sigmoid(x @ params["w"] + h @ params["u"]), 2, -1)
        candidate = jnp.tanh(x @ params["wc"] + (r * h) @ params["uc"])
        h = (1 - z) * h + z * candidate
        return h, h

    return lax.scan(cell, jnp.zeros((xs.shape[1], 8)), xs)[1]


def mixture(params, x):
    """Two of four experts a token, all of them computed and weighted."""
    weights, chosen = lax.top_k(nn.softmax(x @ params["gate"]), 2)
    gates = (nn.one_hot(chosen, 4) * weights[..., None]).sum(-2)
    hidden = nn.relu(jnp.einsum("td,edf->tef", x, params["up"]))
    return jnp.einsum("tef,efd,te->td", hidden, params["down"], gates)


def mamba(params, x):
    """A selective state space: diagonal recurrence by an associative scan."""
    delta = nn.softplus(x @ params["delta"])
    decay = jnp.exp(delta[..., None] * -jnp.exp(params["a"]))
    drive = (delta * x)[..., None] * (x @ params["b"])[:, None]

    def join(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    _, states = lax.associative_scan(join, (decay, drive))
    return jnp.einsum("tds,ts->td", states, x @ params["c"])


def denoise(params, x):
    """The loss of a diffusion model at one noise level, with the noise as an argument."""
    image, noise = x[..., :3], x[..., 3:]
    noisy = 0.8 * image + 0.6 * noise
    return cnn_same(params, noisy) - noise


def cnn_same(params, x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    h = nn.silu(lax.conv_general_dilated(x, params["in"], (2, 2), "SAME", dimension_numbers=dimensions))
    h = jax.image.resize(h, (h.shape[0], *x.shape[1:3], h.shape[-1]), "nearest")
    return lax.conv_general_dilated(h, params["out"], (1, 1), "SAME", dimension_numbers=dimensions)


gradient("mlp", mlp, MLP, "f32[8,16]")
CNN = {"w1": "f32[3,3,3,8]", "w2": "f32[3,3,8,8]", "head": "f32[8,10]"}
gradient("cnn", cnn, CNN, "f32[2,8,8,3]")
gradient("transformer", transformer_block, BLOCK, "f32[8,16]")
gradient("transformer_scanned", scanned(transformer_block), STACK, "f32[8,16]")
gradient("lstm", lstm, {"w": "f32[4,32]", "u": "f32[8,32]"}, "f32[5,3,4]", differs=EXPANDED)
gradient(
    "gru", gru, {"w": "f32[4,16]", "u": "f32[8,16]", "wc": "f32[4,8]", "uc": "f32[8,8]"}, "f32[5,3,4]", differs=EXPANDED
)
gradient("moe", mixture, {"gate": "f32[8,4]", "up": "f32[4,8,16]", "down": "f32[4,16,8]"}, "f32[6,8]", differs=MERGED)
gradient(
    "mamba", mamba, {"delta": "f32[6,6]", "a": "f32[6,4]", "b": "f32[6,4]", "c": "f32[6,4]"}, "f32[8,6]", differs=FOLDED
)
gradient("diffusion", denoise, {"in": "f32[3,3,3,8]", "out": "f32[3,3,8,3]"}, "f32[2,8,8,6]", differs=EXPANDED)


# Rematerialisation.


def named_block(params, x):
    scores = checkpoint_name(nn.softmax(x @ params["q"] @ (x @ params["k"]).T), "scores")
    return x + checkpoint_name(jnp.tanh(scores @ (x @ params["v"]) @ params["up"]), "hidden") @ params["down"]


POLICIES = jax.checkpoint_policies
for policy_name, policy in {
    "nothing_saveable": POLICIES.nothing_saveable,
    "everything_saveable": POLICIES.everything_saveable,
    "dots_saveable": POLICIES.dots_saveable,
    "dots_with_no_batch_dims_saveable": POLICIES.dots_with_no_batch_dims_saveable,
    "save_only_these_names": POLICIES.save_only_these_names("scores"),
    "save_anything_except_these_names": POLICIES.save_anything_except_these_names("scores"),
}.items():
    checkpointed = jax.checkpoint(named_block, policy=policy)
    gradient(f"remat_{policy_name}", checkpointed, BLOCK, "f32[8,16]")
gradient("remat_scan", scanned(jax.checkpoint(named_block)), STACK, "f32[8,16]")
gradient("remat_mlp", jax.checkpoint(mlp), MLP, "f32[8,16]")
gradient("remat_nested", jax.checkpoint(scanned(jax.checkpoint(transformer_block))), STACK, "f32[8,16]")


# Optimisers.


def step_with(optimizer):
    """Return a training step of the MLP and its arguments: parameters, the optimiser's state, a batch."""
    import optax

    loss = squared_error(mlp)

    def step(params, state, x):
        value, gradients = jax.value_and_grad(loss)(params, x)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, (MLP, jax.eval_shape(optimizer.init, abstract(MLP)), "f32[8,16]")


def optimiser(name, build, **options):
    """Register a step of `build(optax)`."""

    def make():
        import optax

        return step_with(build(optax))

    make.__name__ = name
    factory(needs="optax", **options)(make)


optimiser("sgd", lambda optax: optax.sgd(0.1), differs=FOLDED)
optimiser("sgd_momentum", lambda optax: optax.sgd(0.1, momentum=0.9, nesterov=True), differs=FOLDED)
optimiser("adam", lambda optax: optax.adam(1e-3), differs=FOLDED)
optimiser("adamw", lambda optax: optax.adamw(1e-3), differs=FOLDED)
optimiser("lion", lambda optax: optax.lion(1e-3), differs=FOLDED)
optimiser("adafactor", lambda optax: optax.adafactor(1e-3, min_dim_size_to_factor=8), differs=FOLDED)
optimiser("rmsprop", lambda optax: optax.rmsprop(1e-3), differs=FOLDED)
optimiser("lamb", lambda optax: optax.lamb(1e-3), differs=FOLDED)
optimiser("clipped", lambda optax: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), differs=MERGED)
optimiser(
    "scheduled", lambda optax: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)), differs=FOLDED
)
optimiser("accumulated", lambda optax: optax.MultiSteps(optax.adam(1e-3), every_k_schedule=4), differs=FOLDED)


@program(MLP, "f32[4,8,16]", differs=FOLDED)
def microbatches(params, batches):
    grad = jax.grad(squared_error(mlp))

    def accumulate(total, batch):
        return jax.tree.map(jnp.add, total, grad(params, batch)), None

    start = jax.tree.map(jnp.zeros_like, params)
    return lax.scan(accumulate, start, batches)[0]


@program(MLP, MLP, "f32[8,16]", differs=FOLDED)
def distillation(student, teacher, x):
    target = lax.stop_gradient(nn.softmax(mlp(teacher, x)))
    return jax.grad(lambda params: -(target * nn.log_softmax(mlp(params, x))).sum())(student)


@program("bf16[16,32]", "bf16[32,4]", "f32[8,16]", differs=FOLDED)
def mixed_precision(w1, w2, x):
    def loss(weights):
        hidden = nn.relu(x.astype(jnp.bfloat16) @ weights[0])
        return jnp.square((hidden @ weights[1]).astype(jnp.float32)).mean()

    return jax.grad(loss)((w1, w2))
