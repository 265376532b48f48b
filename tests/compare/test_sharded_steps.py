"""Training steps on eight devices: what one device sends and computes, against counts by hand from the shapes.

n devices that gather shards, scatter a sum or exchange parts of an array of s bytes send s (n - 1) / n each; those that
sum it send twice as much; a permutation sends the whole block.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import costax

EIGHT = pytest.mark.skipif(jax.device_count() != 8, reason="runs in a process with eight devices")
LAYERS, ROWS, D, F = 4, 512, 128, 512
PRODUCT = 2 * ROWS * D * F
WEIGHT = 4 * D * F
WAYS = ("forward", "backward")


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() != 1, reason="runs in the process with one device")
def test_steps_on_eight_devices_pass():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "eight", str(Path(__file__))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def on(shape, names, kind=AxisType.Auto):
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(shape))


def array(mesh, shape, *spec):
    return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(mesh, P(*spec)))


def trained(loss, params, batch):
    """The comparison of a step of gradient descent that keeps the shardings of the parameters."""

    def step(params, batch):
        gradients = jax.grad(loss)(params, batch)
        with jax.named_scope("update"):
            return jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients)

    shardings = jax.tree.map(lambda x: x.sharding, params)
    return costax.compare(jax.jit(step, out_shardings=shardings))(params, batch)


def squared(x):
    with jax.named_scope("loss"):
        return (x * x).sum()


def sent_by(found):
    return {(x.scope, x.direction, x.opcode, *x.axes): x.sent for x in found.communication()}


def check(found, sent, products, layers):
    """Assert what one device sends, its FLOPs in products, and how often the work of each layer is computed.

    sent: bytes by (layer, direction, collective, mesh axis). products: FLOPs of all devices together.
    """
    assert sent_by(found) == sent
    dots = [cost for cost in found.compiled.instruction_costs if cost.instruction.opcode == "dot"]
    assert 8 * sum(cost.actual.flops * cost.executed for cost in dots) == products
    assert found.replication.compared > 0.99
    factors = {layer.scope: layer.factor for layer in found.replication.layers}
    for scope, factor in layers.items():
        assert factors[scope] == pytest.approx(factor, rel=0.01)
    assert found.replication.executed == 8 * found.compiled.executed.flops


def whole(n, size):
    return size * (n - 1) // n


@EIGHT
def test_eight_devices_with_a_part_of_the_data_sum_each_gradient():
    mesh = on((8,), ("data",))

    def loss(weights, x):
        for name, w in zip(("one", "two"), weights, strict=True):
            with jax.named_scope(name):
                x = jnp.tanh(x @ w)
        return squared(x)

    found = trained(loss, [array(mesh, (D, F)), array(mesh, (F, D))], array(mesh, (ROWS, D), "data"))
    sent = {(name, "backward", "all-reduce", "data"): 2 * whole(8, WEIGHT) for name in ("one", "two")}
    # A product forward, one for the gradient of the weights, one for that of the input, which the first does not need.
    check(found, sent, 5 * PRODUCT, {"one": 1, "two": 1, "update": 8})
    update = next(layer for layer in found.replication.layers if layer.scope == "update")
    # Each device updates all weights: a product and a difference an element.
    assert (update.program, update.executed) == (2 * 2 * D * F, 8 * 2 * 2 * D * F)
    assert str(update) == "replicated 8x over axis data: computed on 8 of 8 data shards"
    # XLA sums the gradients of both layers in one collective.
    (combined,) = found.compiled.collectives
    assert [(share.scope, share.bytes) for share in combined.shares] in (
        [("one", WEIGHT), ("two", WEIGHT)],
        [("two", WEIGHT), ("one", WEIGHT)],
    )
    assert sum(share.sent for share in combined.shares) == combined.sent


@EIGHT
def test_eight_devices_that_share_the_weights_gather_them_in_every_layer():
    mesh = on((8,), ("data",))

    def loss(weights, x):
        def layer(x, pair):
            with jax.named_scope("mlp"):
                return jnp.tanh(x @ pair[0]) @ pair[1], None

        return squared(lax.scan(jax.checkpoint(layer), x, weights)[0])

    weights = [array(mesh, (LAYERS, D, F), None, "data"), array(mesh, (LAYERS, F, D), None, "data")]
    found = trained(loss, weights, array(mesh, (ROWS, D), "data"))
    sent = {
        # Both weights forward and both backward; the first is gathered for the recomputed product.
        ("mlp", "forward", "all-gather", "data"): LAYERS * 2 * whole(8, WEIGHT),
        ("mlp", "recompute", "all-gather", "data"): LAYERS * whole(8, WEIGHT),
        ("mlp", "backward", "all-gather", "data"): LAYERS * whole(8, WEIGHT),
        # XLA for the CPU has no pass that makes a reduce-scatter of a sum of which each device keeps its part.
        ("mlp", "backward", "all-reduce", "data"): LAYERS * 2 * 2 * whole(8, WEIGHT),
    }
    # Two products forward, one recomputed, and four backward.
    check(found, sent, LAYERS * 7 * PRODUCT, {"mlp": 1, "update": 1})


def residual(weights, x):
    for i, (up, down) in enumerate(weights):
        with jax.named_scope(f"layer_{i}"):
            x = x + jnp.tanh(x @ up) @ down
    return squared(x)


# Per layer two products forward, two for the weights and two for the input, of which the first layer needs one.
RESIDUAL = (2 * 6 - 1) * PRODUCT


@EIGHT
def test_eight_devices_with_a_part_of_each_weight_sum_activations():
    mesh = on((2, 4), ("data", "tensor"))
    weights = [(array(mesh, (D, F), None, "tensor"), array(mesh, (F, D), "tensor")) for _ in range(2)]
    found = trained(residual, weights, array(mesh, (ROWS, D), "data"))
    activations = 2 * whole(4, 4 * ROWS // 2 * D)
    gradients = 2 * 2 * whole(2, WEIGHT // 4)
    sent = {
        ("layer_0", "forward", "all-reduce", "tensor"): activations,
        ("layer_1", "forward", "all-reduce", "tensor"): activations,
        # The gradient of the input; nobody needs that of the first layer.
        ("layer_1", "backward", "all-reduce", "tensor"): activations,
        ("layer_0", "backward", "all-reduce", "data"): gradients,
        ("layer_1", "backward", "all-reduce", "data"): gradients,
    }
    check(found, sent, RESIDUAL, {"layer_0": 1, "layer_1": 1, "update": 2})


@EIGHT
def test_eight_devices_that_share_weights_over_both_axes_do_both():
    mesh = on((4, 2), ("data", "tensor"))
    weights = [(array(mesh, (D, F), "data", "tensor"), array(mesh, (F, D), "tensor", "data")) for _ in range(2)]
    found = trained(residual, weights, array(mesh, (ROWS, D), "data"))
    gathered, summed = whole(4, WEIGHT // 2), 2 * 2 * whole(4, WEIGHT // 2)
    activations = 2 * whole(2, 4 * ROWS // 4 * D)
    sent = {
        ("layer_0", "forward", "all-gather", "data"): 2 * gathered,
        ("layer_1", "forward", "all-gather", "data"): 2 * gathered,
        # The first layer needs no gradient of its input, so its first weight is not gathered again.
        ("layer_0", "backward", "all-gather", "data"): gathered,
        ("layer_1", "backward", "all-gather", "data"): 2 * gathered,
        ("layer_0", "forward", "all-reduce", "tensor"): activations,
        ("layer_1", "forward", "all-reduce", "tensor"): activations,
        ("layer_1", "backward", "all-reduce", "tensor"): activations,
        ("layer_0", "backward", "all-reduce", "data"): summed,
        ("layer_1", "backward", "all-reduce", "data"): summed,
    }
    check(found, sent, RESIDUAL, {"layer_0": 1, "layer_1": 1, "update": 1})


@EIGHT
def test_eight_devices_with_an_expert_each_exchange_tokens():
    mesh = on((8,), ("expert",))
    experts, slots = 8, 16
    # Each device has `slots` tokens for each expert: (experts of all devices, slots, D).
    tokens = experts * experts * slots

    @partial(jax.shard_map, mesh=mesh, in_specs=(P("expert"), P("expert")), out_specs=P("expert"))
    def mixture(weights, x):
        with jax.named_scope("dispatch"):
            x = lax.all_to_all(x, "expert", 0, 0, tiled=True)
        with jax.named_scope("expert"):
            x = jnp.tanh(x @ weights["up"][0]) @ weights["down"][0]
        with jax.named_scope("combine"):
            return lax.all_to_all(x, "expert", 0, 0, tiled=True)

    def loss(weights, x):
        with jax.named_scope("embed"):
            x = x @ weights["embed"]
        return squared(mixture({name: weights[name] for name in ("up", "down")}, x))

    weights = {
        "embed": array(mesh, (D, D)),
        "up": array(mesh, (experts, D, F), "expert"),
        "down": array(mesh, (experts, F, D), "expert"),
    }
    found = trained(loss, weights, array(mesh, (experts * experts, slots, D), "expert"))
    exchanged = whole(8, 4 * tokens // 8 * D)
    sent = {(name, way, "all-to-all", "expert"): exchanged for name in ("dispatch", "combine") for way in WAYS}
    sent["embed", "backward", "all-reduce", "expert"] = 2 * whole(8, 4 * D * D)
    # Two products of the experts forward and four backward; the embedding needs no gradient of its input.
    check(found, sent, 6 * 2 * tokens * D * F + 2 * 2 * tokens * D * D, {"expert": 1, "embed": 1})


@EIGHT
def test_eight_devices_with_a_part_of_the_sequence_pass_keys_and_values_around():
    mesh, n = on((8,), ("sequence",)), 8

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("sequence")), out_specs=P("sequence"))
    def attention(weights, x):
        with jax.named_scope("project"):
            q, k, v = (x @ w for w in weights)

        def hop(carry, _):
            k, v, out = carry
            with jax.named_scope("scores"):
                scores = jnp.exp(q @ k.T)
            with jax.named_scope("values"):
                out = out + scores @ v
            with jax.named_scope("ring"):
                k, v = (lax.ppermute(block, "sequence", [(i, (i + 1) % n) for i in range(n)]) for block in (k, v))
            return (k, v, out), None

        return lax.scan(hop, (k, v, jnp.zeros_like(q)), None, length=n)[0][2]

    weights = [array(mesh, (D, D)) for _ in range(3)]
    found = trained(lambda weights, x: squared(attention(weights, x)), weights, array(mesh, (ROWS, D), "sequence"))
    block = 4 * ROWS // n * D
    sent = {("ring", way, "collective-permute", "sequence"): n * 2 * block for way in WAYS}
    sent["project", "backward", "all-reduce", "sequence"] = 2 * whole(n, 3 * 4 * D * D)
    # Two products a hop forward and four backward, each of ROWS / n rows with ROWS / n others, on each device.
    hops = 6 * n * n * 2 * (ROWS // n) ** 2 * D
    check(found, sent, 3 * 2 * 2 * ROWS * D * D + hops, {"scores": 1, "values": 1, "project": 1})
    assert [x.executed for x in found.compiled.collectives if x.opcode == "collective-permute"] == [n] * 4


@EIGHT
def test_eight_stages_of_a_pipeline_pass_activations_on():
    mesh, stages, batches = on((8,), ("stage",)), 8, 16
    ticks = batches + stages - 1

    @partial(jax.shard_map, mesh=mesh, in_specs=(P("stage"), P()), out_specs=P(), check_vma=False)
    def pipeline(w, x):
        stage = lax.axis_index("stage")

        def tick(carry, t):
            state, out = carry
            state = jnp.where(stage == 0, x[jnp.minimum(t, batches - 1)], state)
            with jax.named_scope("stage"):
                state = jnp.tanh(state @ w[0])
            out = lax.dynamic_update_index_in_dim(out, state, jnp.clip(t - stages + 1, 0, batches - 1), 0)
            with jax.named_scope("shift"):
                return (lax.ppermute(state, "stage", [(i, i + 1) for i in range(stages - 1)]), out), None

        out = lax.scan(tick, (jnp.zeros_like(x[0]), jnp.zeros_like(x)), jnp.arange(ticks))[0][1]
        with jax.named_scope("share"):
            return lax.psum(jnp.where(stage == stages - 1, out, 0), "stage")

    found = costax.compare(pipeline)(array(mesh, (stages, D, D), "stage"), array(mesh, (batches, 64, D)))
    sent = {
        # The last stage sends nothing: a device sends 7 / 8 of an activation on average.
        ("shift", "forward", "collective-permute", "stage"): ticks * whole(8, 4 * 64 * D),
        ("share", "forward", "all-reduce", "stage"): 2 * whole(8, 4 * batches * 64 * D),
    }
    # Every stage computes in every tick, in the bubble too.
    check(found, sent, stages * ticks * 2 * 64 * D * D, {"stage": 1})


@EIGHT
def test_eight_devices_with_a_part_of_the_vocabulary_sum_what_they_look_up():
    mesh, words, tokens = on((2, 4), ("data", "tensor")), 1024, 64

    def loss(table, ids, targets):
        with jax.named_scope("embed"):
            x = table[ids]
        with jax.named_scope("head"):
            logits = x @ table.T
        with jax.named_scope("loss"):
            picked = jnp.take_along_axis(logits, targets[:, None], -1)[:, 0]
            return (jax.nn.logsumexp(logits, -1) - picked).mean()

    ids = jax.ShapeDtypeStruct((tokens,), "int32", sharding=NamedSharding(mesh, P("data")))
    table = array(mesh, (words, D), "tensor")
    found = costax.compare(jax.jit(jax.grad(loss), out_shardings=table.sharding))(table, ids, ids)
    activations, gradient = 2 * whole(4, 4 * tokens // 2 * D), 2 * whole(2, 4 * words // 4 * D)
    sent = {
        ("embed", "forward", "all-reduce", "tensor"): activations,
        ("head", "backward", "all-reduce", "tensor"): activations,
        ("embed", "backward", "all-reduce", "data"): gradient,
        ("head", "backward", "all-reduce", "data"): gradient,
        # The maximum and the sum of each token.
        ("loss", "forward", "all-reduce", "tensor"): 2 * 2 * whole(4, 4 * tokens // 2),
    }
    check(found, sent, 3 * 2 * tokens * D * words, {"head": 1})


@EIGHT
def test_eight_devices_with_a_part_of_the_optimiser_gather_the_weights():
    mesh = on((8,), ("data",))

    def step(w, momentum, x):
        def loss(w):
            with jax.named_scope("net"):
                return jnp.square(x @ w).sum()

        gradient = jax.grad(loss)(w)
        with jax.named_scope("update"):
            momentum = 0.9 * momentum + gradient
            return w - 0.1 * momentum, momentum

    w, momentum = array(mesh, (D, F)), array(mesh, (D, F), "data")
    jitted = jax.jit(step, out_shardings=(w.sharding, momentum.sharding))
    found = costax.compare(jitted)(w, momentum, array(mesh, (ROWS, D), "data"))
    sent = {
        ("net", "backward", "all-reduce", "data"): 2 * whole(8, WEIGHT),
        ("update", "update", "all-gather", "data"): whole(8, WEIGHT),
    }
    check(found, sent, 2 * PRODUCT, {"net": 1, "update": 1})


@EIGHT
def test_eight_devices_move_what_a_program_reshards_itself():
    mesh = on((4, 2), ("data", "model"), AxisType.Explicit)

    def network(x, up, down):
        with jax.named_scope("up"):
            hidden = jnp.tanh(x @ up)
        with jax.named_scope("down"):
            out = jnp.matmul(hidden, down, out_sharding=P("data", None))
        with jax.named_scope("back"):
            return jax.reshard(out, P(None, None))

    args = array(mesh, (ROWS, D), "data"), array(mesh, (D, F), None, "model"), array(mesh, (F, D), "model")
    with jax.set_mesh(mesh):
        found = costax.compare(jax.jit(network))(*args)
    sent = {
        ("down", "forward", "all-reduce", "model"): 2 * whole(2, 4 * ROWS // 4 * D),
        ("back", "forward", "all-gather", "data"): whole(4, 4 * ROWS * D),
    }
    check(found, sent, 2 * PRODUCT, {"up": 1, "down": 1})


@EIGHT
@pytest.mark.parametrize(("asked", "layer"), [(True, "gather"), (False, "use")])
def test_eight_devices_gather_where_the_program_asks_for_it(asked, layer):
    mesh = on((8,), ("data",))

    def product(x, w):
        if asked:
            with jax.named_scope("gather"):
                w = lax.with_sharding_constraint(w, NamedSharding(mesh, P()))
        with jax.named_scope("use"):
            return x @ w

    found = costax.compare(jax.jit(product))(array(mesh, (ROWS, D), "data"), array(mesh, (D, F), "data"))
    assert sent_by(found) == {(layer, "forward", "all-gather", "data"): whole(8, WEIGHT)}


@EIGHT
def test_eight_devices_with_uneven_parts_do_not_repeat_work():
    mesh, rows = on((8,), ("data",)), 60

    def product(x, w):
        return lax.with_sharding_constraint(x, NamedSharding(mesh, P("data"))) @ w

    (layer,) = costax.compare(jax.jit(product))(array(mesh, (rows, D)), array(mesh, (D, F))).replication.layers
    # 60 rows are 8 rows on each device, 4 of them padding.
    assert (layer.program, layer.executed) == (2 * 60 * D * F, 2 * 64 * D * F)
    assert "padded where arrays do not divide evenly" in str(layer)
