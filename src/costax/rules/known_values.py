"""Frame: a jaxpr where it is called, and the integer scalars that the program fixes there.

The trip count of a `while` often hides behind a few equations and call boundaries: a literal that is converted,
passed into a `jit`, and compared with in the loop's condition. A frame follows a variable back through them. Where a
value would not fit its dtype, nothing is known: no arithmetic that wraps around is ever relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import add, mul, sub
from typing import Any

from costax import _jax
from costax.core import dtypes
from costax.core.cost import Count
from costax.core.equation import Body
from costax.core.polynomial import Polynomial, at_least, maximum, minimum

_IDENTITIES = frozenset(
    {
        "copy",
        "squeeze",
        "reshape",
        "broadcast_in_dim",
        "stop_gradient",
        "stage",
        "pvary",
        "copy_p",
    }
)
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
}


def _quotient(a: Any, b: Any) -> Any:
    """Return what `lax.div` does: it truncates towards zero. What depends on symbols is not negative here."""
    if not (isinstance(a, int) and isinstance(b, int)):
        return a // b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    """Return what `lax.rem` does: it takes the dividend's sign."""
    return a - b * _quotient(a, b)


_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "max": maximum,
    "min": minimum,
    "div": _quotient,
    "rem": _remainder,
}


class Frame:
    """One jaxpr, the equation that calls it and the frame of that equation.

    What is derived in a frame holds wherever the same jaxpr is called, as long as the caller gives the same `answers`
    (by input: the value, or None where the caller does not fix it) and, where `placed`, the path is the same.
    """

    __slots__ = (
        "_constants",
        "_definitions",
        "_positions",
        "_values",
        "answers",
        "axis_sizes",
        "body",
        "eqn",
        "jaxpr",
        "parent",
        "path",
        "placed",
    )

    def __init__(
        self,
        jaxpr: Any,
        path: tuple[str, ...] = (),
        parent: Frame | None = None,
        eqn: Any = None,
        body: Body | None = None,
        axis_sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Take an open or closed jaxpr and where it is called."""
        self.jaxpr: _jax.Jaxpr = _jax.opened(jaxpr)
        self._constants = dict(zip(self.jaxpr.constvars, _jax.constants(jaxpr), strict=False))
        self._definitions: dict[Any, Any] | None = None
        self._positions: dict[Any, int] | None = None
        self._values: dict[Any, int | None] = {}
        self.path: tuple[str, ...] = path
        self.parent: Frame | None = parent
        self.eqn: Any = eqn
        self.body: Body | None = body
        self.axis_sizes: Mapping[str, int] = axis_sizes or {}
        self.answers: dict[int, int | None] = {}
        self.placed: bool = False

    def known(self, atom: Any) -> int | None:
        """Return the value of an atom if it is an integer scalar that the program fixes, else None."""
        if _jax.is_literal(atom):
            return _jax.integer_value(atom.val)
        # A stack and no recursion: scalars may hang on chains of thousands of equations.
        pending = [] if atom in self._values else [atom]
        while pending:
            definition = self._definition(pending[-1])
            needed = definition.invars if definition is not None and _is_arithmetic(definition) else ()
            unseen = [v for v in needed if not _jax.is_literal(v) and v not in self._values]
            if unseen:
                pending.extend(unseen)
            else:
                var = pending.pop()
                self._values[var] = self._value(var, definition)
        return self._values[atom]

    def answer(self, position: int) -> int | None:
        """Return the value of an input of the jaxpr that the caller fixes and no run of the body changes, else None."""
        if position not in self.answers:
            self.answers[position] = self._asked(position)
        return self.answers[position]

    def known_inputs(self, eqn: Any) -> KnownInputs:
        """Return the known values of an equation's inputs, each worked out when it is asked for."""
        return KnownInputs(self, eqn.invars)

    def definition(self, atom: Any) -> Any:
        """Return the equation that defines a variable, or None."""
        return None if _jax.is_literal(atom) else self._definition(atom)

    def is_size(self, eqn: Any) -> bool:
        """Say whether an equation only makes a symbolic dimension a number: with plain sizes it would not be there."""
        if eqn.primitive.name != "convert_element_type":
            return False
        definition = self.definition(eqn.invars[0])
        return definition is not None and (definition.primitive.name == "dim_as_value" or self.is_size(definition))

    def source(self, eqn: Any) -> str:
        """Return the user's file and line of an equation, or of the nearest call around it that has one."""
        here = _jax.source(eqn)
        return here or (self.parent.source(self.eqn) if self.parent is not None else "")

    def _definition(self, var: Any) -> Any:
        if self._definitions is None:
            self._definitions = {out: eqn for eqn in self.jaxpr.eqns for out in eqn.outvars}
        return self._definitions.get(var)

    def position(self, atom: Any) -> int | None:
        """Return which input of the jaxpr an atom is, or None."""
        if self._positions is None:
            self._positions = {var: position for position, var in enumerate(self.jaxpr.invars)}
        return None if _jax.is_literal(atom) else self._positions.get(atom)

    def _value(self, var: Any, definition: Any) -> int | None:
        operand = _jax.operand(var.aval)
        held = dtypes.integers(operand.dtype)
        if operand.shape != () or held is None:
            return None
        if var in self._constants:
            return _jax.integer_value(self._constants[var])
        if definition is not None:
            value = self._from_equation(definition, var)
        else:
            position = self.position(var)
            value = None if position is None else self.answer(position)
        return value if value is not None and fits(value, held) else None

    def _asked(self, position: int) -> int | None:
        if self.parent is None or self.body is None:
            return None
        fixed = len(self.body.inputs) if self.body.fixed is None else self.body.fixed
        source = self.body.inputs[position] if position < min(fixed, len(self.body.inputs)) else None
        return None if source is None else self.parent.known(self.eqn.invars[source])

    def _from_equation(self, eqn: Any, var: Any) -> int | None:
        name = eqn.primitive.name
        if name == "dim_as_value":
            return _jax.params(eqn)["dim"]
        if name in _CALLS:
            jaxpr = eqn.params[_CALLS[name]]
            inside = Frame(jaxpr, self.path, self, eqn, Body(jaxpr, inputs=tuple(range(len(eqn.invars)))))
            return inside.known(inside.jaxpr.outvars[eqn.outvars.index(var)])
        if not _is_arithmetic(eqn):
            return None
        operands = [value for value in map(self.known, eqn.invars) if value is not None]
        if len(operands) < len(eqn.invars):
            return None
        if name == "convert_element_type":
            return int(operands[0] != 0) if _jax.operand(var.aval).dtype == "bool" else operands[0]
        if name in _IDENTITIES:
            return operands[0] if len(operands) == 1 else None
        if name == "clamp":
            low, value, high = operands
            return minimum(maximum(low, value), high)
        a, b = operands
        if name in ("div", "rem") and (b == 0 or not _truncates_alike(a, b)):
            return None
        return _ARITHMETIC[name](a, b)


def fits(value: Count, held: range) -> bool:
    """Say whether a dtype holds a value. One that depends on symbols is taken for a size, which every index holds."""
    return at_least(value, max(held.start, 0)) if isinstance(value, Polynomial) else value in held


def _truncates_alike(a: Any, b: Any) -> bool:
    """Say whether division rounds down where it truncates: always for numbers, that are told apart by their signs."""
    numbers = isinstance(a, int) and isinstance(b, int)
    return numbers or (at_least(a, 0) and at_least(b, 1))


def _is_arithmetic(eqn: Any) -> bool:
    name = eqn.primitive.name
    return name in _ARITHMETIC or name in _IDENTITIES or name in ("clamp", "convert_element_type")


class KnownInputs(Sequence[int | None]):
    """The known values of some atoms, by position."""

    def __init__(self, frame: Frame, atoms: Sequence[Any]) -> None:
        """Take the frame that the atoms belong to."""
        self._frame, self._atoms = frame, atoms

    def __getitem__(self, position: Any) -> Any:
        """Return the value at a position, or None where the program does not fix it."""
        return self._frame.known(self._atoms[position])

    def __len__(self) -> int:
        """Return how many inputs there are."""
        return len(self._atoms)

    def __iter__(self) -> Iterator[int | None]:
        """Yield the values in order."""
        return (self._frame.known(atom) for atom in self._atoms)
