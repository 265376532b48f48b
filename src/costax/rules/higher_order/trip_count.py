"""The trip count of a `while`, derived from its jaxpr.

The condition must compare a carried counter with a bound, the body must add a constant step to the counter and not
change the bound, and the program must determine start, step and bound. `fori_loop` with known bounds, strides and
downward counters have this form. Any other trip count is unknown and never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costax import _jax
from costax.core import dtypes
from costax.core.equation import Equation
from costax.core.polynomial import Polynomial, maximum
from costax.rules.known_values import CallFrame, fits

_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "ne": "ne", "eq": "eq"}


def trip_count(eqn: Equation) -> int | None:
    """Return how often the body of a `while` equation runs, or None where the program does not determine it."""
    loop = WhileLoop(eqn)
    comparisons = loop.comparisons()
    if not comparisons:
        return _constant_condition(loop)
    for position, order, bound in comparisons:
        start, step, end = loop.initial(position), loop.step(position), loop.bound(bound)
        if start is None or step is None or end is None:
            continue
        count = steps(order, start, step, end)
        # A counter that would leave the range of its dtype wraps around, and the loop goes on.
        return count if count is not None and fits(start + count * step, loop.range_of(position)) else None
    return None


def steps(relation: str, start: int, step: int, end: int) -> int | None:
    """Return how many steps the loop takes until `counter relation end` is false; None if it never is.

    >>> steps("lt", 0, 3, 10), steps("ge", 10, -2, 0), steps("lt", 5, 1, 5), steps("lt", 0, 0, 5), steps("eq", 4, 1, 4)
    (4, 6, 0, None, 1)
    """
    if relation == "eq":
        if isinstance(end - start, Polynomial):
            return None
        return 0 if start != end else 1 if step else None
    if relation == "ne":
        return (end - start) // step if step and (end - start) % step == 0 and (end - start) // step >= 0 else None
    if relation in ("gt", "ge"):
        start, step, end = -start, -step, -end
    if relation in ("le", "ge"):
        end += 1
    if isinstance(end - start, Polynomial):
        return maximum(-(-(end - start) // step), 0) if step > 0 else None
    if start >= end:
        return 0
    return -(-(end - start) // step) if step > 0 else None


def _constant_condition(loop: WhileLoop) -> int | None:
    value = loop.condition.known(loop.condition.jaxpr.outvars[0])
    return 0 if value == 0 else None


class WhileLoop:
    """The carry, condition and body of a `while` equation."""

    def __init__(self, eqn: Equation) -> None:
        """Take the equation, with the known values of its inputs."""
        self.eqn = eqn
        self.condition_consts: int = eqn.params["cond_nconsts"]
        self.body_consts: int = eqn.params["body_nconsts"]
        self.condition: CallFrame = CallFrame(eqn.params["cond_jaxpr"])
        self.body: CallFrame = CallFrame(eqn.params["body_jaxpr"])

    def comparisons(self) -> list[tuple[int, str, Any]]:
        """Return (carry, relation, bound) for each carry that the condition compares with an atom."""
        comparison = self.condition.definition(self.condition.jaxpr.outvars[0])
        if comparison is None or comparison.primitive.name not in _MIRRORED:
            return []
        relation, (left, right) = comparison.primitive.name, comparison.invars
        sides = ((left, relation, right), (right, _MIRRORED[relation], left))
        carries = [(self.carry_position(counter), order, bound) for counter, order, bound in sides]
        return [(carry, order, bound) for carry, order, bound in carries if carry is not None]

    def carry_position(self, atom: Any) -> int | None:
        """Return which carry an atom of the condition is, through casts that keep every value of the dtype."""
        definition = self.condition.definition(atom)
        if definition is not None and definition.primitive.name == "convert_element_type":
            inner = definition.invars[0]
            narrow, wide = _integers(inner), _integers(atom)
            keeps = narrow and wide and narrow[0] in wide and narrow[-1] in wide
            return self.carry_position(inner) if keeps else None
        position = self.condition.position(atom)
        return None if position is None or position < self.condition_consts else position - self.condition_consts

    def range_of(self, carry: int) -> range:
        """Return the values that a carry can hold."""
        return _integers(self.body.jaxpr.invars[self.body_consts + carry]) or range(0)

    def initial(self, carry: int) -> int | None:
        """Return the value of a carry before the first iteration."""
        return self.eqn.known[self.condition_consts + self.body_consts + carry]

    def bound(self, atom: Any) -> int | None:
        """Return the value of an atom of the condition if it is the same in every iteration, else None."""
        value = self.condition.known(atom)
        if value is not None or _jax.is_literal(atom):
            return value
        position = self.condition.position(atom)
        if position is not None and position < self.condition_consts:
            return self.eqn.known[position]
        carry = self.carry_position(atom)
        return self.initial(carry) if carry is not None and self.step(carry) == 0 else None

    def step(self, carry: int) -> int | None:
        """Return the constant that the body adds to a carry, or None."""
        atom, origin = self.body.jaxpr.outvars[carry], self.body.jaxpr.invars[self.body_consts + carry]
        return added(self.body, atom, origin, self._constant)

    def _constant(self, atom: Any) -> int | None:
        """Return the value of an atom of the body if it is the same in every iteration, else None."""
        position = self.body.position(atom)
        if position is not None and position < self.body_consts:
            return self.eqn.known[self.condition_consts + position]
        return self.body.known(atom)


def added(body: CallFrame, atom: Any, origin: Any, constant: Callable[[Any], int | None]) -> int | None:
    """Return the constant by which an atom of a body is larger than another one, or None.

    It goes backwards from the atom through additions and subtractions: 3 for (i + 4) - 1 and i, 0 for i and i.
    constant: returns the value of an atom if it is the same in every iteration.
    """
    step = 0
    while atom is not origin:
        definition = body.definition(atom)
        if definition is None or definition.primitive.name not in ("add", "sub"):
            return None
        left, right = definition.invars
        amounts = constant(left), constant(right)
        if amounts[1] is not None and amounts[0] is None:
            step += amounts[1] if definition.primitive.name == "add" else -amounts[1]
            atom = left
        elif amounts[0] is not None and amounts[1] is None and definition.primitive.name == "add":
            step += amounts[0]
            atom = right
        else:
            return None
    return step


def _integers(atom: Any) -> range | None:
    return dtypes.integers(_jax.operand(atom.aval).dtype)
