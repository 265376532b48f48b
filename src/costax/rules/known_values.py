"""Known values: constant propagation of integer scalars through the equations and calls of a program.

The trip count of a `while` often hides behind a few equations and call boundaries: a literal that is converted,
passed into a `jit` or a `checkpoint`, and compared with in the loop's condition. A `CallFrame` is a jaxpr at one call
site; it follows a variable back through equations that move or fold numbers, by their traits, and into the bodies of
calls, by their rules. Where a value would not fit its dtype, it is unknown: no arithmetic that wraps around is relied
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from costax import _jax
from costax.core import dtypes
from costax.core.cost import Count
from costax.core.equation import Body, Equation
from costax.core.polynomial import Polynomial, at_least
from costax.errors import Uncountable, Undecided
from costax.rules.registry import REGISTRY, Rule


class Rules(Protocol):
    """Rules by primitive name: a dictionary, or the registry."""

    def get(self, name: str, /) -> Rule | None:
        """Return the rule of a primitive, or None."""
        ...


class CallFrame:
    """One jaxpr, the equation that calls it and the frame of that equation.

    rules: by primitive name; they say what a call runs and what a primitive is.

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
        "rules",
    )

    def __init__(
        self,
        jaxpr: Any,
        path: tuple[str, ...] = (),
        parent: CallFrame | None = None,
        eqn: Any = None,
        body: Body | None = None,
        axis_sizes: Mapping[str, int] | None = None,
        rules: Rules | None = None,
    ) -> None:
        """Take an open or closed jaxpr and where it is called."""
        self.jaxpr: _jax.Jaxpr = _jax.opened(jaxpr)
        self._constants = dict(zip(self.jaxpr.constvars, _jax.constants(jaxpr), strict=False))
        self._definitions: dict[Any, Any] | None = None
        self._positions: dict[Any, int] | None = None
        self._values: dict[Any, int | None] = {}
        self.path: tuple[str, ...] = path
        self.parent: CallFrame | None = parent
        self.eqn: Any = eqn
        self.body: Body | None = body
        self.axis_sizes: Mapping[str, int] = axis_sizes or {}
        self.answers: dict[int, int | None] = {}
        self.placed: bool = False
        inherited = parent.rules if parent is not None else None
        self.rules: Rules = rules or inherited or REGISTRY

    def known(self, atom: Any) -> int | None:
        """Return the value of an atom if it is an integer scalar that the program fixes, else None."""
        if _jax.is_literal(atom):
            return _jax.integer_value(atom.val)
        # A stack and no recursion: scalars may hang on chains of thousands of equations.
        pending = [] if atom in self._values else [atom]
        while pending:
            definition = self._definition(pending[-1])
            needed = definition.invars if definition is not None and self._folds(definition) else ()
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
        rule = self.rules.get(eqn.primitive.name)
        if rule is None:
            return None
        if eqn.primitive.name == "dim_as_value":
            return _jax.params(eqn)["dim"]
        if rule.higher_order:
            return self._from_call(rule, eqn, eqn.outvars.index(var))
        if not self._folds(eqn):
            return None
        operands = [value for value in map(self.known, eqn.invars) if value is not None]
        if len(operands) < len(eqn.invars):
            return None
        if rule.traits.preserves:
            # A cast to bool is no copy: 2 becomes 1.
            return int(operands[0] != 0) if _jax.operand(var.aval).dtype == "bool" else operands[0]
        return _folded(rule.traits.fold, operands)

    def _from_call(self, rule: Rule, eqn: Any, position: int) -> int | None:
        """Return the value of a result of a call: of an equation that runs one body once."""
        body = called_body(bodies_of(rule, eqn, self))
        if body is None:
            return None
        inside = CallFrame(body.jaxpr, self.path, self, eqn, body, self.axis_sizes)
        if len(inside.jaxpr.outvars) != len(eqn.outvars):
            return None
        return inside.known(inside.jaxpr.outvars[position])

    def _folds(self, eqn: Any) -> bool:
        """Say whether numbers as operands of an equation make its result a number."""
        rule = self.rules.get(eqn.primitive.name)
        if rule is None or rule.higher_order:
            return False
        return rule.traits.fold is not None or (rule.traits.preserves and len(eqn.invars) == 1)


def bodies_of(rule: Rule, eqn: Any, frame: CallFrame) -> Sequence[Body]:
    """Return the bodies that an equation runs in a frame; none where its rule cannot say."""
    inputs, outputs = (tuple(_jax.operand(v.aval) for v in side) for side in (eqn.invars, eqn.outvars))
    equation = Equation(rule.name, inputs, outputs, _jax.params(eqn), frame.axis_sizes, frame.known_inputs(eqn))
    try:
        return cast("Sequence[Body]", rule.function(equation))
    except (Uncountable, Undecided):
        return ()


def called_body(bodies: Sequence[Body]) -> Body | None:
    """Return the one body that an equation runs, once and on whole operands, or None.

    That is what makes an equation a call. Of a branch whose index is known the bodies that never run do not count.
    """
    running = [body for body in bodies if body.times != 0]
    if len(running) != 1:
        return None
    body = running[0]
    return None if body.times != 1 or body.loop or body.choice or body.fused or body.per_device else body


def _folded(fold: Callable[..., Any] | None, operands: Sequence[Any]) -> Any:
    """Return a function of numbers, if that is an integer or a polynomial; None where it is not known."""
    if fold is None:
        return None
    try:
        value = fold(*operands)
    except (TypeError, ArithmeticError, ValueError, Undecided):
        return None
    return value if isinstance(value, int | Polynomial) and not isinstance(value, bool) else None


def fits(value: Count, held: range) -> bool:
    """Say whether a dtype holds a value. One that depends on symbols is taken for a size, which every index holds."""
    return at_least(value, max(held.start, 0)) if isinstance(value, Polynomial) else value in held


class KnownInputs(Sequence[int | None]):
    """The known values of some atoms, by position."""

    def __init__(self, frame: CallFrame, atoms: Sequence[Any]) -> None:
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
