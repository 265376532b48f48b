"""What the figures of a module leave open: branches, loops of unknown length, and the devices that they are of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax import lax

import costax
from costax import _jax
from costax.cli.app import main
from costax.hlo.files import module_of

pytestmark = pytest.mark.once

N = 16
LOOP = """
body {
  p = (s32[], f32[4]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  x = f32[4] get-tuple-element(p), index=1
  one = s32[] constant(1)
  j = s32[] add(i, one)
  y = f32[4] add(x, x)
  ROOT t = (s32[], f32[4]) tuple(j, y)
}

cond {
  p = (s32[], f32[4]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  n = s32[] constant(9)
  ROOT lt = pred[] compare(i, n), direction=LT
}

ENTRY main {
  i = s32[] parameter(0)
  x = f32[4] parameter(1)
  t = (s32[], f32[4]) tuple(i, x)
  w = (s32[], f32[4]) while(t), condition=cond, body=body
  ROOT r = f32[4] get-tuple-element(w), index=1
}
"""
# In each iteration: the counter, four sums, and the comparison.
AN_ITERATION = 1 + 4 + 1
# A device assignment (field 15 of a module) of one replica of eight partitions.
EIGHT_DEVICES = bytes([15 << 3 | 2, 4, 0x08, 1, 0x10, 8])
ADDITION = "ENTRY main { x = f32[4] parameter(0) ROOT y = f32[4] add(x, x) }"


def run(*args: object):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def ran(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def written(path, text: str, header: str = "HloModule m"):
    path.write_text(f"{header}\n{text}\n")
    return path


def switched(path, *branches):
    i, x = jax.ShapeDtypeStruct((), "int32"), jax.ShapeDtypeStruct((N, N), "float32")
    path.write_bytes(_jax.hlo_of(jax.jit(lambda i, x: lax.switch(i, branches, x)).lower(i, x)))
    return path


@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_a_branch_that_depends_on_data_is_not_exact(tmp_path, command):
    path = switched(tmp_path / "switch.hlo.pb", lambda x: x @ x, jnp.tanh, lambda x: x)
    module = costax.analyze(path)()
    assert not module.exact
    assert len(module.conditionals) == 1
    # The product of the first branch and the tanh of the second, which do not both run; and the clamp of the index.
    assert module.executed.flops - 2 * N**3 in (0, 1, 2)
    assert module.executed.transcendentals == N * N
    assert "the branch with most work counts" in ran(command, path)
    strict = run(command, path, "--strict")
    assert strict.exit_code == 1
    assert module.conditionals[0].name in strict.stderr


def test_branches_with_the_same_work_are_exact(tmp_path):
    path = switched(tmp_path / "switch.hlo.pb", lambda x: x + x, lambda x: x * x, lambda x: x - x)
    assert costax.analyze(path)().exact
    assert run("analyze", path, "--strict").exit_code == 0


def test_branches_that_differ_only_in_the_trips_of_a_loop_are_not_exact(tmp_path):
    def looped(trips):
        return lambda x: lax.fori_loop(0, trips, lambda _, y: y + y, x)

    same = switched(tmp_path / "same.hlo.pb", looped(3), looped(3))
    differ = switched(tmp_path / "differ.hlo.pb", looped(3), looped(4))
    assert [costax.analyze(path)().exact for path in (same, differ)] == [True, False]


def test_a_prediction_names_the_loops_that_it_counts_once(tmp_path):
    path = written(tmp_path / "loop.hlo", LOOP)
    told = ran("predict", path, "--device", "h100-sxm")
    assert "the loop w has no known trip count and counts once (set it with --trips w=N)" in told
    assert "counts once" not in ran("predict", path, "--device", "h100-sxm", "--trips", "w=7")


def test_a_diff_says_which_loops_count_once_and_takes_their_trips(tmp_path):
    loop, plain = written(tmp_path / "loop.hlo", LOOP), written(tmp_path / "plain.hlo", ADDITION)
    assert "After: the loop w has no known trip count" in ran("diff", plain, loop)
    assert "the loop w" in ran("diff", plain, loop, "--markdown")
    answered = ran("diff", plain, loop, "--trips", "w=7")
    assert "no known trip count" not in answered
    assert f" {7 * AN_ITERATION} " in answered
    assert "is called 'v'" in run("diff", plain, loop, "--trips", "v=7").stderr


def test_thresholds_and_budgets_refuse_what_a_loop_of_unknown_length_leaves_open(tmp_path):
    loop, plain = written(tmp_path / "loop.hlo", LOOP), written(tmp_path / "plain.hlo", ADDITION)
    limit = f"executed_flops > {7 * AN_ITERATION}"
    refused = run("diff", plain, loop, "--fail-on", limit)
    assert refused.exit_code == 1
    assert "are unknown" in refused.stderr
    ran("diff", plain, loop, "--fail-on", limit, "--trips", "w=7")
    ran("diff", plain, loop, "--fail-on", "temp_bytes > 1 MiB")
    budget = costax.Budget(executed_flops=7 * AN_ITERATION)
    with pytest.raises(costax.errors.BudgetError, match="are unknown"):
        costax.analyze(loop)().check(budget)
    costax.analyze(loop)().check(costax.Budget(temp_bytes="1 MiB"))
    costax.analyze(loop, trips={"w": 7})().check(budget)
    with pytest.raises(costax.errors.BudgetError, match="over its budget"):
        costax.analyze(loop, trips={"w": 8})().check(budget)


def test_the_budget_of_a_comparison_refuses_a_loop_of_unknown_length():
    def halved(x):
        return lax.while_loop(lambda y: y[0] > 1, lambda y: y * 0.5, x)

    argument = jax.ShapeDtypeStruct((4,), "float32")
    comparison = costax.compare(halved, passes=False)(argument)
    assert comparison.unknown_loops
    with pytest.raises(costax.errors.BudgetError, match="are unknown"):
        comparison.check(costax.Budget(executed_flops=10**9))
    comparison.check(costax.Budget(temp_bytes="1 GiB"))
    known = costax.compare(halved, passes=False, trips={"while": 3})(argument)
    assert not known.unknown_loops
    # Three times the body of four products, and four times a comparison.
    known.check(costax.Budget(executed_flops=3 * 4 + 4))


@pytest.mark.parametrize(
    ("header", "assigned", "words"),
    [
        ("HloModule m", EIGHT_DEVICES, "of the whole program (8 devices), which XLA has not split yet"),
        ("HloModule m, is_scheduled=true", EIGHT_DEVICES, "of one of 8 devices"),
        ("HloModule m, is_scheduled=true", b"", "of one device"),
        ("HloModule m", b"", "of one device; the module does not say how many run it"),
    ],
)
def test_every_command_says_how_many_devices_its_figures_are_of(tmp_path, header, assigned, words):
    path = tmp_path / "m.hlo.pb"
    path.write_bytes(module_of(written(tmp_path / "m.hlo", ADDITION, header)) + assigned)
    for command in (("memory", path), ("diff", path, path)):
        assert words in ran(*command).replace("Of ", "of ")
    assert (f"the figures are {words}" in ran("analyze", path)) == (words != "of one device")
