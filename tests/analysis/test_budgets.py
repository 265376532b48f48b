"""Budgets: the limits of a program, and the message for a program that exceeds them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.errors import BudgetError, InputError, UnitError
from costax.program.tree import Row


def net(w, x):
    with jax.named_scope("layer_0"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("layer_1"):
        return jnp.tanh(x @ w)


SHAPES = (costax.spec("f32[8,8]"), costax.spec("f32[4,8]"))
MACS = 2 * 4 * 8 * 8


def counted() -> Analysis:
    return costax.analyze(net, params_argnums=0)(*SHAPES)


@pytest.mark.parametrize(
    "limits",
    [
        {"macs": MACS, "flops": "1.024 kFLOP", "transcendentals": 64},
        {"params": 64, "param_bytes": "256 B", "uncounted": 0},
        {"bytes_unfused": "1 MiB", "peak_bytes": "1 MiB", "collective_bytes": 0, "ops": None},
    ],
)
def test_a_program_within_its_budget_passes(limits):
    analysis = counted()
    assert analysis.check(**limits) is analysis
    assert analysis.check(costax.Budget(**limits)) is analysis


def test_a_program_over_its_budget_says_where_the_work_is():
    with pytest.raises(BudgetError) as caught:
        counted().check(macs=MACS - 1, params="1 k")
    assert str(caught.value) == (
        "`net` is over its budget in macs.\n"
        "  macs 512 MAC of 511 MAC, 0.2 % over: 512 of 511\n"
        "     50.0 %     256 MAC  layer_0\n"
        "     50.0 %     256 MAC  layer_1\n"
        "Reduce the cost of the program, or raise the budget."
    )


def test_a_loop_of_unknown_length_is_uncounted():
    analysis = costax.analyze(lambda x: jax.lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: c * 2, x))(SHAPES[1])
    with pytest.raises(BudgetError, match="while"):
        analysis.check(uncounted=0)


def test_a_limit_that_cannot_be_checked_is_an_error():
    with pytest.raises(BudgetError, match="params_argnums"):
        costax.analyze(net)(*SHAPES).check(params=1)
    with pytest.raises(UnitError, match="4 GMAC"):
        counted().check(macs="4 apples")
    with pytest.raises(TypeError, match="speed"):
        counted().check(speed=1)


def test_the_decorator_stops_a_function_before_it_runs():
    ran = []

    @costax.budget(macs=4 * 8 * 3)
    def product(a, b):
        ran.append(a.shape)
        return a @ b

    small, weights = jnp.ones((4, 8)), jnp.ones((8, 3))
    assert product(small, weights).shape == (4, 3)
    # Once while it is traced, once for the answer; the same shapes are not traced again.
    before = len(ran)
    product(small, weights)
    assert len(ran) == before + 1
    with pytest.raises(BudgetError, match="macs"):
        product(jnp.ones((5, 8)), weights)
    assert product.__name__ == "product"
    assert jax.jit(product)(small, weights).shape == (4, 3)


def test_a_budget_is_read_when_the_decorator_is_applied():
    with pytest.raises(UnitError):
        costax.budget(flops="many")


def test_a_loaded_record_has_no_peak():
    rows = {Row(("block_0",), "forward", "dot_general", ""): Cost.macs_of("f32", 1)}
    with pytest.raises(InputError, match="from a record"):
        Analysis("model", Cost.sum(rows.values()), saved_rows=rows).check(peak_bytes=1)


def test_a_formula_is_within_no_budget_until_it_has_values():
    analysis = costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]"))
    # jax writes the product transposed or not; the formula is the same.
    with pytest.raises(BudgetError, match=r"b\*?"):
        analysis.check(macs="1 k")
    with pytest.raises(BudgetError, match="contain symbols"):
        costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]")).check(macs="1 k")
    wide = costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]")).evaluate(b=4)
    assert wide.check(macs=4 * 8 * 3).total.macs == 96
