"""Runs that differ, because loops and branches depend on data: all of them are runs, with the work that each did."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from traces import DOT, OPEN, N, written

SIZE = 128
PRODUCT = 2 * SIZE**3


def profile(folder, fn, firsts):
    """Profile a call for each first argument; every call ends inside of the profile."""
    step, x = jax.jit(fn), jnp.full((SIZE, SIZE), 1 / SIZE)
    for first in firsts:
        jax.block_until_ready(step(first, x, x))
    with jax.profiler.trace(folder):
        for first in firsts:
            jax.block_until_ready(step(first, x, x))
    return costax.join(None, folder)


def repeat(n, w, x):
    with jax.named_scope("loop"):
        y = lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, jnp.tanh(s[1] @ w)), (0, x))[1]
    with jax.named_scope("end"):
        return y @ w


def choose(p, w, x):
    with jax.named_scope("branch"):
        y = lax.cond(p, lambda x: jnp.tanh(x @ w), lambda x: x @ w @ w @ w @ w, x)
    with jax.named_scope("end"):
        return y @ w


@pytest.mark.parametrize(("fn", "firsts"), [(repeat, (0, 5, 0)), (choose, (True, False, True))])
def test_runs_that_execute_other_instructions_are_whole(fn, firsts, tmp_path):
    found = profile(tmp_path, fn, firsts)
    assert found.runs == len(firsts)
    assert "Left out" not in str(found)


def traced(folder, runs, module=OPEN):
    """The join of a module with runs, each a list of instructions that take 1 us one after the other."""
    events = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/host:CPU"}}]
    at = 0
    for number, names in enumerate(runs):
        for name in names:
            args = {"hlo_op": name, "hlo_module": "jit_step", "run_id": str(number)}
            events.append({"ph": "X", "pid": 1, "tid": 1, "ts": at, "dur": 1, "name": name, "args": args})
            at += 1
        at += 100
    trace = written(folder, "host.trace.json", json.dumps({"traceEvents": events}).encode())
    return costax.join(written(folder, "module.txt", module.encode()), trace)


def run(trips):
    return ["loop_fusion.3", *["tanh.5"] * trips, "dot.2"]


@pytest.mark.once
def test_a_run_is_cut_if_it_lacks_what_every_run_begins_or_ends_with(tmp_path):
    assert traced(tmp_path, [run(0), run(5), run(0)]).runs == 3
    # The controls: the trace begins in the loop of the first run, or ends in the loop of the last.
    for runs in ([run(5)[1:], run(5), run(5)], [run(5), run(5), run(5)[:-1]]):
        found = traced(tmp_path, runs)
        assert found.runs == 2
        assert "Left out, because the trace begins or ends inside of them: 1 of 3 runs." in str(found)
    assert traced(tmp_path, [run(5)[1:], run(5), run(5)[:-1]]).runs == 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("trips", "of_median"), [((2, 2, 9), 2), ((9, 2, 9), 9), ((5, 1, 9), 5), ((2, 9), 2), ((0, 0, 9), 0)]
)
def test_the_trips_are_those_of_the_run_whose_time_is_shown(trips, of_median, tmp_path):
    found = traced(tmp_path, [run(n) for n in trips])
    assert found.runs == len(trips)
    loop = found.by_instruction()["tanh.5"]
    # A trip takes 1 us, the rest of a run 2 us.
    assert loop.cost.transcendentals == of_median * N * N
    assert loop.seconds == pytest.approx(of_median * 1e-6)
    assert found.step.median == pytest.approx((of_median + 2) * 1e-6)
    assert found.busy.median == pytest.approx((of_median + 2) * 1e-6)
    assert not found.analysis.exact
    shown = " ".join(str(found).split())
    assert f"while.1 ran differently often; its body counts {of_median} times, as in the median run." in shown
    assert f"whose time is shown: {of_median}; the runs of the trace have {min(trips)} to {max(trips)}." in shown


@pytest.mark.once
def test_a_loop_whose_condition_alone_runs_has_no_trips(tmp_path):
    found = traced(tmp_path, [["loop_fusion.3", "lt", "dot.2"]] * 3)
    assert found.analysis.executed.transcendentals == 0
    assert found.analysis.exact
    assert "The trip count of while.1 is that of the trace: 0." in found.notes
    # The condition runs once more than the body.
    found = traced(tmp_path, [["loop_fusion.3", *["lt"] * 5, "dot.2"]] * 3)
    assert found.analysis.executed.transcendentals == 4 * N * N
    # The control: a trace without any event of the loop does not tell it.
    found = traced(tmp_path, [["loop_fusion.3", "dot.2"]] * 3)
    assert found.analysis.executed.transcendentals == N * N
    assert not found.analysis.exact


NESTED = """HloModule jit_step, is_scheduled=true

%inner (x: f32[64,64]) -> f32[64,64] {
  %x = f32[64,64] parameter(0)
  ROOT %tanh.5 = f32[64,64] tanh(%x)
}

%more (y: f32[64,64]) -> pred[] {
  %y = f32[64,64] parameter(0)
  ROOT %again = pred[] custom-call(%y), custom_call_target="again"
}

