"""Sharded programs, on devices that nobody has: one device's ledger, and what the devices exchange."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import costax
from aot_targets import is_exact, needs
from costax import _jax
from costax.hlo import read_bytes
from costax.hlo.collectives import collective

EIGHT = pytest.mark.parametrize(
    "target",
    [pytest.param("cuda:h100:8", marks=needs("cuda")), pytest.param("tpu:v5e:2x4", marks=needs("tpu"))],
)
MESH = AbstractMesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def sharded(*shape, over):
    return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(MESH, PartitionSpec(*over)))


def mlp(w1, w2, x):
    return (jnp.tanh(x @ w1) @ w2).sum()


ARGS = (sharded(256, 512, over=(None, "model")), sharded(512, 256, over=("model",)), sharded(64, 256, over=("data",)))


@EIGHT
def test_one_device_does_an_eighth(target):
    comparison = costax.compare(jax.grad(mlp, (0, 1)), target=target)(*ARGS)
    is_exact(comparison)
    assert comparison.compiled.devices == 8
    assert comparison.compiled.executed.flops == pytest.approx(comparison.jaxpr.total.flops / 8, rel=0.05)
    # jax lowers the whole program, and the partitioner splits it.
    assert comparison.lowered.total.flops >= comparison.jaxpr.total.flops
    # That of a TPU leaves products that it has replaced, which the next pass drops.
    split = [d for d in comparison.deltas if "spmd" in d.pass_name or d.pass_name == "dce"]
    assert sum(d.flops for d in split) == pytest.approx(-comparison.jaxpr.total.flops * 7 / 8, rel=0.01)


@EIGHT
def test_gradients_are_added_up_over_the_axis_of_the_data(target):
    comparison = costax.compare(jax.grad(mlp, (0, 1)), target=target)(*ARGS)
    (exchange,) = comparison.compiled.collectives
    # Both gradients, of which each device of a row has a quarter.
    assert exchange.bytes == 4 * 2 * 256 * 512 // 4
    assert (exchange.opcode, exchange.axes) == ("all-reduce", ("data",))
    assert sorted(map(sorted, exchange.groups)) == [[i, i + 4] for i in range(4)]
    # Of two devices each sends all of its bytes: half to be added up, half added up.
    assert exchange.sent == exchange.bytes


@EIGHT
def test_each_collective_has_its_bytes_and_axes(target):
    def local(x):
        gathered = lax.all_gather(x, "data", tiled=True)
        turned = lax.ppermute(x, "model", [(i, (i + 1) % 4) for i in range(4)])
        swapped = lax.all_to_all(gathered, "model", 0, 1, tiled=True)
        return lax.psum(x, ("data", "model")) + turned * gathered.sum() + swapped.sum()

    spec = PartitionSpec("data", "model")
    fn = jax.shard_map(local, mesh=MESH, in_specs=spec, out_specs=spec, check_vma=False)
    comparison = costax.compare(fn, target=target)(sharded(64, 512, over=("data", "model")))
    is_exact(comparison)
    found = {c.opcode: c for c in comparison.compiled.collectives}
    shard = 4 * (64 // 2) * (512 // 4)
    assert {name: (c.bytes, c.sent, c.axes) for name, c in found.items()} == {
        "all-gather": (shard, shard, ("data",)),
        "collective-permute": (shard, shard, ("model",)),
        "all-to-all": (2 * shard, 2 * shard * 3 // 4, ("model",)),
        "all-reduce": (shard, 2 * shard * 7 // 8, ("data", "model")),
    }


@EIGHT
def test_an_fsdp_step_gathers_weights_and_scatters_gradients(target):
    layers, rows, width, hidden = 4, 512, 128, 512
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def array(*shape, over):
        return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(mesh, PartitionSpec(*over)))

    def loss(weights, x):
        def layer(x, pair):
            with jax.named_scope("mlp"):
                return jnp.tanh(x @ pair[0]) @ pair[1], None

        return jnp.square(lax.scan(jax.checkpoint(layer), x, weights)[0]).sum()

    def step(weights, x):
        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights, x))

    weights = [array(layers, width, hidden, over=(None, "data")), array(layers, hidden, width, over=(None, "data"))]
    jitted = jax.jit(step, out_shardings=[w.sharding for w in weights])
    found = costax.compare(jitted, target=target)(weights, array(rows, width, over=("data",)))
    is_exact(found)
    # A TPU multiplies in bf16 and sends the weights as such.
    gathered = (2 if "tpu" in target else 4) * width * hidden * 7 // 8
    scattered = 4 * width * hidden * 7 // 8
    assert {(x.scope, x.direction, x.opcode, *x.axes): x.sent for x in found.communication()} == {
        ("mlp", "forward", "all-gather", "data"): layers * 2 * gathered,
        ("mlp", "recompute", "all-gather", "data"): layers * gathered,
        ("mlp", "backward", "all-gather", "data"): layers * gathered,
        ("mlp", "backward", "reduce-scatter", "data"): layers * 2 * scattered,
    }
    assert found.replication.ratio == pytest.approx(1, rel=0.01)


@EIGHT
def test_a_combined_sum_of_gradients_is_split_over_its_layers(target):
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(weights, x):
        for name, w in weights.items():
            with jax.named_scope(name):
                x = jnp.tanh(x @ w)
        return x.sum()

    def array(*shape, over=()):
        return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(mesh, PartitionSpec(*over)))

    found = costax.compare(jax.grad(loss), target=target)(
        {"one": array(128, 512), "two": array(512, 64)}, array(64, 128, over=("data",))
    )
    (combined,) = found.compiled.collectives
    sent = {"one": 2 * 4 * 128 * 512 * 7 // 8, "two": 2 * 4 * 512 * 64 * 7 // 8}
    assert {x.scope: x.sent for x in combined.shares} == sent
    assert combined.sent == sum(sent.values())
    assert {x.scope: x.sent for x in found.communication()} == sent


@pytest.mark.parametrize("target", [pytest.param("tpu:v5e", marks=needs("tpu"))])
def test_a_program_of_more_devices_than_the_machine_is_refused(target):
    with pytest.raises(costax.errors.TargetError, match=r"runs on 8 devices.*has 1") as caught:
        costax.compare(mlp, target=target)(*ARGS)
    assert "tpu:v5e:2x4" in caught.value.cure


@pytest.mark.parametrize(
    ("written", "devices"),
    [
        ("{{0,1},{2,3}}", [[0, 1], [2, 3]]),
        ("[4,2]<=[8]", np.arange(8).reshape(4, 2)),
        ("[4,2]<=[2,4]T(1,0)", np.arange(8).reshape(2, 4).T.reshape(4, 2)),
        ("[2,4]<=[2,2,2]T(1,0,2)", np.arange(8).reshape(2, 2, 2).transpose(1, 0, 2).reshape(2, 4)),
    ],
)
def test_groups_are_read_however_xla_writes_them(written, devices):
    data = _jax.hlo_from_text(
        f"""HloModule m
