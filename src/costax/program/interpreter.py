"""Interpreter: evaluates a jaxpr equation by equation, with abstract values of the caller's choice.

Every analysis that follows values through a program reads the operands of an equation from an environment, decides
what the equation does with them, and writes the results to the environment. `Interpreter` keeps the environment; a
subclass defines what an equation does and what a value is: the number of a buffer, facts about a layer, an array.
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
    """Evaluates the equations of a jaxpr in order. V: the type of values. C: the type of a context, such as a scope.

    A subclass defines `equation`, `constant` and `literal`. `equation` calls `run` for the bodies that it enters.
    """

    def literal(self, atom: Any) -> V:
        """Return the value of a literal."""
        raise NotImplementedError

    def constant(self, var: Any, value: Any) -> V:
        """Return the value of a constant of a jaxpr. value: the constant, or None where the jaxpr is open."""
        raise NotImplementedError

    def equation(self, node: Node, operands: list[V], context: C) -> Sequence[V]:
        """Return the values of the results of an equation. operands: the values of its operands."""
        raise NotImplementedError

    def run(self, jaxpr: Any, nodes: Sequence[Node], inputs: Sequence[V], context: C) -> list[V]:
        """Return the values of the results of a jaxpr. nodes: its equations. inputs: the values of its inputs."""
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
