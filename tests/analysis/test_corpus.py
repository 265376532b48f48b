"""Real programs: all is counted, parts add up to their wholes, and XLA counts the same or the reason is known."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from corpus import Program, made, parameters, programs
from corpus.random_programs import programs as random_programs
from costax import Cost
from costax.core.cost import FIELDS
from costax.program.tree import Node

# Eight in the process that `test_programs_for_eight_devices_pass_too` starts, else one.
PROGRAMS = list(programs(devices=jax.device_count()))

# The programs with a loop that runs as often as its values say.
UNKNOWN_LOOPS = {
    "control/while_until_small",
    "control/while_power_iteration",
    "control/while_vmap",
    "control/fori_dynamic",
    "control/fori_triangle",
    "numerics/random_poisson",
    "functions/gcd",
    "functions/exponential_integral",
    "libraries/equinox_loop_gradient",
    "libraries/diffrax_ode",
    "libraries/diffrax_adjoint",
    "libraries/lineax_conjugate_gradient",
    "libraries/optimistix_newton",
}

every_program = pytest.mark.parametrize("program", parameters(PROGRAMS))


@functools.cache
def analysis(program: Program) -> costax.Analysis:
    fn, args = made(program)
    return costax.analyze(fn, loops_once=True)(*args)


@pytest.mark.parametrize("program", parameters(p for p in PROGRAMS if p.name in UNKNOWN_LOOPS))
def test_formulas_with_one_run_for_each_loop_are_the_counts_with_loops_once(program):
    fn, args = made(program)
    found = costax.analyze(fn)(*args)
    # Else another branch may be the costliest.
    assert not found.conditions
    once = {place: 1 for place in found.symbols}
    assert once
    assert found.evaluate(once).by_primitive().keys() == analysis(program).by_primitive().keys()
    assert found.evaluate(once).total.macs == analysis(program).total.macs


def nodes(root: Node) -> Iterator[Node]:
    seen: set[int] = set()
    rest = [root]
    while rest:
        node = rest.pop()
        if id(node) not in seen:
            seen.add(id(node))
            rest.extend(node.children)
            yield node


def check_whole_numbers(total: Cost):
    for name in FIELDS:
        count = getattr(total, name)
        assert type(count) is int, name
        assert count >= 0, name
    assert total.padding_macs <= total.macs


def check_sums(found: costax.Analysis):
    for table in (
        found.by_scope(),
        found.by_scope(depth=1),
        found.by_primitive(),
        found.by_scope_and_primitive(),
        found.by_source(),
        found.by_direction(),
        found.by_dtype(),
    ):
        assert Cost.sum(table.values()) == found.total
    for node in nodes(found.tree):
        assert node.total == (node.own + Cost.sum(child.total for child in node.children)) * node.times


def test_the_corpus_is_large_and_mostly_exact():
    assert len(PROGRAMS) >= 300
    assert sum(program.exact for program in PROGRAMS) >= 200


@every_program
def test_every_program_is_counted_in_whole_numbers(program):
    found = analysis(program)
    # equinox raises its errors in callbacks.
    assert {missing.primitive for missing in found.uncounted} <= {"pure_callback"}
    assert not found.uncounted or program.family == "libraries"
    assert bool(found.unknowns) == (program.name in UNKNOWN_LOOPS)
    check_whole_numbers(found.total)
    check_whole_numbers(found.per_device)


@every_program
def test_parts_add_up_to_the_whole(program):
    check_sums(analysis(program))


@pytest.mark.parametrize("program", parameters(PROGRAMS[::10]))
def test_an_analysis_leaves_the_program_as_it_was(program):
    fn, args = made(program)
    traced = jax.jit(fn).trace(*args)
    jaxpr, lowered = str(traced.jaxpr), traced.lower().as_text()
    costax.analyze(traced)()
    assert (str(traced.jaxpr), traced.lower().as_text()) == (jaxpr, lowered)


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() != 1, reason="runs in the process with one device")
def test_programs_for_eight_devices_pass_too():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "sharded/", str(Path(__file__))],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


# Random programs.

# The same programs each time, but for `nox -s long`, which asks for others.
RANDOM = settings(
    max_examples=100,
    derandomize="COSTAX_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.slow
@RANDOM
@given(random_programs())
def test_random_programs_add_up(program):
    found = costax.analyze(program, loops_once=True)(*program.args)
    check_whole_numbers(found.total)
    check_sums(found)


@pytest.mark.slow
@RANDOM
@given(random_programs(), st.integers(0, 4))
def test_transformations_of_random_programs_keep_their_work(program, n):
    def total(fn, *args):
        return costax.analyze(fn)(*args).total

    def lead(size):
        return [jax.ShapeDtypeStruct((size, *x.shape), x.dtype) for x in program.args]

    alone = total(program, *program.args)
    assert total(jax.jit(program), *program.args) == alone
    assert total(jax.vmap(program), *lead(1)).macs == alone.macs
    scanned = total(lambda *xs: lax.map(lambda x: program(*x), xs), *lead(n))
    assert scanned.macs == n * alone.macs
    assert scanned.ops == n * alone.ops
