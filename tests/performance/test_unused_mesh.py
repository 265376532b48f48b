"""A mesh that is given and changes nothing is said first; one that a collective uses is not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from click.testing import CliRunner
from jax import lax

import costax
from costax.cli.app import main


def test_a_mesh_without_a_collective_is_said_to_change_nothing():
    analysis = costax.analyze(jnp.matmul)("f32[64,64]", "f32[64,64]")
    alone, given = costax.predict(analysis, "h100"), costax.predict(analysis, "h100", {"data": 8})
    assert given.seconds == alone.seconds
    assert given.unused_mesh.startswith("The mesh data=8 changes nothing in this prediction: it has no collective.")
    assert given.unused_mesh in str(given)
    assert given.assumptions[0] == given.unused_mesh
    assert alone.unused_mesh == ""


def test_only_the_axes_that_no_collective_runs_over_are_named():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    summed = jax.shard_map(lambda x: lax.psum(x, "data"), mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P())
    analysis = costax.analyze(summed)("f32[1024]")
    assert costax.predict(analysis, "h100", {"data": 8}).unused_mesh == ""
    both = costax.predict(analysis, "h100", {"data": 8, "model": 4}).unused_mesh
    assert "The mesh model=4 changes nothing in this prediction: its collectives run over data." in both


def test_the_command_line_says_it_above_the_tables():
    command = ["predict", "jax.numpy:matmul", "--input", "f32[8,8]", "--input", "f32[8,8]", "--device", "h100"]
    shown = CliRunner().invoke(main, [*command, "--mesh", "data=8"]).output
    assert shown.index("The mesh data=8 changes nothing") < shown.index("time per call")
    assert "changes nothing" not in CliRunner().invoke(main, command).output
