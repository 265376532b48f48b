"""The one environment: a jaxpr is gone through in order, with a value of some kind for each variable.

Every analysis that follows values through a program does the same: it reads the operands of an equation from an
environment, decides what the equation does with them, and binds the results. An `Interpreter` does the first and the
last; a subclass says what an equation does. What a value is differs: a number of a buffer, a set of facts about a
layer, an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from costax import _jax
from costax.program.tree import Node

V = TypeVar("V")
C = TypeVar("C")


class Interpreter(Generic[V, C]):
    """Follows values of one kind (V) through the equations of a jaxpr, in a context (C) such as a scope.

    A subclass defines `equation`, `constant` and `literal`. `equation` calls `run` for the bodies that it enters.
    """

    def literal(self, atom: Any) -> V:
        """Return the value of a literal."""
        raise NotImplementedError

    def constant(self, var: Any, value: Any) -> V:
        """Return the value of a constant that a closed jaxpr holds; value: None where the jaxpr is open."""
        raise NotImplementedError

    def equation(self, node: Node, operands: list[V], context: C) -> Sequence[V]:
        """Return the values of the results of an equation, given those of its operands."""
        raise NotImplementedError

    def run(self, jaxpr: Any, nodes: Sequence[Node], inputs: Sequence[V], context: C) -> list[V]:
        """Return the values of the results of a jaxpr whose equations are `nodes`, given those of its inputs."""
        inner = _jax.opened(jaxpr)
        values: dict[Any, V] = dict(zip(inner.invars, inputs, strict=True))
        for var, value in zip_longest(inner.constvars, _jax.constants(jaxpr)):
            values[var] = self.constant(var, value)
        literal, is_literal, equation = self.literal, _jax.is_literal, self.equation
        for node in nodes:
            eqn = node.equation
            operands = [literal(atom) if is_literal(atom) else values[atom] for atom in eqn.invars]
            values.update(zip(eqn.outvars, equation(node, operands, context), strict=True))
        return [literal(atom) if is_literal(atom) else values[atom] for atom in inner.outvars]
