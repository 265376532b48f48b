"""`costax compare` on the command line: its table, its record, its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import pytest
from click.testing import CliRunner
from jax import lax

from costax import _jax
from costax.cli.app import main

SCHEMA, COMPARISON = (
    json.loads(files("costax.report").joinpath(f"{name}.schema.json").read_text())
    for name in ("analysis", "comparison")
)

STEPS = 5
LAYER = 2 * 4 * 8 * 8
PROGRAM = """
    import jax
    import jax.numpy as jnp
    from jax import lax

    import costax

    WEIGHTS = costax.spec("f32[8,8]")
    STATE = costax.spec("f32[4,8]")

    def layer(w, x):
        with jax.named_scope("layer"):
            return jnp.tanh(x @ w)

    def plain():
        return layer, (WEIGHTS, STATE)

    def looped():
        def repeat(w, x):
            return lax.scan(lambda c, _: (layer(w, c), None), x, None, length=5)[0]
        return repeat, (WEIGHTS, STATE)

    def searching():
        def search(w, x):
            return lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: layer(w, c), x)
        return search, (WEIGHTS, STATE)

    def branching():
        def branch(x):
            return lax.cond(jnp.sum(x) > 0, lambda x: x @ x.T @ x, lambda x: x @ x.T * 2 @ x, x)
        return branch, (STATE,)

    def balanced():
        def branch(x):
            return lax.cond(jnp.sum(x) > 0, lambda x: jnp.sin(x), lambda x: jnp.cos(x), x)
        return branch, (STATE,)

    def merged():
        def twice(w, x):
            return jnp.tanh(w[:, :4] @ x) + jnp.sin(w[:, :4] @ x)
        return twice, (WEIGHTS, STATE)

    def padded():
        def conv(w, x):
            return lax.conv_general_dilated(x, w, (1,), ((1, 1),))
        return conv, (costax.spec("f32[3,2,3]"), costax.spec("f32[1,2,9]"))
