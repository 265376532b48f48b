"""Polynomials behave as the integers that they stand for, at every point."""

from __future__ import annotations

import pickle
import re
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from costax.core.polynomial import (
    Polynomial,
    apply_function,
    as_polynomial,
    lower_bound,
    maximum,
    minimum,
    rational,
    symbol,
)
from costax.core.polynomial.parse import parse_polynomial
from costax.errors import SymbolError, Undecided

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

NAMES = ("b", "s", "t")
SYMBOLS = {name: symbol(name) for name in NAMES}
POINTS = st.fixed_dictionaries({name: st.integers(1, 40) for name in NAMES})


def _binary(pair):
    (one, left), (other, right) = pair
    return st.sampled_from(
        [
            (f"({one} + {other})", left + right),
            (f"({one} - {other})", left - right),
            (f"({one} * {other})", left * right),
            (f"max({one}, {other})", maximum(left, right)),
            (f"min({one}, {other})", minimum(left, right)),
        ]
    )


def _divided(pair):
    (one, left), divisor = pair
    return st.sampled_from([(f"({one} // {divisor})", left // divisor), (f"({one} % {divisor})", left % divisor)])


LEAVES = st.sampled_from([*SYMBOLS.items(), ("3", 3), ("-2", -2), ("7", 7)])
# (text, polynomial), made by the same operations
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).flatmap(_binary),
        st.tuples(inner, st.sampled_from([2, 3, 4, 8, -3])).flatmap(_divided),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, POINTS)
def test_a_polynomial_has_the_value_that_python_works_out(expression, point):
    text, polynomial = expression
    value = polynomial.value(point) if isinstance(polynomial, Polynomial) else polynomial
    assert value == eval(text, {}, dict(point))  # the text is ours


@given(EXPRESSIONS, POINTS)
def test_no_value_lies_below_the_lower_bound(expression, point):
    _, polynomial = expression
    bound = lower_bound(polynomial)
    assume(bound is not None)
    value = polynomial.value(point) if isinstance(polynomial, Polynomial) else polynomial
    assert value >= bound


@given(EXPRESSIONS)
@example(("", -(((symbol("b") % 4) % 8) // 4 // -4)))
@example(("", (((symbol("b") % 4) % 8) // 4) // 4))
def test_a_text_reads_back(expression):
    _, polynomial = expression
    assert parse_polynomial(str(polynomial)) == polynomial
    copy = pickle.loads(pickle.dumps(polynomial))
    assert copy == polynomial
    assert hash(copy) == hash(polynomial)


@given(EXPRESSIONS, EXPRESSIONS, POINTS)
def test_a_comparison_that_is_decided_is_right(one, other, point):
    try:
        decided = one[1] >= other[1]
    except Undecided:
        return
    left, right = (p.value(point) if isinstance(p, Polynomial) else p for p in (one[1], other[1]))
    assert decided == (left >= right)


@given(EXPRESSIONS, st.lists(POINTS, min_size=1, max_size=4))
def test_many_points_at_once_are_the_points_one_by_one(expression, points):
    _, polynomial = expression
    assume(isinstance(polynomial, Polynomial) and polynomial.symbols)
    columns = {name: [point[name] for point in points] for name in polynomial.symbols}
    exact = [polynomial.value(point) for point in points]
    assert list(polynomial.evaluate_many(columns, exact=True)) == exact
    assert list(polynomial.evaluate_many(columns)) == [pytest.approx(float(value)) for value in exact]


def test_equal_polynomials_are_one_key_and_one_text():
    b, s = SYMBOLS["b"], SYMBOLS["s"]
    assert {b * s + s: 1}[s * b + s] == 1
    assert str((s + b) * (s + b)) == str(2 * b * s + s**2 + b**2) == "2*b*s + b^2 + s^2"
    assert (s * (s - 1)) // 2 * 2 == s**2 - s
    assert b * s // s == b


def test_what_is_a_number_is_an_integer():
    s = SYMBOLS["s"]
    assert type(s - s + 3) is int
    assert type(rational(Fraction(4, 2))) is int
    assert apply_function("ceil_log2", 9) == 4


def test_order_that_depends_on_symbols_is_undecided():
    s = SYMBOLS["s"]
    assert s >= 1
    assert s * SYMBOLS["b"] >= s
    assert not s < 1
    with pytest.raises(Undecided, match="s >= 2 depends"):
        assert s >= 2
    with pytest.raises(Undecided, match="has no integer value"):
        range(s)


def test_a_value_that_a_symbol_cannot_take_is_refused():
    flops = 3 * SYMBOLS["b"] * SYMBOLS["s"] ** 2
    assert flops(b=2, s=10) == 3 * 2 * 100
    for point in ({"b": 2}, {"b": 2, "s": 0}, {"b": 2, "s": 1.5}, {"b": 2, "s": 3, "q": 1}, {"b": True, "s": 1}):
        with pytest.raises(SymbolError):
            flops(**point)


def test_degrees_see_through_divisions():
    s = SYMBOLS["s"]
    assert (SYMBOLS["b"] * (s // 2) ** 2 + s).degree("s") == 2
    assert (SYMBOLS["b"] * (s // 2) ** 2 + s).degree("b") == 1
    assert apply_function("ceil_log2", s).degree("s") == 0


def test_sympy_agrees():
    sympy = pytest.importorskip("sympy")
    b, s = SYMBOLS["b"], SYMBOLS["s"]
    count = 3 * b * s**2 + (s * s - s) // 2 + s // 3 + maximum(b, s)
    expression = count.to_sympy()
    point = {"b": 5, "s": 11}
    named = {found: point[found.name] for found in expression.free_symbols}
    assert int(expression.subs(named)) == count(point)
    assert sympy.degree(sympy.expand((3 * b * s**2).to_sympy()), next(x for x in named if x.name == "s")) == 2


@pytest.mark.parametrize("text", ["", "s+", "2 s", "s^s", "f(s)", "(s", "s)", "s^-1", "1/s", "s//0", "é", '"s', "s,t"])
def test_a_text_that_is_no_formula_is_refused(text):
    with pytest.raises(SymbolError, match="is not a formula"):
        parse_polynomial(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(" * 20_000 + "b" + ")" * 20_000, "nested too deeply"),
        ("max(" * 20_000 + "b", "nested too deeply"),
        ("(b+1)^100000", "an exponent is larger than 1,000"),
        ("((b^999)^999)^999", "an exponent is larger than 1,000"),
        ("(b+1)^999", "too many terms"),
        ("(a+b+c+d)^200", "too many terms"),
        ("*".join(["(a+b+c+d)"] * 200), "too many terms"),
        ("((9^999)^999)^999", "more than 3,000 digits"),
        ("(9^999*b)^999", "more than 3,000 digits"),
        ("*".join(["9^999"] * 999), "more than 3,000 digits"),
        ("9" * 5000, "more than 3,000 digits"),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_would_take_long_is_refused(text, reason):
    # Without the limits most of these take longer than any test may, or all memory.
    with pytest.raises(SymbolError, match=f"is not a formula: .*{reason}") as refused:
        parse_polynomial(text)
    assert len(str(refused.value)) < 500


def test_long_formulas_of_programs_are_read():
    names = [f"solver_{number}/while" for number in range(2000)]
    text = " + ".join(f"{number + 2}*{name}" for number, name in enumerate(names))
    parsed = parse_polynomial(text)
    assert len(parsed.terms) == 2000
    assert parsed(dict.fromkeys(names, 1)) == sum(range(2, 2002))
    assert parse_polynomial("(b + 1)^100")(b=1) == 2**100
    nested = "(" * 99 + "b" + ")" * 99
    assert parse_polynomial(nested) == parse_polynomial("--b") == symbol("b")
    assert parse_polynomial("---b + 2 - b//2*2 - 2") == -symbol("b") - 2 * (symbol("b") // 2)


def test_the_time_of_nested_extremes_does_not_double_with_each_level():
    # A time that doubled would be 2^45 bounds here: the test would not end.
    text = "".join(f"max(s{number}, min(b, " for number in range(45)) + "t" + "))" * 45
    parsed = parse_polynomial(text)
    assert parsed({f"s{number}": 2 for number in range(45)}, b=7, t=5) == 5


def test_bounds_of_symbols_with_the_same_name_are_not_confused():
    # Two programs may have a symbol s, with different lower bounds.
    assert lower_bound(maximum(symbol("s", 1), symbol("t"))) == 1
    assert lower_bound(maximum(symbol("s", 8), symbol("t"))) == 8
    assert lower_bound(maximum(symbol("s", 1), symbol("t"))) == 1


def test_the_former_name_of_evaluate_many_warns():
    s = SYMBOLS["s"]
    with pytest.warns(DeprecationWarning, match="evaluate_many"):
        values = (s * s).over(s=[2, 3], exact=True)
    assert list(values) == [4, 9]


@pytest.mark.parametrize("text", ["21/2 // 2", "21/2 % 2", "(4*s + 21/2) // 2", "(4*s - 21/2) % 2", "(6*s - 1/3) // 3"])
def test_a_fraction_without_symbols_is_divided(text):
    formula = as_polynomial(parse_polynomial(text))
    for s in (1, 5):
        python = re.sub(r"(\d+)/(\d+)", r"Fraction(\1, \2)", text)
        assert formula.value({"s": s}) == eval(python, {"Fraction": Fraction, "s": s})


@pytest.mark.parametrize("step", ["*(s - 1)//2", "*(s - 1)//b"])
def test_a_formula_that_doubles_with_each_division_is_refused(step):
    """The text of floordiv(x*s - x, 2) has the text of x twice, so that 1,200 characters took gigabytes."""
    assert parse_polynomial("s" + step * 8).symbols
    with pytest.raises(SymbolError, match="when its products are multiplied out"):
        parse_polynomial("s" + step * 60)


@pytest.mark.parametrize("name", ["max", "min", "floordiv", "mod"])
def test_a_formula_that_doubles_with_each_call_is_refused(name):
    text = "s"
    for _ in range(60):
        text = f"{name}(({text})*(s - b), s + 1)"
    with pytest.raises(SymbolError, match=r"when its products are multiplied out|nested too deeply"):
        parse_polynomial(text)
