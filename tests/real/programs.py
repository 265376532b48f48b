"""Programs of libraries that costax was not written with, at small sizes.

Each maker returns a function and its arguments. `@program` registers it, with the modules that it imports and the
number of devices that it runs on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)

Made = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class RealProgram:
    """A maker of a function and its arguments. needs: modules that it imports. devices: how many it runs on."""

    name: str
    make: Callable[[], Made]
    needs: tuple[str, ...] = ()
    devices: int = 1

    @property
    def missing(self) -> str:
        """Why the program cannot run here; "" if it can."""
        for module in self.needs:
            if not _installed(module):
                return f"{module} is not installed"
        if jax.device_count() < self.devices:
            return f"needs {self.devices} devices: XLA_FLAGS=--xla_force_host_platform_device_count={self.devices}"
        return ""

    def __str__(self) -> str:
        """Return the name."""
        return self.name


PROGRAMS: list[RealProgram] = []


def program(*needs: str, devices: int = 1) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Register a maker. needs: modules that it imports."""

    def register(make: Callable[[], Made]) -> Callable[[], Made]:
        PROGRAMS.append(RealProgram(make.__name__, make, needs, devices))
        return make

    return register


def _installed(module: str) -> bool:
    """Say whether a module can be found, without an error where its package is missing too."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def spec(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Return an abstract array."""
    return jax.ShapeDtypeStruct(shape, dtype)


# Physics and reinforcement learning.


def brax_step(name: str, backend: str) -> Made:
    """One step of a brax environment, from abstract state and action."""
    from brax import envs

    env = envs.get_environment(name, backend=backend)
    state = jax.eval_shape(env.reset, KEY)
    return env.step, (state, spec(env.action_size))


@program("brax")
def brax_inverted_pendulum_step() -> Made:
    return brax_step("inverted_pendulum", "generalized")


@program("brax")
def brax_hopper_spring_step() -> Made:
    return brax_step("hopper", "spring")


@program("brax", "optax")
def brax_ppo_update() -> Made:
    """A gradient step of brax's PPO loss on a batch of 8 unrolls of 5 steps."""
    import optax
    from brax.training import types
    from brax.training.agents.ppo import losses, networks

    batch, steps, seen, actions = 8, 5, 6, 2
    net = networks.make_ppo_networks(
        seen, actions, policy_hidden_layer_sizes=(32, 32), value_hidden_layer_sizes=(32, 32)
    )
    loss = functools.partial(losses.compute_ppo_loss, ppo_network=net, entropy_cost=1e-2)
    optimizer = optax.adam(3e-4)

    def init(key):
        params = losses.PPONetworkParams(net.policy_network.init(key), net.value_network.init(key))
        return params, optimizer.init(params)

    def update(params, state, data, key):
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, None, data, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    data = types.Transition(
        observation=spec(batch, steps, seen),
        action=spec(batch, steps, actions),
        reward=spec(batch, steps),
        discount=spec(batch, steps),
        next_observation=spec(batch, steps, seen),
        extras={
            "state_extras": {"truncation": spec(batch, steps)},
            "policy_extras": {
                "raw_action": spec(batch, steps, actions),
                "log_prob": spec(batch, steps),
                "distribution_params": spec(batch, steps, 2 * actions),
            },
        },
    )
    return update, (*jax.eval_shape(init, KEY), data, KEY)


HOPPING = """
<mujoco>
  <option timestep="0.005" iterations="4" ls_iterations="4"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 .1"/>
    <body pos="0 0 1">
      <freejoint/>
      <geom type="sphere" size=".1" mass="1"/>
      <body pos=".2 0 0">
        <joint name="hip" type="hinge" axis="0 1 0" range="-60 60" limited="true" damping=".1"/>
        <geom type="capsule" fromto="0 0 0 .3 0 -.3" size=".04" mass=".5"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="hip" gear="10"/></actuator>
</mujoco>
"""


@program("mujoco", "mujoco.mjx")
def mjx_step() -> Made:
    """One step of a free body with a leg over a plane: contacts, a joint with limits, Newton's solver."""
    import mujoco
    from mujoco import mjx

    model = mujoco.MjModel.from_xml_string(HOPPING)
    on_device = mjx.put_model(model)
    data = jax.eval_shape(lambda: mjx.make_data(on_device))

    def step(qpos, qvel, control):
        start = mjx.make_data(on_device).replace(qpos=qpos, qvel=qvel, ctrl=control)
        end = mjx.step(on_device, start)
        return end.qpos, end.qvel

    return step, (data.qpos, data.qvel, data.ctrl)


