"""What nobody can count is listed with its reason, and is never a silent zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.core.cost import Cost
from costax.errors import MissingRuleError, Uncountable


def foreign(x):
    return jax.ffi.ffi_call("my_library", jax.ShapeDtypeStruct(x.shape, x.dtype))(x) + 1


def test_a_foreign_function_is_an_error_that_names_its_target():
    with pytest.raises(MissingRuleError, match="my_library") as error:
        costax.analyze(foreign)(costax.spec("f32[4,8]"))
    assert "test_uncounted.py" in str(error.value)
    assert "override=True" in str(error.value)


def test_a_foreign_function_is_listed_on_request_and_the_rest_is_counted():
    with pytest.warns(costax.UncountedWarning, match="ffi_call"):
        analysis = costax.analyze(foreign, on_missing="warn")(costax.spec("f32[4,8]"))
    assert [missing.primitive for missing in analysis.uncounted] == ["ffi_call"]
    assert "my_library" in analysis.uncounted[0].reason
    assert not analysis.exact
    assert analysis.total.flops == 4 * 8


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


def test_a_callback_does_its_work_on_the_host_and_moves_bytes():
    def called(x):
        jax.debug.print("sum {}", x.sum())
        return jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    analysis = costax.analyze(called)(costax.spec("f32[4,8]"))
    assert analysis.exact
    parts = analysis.by_primitive()
    assert parts["pure_callback"].ops == 0
    assert parts["pure_callback"].bytes_unfused == 2 * 4 * 8 * 4


def test_an_axis_whose_size_is_not_in_the_program_is_named():
    jaxpr = jax.make_jaxpr(lambda x: lax.psum(x, "devices"), axis_env=[("devices", 4)])(jnp.zeros(3))
    with pytest.raises(MissingRuleError, match="'devices'"):
        costax.analyze(jaxpr)()
