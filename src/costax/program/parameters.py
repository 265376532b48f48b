"""Parameters: the size of the parameters of a program, by the scope that uses each first.

A parameter is followed from the input of the jaxpr into the bodies of equations, and through equations that only move
or cast it, to the first equation in a named scope that computes with it. A use outside of every scope, such as weight
decay, counts only if no scope uses the parameter. A parameter without a use has the scope "".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from costax import _jax
from costax.core.size import Size
from costax.program.trace import Program
from costax.program.tree import Node, Scope


def by_scope(program: Program, jaxpr: Any, tree: Node) -> Mapping[tuple[Scope, str], Size] | None:
    """Return the size of the parameters by (scope, dtype), or None if it is not known which inputs are parameters."""
    if program.parameters is None:
        return None
    positions = tuple(parameter.position for parameter in program.parameters)
    scopes = _FirstUses().body(jaxpr, tree.children, positions).scopes
    sizes: dict[tuple[Scope, str], Size] = {}
    for parameter in program.parameters:
        key = (scopes.get(parameter.position, ()), parameter.operand.dtype)
        sizes[key] = sizes.get(key, Size()) + Size(parameter.operand.size, parameter.operand.nbytes)
    return sizes


class _Uses(NamedTuple):
    """The uses of some inputs of a body.

    scopes: by input, the scope of its first use, relative to the body. forwarded: by output, the input that it equals.
    """

    scopes: Mapping[int, Scope]
    forwarded: Mapping[int, int]


class _FirstUses:
    """Finds first uses; a body that several equations share is searched once for the same inputs."""

    def __init__(self) -> None:
        self._by_body: dict[tuple[int, tuple[int, ...]], _Uses] = {}

    def body(self, jaxpr: Any, nodes: Sequence[Node], positions: tuple[int, ...]) -> _Uses:
        """Return the first uses of the inputs of a jaxpr at some positions. nodes: its equations."""
        jaxpr = _jax.opened(jaxpr)
        key = id(jaxpr), positions
        if key not in self._by_body:
            self._by_body[key] = self._search(jaxpr, nodes, positions)
        return self._by_body[key]

    def _search(self, jaxpr: Any, nodes: Sequence[Node], positions: tuple[int, ...]) -> _Uses:
        origin = {jaxpr.invars[position]: position for position in positions}
        scopes: dict[int, Scope] = {}
        # Inputs without a use in a named scope so far.
        pending = set(positions)
        for node in nodes:
            eqn = node.equation
            inputs = {i: origin[v] for i, v in enumerate(eqn.invars) if not _jax.is_literal(v) and v in origin}
            if not inputs:
                continue
            uses = self._equation(node, tuple(inputs))
            for i, scope in uses.scopes.items():
                position = inputs[i]
                scopes[position] = scopes.get(position) or node.scope + scope
                if scopes[position]:
                    pending.discard(position)
            for out, i in uses.forwarded.items():
                if inputs[i] in pending:
                    origin[eqn.outvars[out]] = inputs[i]
            if not pending:
                break
        forwarded = {out: origin[v] for out, v in enumerate(jaxpr.outvars) if not _jax.is_literal(v) and v in origin}
        return _Uses(scopes, forwarded)

    def _equation(self, node: Node, inputs: tuple[int, ...]) -> _Uses:
        """Return the first uses of the inputs of an equation at some positions."""
        if not node.bodies:
            if node.traits.preserves:
                return _Uses({}, {out: i for i in inputs for out in range(len(node.equation.outvars)) if i in (0, out)})
            return _Uses(dict.fromkeys(inputs, ()), {})
        scopes: dict[int, Scope] = {}
        forwarded: dict[int, int] = {}
        for body, child in zip(node.bodies, node.children, strict=True):
            outer_of = {inner: outer for inner, outer in enumerate(body.inputs) if outer in inputs}
            uses = self.body(body.jaxpr, child.children, tuple(outer_of))
            for inner, scope in uses.scopes.items():
                scopes[outer_of[inner]] = scopes.get(outer_of[inner]) or scope
            if len(_jax.opened(body.jaxpr).outvars) == len(node.equation.outvars):
                forwarded.update({out: outer_of[inner] for out, inner in uses.forwarded.items()})
        return _Uses(scopes, forwarded)