@program("mctx")
def mctx_gumbel_muzero() -> Made:
    """A policy by search: 8 simulations of a model of two dense layers, for 4 roots."""
    import mctx

    actions, width, batch = 3, 16, 4

    def recurrent(params, key, action, embedding):
        hidden = jnp.tanh(embedding @ params["w"] + params["a"][action])
        out = mctx.RecurrentFnOutput(
            reward=hidden @ params["r"],
            discount=jnp.full((embedding.shape[0],), 0.99),
            prior_logits=hidden @ params["p"],
            value=hidden @ params["v"],
        )
        return out, hidden

    def policy(params, key, embedding):
        root = mctx.RootFnOutput(
            prior_logits=embedding @ params["p"], value=embedding @ params["v"], embedding=embedding
        )
        found = mctx.gumbel_muzero_policy(
            params, key, root, recurrent, num_simulations=8, max_num_considered_actions=3, max_depth=4
        )
        return found.action, found.action_weights

    params = {
        "w": spec(width, width),
        "a": spec(actions, width),
        "r": spec(width),
        "v": spec(width),
        "p": spec(width, actions),
    }
    return policy, (params, KEY, spec(batch, width))


@program("flax", "optax")
def purejaxrl_ppo() -> Made:
    """PPO with the environment inside: cart and pole, a rollout, advantages, epochs of shuffled minibatches."""
    import optax
    from flax import linen as nn

    envs, steps, epochs, minibatches = 4, 8, 2, 2

    class ActorCritic(nn.Module):
        @nn.compact
        def __call__(self, x):
            actor, critic = x, x
            for _ in range(2):
                actor = nn.tanh(nn.Dense(16, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(actor))
                critic = nn.tanh(nn.Dense(16, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(critic))
            return nn.Dense(2)(actor), nn.Dense(1)(critic)[..., 0]

    def cart_pole(key, state, action):
        x, v, angle, spin = state
        force = jnp.where(action == 1, 10.0, -10.0)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        push = (force + 0.05 * spin**2 * sin) / 1.1
        turn = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
        slide = push - 0.05 * turn * cos / 1.1
        moved = jnp.stack([x + 0.02 * v, v + 0.02 * slide, angle + 0.02 * spin, spin + 0.02 * turn])
        done = (jnp.abs(moved[0]) > 2.4) | (jnp.abs(moved[2]) > 0.2095)
        fresh = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return jnp.where(done, fresh, moved), 1.0 - done, done

    net = ActorCritic()
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-4, eps=1e-5))

    def loss(params, batch):
        seen, action, old_log_prob, old_value, advantage, target = batch
        logits, value = net.apply(params, seen)
        log_probs = jax.nn.log_softmax(logits)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], 1)[:, 0]
        clipped = old_value + (value - old_value).clip(-0.2, 0.2)
        critic = 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)).mean()
        ratio = jnp.exp(log_prob - old_log_prob)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        actor = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage).mean()
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return actor + 0.5 * critic - 0.01 * entropy

    def update(params, opt_state, env_state, key):
        def step(carry, _):
            state, key = carry
            key, choose, reset = jax.random.split(key, 3)
            logits, value = net.apply(params, state)
            action = jax.random.categorical(choose, logits)
            log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
            after, reward, done = jax.vmap(cart_pole)(jax.random.split(reset, envs), state, action)
            return (after, key), (state, action, log_prob, value, reward, done)

        (env_state, key), rollout = lax.scan(step, (env_state, key), None, steps)
        seen, action, log_prob, value, reward, done = rollout
        _, last = net.apply(params, env_state)

        def advantages(carry, now):
            advantage, following = carry
            done, value, reward = now
            delta = reward + 0.99 * following * (1 - done) - value
            advantage = delta + 0.99 * 0.95 * (1 - done) * advantage
            return (advantage, value), advantage

        _, advantage = lax.scan(advantages, (jnp.zeros_like(last), last), (done, value, reward), reverse=True, unroll=4)
        whole = (seen, action, log_prob, value, advantage, advantage + value)
        flat = jax.tree.map(lambda x: x.reshape(envs * steps, *x.shape[2:]), whole)

        def epoch(carry, key):
            order = jax.random.permutation(key, envs * steps)
            shuffled = jax.tree.map(lambda x: x[order].reshape(minibatches, -1, *x.shape[1:]), flat)

            def minibatch(carry, batch):
                params, opt_state = carry
                value, gradient = jax.value_and_grad(loss)(params, batch)
                updates, opt_state = optimizer.update(gradient, opt_state, params)
                return (optax.apply_updates(params, updates), opt_state), value

            return lax.scan(minibatch, carry, shuffled)

        (params, opt_state), losses = lax.scan(epoch, (params, opt_state), jax.random.split(key, epochs))
        return params, opt_state, env_state, losses

    params = jax.eval_shape(net.init, KEY, spec(envs, 4))
    return update, (params, jax.eval_shape(optimizer.init, params), spec(envs, 4), KEY)


