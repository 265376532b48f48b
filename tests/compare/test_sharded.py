"""Sharded programs on eight devices of this machine: work, rates and memory of one device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import costax
from aot_targets import needs
from costax.errors import TargetError
from costax.report import load_any
from costax.report.prediction import to_record

EIGHT = pytest.mark.skipif(jax.device_count() != 8, reason="runs in a process with eight devices")
M, K, N = 4096, 512, 256


def on(shape, names, *, abstract=False):
    """A mesh whose sharded programs XLA partitions."""
    make = AbstractMesh if abstract else jax.make_mesh
    return make(shape, names, axis_types=(AxisType.Auto,) * len(shape))


def array(mesh, shape, *spec, dtype="bfloat16"):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


def product(x, w):
    return x @ w


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.skipif(jax.device_count() != 1, reason="runs in the process with one device")
def test_programs_on_eight_devices_pass():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "eight_cpus", str(Path(__file__))],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


# Rates: what one device does, over what one device can.


def check_rates(comparison, flops, tokens):
    """Assert that a prediction of one of eight devices has its FLOPs, its peak, and names whose rates they are."""
    predicted = costax.predict(comparison, "h100-sxm", tokens=tokens)
    assert predicted.devices == 8
    assert predicted.flops == predicted.model_flops == flops // 8
    assert predicted.mfu == pytest.approx(flops / 8 / predicted.seconds / predicted.peak[1])
    assert predicted.mfu == predicted.hfu < 1
    assert predicted.throughput["tokens"] == pytest.approx(tokens / predicted.seconds)
    assert predicted.throughput_per_device == {"tokens": pytest.approx(tokens / predicted.seconds / 8)}
    record = to_record(predicted)
    assert (record["devices"], record["flops"], record["mfu"]) == (8, flops // 8, predicted.mfu)
    text = str(predicted)
    assert "by all 8 devices" in text
    assert "per device" in text
    return predicted


@pytest.mark.parametrize("target", [pytest.param("cuda:h100:8", marks=needs("cuda"))])
def test_a_product_over_eight_gpus_reaches_four_fifths_of_the_peak(target):
    mesh = on((8,), ("data",), abstract=True)
    args = array(mesh, (65536, 8192), "data"), array(mesh, (8192, 8192))
    comparison = costax.compare(jax.jit(product), target=target, passes=False)(*args)
    predicted = check_rates(comparison, 2 * 65536 * 8192 * 8192, tokens=65536)
    assert predicted.mfu == pytest.approx(0.80, abs=0.01)
    # Rows of one device, all weights, and the result's rows.
    assert predicted.traffic["compulsory"] == 2 * (65536 // 8 * 8192 * 2 + 8192 * 8192)


@EIGHT
def test_eight_cpus_are_eight_devices_of_the_predicted_kind():
    mesh = on((8,), ("data",))
    args = array(mesh, (M, K), "data", dtype="float32"), array(mesh, (K, N), dtype="float32")
    predicted = check_rates(costax.compare(jax.jit(product), passes=False)(*args), 2 * M * K * N, tokens=M)
    assert predicted.traffic["compulsory"] == 4 * (M // 8 * (K + N) + K * N)
    assert predicted.energy().per_token.expected == pytest.approx(8 * predicted.energy().joules.expected / M)
    assert predicted.energy().run(10).device_hours.expected == pytest.approx(80 * predicted.seconds / 3600)


@EIGHT
def test_eight_cpus_that_repeat_the_work_have_a_higher_hfu_than_mfu():
    mesh = on((2, 4), ("data", "tensor"))
    replicated = NamedSharding(mesh, P())

    def repeated(x, w):
        return lax.with_sharding_constraint(x, replicated) @ w

    args = array(mesh, (M, K), dtype="float32"), array(mesh, (K, N), dtype="float32")
    comparison = costax.compare(jax.jit(repeated, out_shardings=replicated), passes=False)(*args)
    predicted = costax.predict(comparison, "h100-sxm")
    # Every device computes all of it.
    assert predicted.flops == 2 * M * K * N
    assert predicted.model_flops == 2 * M * K * N // 8
    assert predicted.hfu == pytest.approx(8 * predicted.mfu)


# Work that several devices repeat.


def network(x, up, down, head):
    with jax.named_scope("up"):
        hidden = jnp.tanh(x @ up)
    with jax.named_scope("norm"):
        hidden = hidden / (1 + jnp.square(x).mean(-1, keepdims=True))
    with jax.named_scope("down"):
        out = hidden @ down
    with jax.named_scope("head"):
        return out @ head


def compared(head):
    """The network on `data=2, tensor=4`, with this sharding of the weights of its head."""
    mesh = on((2, 4), ("data", "tensor"))
    shapes = ((64, 128), ("data",)), ((128, 256), (None, "tensor")), ((256, 128), ("tensor",)), ((128, 512), head)
    args = [array(mesh, shape, *spec, dtype="float32") for shape, spec in shapes]
    out = NamedSharding(mesh, P("data", *head[1:]))
    return costax.compare(jax.jit(network, out_shardings=out), passes=False)(*args)


@EIGHT
def test_eight_cpus_say_which_layers_they_repeat(tmp_path):
    comparison = compared(head=())
    found = comparison.replication
    assert found.devices == 8
    assert found.ratio == pytest.approx(8 * comparison.compiled.executed.flops / comparison.jaxpr.total.flops)
    assert found.compared > 0.99
    layers = {layer.scope: layer for layer in found.layers}
    # Nothing splits the head along `tensor`, so all four devices of a row compute it.
    head = layers["head"]
    assert (head.program, head.executed, head.factor) == (2 * 64 * 128 * 512, 4 * 2 * 64 * 128 * 512, 4)
    assert str(head) == "replicated 4x over axis tensor: computed on 4 of 4 tensor shards"
    assert not layers["up"].repeated
    assert not layers["down"].repeated
    assert found.layers[0] == head
    equations = {(x.scope, x.equation): x.factor for x in found.equations}
    assert equations["head", "dot_general"] == 4
    assert equations["norm", "square"] == 4
    assert ("up", "dot_general") not in equations
    assert ("norm", "div") not in equations
    assert "in parts over axis tensor" in str(layers["norm"])
    text = str(comparison)
    assert "Work that several devices repeat" in text
    assert f"{found.ratio:.2f} times those" in " ".join(text.split())
    assert "computed on 4 of 4 tensor shards" in text
    comparison.save(tmp_path / "x.json")
    saved = load_any(tmp_path / "x.json")
    assert saved.replication == found
    assert "computed on 4 of 4 tensor shards" in str(saved)


@EIGHT
def test_eight_cpus_that_share_the_head_do_not_repeat_it():
    found = compared(head=(None, "tensor")).replication
    layers = {layer.scope: layer for layer in found.layers}
    assert layers["head"].factor == 1
    assert not any(x.equation == "dot_general" for x in found.equations)
    assert found.ratio == pytest.approx(1, rel=0.02)


def test_a_program_on_one_device_has_no_replication():
    assert costax.compare(jnp.sin, passes=False)(costax.spec("f32[8]")).replication is None


# Before partitioning.


def test_the_devices_of_an_analysis_are_those_of_the_mesh():
    mesh = on((2, 4), ("data", "tensor"), abstract=True)
    analysis = costax.analyze(jax.jit(product))(array(mesh, (M, K), "data"), array(mesh, (K, N), None, "tensor"))
    assert analysis.devices == 8
    assert analysis.total.macs == M * K * N
    assert analysis.per_device.macs == M * K * N // 8
    assert analysis.even_share
    text = str(analysis)
    assert "for all 8 devices together" in text
    assert "at least" in text
    assert "which collectives are added, is decided when XLA partitions the program" in text


def test_a_program_of_shards_says_what_each_device_does():
    mesh = on((8,), ("data",), abstract=True)
    sharded = jax.shard_map(product, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    analysis = costax.analyze(sharded)(costax.spec(f"bf16[{M},{K}]"), costax.spec(f"bf16[{K},{N}]"))
    assert (analysis.devices, analysis.even_share) == (8, False)
    assert analysis.per_device.macs == M * K * N // 8
    assert "at least" not in str(analysis)
    # All weights and an eighth of the rows are on each device.
    assert analysis.memory_use().parts["arguments"] == 2 * (M // 8 * K + K * N)


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        (lambda mesh, x: jax.jit(jnp.sin).trace(array(mesh, (64, 8), "data")), 8),
        (lambda mesh, x: jax.jit(jnp.sin, in_shardings=NamedSharding(mesh, P("data"))).trace(x), 8),
        (lambda mesh, x: jax.jit(jnp.sin, out_shardings=NamedSharding(mesh, P("data"))).trace(x), 8),
        (
            lambda mesh, x: jax.jit(
                lambda x: lax.scan(
                    lambda c, _: (lax.with_sharding_constraint(c * 2, NamedSharding(mesh, P("data"))), None),
                    x,
                    None,
                    length=3,
                )[0]
            ).trace(x),
            8,
        ),
        (lambda mesh, x: jax.jit(jnp.sin).trace(x), 1),
        (lambda mesh, x: jax.jit(jnp.sin).trace(array(on((1,), ("one",), abstract=True), (64, 8), "one")), 1),
    ],
    ids=["arguments", "in_shardings", "out_shardings", "inside a loop", "none", "a mesh of one device"],
)
def test_devices_stand_wherever_a_sharding_is(named, devices):
    mesh = on((2, 4), ("data", "tensor"), abstract=True)
    analysis = costax.analyze(named(mesh, costax.spec("f32[64,8]")))()
    assert (analysis.devices, analysis.even_share) == (devices, devices > 1)


ABSTRACT = {
    "arguments": lambda mesh: (jax.jit(jnp.sin), array(mesh, (64, 8), "data")),
    "results": lambda mesh: (jax.jit(jnp.sin, out_shardings=NamedSharding(mesh, P("data"))), costax.spec("f32[64,8]")),
    "a constraint": lambda mesh: (
        lambda x: lax.with_sharding_constraint(jnp.sin(x), NamedSharding(mesh, P("data"))),
        costax.spec("f32[64,8]"),
    ),
    "shard_map": lambda mesh: (
        jax.shard_map(jnp.sin, mesh=mesh, in_specs=P("data"), out_specs=P("data")),
        costax.spec("f32[64,8]"),
    ),
}


@pytest.mark.parametrize("where", ABSTRACT)
def test_an_abstract_mesh_cannot_be_compiled_for_this_machine(where):
    fn, argument = ABSTRACT[where](on((2, 4), ("data", "tensor"), abstract=True))
    with pytest.raises(TargetError) as error:
        costax.compare(fn)(argument)
    text = str(error.value)
    assert "sharded over an abstract mesh of 8 devices, which names no devices of this machine" in text
    assert "--xla_force_host_platform_device_count=8" in text
    assert "cuda:h100:8 or tpu:v5e:2x4" in text


@pytest.mark.parametrize("where", ["a constraint", "shard_map"])
@pytest.mark.parametrize("target", [pytest.param("cuda:h100:8", marks=needs("cuda"))])
def test_a_mesh_inside_of_the_program_alone_does_not_count_for_one_device(where, target):
    fn, argument = ABSTRACT[where](on((2, 4), ("data", "tensor"), abstract=True))
    with pytest.raises(TargetError, match="Give an argument a sharding on that mesh"):
        costax.compare(fn, target=target)(argument)


@EIGHT
@pytest.mark.parametrize("where", ABSTRACT)
def test_eight_cpus_compile_for_a_mesh_of_devices(where):
    fn, argument = ABSTRACT[where](on((2, 4), ("data", "tensor")))
    assert costax.compare(fn, passes=False)(argument).compiled.devices == 8


def test_the_prediction_before_partitioning_is_that_of_one_device_and_says_what_is_missing():
    mesh = on((8,), ("data",), abstract=True)
    whole = costax.analyze(product)(costax.spec(f"bf16[{M // 8},{K}]"), costax.spec(f"bf16[{K},{N}]"))
    sharded = costax.analyze(jax.jit(product))(array(mesh, (M, K), "data"), array(mesh, (K, N)))
    one, eighth = costax.predict(whole, "h100-sxm"), costax.predict(sharded, "h100-sxm")
    assert eighth.flops == one.flops
    assert eighth.seconds == pytest.approx(one.seconds, rel=0.05)
    assert any("the collectives that XLA adds are missing" in sentence for sentence in eighth.assumptions)
    assert not any("collectives that XLA adds" in sentence for sentence in one.assumptions)
    assert sharded.memory_use().parts["arguments"] == 2 * (M // 8 * K + K * N)
    assert "split evenly over 8 devices" in str(costax.fits(sharded, "h100-sxm"))


def test_a_what_if_names_whose_counts_it_shows():
    mesh = on((8,), ("data",), abstract=True)
    sharded = costax.analyze(jax.jit(product))(array(mesh, (M, K), "data"), array(mesh, (K, N)))
    changed = sharded.what_if(activations="int8")
    assert changed.macs == M * K * N // 8
    assert "MACs, one of 8 devices" in [row[0] for row in changed.rows()]
    assert "model size" in [row[0] for row in changed.rows()]


def test_the_devices_survive_a_record(tmp_path):
    mesh = on((8,), ("data",), abstract=True)
    analysis = costax.analyze(jax.jit(product))(array(mesh, (M, K), "data"), array(mesh, (K, N)))
    analysis.save(tmp_path / "x.json")
    loaded = costax.load(tmp_path / "x.json")
    assert (loaded.devices, loaded.even_share, loaded.per_device) == (8, True, analysis.per_device)
