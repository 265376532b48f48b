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
    split = [d for d in comparison.deltas if "spmd" in d.pass_name]
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