# Statistics and differential equations.


@program("blackjax")
def blackjax_nuts() -> Made:
    """One NUTS step for a logistic regression."""
    import blackjax

    def step(key, position, x, y):
        def log_density(w):
            logits = x @ w["slope"] + w["intercept"]
            return -0.5 * (w["slope"] ** 2).sum() + (y * logits - jnp.logaddexp(0.0, logits)).sum()

        nuts = blackjax.nuts(log_density, step_size=0.1, inverse_mass_matrix=jnp.ones(5), max_num_doublings=4)
        state, info = nuts.step(key, nuts.init(position))
        return state.position, info.acceptance_rate

    return step, (KEY, {"slope": spec(4), "intercept": spec()}, spec(16, 4), spec(16))


@program("blackjax")
def blackjax_window_adaptation() -> Made:
    """The warm-up of HMC: step size and mass matrix adapted over 20 steps."""
    import blackjax

    def warm_up(key, position):
        def log_density(w):
            return -0.5 * (jnp.square(w) / jnp.arange(1.0, 4.0)).sum()

        adapt = blackjax.window_adaptation(blackjax.hmc, log_density, num_integration_steps=3)
        (state, parameters), _ = adapt.run(key, position, 20)
        return state.position, parameters["step_size"], parameters["inverse_mass_matrix"]

    return warm_up, (KEY, spec(3))


@program("numpyro")
def numpyro_nuts() -> Made:
    """One NUTS step for the eight schools, with its adaptation."""
    import numpyro
    from numpyro import distributions as dist

    y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model():
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("schools", 8):
            theta = numpyro.sample("theta", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)

    kernel = numpyro.infer.NUTS(model, max_tree_depth=4)
    state = kernel.init(jax.random.PRNGKey(0), 10, None, (), {})
    return lambda state: kernel.sample(state, (), {}), (state,)


@program("diffrax", "equinox")
def diffrax_neural_ode_gradient() -> Made:
    """The gradient of a neural ODE through an adaptive solve with checkpoints."""
    import diffrax
    import equinox as eqx

    field = eqx.nn.MLP(3, 3, 16, 2, activation=jax.nn.softplus, key=jax.random.key(0))
    arrays, rest = eqx.partition(field, eqx.is_array)

    def loss(arrays, y0, target):
        field = eqx.combine(arrays, rest)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: field(y)),
            *(diffrax.Tsit5(), 0.0, 1.0, 0.1, y0),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
            saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 1.0, 5)),
            max_steps=32,
        )
        return jnp.square(solution.ys - target).mean()

    return jax.grad(loss), (arrays, spec(3), spec(5, 3))


@program("diffrax")
def diffrax_stiff_gradient() -> Made:
    """The gradient of Robertson's reactions through an implicit solver, by the backward equation."""
    import diffrax

    def field(t, y, k):
        first, second, third = k[0] * y[0], k[1] * y[1] ** 2, k[2] * y[1] * y[2]
        return jnp.stack([-first + third, first - second - third, second])

    def loss(k, y0):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            *(diffrax.Kvaerno3(), 0.0, 1.0, 1e-3, y0, k),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
            max_steps=16,
        )
        return solution.ys.sum()

    return jax.grad(loss), (spec(3), spec(3))


