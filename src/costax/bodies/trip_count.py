"""How often a `while` runs, where its jaxpr shows it.

The condition must compare a carried counter with a bound, the body must add a fixed step to the counter and leave
the bound alone, and the program must fix start, step and bound. `fori_loop` with any bounds that are known, strides
and downward counters are of this form. Anything else is unknown, never guessed.
"""

from __future__ import annotations

from typing import Any

from costax import _jax
from costax.equation import Equation
from costax.frame import Frame

_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "ne": "ne"}


def trip_count(eqn: Equation) -> int | None:
    """Return how often the body of a `while` equation runs, or None where the program does not fix it."""
    loop = _Loop(eqn)
    comparison = loop.condition.definition(loop.condition.jaxpr.outvars[0])
    if comparison is None or comparison.primitive.name not in _MIRRORED:
        return _constant_condition(loop)
    relation, (left, right) = comparison.primitive.name, comparison.invars
    for counter, bound, order in ((left, right, relation), (right, left, _MIRRORED[relation])):
        position = loop.carry_position(counter)
        if position is None:
            continue
        start, step, end = loop.initial(position), loop.step(position), loop.bound(bound)
        if start is None or step is None or end is None:
            continue
        return _steps(order, start, step, end)
    return None


def _steps(relation: str, start: int, step: int, end: int) -> int | None:
    """Return how many steps keep `counter relation end` true; None if they never end.

    >>> _steps("lt", 0, 3, 10), _steps("ge", 10, -2, 0), _steps("lt", 5, 1, 5), _steps("lt", 0, 0, 5)
    (4, 6, 0, None)
    """
    if relation == "ne":
        return (end - start) // step if step and (end - start) % step == 0 and (end - start) // step >= 0 else None
    if relation in ("gt", "ge"):
        start, step, end = -start, -step, -end
    if relation in ("le", "ge"):
        end += 1
    if start >= end:
        return 0
    return -(-(end - start) // step) if step > 0 else None


def _constant_condition(loop: _Loop) -> int | None:
    value = loop.condition.known(loop.condition.jaxpr.outvars[0])
    return 0 if value == 0 else None


class _Loop:
    def __init__(self, eqn: Equation) -> None:
        self.eqn = eqn
        self.condition_consts: int = eqn.params["cond_nconsts"]
        self.body_consts: int = eqn.params["body_nconsts"]
        self.condition = Frame(eqn.params["cond_jaxpr"])
        self.body = Frame(eqn.params["body_jaxpr"])

    def carry_position(self, atom: Any) -> int | None:
        """Return which carry an atom of the condition is, seen through conversions."""
        invars = self.condition.jaxpr.invars
        definition = self.condition.definition(atom)
        if definition is not None and definition.primitive.name == "convert_element_type":
            return self.carry_position(definition.invars[0])
        if _jax.is_literal(atom) or atom not in invars or invars.index(atom) < self.condition_consts:
            return None
        return invars.index(atom) - self.condition_consts

    def initial(self, carry: int) -> int | None:
        """Return the value that a carry starts with."""
        return self.eqn.known[self.condition_consts + self.body_consts + carry]

    def bound(self, atom: Any) -> int | None:
        """Return the value of an atom of the condition that no run of the body changes."""
        here = self.condition.known(atom)
        if here is not None or _jax.is_literal(atom):
            return here
        invars = self.condition.jaxpr.invars
        if atom in invars and invars.index(atom) < self.condition_consts:
            return self.eqn.known[invars.index(atom)]
        position = self.carry_position(atom)
        return self.initial(position) if position is not None and self.step(position) == 0 else None

    def step(self, carry: int) -> int | None:
        """Return what one run of the body adds to a carry, or None where it does something else."""
        return self._moved(self.body.jaxpr.outvars[carry], self.body.jaxpr.invars[self.body_consts + carry])

    def _moved(self, atom: Any, origin: Any) -> int | None:
        if atom is origin:
            return 0
        definition = self.body.definition(atom)
        if definition is None:
            return None
        name, operands = definition.primitive.name, definition.invars
        if name == "add":
            for moving, amount in (operands, operands[::-1]):
                before, by = self._moved(moving, origin), self._fixed(amount)
                if before is not None and by is not None:
                    return before + by
        if name == "sub":
            before, by = self._moved(operands[0], origin), self._fixed(operands[1])
            return before - by if before is not None and by is not None else None
        return None

    def _fixed(self, atom: Any) -> int | None:
        here = self.body.known(atom)
        invars = self.body.jaxpr.invars
        if here is None and not _jax.is_literal(atom) and atom in invars and invars.index(atom) < self.body_consts:
            return self.eqn.known[self.condition_consts + invars.index(atom)]
        return here
