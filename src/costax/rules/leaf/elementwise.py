"""Elementwise primitives: the same operations for every element of the output.

There is one rule for each kind of operation, registered for all primitives of the kind. An operation on complex numbers
counts as one operation, under its complex dtype, as XLA counts it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from costax.core import dtypes
from costax.core.cost import ZERO, Cost
from costax.core.equation import Equation
from costax.core.polynomial import at_least, maximum, minimum
from costax.rules.registry import cost_rule
from costax.rules.traits import ELEMENTWISE, SPECIAL_FUNCTION, TRANSCENDENTAL, Function


def quotient(a: Any, b: Any) -> Any:
    """Return the quotient of two numbers as `lax.div` does, which rounds integers towards zero; None if not known.

    Polynomials are divided if both are known to be positive: there rounding down is rounding towards zero.
    """
    if b == 0:
        return None
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a // b if at_least(a, 0) and at_least(b, 1) else None


def remainder(a: Any, b: Any) -> Any:
    """Return the remainder of two numbers as `lax.rem` does, with the sign of the dividend; None if it is not known."""
    whole = quotient(a, b)
    return None if whole is None or isinstance(whole, float) else a - b * whole


def clamped(low: Any, value: Any, high: Any) -> Any:
    """Return min(max(low, value), high)."""
    return minimum(maximum(low, value), high)


@cost_rule("abs", traits=ELEMENTWISE.but(fold=operator.abs))
@cost_rule("add", "add_any", traits=ELEMENTWISE.but(function=Function.ADD, fold=operator.add))
@cost_rule("ceil", traits=ELEMENTWISE.but(fold=math.ceil))
@cost_rule("conj", "nextafter", "round", "sign", traits=ELEMENTWISE)
@cost_rule("div", traits=ELEMENTWISE.but(function=Function.DIVIDE, fold=quotient, operations=20.0))
@cost_rule("floor", traits=ELEMENTWISE.but(fold=math.floor))
@cost_rule("max", traits=ELEMENTWISE.but(function=Function.MAXIMUM, fold=maximum))
@cost_rule("min", traits=ELEMENTWISE.but(function=Function.MINIMUM, fold=minimum))
@cost_rule("neg", traits=ELEMENTWISE.but(function=Function.NEGATE, fold=operator.neg))
@cost_rule("rem", traits=ELEMENTWISE.but(fold=remainder, operations=20.0))
@cost_rule("square", traits=ELEMENTWISE.but(function=Function.SQUARE))
@cost_rule("sub", traits=ELEMENTWISE.but(function=Function.SUBTRACT, fold=operator.sub))
def arithmetic(eqn: Equation) -> Cost:
    """One arithmetic operation for each output element: a FLOP on floating and complex dtypes, else an integer OP.

    flops = |out|, filed under the dtype of the operand, so the magnitude of c64 is c64 work.
    XLA: 1 FLOP an element of any dtype. `conj` is lowered to 4 operations, `nextafter` to 24 on bits, `max` and `min`
    of complex numbers to 9 (a lexicographic comparison), `square` of complex numbers to 14, and from jax 0.12 on `abs`
    of complex numbers to 25 and a square root.
    """
    return Cost.arithmetic(eqn.inputs[0].dtype, eqn.out.size)


@cost_rule("mul", traits=ELEMENTWISE.but(function=Function.MULTIPLY, fold=operator.mul))
def mul(eqn: Equation) -> Cost:
    """One product for each output element: a FLOP on floating and complex dtypes, else an integer OP.

    flops = |out|. With `out_dtype` the product is wider than its factors and filed as `lhs*rhs->out`.
    XLA: 1 FLOP an element of any dtype; with `out_dtype` both factors are converted first, 3 in all.
    """
    return Cost.arithmetic(dtypes.mixed(*(x.dtype for x in eqn.inputs), accumulator=eqn.out.dtype), eqn.out.size)


@cost_rule("clamp", traits=ELEMENTWISE.but(function=Function.CLAMP, fold=clamped))
def clamp(eqn: Equation) -> Cost:
    """One arithmetic operation for each output element, which is clamped between two bounds.

    flops = |out|; the operands are (low, x, high).
    XLA: 1 FLOP an element.
    """
    return Cost.arithmetic(eqn.out.dtype, eqn.out.size)


@cost_rule("and", traits=ELEMENTWISE.but(function=Function.AND))
@cost_rule(
    "clz",
    "mulhi",
    "not",
    "population_count",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    traits=ELEMENTWISE,
)
@cost_rule("or", traits=ELEMENTWISE.but(function=Function.OR))
@cost_rule("xor", traits=ELEMENTWISE.but(function=Function.EXCLUSIVE_OR))
def logic(eqn: Equation) -> Cost:
    """One integer or logical operation for each output element: OPs, no FLOPs.

    ops = |out|, filed under the dtype of the output.
    XLA: 1 FLOP an element, booleans included.
    """
    return Cost.integer(eqn.out.dtype, eqn.out.size)


@cost_rule("eq", traits=ELEMENTWISE.but(function=Function.EQUAL, fold=operator.eq))
@cost_rule("eq_to", "is_finite", "le_to", "lt_to", traits=ELEMENTWISE)
@cost_rule("ge", traits=ELEMENTWISE.but(function=Function.GREATER_EQUAL, fold=operator.ge))
@cost_rule("gt", traits=ELEMENTWISE.but(function=Function.GREATER, fold=operator.gt))
@cost_rule("le", traits=ELEMENTWISE.but(function=Function.LESS_EQUAL, fold=operator.le))
@cost_rule("lt", traits=ELEMENTWISE.but(function=Function.LESS, fold=operator.lt))
@cost_rule("ne", traits=ELEMENTWISE.but(function=Function.NOT_EQUAL, fold=operator.ne))
def comparison(eqn: Equation) -> Cost:
    """One comparison for each output element: OPs, no FLOPs.

    ops = |out|, filed under the dtype of the operands. `eq_to`, `le_to` and `lt_to` compare in IEEE 754's total order.
    XLA: 1 FLOP an element; comparing complex numbers for equality is one comparison too.
    """
    return Cost.compare(eqn.inputs[0].dtype, eqn.out.size)


@cost_rule("select_n", traits=ELEMENTWISE.but(function=Function.SELECT))
def select_n(eqn: Equation) -> Cost:
    """One choice for each output element; among k > 2 cases k - 1 choices, each after a comparison of the index.

    ops = |out| for a boolean predicate and two cases; (k - 1) * (|out| + |index|) for an integer index and k cases.
    XLA: 1 FLOP a select and 1 a comparison, the same binary tree of k - 1 selects.
    """
    which, *cases = eqn.inputs
    choices = len(cases) - 1
    selects = Cost.select(eqn.out.dtype, choices * eqn.out.size)
    return selects if which.dtype == "bool" else selects + Cost.compare(which.dtype, choices * which.size)


@cost_rule(
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "cosh",
    "exp2",
    "expm1",
    "log1p",
    "log2",
    "sinh",
    "tan",
    traits=TRANSCENDENTAL,
)
@cost_rule("cos", traits=TRANSCENDENTAL.but(fold=math.cos))
@cost_rule("exp", traits=TRANSCENDENTAL.but(function=Function.EXPONENTIAL, fold=math.exp))
@cost_rule("log", traits=TRANSCENDENTAL.but(fold=math.log))
@cost_rule("logistic", traits=TRANSCENDENTAL.but(function=Function.ACTIVATION))
@cost_rule("pow", traits=SPECIAL_FUNCTION.but(function=Function.POWER, fold=math.pow))
@cost_rule("rsqrt", traits=TRANSCENDENTAL.but(function=Function.RECIPROCAL_ROOT))
@cost_rule("sin", traits=TRANSCENDENTAL.but(fold=math.sin))
@cost_rule("sqrt", traits=TRANSCENDENTAL.but(function=Function.SQUARE_ROOT, fold=math.sqrt))
@cost_rule("tanh", traits=TRANSCENDENTAL.but(function=Function.ACTIVATION, fold=math.tanh))
def transcendental(eqn: Equation) -> Cost:
    """One transcendental operation for each output element; no FLOPs.

    transcendentals = |out|, whichever polynomial, table or hardware unit computes it.
    XLA: the same on real dtypes for atan, atan2, cbrt, cos, exp, expm1, log, log1p, pow, rsqrt, sin, sqrt, tan, tanh.
    Others are expanded before XLA counts: an f32 `logistic` is 3 FLOPs and 1 transcendental an element, `exp2` and
    `log2` 1 and 1, `acos` 3 and 2, `acosh` 7 and 4, `asin` 5 and 2 (from jax 0.12 on 3 and 2), `asinh` 11 and 3,
    `atanh` 6 and 2, `cosh` 3 and 2, `sinh` 10 and 3. On complex dtypes nearly all are expanded (`exp` of c64 to 15
    and 4).
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