# Networks for science.


@program("e3nn_jax", "flax")
def e3nn_layer_gradient() -> Made:
    """A message-passing layer of NequIP's kind, and its gradient with respect to weights and positions."""
    import e3nn_jax as e3nn
    from flax import linen as nn

    nodes, edges = 5, 12

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, positions, features, senders, receivers):
            arrows = e3nn.IrrepsArray("1o", positions[receivers] - positions[senders])
            sh = e3nn.spherical_harmonics("0e + 1o + 2e", arrows, normalize=True)
            radial = e3nn.bessel(e3nn.norm(arrows).array[:, 0], 4, 2.0)
            x = e3nn.flax.Linear("4x0e + 2x1o", name="up")(e3nn.IrrepsArray("4x0e", features))
            messages = e3nn.tensor_product(x[senders], sh, filter_ir_out=["0e", "1o", "2e"])
            mix = nn.Dense(messages.irreps.num_irreps)(nn.silu(nn.Dense(8)(radial)))
            summed = e3nn.scatter_sum(messages * mix, dst=receivers, output_size=nodes)
            out = e3nn.flax.Linear("6x0e + 2x1o", name="down")(summed)
            return e3nn.gate(out, even_gate_act=nn.sigmoid)

    layer = Layer()

    def energy(params, positions, features, senders, receivers):
        out = layer.apply(params, positions, features, senders, receivers)
        return out.filter("0e").array.sum() + e3nn.norm(out, squared=True).array.sum()

    args = (spec(nodes, 3), spec(nodes, 4), spec(edges, dtype=jnp.int32), spec(edges, dtype=jnp.int32))
    return jax.value_and_grad(energy, (0, 1)), (jax.eval_shape(layer.init, KEY, *args), *args)


@program("flax")
def evoformer_block_gradient() -> Made:
    """One Evoformer block (Jumper et al. 2021, supplement, algorithms 6 to 15) and its gradient."""
    from flax import linen as nn

    heads, width = 2, 4

    def gated_attention(x, bias, out):
        """Attention over the second axis from the end, with a gate; x is [rows, positions, channels]."""
        q, k, v = (nn.DenseGeneral((heads, width), use_bias=False)(x) for _ in range(3))
        logits = jnp.einsum("rihc,rjhc->rhij", q, k) * width**-0.5
        if bias is not None:
            logits = logits + bias
        mixed = jnp.einsum("rhij,rjhc->rihc", jax.nn.softmax(logits), v)
        gate = nn.sigmoid(nn.DenseGeneral((heads, width))(x))
        return nn.DenseGeneral(out, axis=(-2, -1))(gate * mixed)

    def transition(x):
        return nn.Dense(x.shape[-1])(nn.relu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x))))

    def triangle_multiplication(z, equation):
        z = nn.LayerNorm()(z)
        left, right = (nn.sigmoid(nn.Dense(8)(z)) * nn.Dense(8)(z) for _ in range(2))
        mixed = nn.Dense(z.shape[-1])(nn.LayerNorm()(jnp.einsum(equation, left, right)))
        return nn.sigmoid(nn.Dense(z.shape[-1])(z)) * mixed

    def triangle_attention(z):
        z = nn.LayerNorm()(z)
        bias = nn.Dense(heads, use_bias=False)(z).transpose(2, 0, 1)[None]
        return gated_attention(z, bias, z.shape[-1])

    class Evoformer(nn.Module):
        @nn.compact
        def __call__(self, m, z):
            bias = nn.Dense(heads, use_bias=False)(nn.LayerNorm()(z)).transpose(2, 0, 1)[None]
            m = m + gated_attention(nn.LayerNorm()(m), bias, m.shape[-1])
            m = m + gated_attention(nn.LayerNorm()(m).swapaxes(0, 1), None, m.shape[-1]).swapaxes(0, 1)
            m = m + transition(m)
            normed = nn.LayerNorm()(m)
            outer = jnp.einsum("sic,sjd->ijcd", nn.Dense(4)(normed), nn.Dense(4)(normed)) / m.shape[0]
            z = z + nn.DenseGeneral(z.shape[-1], axis=(-2, -1))(outer)
            z = z + triangle_multiplication(z, "ikc,jkc->ijc")
            z = z + triangle_multiplication(z, "kic,kjc->ijc")
            z = z + triangle_attention(z)
            z = z + triangle_attention(z.swapaxes(0, 1)).swapaxes(0, 1)
            return m, z + transition(z)

    block = Evoformer()

    def loss(params, m, z):
        m, z = block.apply(params, m, z)
        return jnp.square(m).mean() + jnp.square(z).mean()

    args = (spec(4, 6, 8), spec(6, 6, 8))
    return jax.value_and_grad(loss), (jax.eval_shape(block.init, KEY, *args), *args)


