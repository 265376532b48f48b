"""Provenance: how an HLO instruction knows the equation that it came from.

Before lowering, the name stack of every equation gets a short unique mark, `~12~`. XLA carries names through
optimisation and does not optimise by them, so the marked program compiles to the same code; a guard compares the
costs of both all the same. Each distinct inner jaxpr is marked once, so that functions that are shared stay shared:
the marks of the call sites and the inner mark together are an equation's address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.cost import Count
from costax.tree import Node, Scope

_ROOT = "~0~"
_MARK = re.compile(r"~(\d+)~")

Address = tuple[int, ...]
"""The marks of the equations that lead to an equation, outermost first, its own last."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A jaxpr whose equations carry marks, and the mark of each original equation (by its id)."""

    jaxpr: Any
    marks: dict[int, int]


def mark(jaxpr: Any) -> Marked:
    """Return the jaxpr with every equation marked, those of inner jaxprs too; nothing else changes.

    jaxpr: closed, after dead-code elimination, so that its equations are those of the tree.
    """
    marks: dict[int, int] = {}
    rewritten: dict[int, Any] = {}

    def rewrite(inner: Any, prefix: str = "") -> Any:
        if id(inner) not in rewritten:
            eqns = [marked_equation(eqn, prefix) for eqn in _jax.opened(inner).eqns]
            rewritten[id(inner)] = _jax.with_equations(inner, eqns)
        return rewritten[id(inner)]

    def marked_equation(eqn: Any, prefix: str) -> Any:
        number = marks.setdefault(id(eqn), len(marks) + 1)
        params = {name: _jax.map_jaxprs(value, rewrite) for name, value in eqn.params.items()}
        return _jax.with_scopes(eqn, params, prefix, f"~{number}~")

    return Marked(rewrite(jaxpr, _ROOT), marks)


def address(op_name: str, caller: Address) -> Address:
    """Return the address that an instruction's name tells; names inside a shared function go on from the caller's.

    >>> address("jit(f)/~0~/jvp(net)/~3~/while/body/~7~/dot_general", (1,)), address("jit(silu)/~5~/neg", (1, 4))
    ((3, 7), (1, 4, 5))
    """
    absolute = op_name.rpartition(_ROOT)
    marks = tuple(map(int, _MARK.findall(absolute[2])))
    return marks if absolute[1] else caller + marks


@dataclass(frozen=True, slots=True)
class Place:
    """An equation where it is called: its address, absolute scope, node, and how often it runs in all.

    once: how often XLA's cost analysis would charge it, loops and shards once. loops: nodes of the loops around it.
    """

    address: Address
    scope: Scope
    direction: str
    node: Node
    times: Count
    once: Count
    owner: Address


def places(tree: Node, marks: dict[int, int]) -> Iterator[Place]:
    """Yield every equation of a tree at each of its call sites, callers first."""

    def visit(nodes: Sequence[Node], outer: Place) -> Iterator[Place]:
        for node in nodes:
            here = Place(
                outer.address + (marks[id(node.equation)],) if node.equation is not None else outer.address,
                outer.scope + node.scope,
                node.direction or outer.direction,
                node,
                outer.times * node.times,
                outer.once * (1 if node.loop or node.per_device else node.times),
                outer.owner,
            )
            if node.equation is not None:
                yield here
            yield from visit(node.children, here)

    yield from visit(tree.children, Place((), (), "", tree, 1, 1, ()))