@cost_rule("integer_pow", traits=ELEMENTWISE.but(function=Function.INTEGER_POWER))
def integer_pow(eqn: Equation) -> Cost:
    """Binary powering: floor(log2 |y|) squarings, a product for each 1 bit of |y| but the first, a division if y < 0.

    flops = |out| * (floor(log2 |y|) + popcount(|y|) - 1 + (1 if y < 0)); y = 0 and y = 1 cost nothing.
    Source: Knuth, The Art of Computer Programming 2, section 4.6.3, the binary method.
    XLA: the same multiplications, one by one.
    """
    y: int = eqn.params["y"]
    if y == 0:
        return ZERO
    products = abs(y).bit_length() - 1 + abs(y).bit_count() - 1
    return Cost.arithmetic(eqn.out.dtype, (products + (y < 0)) * eqn.out.size)


@cost_rule("one_minus_square", traits=ELEMENTWISE)
def one_minus_square(eqn: Equation) -> Cost:
    """Three arithmetic operations for each output element: 1 - x**2 as (1 + x) * (1 - x).

    flops = 3 * |out|.
    XLA: the same.
    """
    return Cost.arithmetic(eqn.out.dtype, 3 * eqn.out.size)


@cost_rule("polynomial", traits=ELEMENTWISE)
def polynomial(eqn: Equation) -> Cost:
    """Horner's rule: a product and a sum for each coefficient but the last, for each output element.

    flops = 2 * (coefficients - 1) * |out|; the operands are (x, a_0, a_1, ...).
    XLA: the same while jax unrolls it (8 coefficients or fewer, or `unroll`); else a loop, which it counts once.
    """
    degree = len(eqn.inputs) - 2
    return Cost.arithmetic(eqn.out.dtype, 2 * degree * eqn.out.size)