@program("optax")
def fourier_neural_operator_step() -> Made:
    """A training step of a Fourier neural operator: two spectral convolutions with complex weights, Adam."""
    import optax

    batch, size, width, modes = 2, 16, 6, 4

    def spectral(x, w):
        spectrum = jnp.fft.rfft2(x, axes=(1, 2))
        low = jnp.einsum("bxyi,xyio->bxyo", spectrum[:, :modes, :modes], w["low"])
        high = jnp.einsum("bxyi,xyio->bxyo", spectrum[:, -modes:, :modes], w["high"])
        out = jnp.zeros_like(spectrum).at[:, :modes, :modes].set(low).at[:, -modes:, :modes].set(high)
        return jnp.fft.irfft2(out, s=(size, size), axes=(1, 2))

    def loss(params, x, y):
        h = x @ params["lift"]
        for layer in params["layers"]:
            h = jax.nn.gelu(spectral(h, layer) + h @ layer["skip"])
        return jnp.linalg.norm((h @ params["project"] - y).reshape(batch, -1), axis=1).mean()

    optimizer = optax.adam(1e-3)

    def step(params, state, x, y):
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, state = optimizer.update(jax.tree.map(jnp.conj, gradient), state)
        return optax.apply_updates(params, updates), state, value

    weights = spec(modes, modes, width, width, dtype=jnp.complex64)
    layer = {"low": weights, "high": weights, "skip": spec(width, width)}
    params = {"lift": spec(3, width), "layers": [layer, dict(layer)], "project": spec(width, 1)}
    state = jax.eval_shape(optimizer.init, params)
    return step, (params, state, spec(batch, size, size, 3), spec(batch, size, size, 1))


# Optimisers.

MATRICES = {"in": spec(8, 16), "out": spec(16, 4), "bias": spec(16), "scale": spec()}