add {{
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] add(a, b)
}}
ENTRY e {{
  p = f32[8] parameter(0)
  ROOT r = f32[8] all-reduce(p), replica_groups={written}, to_apply=add
}}
"""
    )
    assert read_bytes(data).entry.root.replica_groups == tuple(map(tuple, np.array(devices).tolist()))


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ([range(8), range(8, 16)], ("fsdp",)),
        ([(i, i + 8) for i in range(8)], ("data",)),
        ([range(16)], ("data", "fsdp")),
        # The module of one of two slices has the groups of this slice.
        ([range(8)], ("fsdp",)),
        # Pairs of neighbours lie along a part of an axis of eight, and every other device along both axes.
        ([(i, i + 1) for i in range(0, 16, 2)], ("fsdp",)),
        ([range(0, 16, 2), range(1, 16, 2)], ("data", "fsdp")),
        ([(0, 5), (1, 4)], ()),
    ],
)
def test_groups_lie_along_axes_or_parts_of_them(groups, axes):
    text = ",".join("{" + ",".join(map(str, group)) + "}" for group in groups)
    data = _jax.hlo_from_text(
        f"""HloModule m
add {{
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] add(a, b)
}}
ENTRY e {{
  p = f32[8] parameter(0)
  ROOT r = f32[8] all-reduce(p), replica_groups={{{text}}}, to_apply=add
}}
"""
    )
    assert collective(read_bytes(data).entry.root, [{"data": 2, "fsdp": 8}], 1).axes == axes


HOSTS = [
    pytest.param("tpu:v5e:2x4:2", "ICI", "DCN", marks=needs("tpu")),
    pytest.param("cuda:h100:2x8", "NVLink", "network", marks=needs("cuda")),
]


@pytest.mark.parametrize(("target", "inside", "across"), HOSTS)
def test_what_leaves_a_host_or_a_slice_goes_over_the_slow_link(target, inside, across):
    mesh = AbstractMesh((2, 8), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def array(*shape, over):
        return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(mesh, PartitionSpec(*over)))

    def loss(w, x):
        with jax.named_scope("layer"):
            return jnp.square(x @ w).sum()

    args = array(512, 256, over=("model",)), array(64, 512, over=("data", "model"))
    out = NamedSharding(mesh, PartitionSpec("model"))
    comparison = costax.compare(jax.jit(jax.grad(loss), out_shardings=out), target=target, passes=False)(*args)
    assert comparison.compiled.devices == 16
    found = comparison.communication()
    assert {each.scope for each in found} == {"layer"}
    # The gradients of both halves of the data meet over the slow link: at least the part of one device.
    slow = [each for each in found if across in each.link]
    assert sum(each.sent for each in slow) >= 4 * 512 * 256 // 8
    assert any(each.link == inside for each in found)
    predicted = costax.predict(comparison, "v5e" if "tpu" in target else "h100-sxm")
    assert any("is from network cards" in sentence for sentence in predicted.assumptions)
