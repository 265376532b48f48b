"""Runs that differ, because loops and branches depend on data: all of them are runs, with the work that each did."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from traces import OPEN, written

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


def traced(folder, runs):
    """The join of the open loop with runs, each a list of instructions that take 1 us one after the other."""
    events = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/host:CPU"}}]
    at = 0
    for number, names in enumerate(runs):
        for name in names:
            args = {"hlo_op": name, "hlo_module": "jit_step", "run_id": str(number)}
            events.append({"ph": "X", "pid": 1, "tid": 1, "ts": at, "dur": 1, "name": name, "args": args})
            at += 1
        at += 100
    trace = written(folder, "host.trace.json", json.dumps({"traceEvents": events}).encode())
    return costax.join(written(folder, "module.txt", OPEN.encode()), trace)


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
