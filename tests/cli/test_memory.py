"""`costax memory` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from costax.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments):
    return CliRunner().invoke(main, ["memory", *arguments])


def test_the_published_figures_come_out_of_the_command_line():
    out = run(f"{EXAMPLES}/alexnet.py:alexnet_224").output
    for figure in ("932,264", "440,928", "243.9 MB", "60.97 MB"):
        assert figure in out
    record = json.loads(run(f"{EXAMPLES}/resnet.py:resnet50", "--json").output)
    assert record["activations"]["contractions"] == 11_114_984


def test_the_command_shows_the_largest_buffers():
    done = run(f"{EXAMPLES}/mlp_train.py:mlp_train_step", "--most", "3", "--fused")
    assert done.exit_code == 0, done.output
    assert "an argument that is not donated" in done.output
    assert "saved residuals" in done.output
    assert run(f"{EXAMPLES}/mlp_train.py:mlp_train_step", "--most", "0").exit_code == 2


def test_the_bytes_of_a_sharded_program_are_those_of_one_device(tmp_path):
    path = tmp_path / "sharded.py"
    path.write_text(
        "import jax, jax.numpy as jnp\n"
        "from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec\n"
        "mesh = AbstractMesh((8,), ('d',), axis_types=(AxisType.Auto,))\n"
        "x = jax.ShapeDtypeStruct((64, 32), 'float32', sharding=NamedSharding(mesh, PartitionSpec('d')))\n"
        "def program(): return (lambda x: (jnp.tanh(x), jnp.sum(x))), (x,)\n"
    )
    done = CliRunner().invoke(main, ["memory", f"{path}:program", "--json"])
    assert done.exit_code == 0, done.output
    sizes = {tuple(x["shape"]): x["bytes"] for x in json.loads(done.stdout)["live_at_peak"]}
    # A scalar is on every device; an eighth of the array is on each.
    assert sizes == {(64, 32): 64 * 32 * 4 // 8, (): 4}
    table = " ".join(CliRunner().invoke(main, ["memory", f"{path}:program"]).stdout.split())
    assert "bytes of one of 8 devices" in table
