"""Numbering: which equations compute the same from the same, and what is known of their values.

Equal values get equal numbers, up to what any compiler may use: identities, neutral operands, a choice that is known,
operands of a sum that change places, x**2 that is x*x. Nothing is computed but numbers that the program writes down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from costax import _jax
from costax.program.tree import Node
from costax.rules.traits import Function

Value = tuple[Any, ...]
"""What identifies the value of a variable: (number of an equation, which result), or what it is that no equation makes:
("literal", its text, its type), ("input", i), ("constant", id)."""
Values = tuple[Value, ...]

# What leaves the other operand as it is; a sum or product may have it on either side.
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
# Equal operands alone decide these.
_DECIDED = _COMPARISONS | {Function.SUBTRACT, Function.EXCLUSIVE_OR}
_ABSORBING = {Function.AND: "False", Function.OR: "True"}


class Numbering:
    """The numbers of a program's values, given out in program order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._numbers: dict[Any, int] = {}
        # By number: the loose one; of a broadcast or reshape, that of what it spreads.
        self._loose: dict[int, Any] = {}
        # By number: what is the same for all elements, and known; then what depends on no input of the program.
        self._scalars: dict[int, str] = {}
        self._fixed: set[int] = set()
        # Abstract values as text, which takes numpy long.
        self._types: dict[Any, str] = {}
        # By value: what it is the negative of.
        self._negated: dict[Any, Any] = {}

    def literal(self, atom: Any) -> Value:
        """Return the value of a literal."""
        return ("literal", _jax.literal_text(atom), self._type(atom.aval))

    def constant(self, var: Any, value: Any) -> Value:
        """Return the value of a constant variable; of a scalar that the jaxpr holds, the number."""
        text = None if value is None else _jax.scalar_text(value)
        return ("constant", id(var)) if text is None else ("literal", text, self._type(var.aval))

    def results(self, node: Node, number: int, inputs: Values) -> Values:
        """Return the values of the results of an equation that has this number."""
        results = len(node.equation.outvars)
        if node.traits.identity and len(inputs) == results:
            return inputs
        same = self._unchanged(node, inputs)
        if node.traits.function is Function.NEGATE:
            self._negated[number, 0] = inputs[0]
        return (same,) if same is not None else tuple((number, i) for i in range(results))

    def loose(self, number: int) -> Any:
        """Return what equations have in common that compute the same up to broadcasting and reshaping of operands."""
        return self._loose[number]

    def _type(self, aval: Any) -> str:
        found = self._types.get(aval)
        if found is None:
            found = self._types[aval] = str(aval)
        return found

    def number(self, node: Node, inputs: Values) -> int:
        """Return the number of an equation: that of an equal one before it, else a new one."""
        eqn = node.equation
        params = tuple([(name, value if _hashable(value) else id(value)) for name, value in eqn.params.items()])
        # What has effects is equal to nothing else.
        key = _canonical(node, params, inputs) if not eqn.effects else (id(eqn), inputs)
        number = self._numbers.setdefault(key, len(self._numbers))
        if not eqn.effects and (_is_known(node, inputs) or all(self.is_fixed(x) for x in inputs)):
            self._fixed.add(number)
        self._loose[number] = self._loosely(node, params, inputs)
        if number not in self._scalars and (scalar := self._computed(node, inputs)):
            self._scalars[number] = scalar
        return number

    def _loosely(self, node: Node, params: Values, inputs: Values) -> Any:
        eqn, traits = node.equation, node.traits
        within = tuple((self._loose.get(x[0], x[0]), *x[1:]) for x in inputs)
        if (traits.view or traits.repeats) and traits.moves and not traits.identity:
            return within[0][0] if within[0][1:] in ((), (0,)) else within[0]
        size = math.prod(getattr(eqn.outvars[0].aval, "shape", ())) if eqn.outvars else 0
        key = ("loose", size, _canonical(node, params, within)) if not eqn.effects else (id(eqn), within)
        return self._numbers.setdefault(key, len(self._numbers))

    def _unchanged(self, node: Node, inputs: Values) -> Any:
        """Return the operand whose value a result is: a neutral operand, a choice between equals, a double negation."""
        eqn, function = node.equation, node.traits.function
        if function is Function.SELECT and len(set(inputs[1:])) == 1:
            return inputs[1]
        if function is Function.NEGATE:
            return self._negated.get(inputs[0])
        if function is Function.INTEGER_POWER and eqn.params["y"] == 1:
            return inputs[0]
        if function is Function.SELECT:
            chosen = self._chosen(inputs)
            return None if chosen is None else inputs[1 + chosen]
        neutral = _NEUTRAL.get(function) if function else None
        if neutral and len(inputs) == 2:
            for operand, other in ((0, 1), (1, 0)) if function in _COMMUTATIVE else ((0, 1),):
                kept = eqn.invars[operand].aval.shape == eqn.outvars[0].aval.shape
                if kept and self.scalar(inputs[other]) in neutral:
                    return inputs[operand]
        return None

    def _chosen(self, inputs: Values) -> int | None:
        """Return which case a selection takes, where its predicate is known."""
        known = self.scalar(inputs[0])
        return {"False": 0, "True": 1}.get(known, int(known) if known.isdecimal() else None) if known else None

    def _computed(self, node: Node, inputs: Values) -> str:
        """Return the number that all elements of a result are, where the operands are such numbers."""
        eqn, traits, function = node.equation, node.traits, node.traits.function
        if traits.preserves:
            return self.scalar(inputs[0])
        if function is Function.PAD and 0 in eqn.invars[0].aval.shape:
            return self.scalar(inputs[1])
        if function is Function.INTEGER_POWER and eqn.params["y"] == 0:
            return "1.0"
        known = [self.scalar(x) for x in inputs]
        if function is Function.SELECT:
            chosen = self._chosen(inputs)
            return known[1] if len(set(known[1:])) == 1 else "" if chosen is None else known[1 + chosen]
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

    def is_fixed(self, value: Value) -> bool:
        """Say whether no input of the program reaches a value."""
        return value[0] in ("literal", "constant") or value[0] in self._fixed

    def scalar(self, value: Value) -> str:
        """Return the one known number that a value is everywhere, as text; "" for none."""
        return value[1] if value[0] == "literal" else self._scalars.get(value[0], "")


def origin(atom: Any, makers: Mapping[Any, Node]) -> Any:
    """Return the atom whose value an atom has, as the form of the equations alone tells.

    makers: by variable, the equation that defines it.
    """
    node = None if _jax.is_literal(atom) else makers.get(atom)
    if node is None:
        return atom
    if node.traits.identity and len(node.equation.invars) == 1:
        return origin(node.equation.invars[0], makers)
    if node.traits.function is Function.SELECT:
        cases = [origin(case, makers) for case in node.equation.invars[1:]]
        if all(case is cases[0] for case in cases):
            return cases[0]
    return atom


def _is_known(node: Node, inputs: Values) -> bool:
    """Say whether equal operands alone decide the result: a comparison of whole numbers, which are never NaN."""
    operands = node.equation.invars
    whole = getattr(getattr(operands[0].aval, "dtype", None), "kind", "") in ("i", "u", "b") if inputs else False
    return whole and len(inputs) == 2 and inputs[0] == inputs[1] and node.traits.function in _DECIDED


def _canonical(node: Node, params: Any, inputs: Values) -> Any:
    """Return what equal operations have in common: x**2 is x*x, and operands of a sum or product may change places."""
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
