"""Numbering: which equations compute the same from the same, and what is known of their values.

Equal values get equal numbers, up to what any compiler may use: identities, neutral operands, a choice that is known,
operands of a sum that change places, x**2 that is x*x. Nothing is computed but numbers that the program writes down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from costax import _jax

Value = tuple[Any, ...]
"""What identifies the value of a variable: (number of an equation, which result), or what it is that no equation makes:
("literal", its text, its type), ("input", i), ("constant", id)."""
Values = tuple[Value, ...]

# Primitives whose result holds nothing but the elements of their first operand.
_SPREADS = frozenset({"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "transpose", "slice"})
_RESHAPES = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims"})
_IDENTITIES = frozenset(
    {"stop_gradient", "copy", "copy_p", "device_put", "name", "pvary", "sharding_constraint", "optimization_barrier"}
)
_SELECTIONS = frozenset({"select_n", "select_if_vmap"})
# What leaves the other operand as it is; a sum or product may have it on either side.
_ZERO, _ONE = ("0", "0.0", "-0.0"), ("1", "1.0")
_NEUTRAL = {"add": _ZERO, "add_any": _ZERO, "sub": _ZERO, "mul": _ONE, "div": _ONE}
_DECIDED = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "sub", "xor"})
_DECISIONS: Mapping[str, Callable[[float, float], bool]] = {
    "eq": float.__eq__,
    "ne": float.__ne__,
    "lt": float.__lt__,
    "le": float.__le__,
    "gt": float.__gt__,
    "ge": float.__ge__,
}
_ABSORBING = {"and": "False", "or": "True"}
_ARITHMETIC: Mapping[str, Callable[..., float]] = {
    "add": float.__add__,
    "sub": float.__sub__,
    "mul": float.__mul__,
    "div": float.__truediv__,
    "neg": float.__neg__,
    "max": max,
    "min": min,
    "pow": math.pow,
    "sqrt": math.sqrt,
    "abs": float.__abs__,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
}


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

    def value(self, atom: Any, values: Mapping[Any, Value]) -> Value:
        """Return the value of an atom of a jaxpr, given those of its variables."""
        if _jax.is_literal(atom):
            return ("literal", _jax.literal_text(atom), self._type(atom.aval))
        return values.get(atom, ("free", id(atom)))

    def constants(self, jaxpr: Any) -> dict[Any, Value]:
        """Return the values of the constant variables of a jaxpr; of a scalar that it holds, the number."""
        inner, held = _jax.opened(jaxpr), _jax.constants(jaxpr)
        found: dict[Any, Value] = {var: ("constant", id(var)) for var in inner.constvars}
        for var, constant in zip(inner.constvars, held, strict=False):
            text = _jax.scalar_text(constant)
            if text is not None:
                found[var] = ("literal", text, self._type(var.aval))
        return found

    def results(self, eqn: Any, number: int, inputs: Values) -> Values:
        """Return the values of the results of an equation that has this number."""
        if eqn.primitive.name == "device_put":
            return inputs
        same = self._unchanged(eqn, inputs)
        if eqn.primitive.name == "neg":
            self._negated[number, 0] = inputs[0]
        return (same,) if same is not None else tuple((number, i) for i in range(len(eqn.outvars)))

    def loose(self, number: int) -> Any:
        """Return what equations have in common that compute the same up to broadcasting and reshaping of operands."""
        return self._loose[number]

    def _type(self, aval: Any) -> str:
        found = self._types.get(aval)
        if found is None:
            found = self._types[aval] = str(aval)
        return found

    def number(self, eqn: Any, inputs: Values) -> int:
        """Return the number of an equation: that of an equal one before it, else a new one."""
        params = tuple([(name, value if _hashable(value) else id(value)) for name, value in eqn.params.items()])
        # What has effects is equal to nothing else.
        key = _canonical(eqn.primitive.name, params, inputs) if not eqn.effects else (id(eqn), inputs)
        number = self._numbers.setdefault(key, len(self._numbers))
        if not eqn.effects and (_is_known(eqn, inputs) or all(self.is_fixed(x) for x in inputs)):
            self._fixed.add(number)
        self._loose[number] = self._loosely(eqn, params, inputs)
        if number not in self._scalars and (scalar := self._computed(eqn, inputs)):
            self._scalars[number] = scalar
        return number

    def _loosely(self, eqn: Any, params: Values, inputs: Values) -> Any:
        within = tuple((self._loose.get(x[0], x[0]), *x[1:]) for x in inputs)
        if eqn.primitive.name in _RESHAPES:
            return within[0][0] if within[0][1:] in ((), (0,)) else within[0]
        size = math.prod(getattr(eqn.outvars[0].aval, "shape", ())) if eqn.outvars else 0
        key = ("loose", size, _canonical(eqn.primitive.name, params, within)) if not eqn.effects else (id(eqn), within)
        return self._numbers.setdefault(key, len(self._numbers))

    def _unchanged(self, eqn: Any, inputs: Values) -> Any:
        """Return the operand whose value a result is: of an identity, a neutral operand, a choice between equals."""
        name = eqn.primitive.name
        if name in _IDENTITIES and len(inputs) == 1:
            return inputs[0]
        if name in _SELECTIONS and len(set(inputs[1:])) == 1:
            return inputs[1]
        if name == "neg":
            return self._negated.get(inputs[0])
        if name == "integer_pow" and eqn.params["y"] == 1:
            return inputs[0]
        if name == "select_n":
            chosen = self._chosen(inputs)
            return None if chosen is None else inputs[1 + chosen]
        if name in _NEUTRAL and len(inputs) == 2:
            for operand, other in ((0, 1), (1, 0)) if name in ("add", "add_any", "mul") else ((0, 1),):
                kept = eqn.invars[operand].aval.shape == eqn.outvars[0].aval.shape
                if kept and self.scalar(inputs[other]) in _NEUTRAL[name]:
                    return inputs[operand]
        return None

    def _chosen(self, inputs: Values) -> int | None:
        """Return which case a selection takes, where its predicate is known."""
        known = self.scalar(inputs[0])
        return {"False": 0, "True": 1}.get(known, int(known) if known.isdecimal() else None) if known else None

    def _computed(self, eqn: Any, inputs: Values) -> str:
        """Return the number that all elements of a result are, where the operands are such numbers."""
        name = eqn.primitive.name
        if name in _SPREADS:
            return self.scalar(inputs[0])
        if name == "pad" and 0 in eqn.invars[0].aval.shape:
            return self.scalar(inputs[1])
        if name == "integer_pow" and eqn.params["y"] == 0:
            return "1.0"
        known = [self.scalar(x) for x in inputs]
        if name == "select_n":
            chosen = self._chosen(inputs)
            return known[1] if len(set(known[1:])) == 1 else "" if chosen is None else known[1 + chosen]
        if name in _ABSORBING and _ABSORBING[name] in known:
            return _ABSORBING[name]
        if name in _DECISIONS and all(known):
            return str(_DECISIONS[name](*map(_number, known)))
        if name == "square":
            name, known = "mul", known * 2
        if name in _ARITHMETIC and all(known):
            try:
                return str(float(_ARITHMETIC[name](*map(_number, known))))
            except (ValueError, ArithmeticError):
                return ""
        return "0.0" if name == "mul" and any(x and float(x) == 0 for x in known if _is_number(x)) else ""

    def is_fixed(self, value: Value) -> bool:
        """Say whether no input of the program reaches a value."""
        return value[0] in ("literal", "constant") or value[0] in self._fixed

    def scalar(self, value: Value) -> str:
        """Return the one known number that a value is everywhere, as text; "" for none."""
        return value[1] if value[0] == "literal" else self._scalars.get(value[0], "")


def origin(atom: Any, makers: Mapping[Any, Any]) -> Any:
    """Return the atom whose value an atom has, as the form of the equations alone tells.

    makers: by variable, the equation that makes it.
    """
    eqn = None if _jax.is_literal(atom) else makers.get(atom)
    if eqn is not None and eqn.primitive.name in _IDENTITIES and len(eqn.invars) == 1:
        return origin(eqn.invars[0], makers)
    if eqn is not None and eqn.primitive.name in _SELECTIONS:
        cases = [origin(case, makers) for case in eqn.invars[1:]]
        if all(case is cases[0] for case in cases):
            return cases[0]
    return atom


def _is_known(eqn: Any, inputs: Values) -> bool:
    """Say whether equal operands alone decide the result: a comparison of whole numbers, which are never NaN."""
    whole = getattr(getattr(eqn.invars[0].aval, "dtype", None), "kind", "") in ("i", "u", "b") if inputs else False
    return whole and len(inputs) == 2 and inputs[0] == inputs[1] and eqn.primitive.name in _DECIDED


def _canonical(name: str, params: Any, inputs: Values) -> Any:
    """Return what equal operations have in common: x**2 is x*x, and operands of a sum or product may change places."""
    if name == "square" or (name == "integer_pow" and ("y", 2) in params):
        return ("mul", (), inputs * 2)
    if name in ("add", "add_any", "mul", "max", "min", "and", "or", "eq", "ne"):
        return (name.removesuffix("_any"), (), tuple(sorted(inputs, key=repr)))
    return (name, params, inputs)


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
