"""Loops whose length depends on data: a trace says how often they ran. And work without a name or a time."""

from __future__ import annotations

import gzip
import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.report.join import to_record
from traces import FIRST, OPEN, STEP, TRIPS, N, chrome_json, csv_table, written


@pytest.fixture
def program(tmp_path):
    return written(tmp_path, "module.txt", OPEN.encode())


@pytest.mark.once
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_trip_count_of_a_loop_is_that_of_the_trace(program, tmp_path, kind):
    (loop,) = costax.analyze(program)().unknown_loops
    assert loop.name == "while.1"
    trace = written(tmp_path, "host.trace.json.gz", chrome_json(kind))
    found = costax.join(program, trace)
    assert found.runs == 2
    assert found.analysis.executed.transcendentals == TRIPS * N * N
    assert found.by_instruction()["tanh.5"].cost.transcendentals == TRIPS * N * N
    assert found.analysis.exact
    assert f"The trip count of while.1 is that of the trace: {TRIPS}." in found.notes
    # Who sets it is right.
    assert costax.join(program, trace, trips={"while.1": 7}).analysis.executed.transcendentals == 7 * N * N


@pytest.mark.once
def test_a_loop_that_runs_differently_often_is_not_exact(program, tmp_path):
    shown = json.loads(gzip.decompress(chrome_json("gpu")))
    last = max(i for i, event in enumerate(shown["traceEvents"]) if event.get("name") == "tanh.5")
    del shown["traceEvents"][last]
    found = costax.join(program, written(tmp_path, "host.trace.json", json.dumps(shown).encode()))
    # Of two runs the time and the work are those of the faster one.
    assert found.analysis.mean_trips == {"while.1": TRIPS}
    assert found.by_instruction()["tanh.5"].seconds == pytest.approx(TRIPS * FIRST["tanh.5"] * 1e-9)
    assert not found.analysis.exact
    assert not to_record(found)["exact"]
    assert f"Not exact: while.1 ran differently often; its body counts {TRIPS} times, as in the median run." in str(
        found
    )


@pytest.mark.once
def test_a_table_of_times_does_not_tell_a_trip_count(program, tmp_path):
    assert FIRST["tanh.5"]
    found = costax.join(program, written(tmp_path, "times.csv", csv_table()))
    assert found.analysis.executed.transcendentals == N * N
    assert not found.analysis.exact
    assert "The trip count of while.1 is unknown" in str(found)


def halve(x, half):
    def step(x):
        return x @ half

    with jax.named_scope("net"):
        return lax.while_loop(lambda x: x[0, 0] > 1, step, x)


def test_a_loop_of_a_real_profile_runs_as_often_as_the_data_says(tmp_path):
    # 2^10 is halved until it is 1: ten times.
    size, trips = 192, 10
    x, half = jnp.full((size, size), 2.0**trips), 0.5 * jnp.eye(size)
    step = jax.jit(halve)
    assert float(jax.block_until_ready(step(x, half))[0, 0]) == 1
    with jax.profiler.trace(tmp_path):
        for _ in range(3):
            jax.block_until_ready(step(x, half))
    found = costax.join(None, tmp_path)
    product = 2 * size**3
    in_body = [row for row in found.rows if row.opcode in ("dot", "fusion", "custom-call") and not row.entry]
    if not any(row.measured for row in in_body):
        # XLA of jax 0.12 traces such a loop as one instruction.
        assert not found.analysis.exact
        assert "is unknown" in str(found)
        return
    assert trips * product <= found.flops < 1.01 * trips * product
    assert found.achieved_flops / found.seconds == pytest.approx(found.flops / found.step.median)
    # The product has no name in the module of XLA, and the loop around it has one.
    assert found.by_scope()["net"].cost.flops >= trips * product


def test_a_run_of_which_the_trace_misses_most_says_so(tmp_path):
    # Two kernels of a microsecond, a millisecond apart.
    events = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/host:CPU"}},
        *(
            {"ph": "X", "pid": 1, "tid": 1, "ts": 5000 * run + at, "dur": 1, "name": name,
             "args": {"hlo_op": name, "hlo_module": "jit_step", "run_id": str(run)}}
            for run in range(2)
            for name, at in (("loop_fusion.3", 0), ("dot.2", 1000))
        ),
    ]  # fmt: skip
    trace = written(tmp_path, "host.trace.json", json.dumps({"traceEvents": events}).encode())
    program = written(tmp_path, "module.txt", STEP.encode())
    assert "No instruction of the trace runs during 999 us of a run" in str(costax.join(program, trace))
    trace = written(tmp_path, "full.trace.json.gz", chrome_json("cpu"))
    assert "No instruction of the trace" not in str(costax.join(program, trace))
