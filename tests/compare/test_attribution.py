"""The chain from our count to XLA's: each step closes exactly, its work has owners, the replay is XLA's own number."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, given, settings

import costax
import mutations
from corpus import Program, made, parameters, programs
from corpus.random_programs import programs as random_programs
from costax.compare import causes
from costax.program.tree import Node

# Eight in the process that `test_programs_for_eight_devices_reconcile_too` starts, else one.
PROGRAMS = list(programs(devices=jax.device_count()))
# `nox -s long` asks for thousands, other ones each time; without it the same ones are tried everywhere.
EXAMPLES = os.environ.get("COSTAX_EXAMPLES", "")

STAGES = ("jaxpr", "lowered", "converted", "compiled", "xla")

every_program = pytest.mark.parametrize("program", parameters(PROGRAMS, compiled=True))


@functools.cache
def comparison(program: Program) -> costax.Comparison:
    fn, args = made(program)
    return costax.compare(fn)(*args)


def check_account(found: costax.Comparison):
    """What must hold of every comparison: each step closes exactly, and its work has an owner."""
    assert found.lowered.matches_xla is True
    assert found.compiled.matches_xla is True
    assert found.unexplained == ()
    assert {delta.stage for delta in found.deltas} <= set(STAGES)
    for name in ("flops", "transcendentals"):
        changed = {stage: sum(getattr(d, name) for d in found.deltas if d.stage == stage) for stage in STAGES}
        lowered = getattr(found.jaxpr.total, name) + sum(changed[stage] for stage in STAGES[:3])
        assert lowered == getattr(found.lowered.total, name)
        assert lowered + changed["compiled"] == getattr(found.compiled.total, name)
        assert lowered + changed["compiled"] + changed["xla"] == found.xla[name]
    for delta in found.deltas:
        # The condition of a batched loop stands in the module twice, so a loop that runs once counts for more.
        if delta.cause == causes.DEVICES or (delta.cause == causes.LOOP and "runs 1 times" not in delta.evidence):
            assert max(delta.flops, delta.transcendentals) <= 0, delta
        assert bool(delta.pass_name) == (delta.stage == "compiled")
    check_passes(found)
    for ledger in (found.lowered, found.compiled):
        assert ledger.attributed >= 0.999
        for property in ("flops", "transcendentals", "bytes"):
            assert sum(getattr(cost, property) for cost in ledger.instruction_costs) == getattr(ledger.total, property)


def check_passes(found: costax.Comparison):
    """What must hold of the steps of the passes."""
    trail = found.passes
    assert (trail.before, trail.after) == (found.lowered.total, found.compiled.total)
    for i in range(3):
        assert trail.before[i] + sum(step.cost[i] for step in trail.steps) == trail.after[i]
    for step in trail.steps:
        assert step.attributed >= 0.999, step.name
        deltas = [delta for delta in found.deltas if delta.run == step.number]
        assert {delta.pass_name for delta in deltas} <= {step.name}
        assert (sum(d.flops for d in deltas), sum(d.transcendentals for d in deltas)) == step.cost[:2]
        for i in range(3):
            assert sum(cost[i] for cost in step.owners.values()) == step.cost[i]


def loop_counters(node: Node, times: int = 1) -> int:
    """XLA's FLOPs for the counter of each scan: a comparison and an add, two more to find a place from the end."""
    times *= node.copies if node.loop else node.times
    own = 0
    if node.label == "scan":
        params = costax._jax.params(node.equation)
        sliced = len(node.equation.invars) > params["num_consts"] + params["num_carry"]
        flattened = params["length"] <= (params["unroll"] if params["unroll"] > 1 else 0)
        own = 0 if flattened else 4 if params["reverse"] and sliced else 2
    return own * times + sum(loop_counters(child, times) for child in node.children)


@pytest.mark.slow
@every_program
def test_every_step_closes_and_its_work_has_an_owner(program):
    check_account(comparison(program))


@pytest.mark.slow
@every_program
def test_lowering_adds_nothing_but_loop_counters(program):
    if not program.exact:
        pytest.skip(f"it adds more: {program.differs}")
    found = comparison(program)
    by_our_rules = [delta for delta in found.deltas if delta.stage == "jaxpr"]
    flops = found.jaxpr.total.flops + sum(delta.flops for delta in by_our_rules)
    assert found.lowered.xla["flops"] == flops + loop_counters(found.jaxpr.tree)
    transcendentals = found.jaxpr.total.transcendentals + sum(delta.transcendentals for delta in by_our_rules)
    assert found.lowered.xla["transcendentals"] == transcendentals
    # What jax adds belongs to the loops, or the conversion to HLO drops it.
    added: Counter[tuple[int, ...]] = Counter()
    for delta in found.deltas:
        if delta.stage in ("lowered", "converted"):
            added[delta.address] += delta.flops
    loops = {delta.address for delta in found.deltas if delta.cause == causes.CONTROL}
    assert {address for address, flops in added.items() if flops} <= loops


@pytest.mark.parametrize("program", parameters(PROGRAMS[::8], compiled=True))
def test_marks_do_not_change_what_xla_makes_of_a_program(program):
    fn, args = made(program)
    plain = jax.jit(fn).lower(*args)
    found = comparison(program)
    assert found.marked
    for ledger, stage in ((found.lowered, plain), (found.compiled, plain.compile())):
        theirs = stage.cost_analysis() or {}
        for name in ("flops", "transcendentals", "bytes accessed"):
            assert ledger.xla.get(name, 0) == theirs.get(name, 0)


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() != 1, reason="runs in the process with one device")
def test_programs_for_eight_devices_reconcile_too():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "sharded/", str(Path(__file__))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.slow
@settings(
    max_examples=int(EXAMPLES or 60), derandomize=not EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(random_programs())
def test_random_programs_reconcile(program):
    check_account(costax.compare(program)(*program.args))


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("seed", range(int(EXAMPLES or 8)))
def test_mutated_programs_reconcile(seed):
    _, fn, args = mutations.programs(seed)
    check_account(costax.compare(fn)(*args))