def update_of(make: Callable[[], Any]) -> Made:
    """The update step of an optimiser of optax, for matrices, a vector and a scalar."""
    import optax

    optimizer = make()

    def update(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return update, (MATRICES, jax.eval_shape(optimizer.init, MATRICES), MATRICES)


@program("optax", "optax.contrib")
def optax_muon() -> Made:
    from optax import contrib

    return update_of(lambda: contrib.muon(1e-3))


@program("optax", "optax.contrib")
def optax_prodigy() -> Made:
    from optax import contrib

    return update_of(lambda: contrib.prodigy())


@program("optax", "optax.contrib")
def optax_schedule_free_adamw() -> Made:
    from optax import contrib

    return update_of(lambda: contrib.schedule_free_adamw(1e-3))


@program("optax")
def optax_adafactor() -> Made:
    import optax

    return update_of(lambda: optax.adafactor(1e-3, min_dim_size_to_factor=4))


def by_matrix(update: Callable[..., Any], states: dict[str, Any]) -> Made:
    """A step that applies `update(weight, gradient, state)` to each matrix."""

    def step(params, gradients, states):
        new = {name: update(params[name], gradients[name], states[name]) for name in params}
        return {name: pair[0] for name, pair in new.items()}, {name: pair[1] for name, pair in new.items()}

    params = {name: MATRICES[name] for name in states}
    return step, (params, params, states)


def squares(name: str, *more: str) -> dict[str, Any]:
    """The statistics of a matrix, square for each side, and arrays of its own shape."""
    rows, columns = MATRICES[name].shape
    sides = {"left": spec(rows, rows), "right": spec(columns, columns)}
    return sides | {other: MATRICES[name] for other in more}


@program()
def shampoo_step() -> Made:
    """Shampoo (Gupta et al. 2018): each side's statistics to the power -1/4, by an eigendecomposition."""

    def root(a):
        values, vectors = jnp.linalg.eigh(a + 1e-6 * jnp.eye(a.shape[0]))
        return (vectors * jnp.maximum(values, 1e-6) ** -0.25) @ vectors.T

    def update(w, g, state):
        left, right = state["left"] + g @ g.T, state["right"] + g.T @ g
        direction = root(left) @ g @ root(right)
        direction = direction * jnp.linalg.norm(g) / (jnp.linalg.norm(direction) + 1e-9)
        return w - 1e-2 * direction, {"left": left, "right": right}

    return by_matrix(update, {name: squares(name) for name in ("in", "out")})


@program()
def shampoo_coupled_newton_step() -> Made:
    """Shampoo as it is distributed: the root by the coupled Newton iteration, in a loop that stops when it is exact."""

    def root(a, p=4):
        size = a.shape[0]
        a = a + 1e-6 * jnp.max(jnp.abs(a)) * jnp.eye(size)
        z = (1 + p) / (2 * jnp.linalg.norm(a))

        def body(state):
            i, m, h, _ = state
            scaled = (1 + 1 / p) * jnp.eye(size) - m / p
            m = jnp.linalg.matrix_power(scaled, p) @ m
            return i + 1, m, h @ scaled, jnp.max(jnp.abs(m - jnp.eye(size)))

        start = (0, a * z, jnp.eye(size) * z ** (1 / p), jnp.float32(jnp.inf))
        return lax.while_loop(lambda state: (state[0] < 20) & (state[3] > 1e-6), body, start)[2]

    def update(w, g, state):
        left, right = 0.99 * state["left"] + g @ g.T, 0.99 * state["right"] + g.T @ g
        return w - 1e-2 * root(left) @ g @ root(right), {"left": left, "right": right}

    return by_matrix(update, {name: squares(name) for name in ("in", "out")})


@program()
def soap_step() -> Made:
    """SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo, which a step of QR iteration renews now and then."""

    def turned(g, left, right):
        return left.T @ g @ right

    def renewed(statistics, basis, moment, axis):
        order = jnp.argsort(-jnp.diag(basis.T @ statistics @ basis))
        basis = jnp.linalg.qr(statistics @ basis[:, order])[0]
        return basis, jnp.take(moment, order, axis)

    def update(w, g, state, count):
        momentum = 0.95 * state["momentum"] + 0.05 * g
        projected = turned(g, state["q_left"], state["q_right"])
        second = 0.95 * state["second"] + 0.05 * jnp.square(projected)
        step = turned(momentum, state["q_left"], state["q_right"]) / (jnp.sqrt(second) + 1e-8)
        w = w - 3e-3 * (state["q_left"] @ step @ state["q_right"].T + 0.01 * w)
        left = 0.95 * state["left"] + 0.05 * g @ g.T
        right = 0.95 * state["right"] + 0.05 * g.T @ g

        def renew(operands):
            q_left, q_right, second = operands
            q_left, second = renewed(left, q_left, second, 0)
            q_right, second = renewed(right, q_right, second, 1)
            return q_left, q_right, second

        kept = (state["q_left"], state["q_right"], second)
        q_left, q_right, second = lax.cond(count % 10 == 0, renew, lambda operands: operands, kept)
        state = {"left": left, "right": right, "momentum": momentum, "second": second}
        return w, state | {"q_left": q_left, "q_right": q_right}

    def step(params, gradients, states, count):
        new = {name: update(params[name], gradients[name], states[name], count) for name in params}
        return {name: pair[0] for name, pair in new.items()}, {name: pair[1] for name, pair in new.items()}, count + 1

    params = {name: MATRICES[name] for name in ("in", "out")}
    states = {}
    for name in params:
        states[name] = squares(name, "momentum", "second")
        states[name] |= {f"q_{side}": states[name][side] for side in ("left", "right")}
    return step, (params, params, states, spec(dtype=jnp.int32))


# Language models.


def llama_parameters(layers: int, vocabulary: int, width: int, heads: int, groups: int, hidden: int) -> dict[str, Any]:
    """The shapes of a model of Llama's kind; `groups` heads of keys and values serve `heads` of queries."""
    head = width // heads
    layer = {
        "norm": spec(width),
        "q": spec(width, heads * head),
        "k": spec(width, groups * head),
        "v": spec(width, groups * head),
        "o": spec(heads * head, width),
        "norm_mlp": spec(width),
        "gate": spec(width, hidden),
        "up": spec(width, hidden),
        "down": spec(hidden, width),
    }
    return {
        "embed": spec(vocabulary, width),
        "layers": [dict(layer) for _ in range(layers)],
        "norm": spec(width),
        "head": spec(width, vocabulary),
    }


def llama_loss(heads: int, groups: int, constrain: Callable[[Any], Any] = lambda x: x) -> Callable[..., Any]:
    """The loss of next tokens; its layers are a loop of Python. constrain: what to do with each layer's output."""

    def norm(x, scale):
        x32 = x.astype(jnp.float32)
        return (x32 * lax.rsqrt(jnp.mean(jnp.square(x32), -1, keepdims=True) + 1e-5)).astype(x.dtype) * scale

    def rotate(x):
        half = x.shape[-1] // 2
        angles = jnp.arange(x.shape[1])[:, None] * 10000.0 ** (-jnp.arange(half) / half)
        cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
        left, right = jnp.split(x, 2, -1)
        return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1).astype(x.dtype)

    def attention(p, x):
        batch, length, width = x.shape
        q = rotate((x @ p["q"]).reshape(batch, length, heads, -1))
        k = rotate((x @ p["k"]).reshape(batch, length, groups, -1))
        v = (x @ p["v"]).reshape(batch, length, groups, -1)
        q = q.reshape(batch, length, groups, heads // groups, -1)
        logits = jnp.einsum("btghd,bsgd->bghts", q, k) / np.sqrt(width // heads)
        logits = jnp.where(jnp.tri(length, dtype=bool), logits.astype(jnp.float32), -1e30)
        mixed = jnp.einsum("bghts,bsgd->btghd", jax.nn.softmax(logits).astype(x.dtype), v)
        return mixed.reshape(batch, length, -1) @ p["o"]

    def loss(params, tokens):
        half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        x = constrain(half["embed"][tokens[:, :-1]])
        for p in half["layers"]:
            x = constrain(x + attention(p, norm(x, p["norm"])))
            h = norm(x, p["norm_mlp"])
            x = constrain(x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"])
        logits = (norm(x, half["norm"]) @ half["head"]).astype(jnp.float32)
        targets = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - targets).mean()

    return loss


def train_step(loss: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
    """A step of AdamW with a warm-up and clipped gradients, and its optimiser."""
    import optax

    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-4, 100, 1000)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1))

    def step(params, state, tokens):
        value, gradient = jax.value_and_grad(loss)(params, tokens)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, optimizer


