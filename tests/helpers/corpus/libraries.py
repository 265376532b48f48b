"""Models written in libraries of the JAX ecosystem; those that are not installed are left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from corpus import EXPANDED, FOLDED, LIBRARY, LOWERED, factory

IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
TOKENS = jax.ShapeDtypeStruct((2, 8, 16), jnp.float32)
KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)


# flax.linen: a module's `apply` on the shapes of its variables.


def linen(module, x, **options):
    variables = jax.eval_shape(lambda key, x: module.init(key, x, **options), KEY, x)
    return lambda variables, x: module.apply(variables, x, **options), (variables, x)


@factory(needs="flax")
def linen_cnn():
    from flax import linen as nn

    return linen(nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(10)]), IMAGES)


@factory(needs="flax", differs=FOLDED)
def linen_transformer():
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
            return x + nn.Dense(16)(nn.gelu(nn.Dense(32)(nn.LayerNorm()(x))))

    return linen(Block(), TOKENS)


@factory(needs="flax")
def linen_batch_norm():
    from flax import linen as nn

    return linen(nn.BatchNorm(use_running_average=True), IMAGES)


@factory(needs="flax", differs=EXPANDED)
def linen_recurrent():
    from flax import linen as nn

    return linen(nn.RNN(nn.OptimizedLSTMCell(8)), TOKENS)


@factory(needs="flax")
def linen_scanned_remat_gradient():
    from flax import linen as nn

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.tanh(nn.Dense(16)(x)), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = nn.scan(nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return layers()(x, None)[0]

    fn, args = linen(Stack(), TOKENS)
    return jax.grad(lambda variables, x: fn(variables, x).sum()), args


# flax.nnx, equinox, haiku.


@factory(needs="flax")
def nnx_mlp():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
            self.norm = nnx.LayerNorm(16, rngs=rngs)

        def __call__(self, x):
            return x + self.down(nnx.relu(self.up(self.norm(x))))

    graph, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
    return lambda state, x: nnx.merge(graph, state)(x), (state, TOKENS)


@factory(needs="equinox", differs=FOLDED)
def equinox_mlp_gradient():
    import equinox as eqx

    model = eqx.filter_eval_shape(lambda: eqx.nn.MLP(16, 4, 32, 2, key=jax.random.key(0)))
    arrays, rest = eqx.partition(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

    def loss(arrays, x):
        return jnp.square(jax.vmap(eqx.combine(arrays, rest))(x)).mean()

    return jax.grad(loss), (arrays, "f32[8,16]")


@factory(needs="equinox", differs=LOWERED)
def equinox_loop_gradient():
    import equinox.internal as eqxi

    def end(x, a):
        def step(x):
            return jnp.tanh(a @ x)

        return eqxi.while_loop(lambda x: x[0] < 0.5, step, x, max_steps=16, kind="checkpointed").sum()

    return jax.grad(end), ("f32[4]", "f32[4,4]")


@factory(needs="equinox")
def equinox_error():
    import equinox as eqx

    return lambda x: eqx.error_if(x, jnp.any(x < 0), "negative") * 2, ("f32[4]",)


@factory(needs="haiku")
def haiku_convnet():
    import haiku as hk

    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 10])(hk.Conv2D(8, 3, 2)(x).mean((1, 2)))))
    return net.apply, (jax.eval_shape(net.init, KEY, IMAGES), IMAGES)


@factory(needs="haiku", differs=EXPANDED)
def haiku_lstm():
    import haiku as hk

    def unroll(xs):
        core = hk.LSTM(8)
        return hk.dynamic_unroll(core, xs, core.initial_state(8))[0]

    net = hk.without_apply_rng(hk.transform(unroll))
    return net.apply, (jax.eval_shape(net.init, KEY, TOKENS), TOKENS)


# Differential equations, solvers, statistics.


@factory(needs="diffrax", differs=EXPANDED)
def diffrax_ode():
    import diffrax

    def solve(y, a):
        term = diffrax.ODETerm(lambda t, y, a: a @ y)
        steps = diffrax.PIDController(1e-3, 1e-6)
        return diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 1.0, 0.1, y, a, stepsize_controller=steps).ys

    return solve, ("f32[4]", "f32[4,4]")


@factory(needs="diffrax", differs=EXPANDED)
def diffrax_adjoint():
    import diffrax

    def end(y, a):
        term = diffrax.ODETerm(lambda t, y, a: jnp.tanh(a @ y))
        return diffrax.diffeqsolve(term, diffrax.Heun(), 0.0, 1.0, 0.1, y, a, max_steps=16).ys.sum()

    return jax.grad(end), ("f32[4]", "f32[4,4]")


@factory(needs="lineax")
def lineax_conjugate_gradient():
    import lineax

    def solve(a, b):
        operator = lineax.MatrixLinearOperator(a @ a.T, lineax.positive_semidefinite_tag)
        return lineax.linear_solve(operator, b, lineax.CG(1e-5, 1e-5)).value

    return solve, ("f32[6,6]", "f32[6]")


@factory(needs="optimistix", differs=LIBRARY)
def optimistix_newton():
    import optimistix

    def root(y):
        return optimistix.root_find(lambda y, _: jnp.tanh(y) - 0.5, optimistix.Newton(1e-5, 1e-5), y).value

    return root, ("f32[4]",)


@factory(needs="jraph")
def jraph_message_passing():
    import jraph

    graph = jraph.GraphsTuple("f32[6,4]", "f32[9,3]", "i32[9]", "i32[9]", "f32[1,2]", "i32[1]", "i32[1]")

    def update(edges, sent, received, globals_):
        return jnp.tanh(jnp.concatenate([edges, sent, received], -1))

    return jraph.GraphNetwork(update, lambda nodes, sent, received, globals_: nodes * 2), (graph,)


@factory(needs="numpyro", differs=FOLDED)
def numpyro_density():
    import numpyro
    from numpyro import distributions as dist

    def model(x, y):
        w = numpyro.sample("w", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    def gradient(w, x, y):
        return jax.grad(lambda w: numpyro.infer.util.log_density(model, (x, y), {}, {"w": w})[0])(w)

    return gradient, ("f32[3]", "f32[8,3]", "f32[8]")