"""


@pytest.fixture
def program(tmp_path) -> str:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return str(path)


def run(*args: str):
    return CliRunner().invoke(main, ["compare", *args])


def ran(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def record(*args: str):
    return json.loads(ran(*args, "--json"))


def line(text: str, label: str) -> list[int]:
    """The whole numbers of the line that starts with a label."""
    found = next(line.strip() for line in text.splitlines() if line.strip().startswith(label))
    return [int(number.replace(",", "")) for number in re.findall(r"[+-]?\d[\d,]*(?![.\d])", found.removeprefix(label))]


def test_the_table_leads_from_our_count_to_xlas(program):
    text = ran(f"{program}:looped")
    assert line(text, "this program (jaxpr)")[:2] == [STEPS * LAYER, STEPS * 4 * 8]
    assert line(text, "loop body counted once")[:2] == [-(STEPS - 1) * LAYER, -(STEPS - 1) * 4 * 8]
    lowered = jax.jit(
        lambda w, x: lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=STEPS)[0]
    ).lower(jnp.zeros((8, 8)), jnp.zeros((4, 8)))  # fmt: skip
    assert line(text, "= as jax lowered it (StableHLO)")[0] == lowered.cost_analysis()["flops"]
    assert line(text, "= XLA, compiled")[0] == lowered.compile().cost_analysis()["flops"]


def test_the_table_has_a_row_for_each_run_of_a_pass(program):
    rows = ran(f"{program}:merged")
    # 8 x 4 times 4 x 8, twice: common subexpression elimination leaves one.
    assert line(rows, "cse: common subexpressions merged")[:1] == [-2 * 8 * 4 * 8]
    assert "changed by the compiler" not in rows


def test_without_passes_one_row_has_what_the_compiler_changed(program):
    rows = ran(f"{program}:merged", "--no-passes")
    assert line(rows, "changed by the compiler")[:1] == [-2 * 8 * 4 * 8]
    assert "cse" not in rows
    found = record(f"{program}:merged", "--no-passes")
    assert found["passes"] is None
    assert {delta["pass_name"] for delta in found["deltas"]} == {""}


def test_passes_are_not_read_and_shown_at_once(program):
    result = run(f"{program}:merged", "--passes", "--no-passes")
    assert result.exit_code == 2
    assert "--no-passes" in result.stderr
    assert result.stdout == ""


def test_the_layer_table_stands_above(program):
    text = ran(f"{program}:plain", "--by", "primitive")
    assert text.splitlines()[0] == "plain: 256 MACs, 512 FLOPs."
    assert text.index("dot_general") < text.index("From this program to XLA's cost analysis")


def test_the_record_adds_up(program):
    found = record(f"{program}:padded")
    assert found["schema"] == "costax/comparison/2"
    jsonschema.validate(found["jaxpr"], SCHEMA)
    jsonschema.validate(found, COMPARISON)
    # 9 outputs of 3 channels meet 3 taps of 2 channels; at either end one tap lies on the padding.
    assert found["jaxpr"]["total"]["flops"] == 2 * 9 * 3 * 3 * 2
    assert [(delta["flops"], delta["transcendentals"]) for delta in found["deltas"]] == [(-2 * 2 * 3 * 2, 0)]
    for field in ("flops", "transcendentals"):
        ours = found["jaxpr"]["total"][field] + sum(delta[field] for delta in found["deltas"])
        assert ours == found["xla"][field] == found["compiled"]["total"][field] == found["lowered"]["total"][field]


def test_the_saved_record_is_the_printed_one(program, tmp_path):
    saved = tmp_path / "a.json"
    found = record(f"{program}:looped", "--save", str(saved))
    assert json.loads(saved.read_text()) == found


def test_shapes_may_come_with_the_command(program):
    found = record("jax.numpy:matmul", "--input", "f32[4,8]", "--input", "f32[8,3]")
    assert found["jaxpr"]["total"]["flops"] == found["lowered"]["total"]["flops"] == 2 * 4 * 8 * 3


def test_strict_exits_1_where_a_number_is_not_exact(program):
    result = run(f"{program}:searching", "--strict")
    assert result.exit_code == 1
    assert "CheckError: Some numbers of `searching` are not exact or not known." in result.stderr
    assert "= as jax lowered it (StableHLO)" in result.stdout
    known = run(f"{program}:searching", "--strict", "--trips", "while=7")
    # XLA of jax 0.8 puts the loop into a function, whose call has the name of the loop too.
    assert known.exit_code == 0, known.stderr
    assert run(f"{program}:looped", "--strict").exit_code == 0


def test_a_conditional_whose_branches_differ_is_not_exact(program):
    result = run(f"{program}:branching", "--strict", "--no-passes")
    assert result.exit_code == 1
    assert "depends on data" in result.stdout
    assert "without the conditional" in result.stderr
    assert "--trips" not in result.stderr
    stage = record(f"{program}:branching", "--no-passes")["compiled"]
    assert not stage["exact"]
    assert len(stage["conditionals"]) == 1
    # Both branches take one transcendental an element.
    even = run(f"{program}:balanced", "--strict", "--no-passes")
    assert even.exit_code == 0, even.stderr


def test_strict_exits_1_where_a_difference_has_no_cause(program, monkeypatch):
    with_scopes = _jax.with_scopes

    def without_a_mark(eqn, params, prefix, mark):
        return eqn if eqn.primitive.name == "dot_general" else with_scopes(eqn, params, prefix, mark)

    monkeypatch.setattr(_jax, "with_scopes", without_a_mark)
    jax.clear_caches()
    result = run(f"{program}:plain", "--strict")
    assert result.exit_code == 1
    assert "unexplained" in result.stdout
    assert "CheckError: The account of `plain` is not complete:" in result.stderr
    assert "2 differences of" in " ".join(result.stderr.split())


def test_strict_exits_1_where_the_replay_is_not_xlas_number(program, monkeypatch):
    cost = _jax.xla_cost
    monkeypatch.setattr(_jax, "xla_cost", lambda hlo: {**cost(hlo), "flops": cost(hlo)["flops"] + 8})
    result = run(f"{program}:looped", "--strict", "--no-passes")
    assert result.exit_code == 1
    assert "the replay of the lowered program is not XLA's number" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere.py:net",), "There is no file"),
        (("{program}:nothing",), "nothing"),
        (("{program}:layer",), "takes arguments, but there is no --input"),
        (("{program}:layer", "--input", "f32[8,3]", "--input", "f32[4,9]"), "does not accept these arguments"),
        (("{program}:layer", "--input", "f32[8"), "f32[8"),
        (("{program}:layer", "--input", "f32[8,3]", "--input", "f32[4,8]", "--trips", "while=3"), "No loop"),
        (("{program}:plain", "--sort", "params", "--by", "dtype"), "--sort"),
        (("{program}:plain", "--save", "a.xlsx"), ".json, .md, .csv"),
        ((), "TARGET"),
    ],
    ids=["file", "name", "arguments", "shapes", "input", "trips", "sort", "save", "none"],
)
def test_wrong_input_gets_one_message_and_prints_nothing(args, message, program):
    result = run(*(arg.format(program=program) for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("args", [("--version",), ("rules",), ("explain", "cumsum")], ids=lambda args: args[0])
def test_python_m_costax_is_the_command(args):
    done = subprocess.run([sys.executable, "-m", "costax", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == CliRunner().invoke(main, args, prog_name="costax").stdout


def test_python_m_costax_ends_with_the_same_codes():
    done = subprocess.run(
        [sys.executable, "-m", "costax", "analyze", str(Path("nowhere.py:f"))], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("TargetError: ")
