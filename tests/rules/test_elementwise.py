"""Elementwise primitives: truth is XLA, for every dtype, and a number that counts what is done to it."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.core.conventions import as_xla
from costax.core.cost import (
    ARITHMETIC,
    COMPARE,
    CONVERT,
    INTEGER,
    SELECT,
    TRANSCENDENTAL,
)
from costax.core.equation import Equation, Operand

N = 3 * 7
FLOATING = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "int32", "uint32", "int64", "uint64")
SIGNED = ("int8", "int16", "int32", "int64")


def counts(function, *dtypes):
    """Our cost, and XLA's counts of the lowered program, of a function of arrays of these dtypes."""
    with jax.enable_x64(True):
        args = [jax.ShapeDtypeStruct((3, 7), dtype) for dtype in dtypes]
        cost = costax.analyze(function)(*args).total
        xla = jax.jit(function).lower(*args).cost_analysis()
    return cost, (xla.get("flops", 0), xla.get("transcendentals", 0))


def kinds(cost) -> dict[tuple[str, str], int]:
    """The counts without the bytes."""
    return {key: count for key, count in cost.items() if not key[0].startswith("bytes")}


def cost_of(primitive: str, inputs: int, **params):
    x = Operand((3, 7), "f32")
    return costax.rules()[primitive].function(Equation(primitive, (x,) * inputs, (x,), params))


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "rem", "max", "min"])
def test_binary_arithmetic_is_a_flop_an_element_of_its_own_dtype(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype, dtype)
    assert kinds(cost) == {(ARITHMETIC, short(dtype)): N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "div", "rem", "max", "min", "bitwise_and", "bitwise_xor", "shift_left"]
)
def test_integer_arithmetic_is_an_op_and_no_flop(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype, dtype)
    assert kinds(cost) == {(INTEGER, short(dtype)): N}
    assert cost.flops == 0
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("name", ["abs", "neg", "sign", "floor", "ceil", "round", "square"])
def test_unary_arithmetic_is_a_flop_an_element(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype)
    assert kinds(cost) == {(ARITHMETIC, short(dtype)): N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", SIGNED)
@pytest.mark.parametrize("name", ["abs", "neg", "sign", "square", "clz", "population_count", "bitwise_not"])
def test_unary_integer_arithmetic_is_an_op(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype)
    assert kinds(cost) == {(INTEGER, short(dtype)): N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize(
    "name", ["exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sqrt", "rsqrt", "cbrt", "atan"]
)
def test_transcendentals_are_counted_once_an_element(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype)
    assert kinds(cost) == {(TRANSCENDENTAL, short(dtype)): N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_arithmetic_is_counted_as_real_arithmetic_is(dtype):
    cost, xla = counts(lambda x, y: (x + y) * (x - y) / -y, dtype, dtype)
    assert kinds(cost) == {(ARITHMETIC, short(dtype)): 5 * N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS])
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_a_comparison_is_filed_under_what_it_compares(name, dtype):
    cost, xla = counts(getattr(lax, name), dtype, dtype)
    assert kinds(cost) == {(COMPARE, short(dtype)): N}
    assert as_xla(cost) == xla


@pytest.mark.parametrize("new", ["bool", "int8", "float16", "bfloat16", "float64", "complex64"])
@pytest.mark.parametrize("old", ["int32", "float32", "bool"])
def test_a_conversion_is_filed_under_the_new_dtype(old, new):
    cost, xla = counts(lambda x: lax.convert_element_type(x, new), old)
    assert kinds(cost) == ({} if old == new else {(CONVERT, short(new)): N})
    assert as_xla(cost) == xla


@pytest.mark.parametrize("cases", range(2, 8))
def test_a_choice_among_many_cases_is_what_xla_lowers_it_to(cases):
    cost, xla = counts(lambda which, *xs: lax.select_n(which, *xs), "int32", *["float32"] * cases)
    assert kinds(cost) == {(SELECT, "f32"): (cases - 1) * N, (COMPARE, "i32"): (cases - 1) * N}
    assert as_xla(cost) == xla


@dataclass
class Tally:
    """How many products, sums and divisions the numbers that share it have been through."""

    done: int = 0


@dataclass
class Number:
    tally: Tally

    def __mul__(self, other):
        self.tally.done += 1
        return self

    __add__ = __truediv__ = __mul__


def powered(x: Number, y: int) -> None:
    """Raise to a power by squaring: from the highest bit of |y| down."""
    result = x
    for bit in bin(abs(y))[3:]:
        result = result * result
        if bit == "1":
            result = result * x
    if y < 0:
        result / result


@pytest.mark.parametrize("y", [*range(-9, 0), *range(1, 40), 255, 256, 1023])
def test_integer_powers_cost_what_squaring_and_multiplying_does(y):
    tally = Tally()
    powered(Number(tally), y)
    assert cost_of("integer_pow", 1, y=y).flops == tally.done * N
    cost, xla = counts(lambda x: lax.integer_pow(x, y), "float32")
    assert as_xla(cost) == xla


def test_the_zeroth_power_costs_nothing():
    assert cost_of("integer_pow", 1, y=0).ops == 0


@pytest.mark.parametrize("coefficients", range(1, 12))
def test_a_polynomial_costs_what_horner_s_rule_does(coefficients):
    tally = Tally()
    x = total = Number(tally)
    for _ in range(coefficients - 1):
        total = total * x + x
    assert cost_of("polynomial", 1 + coefficients).flops == tally.done * N


def test_the_gradient_of_tanh_costs_the_same_operations_as_xla_counts():
    cost, xla = counts(jax.vmap(jax.vmap(jax.grad(jnp.tanh))), "float32")
    assert as_xla(cost).transcendentals == xla[1] == N
    assert cost.flops >= 2 * N


def test_a_program_of_int8_has_ops_and_no_flops():
    cost, _ = counts(lambda x, y: lax.clamp(jnp.int8(0), x * y + x, jnp.int8(9)) > y, "int8", "int8")
    assert (cost.flops, cost.ops) == (0, 4 * N)


def short(dtype: str) -> str:
    for long, letter in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c")):
        if dtype.startswith(long):
            return dtype.replace(long, letter)
    return dtype
