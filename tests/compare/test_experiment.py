"""What jax makes of an equation alone, and the options that reach a compiler in another process."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import costax
from costax.compare import experiment, marks
from costax.compare.causes import Pair
from costax.compare.dumping import dump_options, environment_flags
from costax.hlo.read import read_bytes
from costax.program.call_sites import call_sites
from hlo_oracle import from_text


def test_an_equation_that_is_no_program_of_its_own_leaves_the_others(monkeypatch):
    analysis = costax.analyze(lambda x: jnp.cos(jnp.sin(x)) + jnp.exp(x))(costax.spec("f32[8]"))
    sites = list(call_sites(analysis.tree, marks.mark(analysis.live).marks))
    lowered = experiment._lowered

    def without_sin(equations, machine):
        if any(equation.primitive.name == "sin" for equation in equations):
            raise NotImplementedError("sin")
        return lowered(equations, machine)

    every = {site.primitive: cost for site, cost in experiment.alone(sites).items()}
    assert every == {"sin": Pair(0, 8), "cos": Pair(0, 8), "exp": Pair(0, 8), "add": Pair(8, 0)}
    monkeypatch.setattr(experiment, "_lowered", without_sin)
    del every["sin"]
    assert {site.primitive: cost for site, cost in experiment.alone(sites).items()} == every


def test_options_of_the_environment_come_before_those_of_a_comparison(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_b=2")
    assert environment_flags("", {"xla_b": "3"}) == "--xla_a=1 --xla_b=2 --xla_b=3"
    assert environment_flags("", {}) == "--xla_a=1 --xla_b=2"
    flags = environment_flags("DIR", {"xla_b": "3"}).split()
    assert flags[:3] == ["--xla_a=1", "--xla_b=2", "--xla_dump_to=DIR"]
    assert f"--xla_dump_hlo_pass_re={dump_options('DIR')['xla_dump_hlo_pass_re']}" in flags
    monkeypatch.delenv("XLA_FLAGS")
    assert environment_flags("", {"xla_b": "3"}) == "--xla_b=3"


@pytest.mark.parametrize(
    ("instruction", "works"),
    [
        ('custom-call(p), custom_call_target="Sharding"', False),
        ('custom-call(p), custom_call_target="SPMDFullToShardShape"', False),
        ('custom-call(p), custom_call_target="lapack_spotrf_ffi"', True),
        ("sine(p)", True),
    ],
)
def test_markers_of_shardings_are_no_work(instruction, works):
    module = read_bytes(from_text(f"ENTRY e {{\n  p = f32[8,8] parameter(0)\n  ROOT r = f32[8,8] {instruction}\n}}\n"))
    assert experiment.is_work(module.entry.root) is works
