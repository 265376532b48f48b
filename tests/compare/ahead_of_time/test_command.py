"""`costax compare --target`: the account of another machine, on one screen and as JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import costax
from aot_targets import BOTH, f32, needs
from costax.cli.app import main

PROGRAM = """
import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P

mesh = AbstractMesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def spec(*shape, over):
    return jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(mesh, P(*over)))


def sharded():
    return lambda w, x: (x @ w).sum(), (spec(512, 256, over=("model",)), spec(64, 512, over=("data", "model")))


def product():
    return lambda w, x: x @ w, (jax.ShapeDtypeStruct((8, 4), "float32"), jax.ShapeDtypeStruct((2, 8), "float32"))
"""


@pytest.fixture
def run(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return lambda name, *options: CliRunner().invoke(main, ["compare", f"{file}:{name}", *options])


@BOTH
def test_the_account_names_the_machine(run, target):
    found = run("product", "--target", target)
    assert found.exit_code == 0, found.output
    assert f"for {target}" in found.output
    assert "lowered equal bit for bit, compiled equal bit for bit" in found.output


@pytest.mark.parametrize(
    "target",
    [pytest.param("cuda:h100:8", marks=needs("cuda")), pytest.param("tpu:v5e:2x4", marks=needs("tpu"))],
)
def test_a_sharded_program_says_what_is_sent(run, target):
    found = run("sharded", "--target", target, "--json")
    assert found.exit_code == 0, found.output
    compiled = json.loads(found.stdout)["compiled"]
    assert compiled["devices"] == 8
    assert {exchange["opcode"] for exchange in compiled["collectives"]} == {"all-reduce"}
    assert "Sharded over 8 devices" in run("sharded", "--target", target).output


def test_an_unknown_machine_is_wrong_usage(run):
    found = run("product", "--target", "tpu:v99")
    assert found.exit_code == 2
    assert "tpu:v5e" in found.stderr


@needs("cuda")
def test_what_does_not_fit_a_gpu_is_said_first():
    printed = str(costax.compare(lambda x: x @ x, target="cuda:l4")(f32(60_000, 60_000)))
    assert "The program does not fit cuda:l4: one device needs 26.8 GiB and has 22.5 GiB." in printed
