"""Programs that do not trace with symbols: formulas through concrete analyses, held against others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.errors import InputError, SymbolError, SymbolicError


def over_steps(x):
    return lax.scan(lambda c, i: (jnp.tanh(c @ x[i]), None), x[0], jnp.arange(int(x.shape[0])))[0]


def unrolled(x):
    for i in range(x.shape[0]):
        with jax.named_scope("step"):
            x = x.at[i].multiply(2.0)
    return x


def odd_ones_out(x):
    return jnp.exp(x) if x.shape[0] % 2 else x * 2.0


def even_ones_out(x):
    return jnp.exp(x) if x.shape[0] % 2 == 0 else x * 2.0


def seven_out(x):
    return jnp.exp(x) if x.shape[0] == 7 else x * 2.0


def harmless(x):
    assert x.shape[0] != 7 or x.ndim == 2
    return x * 2.0


def padded(x):
    n = int(x.shape[0])
    return jnp.sin(jnp.pad(x, (0, -n % 4)))


def triangle(x):
    return sum(jnp.sum(x[: int(i)]) for i in range(1, int(x.shape[0]) + 1))


def compared(fn, sizes, *specs):
    """The analysis with symbols, held against analyses at sizes that it has not seen."""
    analysis = costax.analyze(fn)(*map(costax.spec, specs))
    for size in sizes:
        plain = [costax.spec(text.partition(";")[0].replace("s", str(size))) for text in specs]
        exact = costax.analyze(fn)(*plain)
        there = analysis.evaluate(s=size)
        assert {k: v for k, v in there.rows.items() if v} == {k: v for k, v in exact.rows.items() if v}
        assert there.total == exact.total
    return analysis


def test_a_scan_over_a_symbolic_length_is_interpolated():
    analysis = compared(over_steps, (2, 33, 100), "f32[s,8,8]")
    assert analysis.exact_by == "interpolation"
    assert "requires a constant" in analysis.reason
    assert str(analysis.formula("macs")) == f"{8 * 8 * 8}*s"
    assert "come from exact interpolation" in str(analysis)


def test_a_python_loop_over_a_size_is_interpolated():
    analysis = compared(unrolled, (3, 21), "f32[s,4]")
    assert analysis.exact_by == "interpolation"
    assert analysis.degree("s") == 1


def test_a_cost_that_goes_by_residues_is_a_quasi_polynomial():
    analysis = compared(odd_ones_out, (2, 3, 50, 51), "f32[s,4]")
    assert analysis.total.transcendentals.value({"s": 7}) == 7 * 4
    assert analysis.total.transcendentals.value({"s": 8}) == 0
    assert "floordiv(s" in str(analysis.total.transcendentals)


def test_equality_of_residues_is_not_what_jax_says_it_is():
    analysis = compared(even_ones_out, (2, 3, 50, 51), "f32[s,4]")
    assert analysis.exact_by == "interpolation"


def test_a_comparison_that_changes_the_program_at_one_size_is_a_condition():
    analysis = compared(seven_out, (1, 2, 3, 50), "f32[s,4]")
    assert analysis.exact_by == "tracing"
    with pytest.raises(SymbolError, match="s - 7 != 0"):
        analysis.evaluate(s=7)
    assert not compared(harmless, (1, 7, 9), "f32[s,4]").conditions


def test_a_size_that_is_padded_to_a_multiple_is_a_floor():
    analysis = compared(padded, (2, 4, 9, 31), "f32[s]")
    assert [analysis.total.transcendentals.value({"s": s}) for s in (2, 3, 4, 5, 9)] == [4, 4, 4, 8, 12]


def test_a_sum_of_sums_is_quadratic_with_rational_coefficients():
    analysis = compared(triangle, (2, 5, 40), "f32[s]")
    assert analysis.degree("s") == 2
    assert "1/2*s^2" in str(analysis.total.flops)


def test_constraints_choose_the_sizes_that_are_tried():
    def halves(x):
        return jnp.cumsum(x.reshape(int(x.shape[0]) // 4, 4), axis=1)

    analysis = compared(halves, (8, 64), "f32[s]; mod(s, 4) == 0, s >= 8")
    assert analysis.exact_by == "interpolation"
    with pytest.raises(SymbolError, match=r"mod\(s, 4\) == 0"):
        analysis.evaluate(s=10)


def test_a_loop_of_unknown_length_stays_a_symbol():
    def fn(x):
        return lax.while_loop(lambda c: c.sum() > 1, lambda c: c * 0.5, sum(list(x)))

    analysis = costax.analyze(fn)(costax.spec("f32[s,4]"))
    assert analysis.exact_by == "interpolation"
    assert (
        analysis.evaluate({"while": 10}, s=6).total
        == costax.analyze(fn, trips={"while": 10})(costax.spec("f32[6,4]")).total
    )


def by_halving(x):
    while x.shape[0] > 1:
        x = x[: int(x.shape[0]) // 2] * 2.0
    return x


def by_table(x):
    return jnp.exp(x) if int(x.shape[0]) in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12) else x


@pytest.mark.parametrize(
    ("fn", "message"),
    [(by_halving, "quasi-polynomial of degree 5 or less explains"), (by_table, "but the formula from smaller sizes")],
)
def test_what_is_no_polynomial_is_refused_loudly(fn, message):
    with pytest.raises(SymbolicError, match=message) as caught:
        costax.analyze(fn)(costax.spec("f32[s,4]"))
    assert "One trace with symbols did not give a formula" in str(caught.value)
    assert "costax.sweep" in caught.value.cure


def test_a_program_that_takes_no_sizes_at_all_says_what_it_says_of_numbers():
    with pytest.raises(InputError, match=r"contracting dimensions|cannot be|incompatible"):
        costax.analyze(lambda x, w: x @ w)(costax.spec("f32[s,8]"), costax.spec("f32[9,s]"))


def test_constraints_that_leave_nothing_are_refused():
    with pytest.raises((SymbolicError, InputError)):
        costax.analyze(lambda x: x[: int(x.shape[0])])(costax.spec("f32[s]", "s >= 4", "s <= 5"))
