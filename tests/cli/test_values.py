"""`--at b=8,s=2048` beside `--trips` gives symbols values on every command that counts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from costax.cli.app import main

PROGRAMS = """
import jax, jax.numpy as jnp, costax
from jax import lax

def loop():
    fn = lambda x: lax.while_loop(lambda v: v.sum() < 1e3, lambda v: jnp.abs(v @ v) + 1.0, x)
    return fn, (jax.ShapeDtypeStruct((8, 8), "float32"),)

def sized():
    return jnp.matmul, (costax.spec("f32[b,s]"), costax.spec("f32[s,4]"))

def fixed():
    return jnp.matmul, (costax.spec("f32[8,8]"), costax.spec("f32[8,4]"))

def step():
    grad = jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w)))
    return costax.Target(grad, (costax.spec("f32[64,64]"), costax.spec("f32[b,64]")), params_argnums=0)
"""
COMMANDS = {
    "predict": ("--device", "h100"),
    "mfu": ("--step", "1", "--device", "h100"),
    "fits": ("--device", "h100"),
    "memory": (),
    "what-if": ("--activations", "int8", "--device", "h100"),
    "measure": ("--iterations", "2", "--seconds", "0.1"),
    "compare": ("--no-passes",),
}
VALUES = {"loop": "while=7", "sized": "b=8,s=16", "step": "b=8"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "programs.py").write_text(PROGRAMS)
    monkeypatch.chdir(tmp_path)

    def invoke(command, program, *rest):
        return CliRunner().invoke(main, [command, f"programs.py:{program}", *rest])

    return invoke


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("program", VALUES)
def test_a_command_answers_with_values_and_names_the_symbols_without(run, command, program):
    open_ = run(command, program, *COMMANDS[command])
    assert "costax itself failed" not in open_.output
    if open_.exit_code:
        assert open_.exit_code == 2
        assert f"--at '{'=8,'.join(part.partition('=')[0] for part in VALUES[program].split(','))}=8'" in open_.output
        assert "evaluate(" not in open_.output
    if command == "compare" and program == "loop":
        return  # XLA counts the body of this loop once
    answered = run(command, program, *COMMANDS[command], "--at", VALUES[program])
    assert answered.exit_code == 0, answered.output


def test_the_counts_are_those_at_the_values(run):
    counts = {}
    for program, values in VALUES.items():
        result = run("analyze", program, "--at", values, "--json")
        counts[program] = json.loads(result.stdout)["total"]["macs"]
    assert counts == {"loop": 7 * 8**3, "sized": 8 * 16 * 4, "step": 2 * 8 * 64 * 64}


def test_two_programs_are_compared_at_values(run):
    at = ("--fail-on", "flops > +1%", "--at", "b=8,s=16,while=7")
    same = CliRunner().invoke(main, ["diff", "programs.py:sized", "programs.py:sized", *at[:3], "b=8,s=16"])
    assert same.exit_code == 0, same.output
    more = CliRunner().invoke(main, ["diff", "programs.py:sized", "programs.py:loop", *at])
    assert more.exit_code == 1
    assert "flops > +1%" in more.output
    unknown = CliRunner().invoke(main, ["diff", "programs.py:sized", "programs.py:sized", "--at", "seq=3"])
    assert "Did you mean 's'?" in unknown.output
    unknown = CliRunner().invoke(main, ["diff", "programs.py:sized", "programs.py:sized", "--at", "q=3"])
    assert (unknown.exit_code, "There is no symbol q" in unknown.output) == (2, True)
    markdown = CliRunner().invoke(main, ["diff", "programs.py:sized", "programs.py:loop", "--markdown"])
    assert markdown.exit_code == 0, markdown.output


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("b=8", "s has no value"),
        ("b=8,s=0", "s"),
        ("b=x", "must be NAME=N"),
        ("q=3", "No loop of unknown length and no size matches 'q'. (sizes with names: b, s; loops of"),
        ("b=8,s=4,q=3", "No loop of unknown length and no size matches 'q'. (sizes with names: b, s; loops of"),
        ("seq=8192", "Did you mean 's'?"),
        ("b=8,seq=8192", "None of its sizes has the name 'seq'"),
        ("b=8,s=2.5", "must be NAME=N"),
    ],
)
def test_a_wrong_value_is_one_clear_message(run, values, message):
    result = run("predict", "sized", "--device", "h100", "--at", values)
    assert result.exit_code == 2
    assert message in result.output
    assert "costax itself failed" not in result.output


@pytest.mark.parametrize(
    ("program", "values", "listed"),
    [
        ("loop", "whiles=7", "(sizes with names: none; loops of unknown length: while)"),
        ("fixed", "s=3", "(sizes with names: none; loops of unknown length: none)"),
    ],
)
def test_a_value_without_a_symbol_lists_sizes_and_loops(run, program, values, listed):
    result = run("analyze", program, "--at", values)
    assert result.exit_code == 2
    assert listed in result.output
    assert ("Did you mean 'while'?" in result.output) == (program == "loop")


def test_a_number_has_a_binary_prefix_or_an_exponent(run):
    macs: list[int] = []
    for values in ("b=2048,s=16", "b=2Ki,s=16", "b=2_048,s=1.6e1"):
        result = run("analyze", "sized", "--at", values, "--json")
        macs.append(json.loads(result.stdout)["total"]["macs"])
    assert macs == [2048 * 16 * 4] * 3


def test_a_decimal_prefix_says_how_it_is_read(run):
    result = run("analyze", "sized", "--at", "b=2k,s=16", "--json")
    assert json.loads(result.stdout)["total"]["macs"] == 2000 * 16 * 4
    assert "costax: b=2k is 2,000; b=2Ki is 2,048." in result.stderr
    assert "is 2,0" not in run("analyze", "sized", "--at", "b=2Ki,s=2000", "--json").stderr