%outer (z: f32[64,64]) -> f32[64,64] {
  %z = f32[64,64] parameter(0)
  %exp.1 = f32[64,64] exponential(%z)
  ROOT %while.2 = f32[64,64] while(%exp.1), condition=%more, body=%inner
}

%most (u: f32[64,64]) -> pred[] {
  %u = f32[64,64] parameter(0)
  ROOT %once.more = pred[] custom-call(%u), custom_call_target="again"
}

ENTRY %main (a: f32[64,64]) -> f32[64,64] {
  %a = f32[64,64] parameter(0)
  %b = f32[64,64] copy(%a)
  %while.1 = f32[64,64] while(%b), condition=%most, body=%outer
  ROOT %dot.4 = f32[64,64] dot(%while.1, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


@pytest.mark.once
def test_a_loop_in_a_loop_has_all_of_its_trips(tmp_path):
    # 0 + 1 + 2 + 3 trips in four executions are 1.5 on average.
    runs = ["b", *(name for trips in range(4) for name in ["exp.1", *["tanh.5"] * trips]), "dot.4"]
    found = traced(tmp_path, [runs] * 3, NESTED)
    sums = found.by_instruction()
    assert sums["exp.1"].cost.transcendentals == 4 * N * N
    assert sums["tanh.5"].cost.transcendentals == 6 * N * N
    assert found.analysis.mean_trips == {"while.2": 1.5}
    # A loop in one that makes no trip makes none.
    found = traced(tmp_path, [["b", "once.more", "dot.4"]] * 3, NESTED)
    assert found.analysis.executed.transcendentals == 0
    assert not found.analysis.unknown_loops


# The branches have one product and two, and the last one only hands on its operand.
BRANCHES = """HloModule jit_step, is_scheduled=true

%one (p: f32[64,64]) -> f32[64,64] {
  %p = f32[64,64] parameter(0)
  ROOT %dot.1 = f32[64,64] dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%two (q: f32[64,64]) -> f32[64,64] {
  %q = f32[64,64] parameter(0)
  %dot.2 = f32[64,64] dot(%q, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %dot.3 = f32[64,64] dot(%dot.2, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%none (r: f32[64,64]) -> f32[64,64] {
  ROOT %r = f32[64,64] parameter(0)
}

ENTRY %main (i: s32[], a: f32[64,64]) -> f32[64,64] {
  %i = s32[] parameter(0)
  %a = f32[64,64] parameter(1)
  %b = f32[64,64] copy(%a)
  %conditional.1 = f32[64,64] conditional(%i, %b, %b, %b), branch_computations={%one, %two, %none}
  ROOT %dot.4 = f32[64,64] dot(%conditional.1, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
INSIDE = {"one": ["dot.1"], "two": ["dot.2", "dot.3"], "none": []}


def taking(branch):
    return ["b", *INSIDE[branch], "dot.4"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("taken", "products"),
    [("one one one", 1), ("two two", 2), ("one two one", 1), ("two one two", 2), ("none none one two", 0)],
)
def test_the_branch_of_a_conditional_is_that_of_the_trace(taken, products, tmp_path):
    names = taken.split()
    found = traced(tmp_path, [taking(name) for name in names], BRANCHES)
    assert found.runs == len(names)
    assert found.flops == (products + 1) * DOT
    # Each product takes 1 us, and so does the copy.
    assert found.seconds == pytest.approx((products + 2) * 1e-6)
    assert found.total.flops_per_second == pytest.approx((products + 1) * DOT / found.seconds)
    alike = len(set(names)) == 1
    assert found.analysis.exact == alike
    index = list(INSIDE).index({0: "none", 1: "one", 2: "two"}[products])
    if alike:
        assert f"The branch of the conditional conditional.1 is that of the trace: {index}." in found.notes
    else:
        assert f"those of the median run count: branch {index} (1 x)." in " ".join(str(found).split())
    # XLA's count does not depend on the trace.
    assert found.analysis.total.flops == 3 * DOT


@pytest.mark.once
def test_a_conditional_whose_branch_the_trace_does_not_tell_counts_the_branch_with_most_work(tmp_path):
    # In the second trace neither of two branches has an event, so that either may have run.
    for names in (["none"] * 3, ["none", "none", "one"]):
        found = traced(tmp_path, [taking(name) for name in names], BRANCHES)
        assert found.flops == 3 * DOT
        assert not found.analysis.exact
        assert "the branch with most work counts" in " ".join(str(found).split())


def test_a_branch_of_a_real_profile_counts_as_the_data_says(tmp_path):
    found = profile(tmp_path, choose, (True, True, True))
    branch = found.by_scope()["branch"]
    in_branches = [row for row in found.rows if not row.entry and row.measured]
    if not in_branches:
        # XLA may trace a conditional as one instruction.
        assert not found.analysis.exact
        return
    assert PRODUCT <= branch.cost.flops < 1.01 * PRODUCT
    assert branch.timed.flops == branch.cost.flops
    assert found.analysis.exact
