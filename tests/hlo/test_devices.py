"""How many devices run a module, from every form in which jax and XLA write a program of eight devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import costax
from costax.analysis.compiled_module import analyze_file
from costax.errors import HloError
from costax.hlo.files import read_file, read_text

WRITER = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax.experimental import serialize_executable
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
folder = Path(sys.argv[1])
mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
def array(shape, *spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))
def dense(x, w):
    return jnp.tanh(x @ w).sum()
args = array((64, 128), "data", None), array((128, 256), None, "model")
lowered = jax.jit(dense).lower(*args)
compiled = lowered.compile()
hlo = compiled.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()
exported = jax.export.export(jax.jit(dense))(*args)
texts = {
    "lowered.txt": lowered.as_text(dialect="hlo"),
    "lowered.mlir": lowered.as_text(),
    "compiled.txt": compiled.as_text(),
    "no_header.txt": compiled.as_text().replace(", num_partitions=8", ""),
}
files = {
    "lowered.hlo.pb": lowered.compiler_ir("hlo").as_serialized_hlo_module_proto(),
    "compiled.hlo.pb": hlo,
    "executable.bin": serialize_executable.serialize(compiled)[0],
    "exported.bin": bytes(exported.serialize()),
    "exported.mlirbc": exported.mlir_module_serialized,
}
for name, text in texts.items():
    (folder / name).write_text(text)
for name, contents in files.items():
    (folder / name).write_bytes(contents)
import costax
for name, stage in (("lowered", lowered), ("compiled", compiled)):
    (folder / name).write_text(str(costax.analyze(stage)().replay.module.devices))
"""
SPLIT = ("compiled.hlo.pb", "compiled.txt", "no_header.txt", "executable.bin")
WHOLE = ("lowered.hlo.pb", "lowered.txt", "lowered.mlir", "exported.bin", "exported.mlirbc")
FLOPS = 2 * 64 * 128 * 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", WRITER, str(made)], check=True, env=environment, timeout=300)
    return made


@pytest.mark.parametrize("name", SPLIT)
def test_a_partitioned_module_is_one_of_its_devices_in_every_form(folder, name):
    module = analyze_file(folder / name)
    assert module.extent == "one of 8 devices"
    # Four devices hold other rows, two other columns, and none repeats work.
    assert module.executed.flops == pytest.approx(FLOPS / 8, rel=0.02)
    predicted = costax.predict(module, "h100-sxm", tokens=64)
    assert predicted.devices == 8
    assert predicted.flops == module.executed.flops
    assert predicted.throughput_per_device["tokens"] == predicted.throughput["tokens"] / 8
    assert module.analysis.total.macs == 64 * 128 * 256
    # The scalar is summed over the pairs of columns, then over the four rows: a ring sends 2 (n - 1) / n of 4 bytes.
    assert sorted((len(x.groups[0]), x.sent) for x in module.collectives) == [(2, 4), (4, 6)]


@pytest.mark.parametrize("name", WHOLE)
def test_a_module_that_is_not_partitioned_says_so_in_every_form(folder, name):
    module = analyze_file(folder / name)
    assert "the whole program (8 devices)" in module.extent
    assert module.executed.flops >= FLOPS
    assert read_file(folder / name).run_on.meshes == ({"data": 4, "model": 2},)


def test_stages_of_jax_have_the_devices_of_their_mesh(folder):
    assert [(folder / name).read_text() for name in ("lowered", "compiled")] == ["8", "8"]


ADD = "ENTRY e {\n  x = f32[4]{0} parameter(0)\n  ROOT y = f32[4]{0} add(x, x)\n}\n"
REDUCE = (
    "sum { a = f32[] parameter(0)\n b = f32[] parameter(1)\n ROOT c = f32[] add(a, b)\n}\n"
    "ENTRY e {\n  x = f32[4]{0} parameter(0)\n"
    "  ROOT y = f32[4]{0} all-reduce(x), replica_groups=GROUPS, to_apply=sum\n}\n"
)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        (f"HloModule m, num_partitions=8\n{ADD}", 8),
        (f"HloModule m, replica_count=4\n{ADD}", 4),
        (f"HloModule m, replica_count=4, is_scheduled=true, num_partitions=2\n{ADD}", 8),
        (f"// num_partitions=3\nHloModule m, is_scheduled=true\n{ADD}", 1),
        (f'HloModule m, frontend_attributes={{note="num_partitions=8"}}\n{ADD}', None),
        (f"HloModule m\n{ADD}", None),
        (f"HloModule m\n{REDUCE.replace('GROUPS', '{{0,1},{2,3}}')}", 4),
        (f"HloModule m\n{REDUCE.replace('GROUPS', '[2,8]<=[16]')}", 16),
        (f"HloModule m, is_scheduled=true\n{REDUCE.replace('GROUPS', '{{0,1},{2,3}}')}", 4),
        (f"HloModule m\n{ADD.replace('parameter(0)', 'parameter(0), sharding={devices=[4]<=[4]}')}", 4),
    ],
)
def test_text_has_the_devices_that_it_states(text, devices):
    module = read_text(text)
    assert module.run_on.count == devices
    assert module.devices == (devices or 1)


def test_a_module_that_states_no_number_says_that_it_is_not_known(tmp_path):
    path = tmp_path / "m.txt"
    path.write_text(f"HloModule m\n{ADD}")
    module = analyze_file(path)
    assert "does not say how many" in module.extent
    assert any("does not say how many devices" in x for x in costax.predict(module, "h100-sxm").assumptions)
    path.write_text(f"HloModule m, is_scheduled=true\n{ADD}")
    assert analyze_file(path).extent == "one device"


def test_more_devices_than_any_machine_has_are_an_error(tmp_path):
    with pytest.raises(HloError, match="9,999,999 devices"):
        read_text(f"HloModule m, num_partitions=9999999\n{ADD}")


def test_work_inside_shard_map_before_partitioning_is_said_to_be_of_one_device():
    mesh = AbstractMesh((8,), ("i",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((64, 8), jnp.float32, sharding=NamedSharding(mesh, P("i")))
    mapped = jax.shard_map(lambda x: jax.lax.psum(x, "i"), mesh=mesh, in_specs=P("i"), out_specs=P())
    module = costax.analyze(jax.jit(mapped).trace(x).lower(lowering_platforms=("cpu",)))()
    assert "(8 devices)" in module.extent
    assert "inside shard_map" in module.extent
    (sum_,) = module.collectives
    assert (sum_.axes, sum_.sent) == (("i",), 2 * 7 * 8 * 8 * 4 // 8)
