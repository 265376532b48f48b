"""What nobody can count is listed with its reason, and is never a silent zero."""

from __future__ import annotations

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

import costax
from costax.cli.delivery import check_exact
from costax.core.cost import Cost
from costax.errors import BudgetError, CheckError, MissingRuleError, Uncountable


def foreign(x):
    return jax.ffi.ffi_call("my_library", jax.ShapeDtypeStruct(x.shape, x.dtype))(x) + 1


def inverse(x):
    return jax.pure_callback(np.linalg.inv, jax.ShapeDtypeStruct(x.shape, x.dtype), x) @ x


def logged(x):
    return io_callback(lambda y: np.float32(y.sum()), jax.ShapeDtypeStruct((), x.dtype), x, ordered=True) + x


# By primitive: a program, the FLOPs of the rest of it, the bytes that the call moves, and what the reason names.
FOREIGN = {
    "pure_callback": (inverse, 2 * 8 * 8 * 8, 2 * 8 * 8 * 4, "`inv`"),
    "io_callback": (logged, 8 * 8, 8 * 8 * 4 + 4, "on the host"),
    "ffi_call": (foreign, 8 * 8, 2 * 8 * 8 * 4, "'my_library'"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("on_missing", ["raise", "warn"])
def test_callbacks_and_foreign_functions_are_listed_and_the_rest_is_counted(name, on_missing):
    program, flops, nbytes, named = FOREIGN[name]
    warning = pytest.warns(costax.UncountedWarning, match=name) if on_missing == "warn" else nullcontext()
    with warning:
        analysis = costax.analyze(program, on_missing=on_missing)(costax.spec("f32[8,8]"))
    assert [missing.primitive for missing in analysis.uncounted] == [name]
    assert named in analysis.uncounted[0].reason
    assert "test_uncounted.py" in analysis.uncounted[0].where
    assert not analysis.exact
    assert analysis.exactness == "incomplete"
    assert analysis.total.flops == flops
    assert analysis.by_primitive()[name].bytes_unfused == nbytes
    assert name in " ".join(analysis.memory.doubts)


@pytest.mark.parametrize("name", FOREIGN)
def test_calls_in_loops_branches_and_gradients_are_listed(name):
    program = FOREIGN[name][0]

    def inside(x):
        x = lax.scan(lambda c, _: (program(c), None), x, None, length=3)[0]
        return lax.cond(x.sum() > 0, program, lambda y: y, x)

    analysis = costax.analyze(jax.jit(inside))(costax.spec("f32[8,8]"))
    assert sum(missing.count for missing in analysis.uncounted) == 2
    assert not analysis.exact


@pytest.mark.parametrize("name", FOREIGN)
def test_strict_fails_on_callbacks_and_foreign_functions(name):
    analysis = costax.analyze(FOREIGN[name][0])(costax.spec("f32[8,8]"))
    with pytest.raises(CheckError, match=name):
        check_exact(analysis)
    with pytest.raises(BudgetError, match=name):
        analysis.check(uncounted=0)
    assert "exact" in str(analysis)
    assert f"incomplete: not counted {name} at" in str(analysis)


def test_a_foreign_function_beside_a_missing_rule_is_not_an_error_of_its_own():
    def rule(eqn):
        raise Uncountable("depends on the data")

    with pytest.raises(MissingRuleError) as error:
        costax.analyze(lambda x: jnp.sin(inverse(x)), rules={"sin": rule})(costax.spec("f32[8,8]"))
    assert [missing.primitive for missing in error.value.missing] == ["sin"]


def test_a_rule_for_one_call_counts_a_foreign_function():
    def rule(eqn):
        assert eqn.params["target_name"] == "my_library"
        return Cost.arithmetic(eqn.out.dtype, 7 * eqn.out.size)

    analysis = costax.analyze(foreign, rules={"ffi_call": rule})(costax.spec("f32[4,8]"))
    assert analysis.exact
    assert analysis.total.flops == 8 * (4 * 8)


def test_a_rule_of_the_users_may_say_that_it_cannot_know():
    def rule(eqn):
        raise Uncountable("depends on the data")

    with pytest.raises(MissingRuleError, match="it depends on the data"):
        costax.analyze(jnp.sin, rules={"sin": rule})(costax.spec("f32[4]"))


def test_what_a_loop_cannot_count_is_listed_once_and_its_body_still_runs():
    def looped(x):
        return lax.scan(lambda carry, _: (foreign(carry), None), x, None, length=5)[0]

    with pytest.warns(costax.UncountedWarning):
        analysis = costax.analyze(looped, on_missing="warn")(costax.spec("f32[4]"))
    assert [missing.count for missing in analysis.uncounted] == [1]
    assert analysis.total.flops == 5 * 4


def test_printing_is_free():
    def printed(x):
        jax.debug.print("sum {}", x.sum())
        jax.debug.callback(print, x)
        return x + 1

    analysis = costax.analyze(printed)(costax.spec("f32[4,8]"))
    assert analysis.exact
    assert analysis.total.flops == 4 * 8 + 4 * 8 - 1


def test_an_axis_whose_size_is_not_in_the_program_is_named():
    jaxpr = jax.make_jaxpr(lambda x: lax.psum(x, "devices"), axis_env=[("devices", 4)])(jnp.zeros(3))
    with pytest.raises(MissingRuleError, match="'devices'"):
        costax.analyze(jaxpr)()
