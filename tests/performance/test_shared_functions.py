"""Functions that a large program calls more than once: memory and kernels against the same program with calls inlined.

A small program is inlined whole, so its inlined numbers are the truth that the numbers with functions must meet.
"""

import random

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.performance.kernels import of_program
from costax.program import calls

pytestmark = pytest.mark.once

X = jax.ShapeDtypeStruct((8, 8), "float32")


def nested(depth):
    """A function of 2**depth calls of `x * sin(x)`, each level written once."""
    function = jax.jit(lambda x: jnp.sin(x) * x)
    for _ in range(depth):
        function = jax.jit(lambda x, inner=function: inner(inner(x)) + 1.0)
    return function


def with_functions(monkeypatch):
    monkeypatch.setattr(calls, "_MOST_INLINED", 0)
    monkeypatch.setattr(calls, "_SMALLEST_SHARED", 1)


def random_program(seed):
    """A program of functions that call earlier ones several times, with two operands and results of three kinds."""
    rng = random.Random(seed)

    def leaf(x, y):
        return jnp.sin(x) @ y, x

    functions = [jax.jit(leaf)]
    for _ in range(3):
        first, second = rng.choice(functions), rng.choice(functions)
        swap, repeat, looped = rng.random() < 0.5, rng.random() < 0.3, rng.random() < 0.3

        def function(x, y, first=first, second=second, swap=swap, repeat=repeat, looped=looped):
            a, b = first(x, x if repeat else y)
            c, d = second(b, a) if swap else second(a, b)
            if looped:
                c, _ = lax.scan(lambda c, _: (first(c, d)[0], None), c, None, length=3)
            e, _ = first(jnp.exp(c), d)
            # A sum, so that both operands stay alive until the end.
            return e + c, d + y

        functions.append(jax.jit(function))
    return functions[-1]


@pytest.mark.parametrize("seed", range(12))
def test_peak_memory_without_fusion_is_that_of_the_inlined_program(seed, monkeypatch):
    function = random_program(seed)
    inlined = costax.analyze(function)(X, X).memory
    truth = inlined.framework_peak, sum(b.nbytes for b in inlined.live_at_peak(None))
    with_functions(monkeypatch)
    memory = costax.analyze(function)(X, X).memory
    assert any(op.call for op in memory.region.ops)
    assert (memory.framework_peak, sum(b.nbytes for b in memory.live_at_peak(None))) == truth


@pytest.mark.parametrize("seed", range(4))
def test_kernels_with_functions_do_the_work_of_the_inlined_program(seed, monkeypatch):
    function = random_program(seed)
    analysis = costax.analyze(function)(X, X)
    with_functions(monkeypatch)
    monkeypatch.setattr("costax.performance.kernels._MOST_KERNELS", 0)
    kernels = of_program(costax.analyze(function)(X, X).memory.region, ())
    assert sum(k.times * k.flops for k in kernels) == analysis.total.flops
    # Each function has its kernels once, so there are fewer than runs.
    assert max(k.times for k in kernels) > 1


def test_a_function_in_the_fused_estimate_needs_no_less_than_the_inlined_program(monkeypatch):
    inlined = costax.analyze(nested(5))(X).memory.fused_estimate
    with_functions(monkeypatch)
    estimate = costax.analyze(nested(5))(X).memory.fused_estimate
    # Inlined, all is one kernel, which needs the argument and the result. A function stores its result: one more array.
    assert inlined == 2 * 256
    assert estimate == 3 * 256


def test_two_to_the_sixty_call_sites_end():
    analysis = costax.analyze(nested(60))(X)
    assert analysis.memory.framework_peak == 4 * 256
    assert analysis.memory.fused_estimate == 3 * 256
    assert analysis.memory.doubts == ()
    kernels = analysis.kernels()
    assert sum(k.times * k.flops for k in kernels) == analysis.total.flops
    assert analysis.total.flops == 64 * (2**60 + (2**60 - 1))
    assert costax.predict(analysis, "h100-sxm").seconds > 1e6


def test_a_program_of_ordinary_size_is_inlined():
    analysis = costax.analyze(nested(10))(X)
    assert not any(op.regions for op in analysis.memory.region.ops)
    assert len(analysis.memory.region.ops) == 3 * 2**10 - 1


def test_shared_loops_in_shared_functions_end():
    def scanned(inner):
        def function(x):
            once, _ = lax.scan(lambda c, _: (inner(c), None), x, None, length=2)
            again, _ = lax.scan(lambda c, _: (inner(c), None), once, None, length=2)
            return again + 1.0

        return jax.jit(function)

    function = jax.jit(jnp.sin)
    for _ in range(40):
        function = scanned(function)
    analysis = costax.analyze(function)(X)
    assert analysis.memory.framework_peak >= 2 * 256
    assert sum(sum(k.transcendental.values()) * k.times for k in analysis.kernels()) == 64 * 4**40


def test_results_without_number_take_no_quadratic_time():
    steps = []
    for n in (100, 200, 400):
        analysis = costax.analyze(lambda x, n=n: [jnp.sin(x @ x * i) for i in range(n)])(X)
        steps.append(_calls_of(lambda a=analysis: (a.memory.fused_estimate, a.memory.live_at_peak(None, fused=True))))
    assert steps[2] - steps[1] < 2.5 * (steps[1] - steps[0])


def _calls_of(function):
    """Return how many calls a function makes: its time, without the noise of a clock."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(function)
    return pstats.Stats(profile).total_calls
