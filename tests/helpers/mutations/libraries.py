"""Programs to mutate: functions of libraries that the corpus does not have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct

import costax
from corpus import abstract
from mutations.sources import linen, source


@source("flax/group_norm", needs="flax")
def _group_norm():
    from flax import linen as nn

    return linen(nn.Sequential([nn.GroupNorm(2), nn.swish, nn.Conv(6, (3, 3), strides=2)]), "f32[2,6,6,4]")


@source("flax/conv_transpose", needs="flax")
def _conv_transpose():
    from flax import linen as nn

    return linen(nn.Sequential([nn.ConvTranspose(3, (3, 3), strides=(2, 2)), nn.softplus]), "f32[2,4,4,5]")


@source("flax/gru", needs="flax")
def _gru():
    from flax import linen as nn

    return linen(nn.RNN(nn.GRUCell(6), reverse=True), "f32[2,5,4]")


@source("flax/bidirectional", needs="flax")
def _bidirectional():
    from flax import linen as nn

    return linen(nn.Bidirectional(nn.RNN(nn.SimpleCell(4)), nn.RNN(nn.SimpleCell(4))), "f32[2,4,3]")


@source("flax/embed_attend", needs="flax")
def _embed_attend():
    from flax import linen as nn

    class Tied(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            table = nn.Embed(16, 8)
            return table.attend(nn.RMSNorm()(table(tokens)))

    return linen(Tied(), "i32[2,5]")


@source("haiku/gru", needs="haiku")
def _haiku_gru():
    return _haiku(lambda hk, x: hk.dynamic_unroll(hk.GRU(6), x, hk.GRU(6).initial_state(2))[0], "f32[5,2,4]")


@source("haiku/attention", needs="haiku")
def _haiku_attention():
    def network(hk: Any, x: Any) -> Any:
        return hk.MultiHeadAttention(2, 4, model_size=8, w_init=hk.initializers.VarianceScaling(1.0))(x, x, x)

    return _haiku(network, "f32[2,5,8]")


@source("haiku/pooled_convnet", needs="haiku")
def _haiku_pooled():
    def network(hk: Any, x: Any) -> Any:
        x = hk.max_pool(jax.nn.relu(hk.Conv2D(6, 3)(x)), (2, 2, 1), (2, 2, 1), "SAME")
        return hk.Linear(3)(hk.Flatten()(hk.DepthwiseConv2D(2, 3)(x)))

    return _haiku(network, "f32[2,8,8,3]")


def _haiku(network: Callable[[Any, Any], Any], spec: str) -> Any:
    hk = import_module("haiku")
    transformed = hk.without_apply_rng(hk.transform(lambda x: network(hk, x)))
    return transformed.apply, (jax.eval_shape(transformed.init, costax.spec("u32[2]"), costax.spec(spec)), spec)


@source("equinox/gru_cell", needs="equinox")
def _equinox_gru():
    return _equinox(lambda nn, key: nn.GRUCell(4, 6, key=key), "f32[4]", "f32[6]")


@source("equinox/attention", needs="equinox")
def _equinox_attention():
    return _equinox(lambda nn, key: nn.MultiheadAttention(2, 8, key=key), "f32[5,8]", "f32[5,8]", "f32[5,8]")


@source("equinox/convnet", needs="equinox")
def _equinox_convnet():
    def make(nn: Any, key: Any) -> Any:
        layers = [nn.Conv2d(3, 4, 3, key=key), nn.Lambda(jax.nn.gelu), nn.AvgPool2d(2, 2), nn.GroupNorm(2, 4)]
        return nn.Sequential(layers)

    return _equinox(make, "f32[3,9,9]")


def _equinox(make: Callable[[Any, Any], Any], *specs: str) -> Any:
    eqx = import_module("equinox")
    model = eqx.filter_eval_shape(lambda: make(eqx.nn, jax.random.key(0)))
    arrays, rest = eqx.partition(model, lambda leaf: isinstance(leaf, ShapeDtypeStruct))
    return lambda arrays, *xs: eqx.combine(arrays, rest)(*xs), (arrays, *specs)


@source("optax/adamw", needs="optax")
def _adamw():
    return _optax("adamw")


@source("optax/adafactor", needs="optax")
def _adafactor():
    return _optax("adafactor")


@source("optax/lamb", needs="optax")
def _lamb():
    return _optax("lamb")


@source("optax/noisy_sgd", needs="optax")
def _noisy_sgd():
    return _optax("noisy_sgd")


@source("optax/losses", needs="optax")
def _losses():
    optax = import_module("optax")

    def losses(logits: Any, targets: Any) -> Any:
        return optax.huber_loss(logits, targets), optax.kl_divergence(logits, jax.nn.softmax(targets)).mean()

    return losses, ("f32[4,6]", "f32[4,6]")


@source("optax/ctc_loss", needs="optax")
def _ctc():
    optax = import_module("optax")
    return optax.ctc_loss, ("f32[2,6,5]", "f32[2,6]", "i32[2,3]", "f32[2,3]")


def _optax(name: str) -> Any:
    optax = import_module("optax")
    optimizer = getattr(optax, name)(1e-3)
    params = abstract({"w": "f32[6,4]", "b": "f32[4]"})
    state = jax.eval_shape(optimizer.init, params)

    def update(params: Any, state: Any, slopes: Any) -> Any:
        updates, state = optimizer.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    return update, (params, state, params)


@source("diffrax/tsit5_step", needs="diffrax")
def _diffrax_tsit5():
    return _diffrax("Tsit5")


@source("diffrax/midpoint_step", needs="diffrax")
def _diffrax_midpoint():
    return _diffrax("Midpoint")


@source("diffrax/interpolation", needs="diffrax")
def _diffrax_interpolation():
    diffrax = import_module("diffrax")
    return lambda ts, ys, t: diffrax.LinearInterpolation(ts, ys).evaluate(t), ("f32[6]", "f32[6,3]", "f32[]")


def _diffrax(name: str) -> Any:
    diffrax = import_module("diffrax")
    solver = getattr(diffrax, name)()

    def step(y: Any, w: Any, t: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, w: jnp.tanh(w @ y) - t)
        return solver.step(term, t, t + 0.1, y, w, solver.init(term, t, t + 0.1, y, w), False)[:2]

    return step, ("f32[4]", "f32[4,4]", "f32[]")


@source("numpyro/logistic_regression", needs="numpyro")
def _numpyro_logistic():
    def model(numpyro: Any, dist: Any, x: Any) -> None:
        w = numpyro.sample("w", dist.Cauchy(0, 1).expand([3]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=(x[:, 0] > 0).astype(jnp.int32))

    return _numpyro(model, {"w": "f32[3]"}, "f32[8,3]")


@source("numpyro/hierarchy", needs="numpyro")
def _numpyro_hierarchy():
    def model(numpyro: Any, dist: Any, x: Any) -> None:
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        with numpyro.plate("groups", 4):
            mean = numpyro.sample("mean", dist.StudentT(3.0, 0.0, scale))
        numpyro.sample("x", dist.Gamma(jnp.exp(mean), 1.0).to_event(1), obs=jnp.exp(x))

    return _numpyro(model, {"scale": "f32[]", "mean": "f32[4]"}, "f32[4]")


def _numpyro(model: Callable[..., None], sites: dict[str, str], spec: str) -> Any:
    numpyro = import_module("numpyro")
    whole = functools.partial(model, numpyro, numpyro.distributions)

    def density(sites: Any, x: Any) -> Any:
        return numpyro.infer.util.log_density(whole, (x,), {}, sites)[0]

    return density, (sites, spec)


@source("jraph/attention", needs="jraph")
def _jraph_attention():
    def network(jraph: Any) -> Any:
        def query(nodes: Any) -> Any:
            return jnp.tanh(nodes)

        def logits(sent: Any, received: Any, edges: Any) -> Any:
            return (sent * received).sum(-1, keepdims=True)

        return jraph.GAT(query, logits, lambda nodes: nodes.sum(-1))

    return _jraph(network, edges=None)


@source("jraph/convolution", needs="jraph")
def _jraph_convolution():
    return _jraph(lambda jraph: jraph.GraphConvolution(lambda nodes: nodes * 2, add_self_edges=False), edges=None)


def _jraph(network: Callable[[Any], Any], edges: str | None) -> Any:
    jraph = import_module("jraph")
    graph = jraph.GraphsTuple("f32[6,4]", edges, "i32[9]", "i32[9]", None, "i32[1]", "i32[1]")
    return lambda graph: network(jraph)(graph).nodes, (graph,)
