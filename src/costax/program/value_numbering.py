"""Value numbering: equal values get equal numbers.

Two equations with the same operation and equal operands get one number, as in the common subexpression elimination of
a compiler. The simplifications that every compiler does are applied first: identities, neutral operands (x + 0), a
select with a known predicate, the order of the operands of a sum, x**2 as x*x. Scalars that the program fixes are
folded: `2.0 * 3.0` broadcast to f32[8] is known to be 6.0 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from costax import _jax
from costax.program.tree import Node
from costax.rules.traits import Function

Value = tuple[Any, ...]
"""The value of a variable: (number of an equation, position of the result), or, where no equation computes it,
("literal", its text, its type), ("input", i) or ("constant", id)."""
Values = tuple[Value, ...]

# Operands that leave the other operand unchanged: on the right, for commutative functions on either side.
_ZERO, _ONE = ("0", "0.0", "-0.0"), ("1", "1.0")
_NEUTRAL = {
    Function.ADD: _ZERO,
    Function.SUBTRACT: _ZERO,
    Function.MULTIPLY: _ONE,
    Function.DIVIDE: _ONE,
}
_COMMUTATIVE = frozenset(
    {
        Function.ADD,
        Function.MULTIPLY,
        Function.MAXIMUM,
        Function.MINIMUM,
        Function.AND,
        Function.OR,
        Function.EQUAL,
        Function.NOT_EQUAL,
    }
)
_COMPARISONS = frozenset(
    {
        Function.EQUAL,
        Function.NOT_EQUAL,
        Function.LESS,
        Function.LESS_EQUAL,
        Function.GREATER,
        Function.GREATER_EQUAL,
    }
)
# Equal operands decide the result of these functions, whatever the operands are: x == x, x - x.
_DECIDED_BY_EQUAL_OPERANDS = _COMPARISONS | {Function.SUBTRACT, Function.EXCLUSIVE_OR}
_ABSORBING = {Function.AND: "False", Function.OR: "True"}


class ValueNumbering:
    """The numbers of the values of a program, assigned in program order."""

    def __init__(self) -> None:
        """Start without values."""
        self._numbers: dict[Any, int] = {}
        # By number: the number up to shape. A broadcast or reshape has that of its operand.
        self._up_to_shape: dict[int, Any] = {}
        # By number: the one known number that all elements of the value are.
        self._scalars: dict[int, str] = {}
        # Numbers of values that depend on no input of the program.
        self._constants: set[int] = set()
        # The text of each abstract value, because numpy takes long to format a dtype.
        self._types: dict[Any, str] = {}
        # By value: the value that it is the negative of, for (-(-x)) = x.
        self._negated: dict[Any, Any] = {}

    def literal(self, atom: Any) -> Value:
        """Return the value of a literal."""
        return ("literal", _jax.literal_text(atom), self._type(atom.aval))

    def constant(self, var: Any, value: Any) -> Value:
        """Return the value of a constant variable; a scalar constant whose number is known is the same as a literal."""
        text = None if value is None else _jax.scalar_text(value)
        return ("constant", id(var)) if text is None else ("literal", text, self._type(var.aval))

    def results(self, node: Node, number: int, inputs: Values) -> Values:
        """Return the values of the results of an equation with this number."""
        count = len(node.equation.outvars)
        if node.traits.identity and len(inputs) == count:
            return inputs
        operand = self._unchanged_operand(node, inputs)
        if node.traits.function is Function.NEGATE:
            self._negated[number, 0] = inputs[0]
        return (operand,) if operand is not None else tuple((number, i) for i in range(count))

    def up_to_shape(self, number: int) -> Any:
        """Return a key that is equal for equations that compute the same value from broadcast or reshaped operands.

        `exp(x)` and `exp(reshape(x))` have different numbers, because their shapes differ, and the same key.
        """
        return self._up_to_shape[number]

    def _type(self, aval: Any) -> str:
        text = self._types.get(aval)
        if text is None:
            text = self._types[aval] = str(aval)
        return text

    def number(self, node: Node, inputs: Values) -> int:
        """Return the number of an equation: that of an earlier equal equation, else a new one."""
        eqn = node.equation
        params = tuple([(name, value if _hashable(value) else id(value)) for name, value in eqn.params.items()])
        # Two equations with effects are never equal: both effects must happen.
        key = _canonical(node, params, inputs) if not eqn.effects else (id(eqn), inputs)
        number = self._numbers.setdefault(key, len(self._numbers))
        if not eqn.effects and (_is_decided(node, inputs) or all(self.is_constant(x) for x in inputs)):
            self._constants.add(number)
        self._up_to_shape[number] = self._key_up_to_shape(node, params, inputs)
        if number not in self._scalars and (scalar := self._folded(node, inputs)):
            self._scalars[number] = scalar
        return number

    def _key_up_to_shape(self, node: Node, params: Values, inputs: Values) -> Any:
        eqn, traits = node.equation, node.traits
        operands = tuple((self._up_to_shape.get(x[0], x[0]), *x[1:]) for x in inputs)
        if (traits.view or traits.repeats) and traits.moves and not traits.identity:
            # A reshape or broadcast has the key of its operand.
            return operands[0][0] if operands[0][1:] in ((), (0,)) else operands[0]
        size = math.prod(getattr(eqn.outvars[0].aval, "shape", ())) if eqn.outvars else 0
        key = ("up to shape", size, _canonical(node, params, operands)) if not eqn.effects else (id(eqn), operands)
        return self._numbers.setdefault(key, len(self._numbers))

    def _unchanged_operand(self, node: Node, inputs: Values) -> Any:
        """Return the operand that the result equals, or None: x of x + 0, of select(p, x, x), of -(-x), of x**1."""
        eqn, function = node.equation, node.traits.function
        if function is Function.SELECT and len(set(inputs[1:])) == 1:
            return inputs[1]
        if function is Function.NEGATE:
            return self._negated.get(inputs[0])
        if function is Function.INTEGER_POWER and eqn.params["y"] == 1:
            return inputs[0]
        if function is Function.SELECT:
            case = self._selected_case(inputs)
            return None if case is None else inputs[1 + case]
        neutral = _NEUTRAL.get(function) if function else None
        if neutral and len(inputs) == 2:
            for operand, other in ((0, 1), (1, 0)) if function in _COMMUTATIVE else ((0, 1),):
                # jax allows a scalar beside an array: 3.0 + zeros(8) is not the scalar 3.0.
                same_shape = eqn.invars[operand].aval.shape == eqn.outvars[0].aval.shape
                if same_shape and self.scalar(inputs[other]) in neutral:
                    return inputs[operand]
        return None

    def _selected_case(self, inputs: Values) -> int | None:
        """Return which case a select takes, or None where its predicate is not known."""
        predicate = self.scalar(inputs[0])
        if not predicate:
            return None
        return {"False": 0, "True": 1}.get(predicate, int(predicate) if predicate.isdecimal() else None)

    def _folded(self, node: Node, inputs: Values) -> str:
        """Return the number that all elements of the result are, where that is known; else ""."""
        eqn, traits, function = node.equation, node.traits, node.traits.function
        if traits.preserves:
            return self.scalar(inputs[0])
        if function is Function.PAD and 0 in eqn.invars[0].aval.shape:
            return self.scalar(inputs[1])
        if function is Function.INTEGER_POWER and eqn.params["y"] == 0:
            return "1.0"
        known = [self.scalar(x) for x in inputs]
        if function is Function.SELECT:
            case = self._selected_case(inputs)
            return known[1] if len(set(known[1:])) == 1 else "" if case is None else known[1 + case]
        absorbing = _ABSORBING.get(function) if function else None
        if absorbing and absorbing in known:
            return absorbing
        if function is Function.SQUARE and known[0]:
            return str(_number(known[0]) ** 2)
        if traits.fold is not None and all(known):
            try:
                value = traits.fold(*map(_number, known))
            except (ValueError, ArithmeticError):
                return ""
            return "" if value is None else str(value) if isinstance(value, bool) else str(float(value))
        zero = function is Function.MULTIPLY and any(x and float(x) == 0 for x in known if _is_number(x))
        return "0.0" if zero else ""

    def is_constant(self, value: Value) -> bool:
        """Say whether a value depends on no input of the program."""
        return value[0] in ("literal", "constant") or value[0] in self._constants

    def scalar(self, value: Value) -> str:
        """Return the one known number that all elements of a value are, as text; "" where there is none."""
        return value[1] if value[0] == "literal" else self._scalars.get(value[0], "")


def origin(atom: Any, producers: Mapping[Any, Node]) -> Any:
    """Return the atom that an atom is equal to, by following identities and selects between equal cases.

    producers: by variable, the equation that computes it.
    """
    node = None if _jax.is_literal(atom) else producers.get(atom)
    if node is None:
        return atom
    if node.traits.identity and len(node.equation.invars) == 1:
        return origin(node.equation.invars[0], producers)
    if node.traits.function is Function.SELECT:
        cases = [origin(case, producers) for case in node.equation.invars[1:]]
        if all(case is cases[0] for case in cases):
            return cases[0]
    return atom


def _is_decided(node: Node, inputs: Values) -> bool:
    """Say whether equal operands decide the result: x == x of integers. A floating x may be NaN, which is not equal."""
    operands = node.equation.invars
    whole = getattr(getattr(operands[0].aval, "dtype", None), "kind", "") in ("i", "u", "b") if inputs else False
    return whole and len(inputs) == 2 and inputs[0] == inputs[1] and node.traits.function in _DECIDED_BY_EQUAL_OPERANDS


def _canonical(node: Node, params: Any, inputs: Values) -> Any:
    """Return a key that equal operations share: x**2 has that of x*x, and a + b that of b + a."""
    function = node.traits.function
    if function is Function.SQUARE or (function is Function.INTEGER_POWER and ("y", 2) in params):
        return (Function.MULTIPLY, (), inputs * 2)
    if function in _COMMUTATIVE and node.traits.elementwise:
        return (function, (), tuple(sorted(inputs, key=repr)))
    return (node.label, params, inputs)


def _number(text: str) -> float:
    return float(text == "True") if text in ("True", "False") else float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
