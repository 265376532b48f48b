"""Parameters: how many, how large, and in which scope each is used first.

A parameter is followed from its input of the jaxpr into the bodies of equations and through what only moves or casts
it, to the first equation inside a named scope that computes with it. Weight decay outside every scope does not count
as a use as long as there is a layer; a parameter that nothing uses, or that no scope uses, stands in the scope "".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from costax import _jax
from costax.core.size import Size
from costax.program.trace import Program
from costax.program.tree import Node, Scope


def by_scope(program: Program, jaxpr: Any, tree: Node) -> Mapping[tuple[Scope, str], Size] | None:
    """Return the size of the parameters by (scope, dtype), or None where nobody said which inputs are parameters."""
    if program.parameters is None:
        return None
    positions = tuple(parameter.position for parameter in program.parameters)
    found = _Search().body(jaxpr, tree.children, positions).scopes
    sizes: dict[tuple[Scope, str], Size] = {}
    for parameter in program.parameters:
        key = (found.get(parameter.position, ()), parameter.operand.dtype)
        sizes[key] = sizes.get(key, Size()) + Size(parameter.operand.size, parameter.operand.nbytes)
    return sizes


class _Uses(NamedTuple):
    """What a body does with some of its inputs.

    scopes: by input, the scope of its first use, relative to the body. passed: by output, the input that it is.
    """

    scopes: Mapping[int, Scope]
    passed: Mapping[int, int]


class _Search:
    """A search for first uses; a body that several equations share is searched once for the same inputs."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, tuple[int, ...]], _Uses] = {}

    def body(self, jaxpr: Any, nodes: Sequence[Node], positions: tuple[int, ...]) -> _Uses:
        """Return the first uses of some inputs of a jaxpr, whose equations are `nodes`."""
        jaxpr = _jax.opened(jaxpr)
        key = id(jaxpr), positions
        if key not in self._found:
            self._found[key] = self._searched(jaxpr, nodes, positions)
        return self._found[key]

    def _searched(self, jaxpr: Any, nodes: Sequence[Node], positions: tuple[int, ...]) -> _Uses:
        origin = {jaxpr.invars[position]: position for position in positions}
        scopes: dict[int, Scope] = {}
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
            for out, i in uses.passed.items():
                if inputs[i] in pending:
                    origin[eqn.outvars[out]] = inputs[i]
            if not pending:
                break
        passed = {out: origin[v] for out, v in enumerate(jaxpr.outvars) if not _jax.is_literal(v) and v in origin}
        return _Uses(scopes, passed)

    def _equation(self, node: Node, inputs: tuple[int, ...]) -> _Uses:
        """Return the first uses of some inputs of an equation."""
        if not node.bodies:
            if node.traits.preserves:
                return _Uses({}, {out: i for i in inputs for out in range(len(node.equation.outvars)) if i in (0, out)})
            return _Uses(dict.fromkeys(inputs, ()), {})
        scopes: dict[int, Scope] = {}
        passed: dict[int, int] = {}
        for body, child in zip(node.bodies, node.children, strict=True):
            at = {inner: outer for inner, outer in enumerate(body.inputs) if outer in inputs}
            uses = self.body(body.jaxpr, child.children, tuple(at))
            for inner, scope in uses.scopes.items():
                scopes[at[inner]] = scopes.get(at[inner]) or scope
            if len(_jax.opened(body.jaxpr).outvars) == len(node.equation.outvars):
                passed.update({out: at[inner] for out, inner in uses.passed.items()})
        return _Uses(scopes, passed)