def llama(layers: int) -> Made:
    """A training step of so many layers, not in a scan."""
    step, optimizer = train_step(llama_loss(4, 2))
    params = llama_parameters(layers, 64, 32, 4, 2, 64)
    return step, (params, jax.eval_shape(optimizer.init, params), spec(2, 17, dtype=jnp.int32))


@program("optax")
def llama_8_layers_train_step() -> Made:
    return llama(8)


@program("optax")
def llama_32_layers_train_step() -> Made:
    return llama(32)


@program("optax", devices=8)
def llama_fsdp_and_tensor_parallel_train_step() -> Made:
    """A training step on 8 devices: parameters and batch over 4 (FSDP), heads and hidden units over 2."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def constrain(x):
        return lax.with_sharding_constraint(x, NamedSharding(mesh, P("data", None, None)))

    columns = {"q", "k", "v", "gate", "up", "head"}
    rows = {"o", "down", "embed"}

    def placed(path, leaf):
        names = {getattr(key, "key", None) for key in path}
        if leaf.ndim < 2:
            over = P()
        elif names & columns:
            over = P("data", "model")
        else:
            assert names & rows
            over = P("model", "data")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, over))

    step, optimizer = train_step(llama_loss(4, 2, constrain))
    params = jax.tree_util.tree_map_with_path(placed, llama_parameters(2, 64, 32, 4, 2, 64))
    state = jax.tree_util.tree_map_with_path(placed, jax.eval_shape(optimizer.init, params))
    tokens = jax.ShapeDtypeStruct((8, 17), jnp.int32, sharding=NamedSharding(mesh, P("data", None)))
    return step, (params, state, tokens)
