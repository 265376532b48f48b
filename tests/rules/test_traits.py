"""What primitives are is said once, beside their rules; everything else reads it there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend import core
from jax.interpreters import mlir

import costax
from costax.core.cost import Cost
from costax.rules.registry import REGISTRY
from costax.rules.traits import ELEMENTWISE, NO_TRAITS, UNDECLARED, Traits

# Names of the primitives that have a rule, by the version of jax in which a primitive of that name exists.
LIVE = json.loads((Path(__file__).parents[1] / "data" / "live_primitives.json").read_text())

# Run in a process of its own, for it imports all of jax, and libraries that bring primitives.
ENUMERATE = Path(__file__).parents[1] / "data" / "live_primitives.py"


def f32(*shape):
    return costax.spec(f"f32[{','.join(map(str, shape))}]")


def test_every_rule_has_traits():
    assert [name for name, rule in costax.rules().items() if rule.traits is UNDECLARED] == []


def test_every_name_with_a_rule_is_a_primitive_of_a_supported_jax():
    assert sorted(costax.rules().keys() - set().union(*LIVE.values())) == []


@pytest.mark.slow
def test_the_recorded_names_exist_in_this_jax():
    if jax.__version__ not in LIVE:
        pytest.skip(f"no names are recorded for jax {jax.__version__}")
    command = [sys.executable, "-W", "ignore", str(ENUMERATE), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sorted(set(LIVE[jax.__version__]) - set(json.loads(done.stdout.splitlines()[-1]))) == []


@pytest.mark.parametrize("name", costax.rules())
def test_traits_do_not_contradict_each_other(name):
    traits = costax.rules()[name].traits
    assert not (traits.view and traits.elementwise), "a view computes nothing"
    assert not (traits.contraction and traits.computed_where_used), "a contraction reads buffers"
    assert not (traits.in_place and traits.fuses), "an update needs a buffer to write to"
    assert not (traits.collective and traits.computed_where_used), "devices exchange buffers"
    assert not traits.series_arrays or traits.implementation == "series"
    assert not (traits.permutes or traits.repeats) or traits.moves


def once(wrap):
    """A loop of ten steps whose bound comes out of a call: 16 * 10 transcendentals."""

    def program(x):
        bound = wrap(lambda n: n + 1)(9)
        return lax.while_loop(lambda c: c[0] < bound, lambda c: (c[0] + 1, jnp.tanh(c[1])), (0, x))[1]

    return program


def with_custom_vjp(function):
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda n: (function(n), None), lambda _, cotangent: (cotangent,))
    return wrapped


def with_custom_jvp(function):
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda primals, tangents: (function(*primals), tangents[0]))
    return wrapped


CALLS = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "custom_vjp": with_custom_vjp,
    "custom_jvp": with_custom_jvp,
    "composite": lambda function: lax.composite(function, "my.function"),
    "nested": lambda function: jax.jit(jax.checkpoint(lax.composite(function, "my.function"))),
}


@pytest.mark.parametrize("wrap", CALLS.values(), ids=list(CALLS))
def test_the_bound_of_a_loop_is_known_through_every_call(wrap):
    analysis = costax.analyze(once(wrap))(f32(16))
    assert analysis.total.transcendentals == 16 * 10
    assert analysis.exact
    assert analysis.unknowns == ()


def test_a_bound_that_a_call_takes_from_an_argument_stays_unknown():
    def program(x, n):
        bound = jax.checkpoint(lambda n: n + 1)(n)
        return lax.while_loop(lambda c: c[0] < bound, lambda c: (c[0] + 1, jnp.tanh(c[1])), (0, x))[1]

    assert [u.place for u in costax.analyze(program)(f32(16), costax.spec("i32[]")).unknowns] == ["while"]


def halvings(x):
    return lax.while_loop(lambda v: v > 1.0, lambda v: v / 2, x)


def test_trips_are_counted_inside_a_composite():
    assert costax.count_trips(lambda x: lax.composite(halvings, "my.halvings")(x))(1000.0) == {"while": 10}


def test_trips_are_counted_inside_a_linear_solver():
    def solve(b):
        return lax.custom_linear_solve(lambda x: 2 * x, b, lambda matvec, b: halvings(b))

    assert costax.count_trips(solve)(1000.0) == {"while": 10}


# A primitive of a user: as rectify, which jax does not know.
rectify = core.Primitive("test_rectify")
rectify.def_abstract_eval(lambda x: x)
rectify.def_impl(lambda x: jnp.maximum(x, 0))
mlir.register_lowering(rectify, mlir.lower_fun(lambda x: jnp.maximum(x, 0), multiple_results=False))


@pytest.fixture
def with_traits(request):
    with REGISTRY.restored():

        @costax.cost_rule("test_rectify", traits=request.param)
        def rule(eqn):
            return Cost.arithmetic(eqn.out.dtype, eqn.out.size)

        yield


def chain(activation):
    return lambda x: activation(activation(x * 2.0) + 1.0)


@pytest.mark.parametrize("with_traits", [ELEMENTWISE], indirect=True)
def test_the_primitive_of_a_user_is_fused_like_the_same_function_of_jax(with_traits):
    # 4 MiB in and 4 MiB out; nothing in between has a buffer, and all of it is one kernel.
    users = costax.analyze(chain(rectify.bind))(f32(1024, 1024))
    ours = costax.analyze(chain(lambda x: jnp.maximum(x, 0)))(f32(1024, 1024))
    assert users.fused_peak_bytes == ours.fused_peak_bytes == 2 * 4 * 1024**2
    assert len(users.kernels()) == len(ours.kernels()) == 1
    seconds = [costax.predict(a, "h100-sxm").seconds for a in (users, ours)]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.01)


@pytest.mark.parametrize("with_traits", [UNDECLARED, NO_TRAITS], indirect=True)
def test_a_primitive_without_traits_reads_and_writes_buffers(with_traits):
    analysis = costax.analyze(chain(rectify.bind))(f32(1024, 1024))
    assert analysis.fused_peak_bytes > 2 * 4 * 1024**2
    assert len(analysis.kernels()) > 1


def test_another_cost_for_a_primitive_leaves_its_traits():
    def expensive(eqn):
        return Cost.arithmetic(eqn.out.dtype, 7 * eqn.out.size)

    plain = costax.analyze(chain(jnp.tanh))(f32(1024, 1024))
    dearer = costax.analyze(chain(jnp.tanh), rules={"tanh": expensive})(f32(1024, 1024))
    assert dearer.total.flops == plain.total.flops + 2 * 7 * 1024**2
    assert dearer.fused_peak_bytes == plain.fused_peak_bytes


@pytest.mark.parametrize("with_traits", [Traits(unmodelled=True)], indirect=True)
def test_the_workspace_of_a_primitive_may_be_a_doubt(with_traits):
    assert costax.analyze(rectify.bind)(f32(8)).memory.doubts == ("test_rectify",)
