"""Frame: a jaxpr where it is called, and the integer scalars that the program fixes there.

The trip count of a `while` often hides behind a few equations and call boundaries: a literal that is converted,
passed into a `jit`, and compared with in the loop's condition. A frame follows a variable back through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import copysign
from operator import add, mul, sub
from typing import Any

from costax import _jax
from costax.equation import Body

_IDENTITIES = frozenset(
    {
        "convert_element_type",
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
_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "max": max,
    "min": min,
    # lax.div truncates towards zero, lax.rem takes the dividend's sign.
    "div": lambda a, b: int(copysign(1, a) * copysign(1, b)) * (abs(a) // abs(b)),
    "rem": lambda a, b: int(copysign(1, a)) * (abs(a) % abs(b)),
}


class Frame:
    """One jaxpr, the equation that calls it and the frame of that equation.

    `contextual` turns true when an answer came from outside, so that what was derived holds for this call only.
    """

    __slots__ = ("_constants", "_definitions", "axis_sizes", "body", "contextual", "eqn", "jaxpr", "parent", "path")

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
        self.jaxpr = _jax.opened(jaxpr)
        self._constants = dict(zip(self.jaxpr.constvars, _jax.constants(jaxpr), strict=False))
        self._definitions: dict[Any, Any] | None = None
        self.path = path
        self.parent = parent
        self.eqn = eqn
        self.body = body
        self.axis_sizes: Mapping[str, int] = axis_sizes or {}
        self.contextual = False

    def known(self, atom: Any) -> int | None:
        """Return the value of an atom if it is an integer scalar that the program fixes, else None."""
        if _jax.is_literal(atom):
            return _jax.integer_value(atom.val)
        if atom in self._constants:
            return _jax.integer_value(self._constants[atom])
        if getattr(atom.aval, "shape", None) != ():
            return None
        definition = self._definition(atom)
        return self._from_caller(atom) if definition is None else self._from_equation(definition, atom)

    def known_inputs(self, eqn: Any) -> KnownInputs:
        """Return the known values of an equation's inputs, each worked out when it is asked for."""
        return KnownInputs(self, eqn.invars)

    def definition(self, atom: Any) -> Any:
        """Return the equation that defines a variable, or None."""
        return None if _jax.is_literal(atom) else self._definition(atom)

    def source(self, eqn: Any) -> str:
        """Return the user's file and line of an equation, or of the nearest call around it that has one."""
        here = _jax.source(eqn)
        return here or (self.parent.source(self.eqn) if self.parent is not None else "")

    def _definition(self, var: Any) -> Any:
        if self._definitions is None:
            self._definitions = {out: eqn for eqn in self.jaxpr.eqns for out in eqn.outvars}
        return self._definitions.get(var)

    def _from_caller(self, var: Any) -> int | None:
        if self.parent is None or self.body is None or var not in self.jaxpr.invars:
            return None
        position = self.jaxpr.invars.index(var)
        fixed = len(self.body.inputs) if self.body.fixed is None else self.body.fixed
        if position >= min(fixed, len(self.body.inputs)):
            return None
        source = self.body.inputs[position]
        self.contextual = True
        return None if source is None else self.parent.known(self.eqn.invars[source])

    def _from_equation(self, eqn: Any, var: Any) -> int | None:
        name = eqn.primitive.name
        if name in _IDENTITIES and len(eqn.invars) == 1:
            return self.known(eqn.invars[0])
        if name in _ARITHMETIC:
            a, b = self.known(eqn.invars[0]), self.known(eqn.invars[1])
            if a is None or b is None or (name in ("div", "rem") and b == 0):
                return None
            return _ARITHMETIC[name](a, b)
        if name == "clamp":
            low, value, high = map(self.known, eqn.invars)
            return None if low is None or value is None or high is None else min(max(low, value), high)
        if name in _CALLS:
            jaxpr = eqn.params[_CALLS[name]]
            inside = Frame(jaxpr, self.path, self, eqn, Body(jaxpr, inputs=tuple(range(len(eqn.invars)))))
            return inside.known(inside.jaxpr.outvars[eqn.outvars.index(var)])
        return None


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
