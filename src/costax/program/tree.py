"""Node: a program as a tree of equations and the bodies that they run.

An equation node holds what the equation itself costs; its children are its bodies. A body node holds how often
the body runs; its children are the body's equations. A body that is called from several places is one node, so
the tree shares what the program shares: scopes are relative to the parent, and a fold visits a shared node once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

from costax.core.cost import ZERO, Cost, Count
from costax.rules.traits import NO_TRAITS, Traits

Scope = tuple[str, ...]

FORWARD, BACKWARD, RECOMPUTE, UPDATE = "forward", "backward", "recompute", "update"
DIRECTIONS = (FORWARD, BACKWARD, RECOMPUTE, UPDATE)


class Node:
    """An equation or a body.

    label: the primitive's name, or the body's. scope: name-stack path below the parent's. direction: one of
    `DIRECTIONS`, or "" to take the parent's. own: cost of the equation without its bodies. times: how often the
    node runs each time that its parent runs. once: `own + sum of the children's totals`. total: `times * once`.
    bodies: what the rule of a higher-order equation named, one a child. loop: it runs again and again. copies: how
    often the body of a loop stands in the program that XLA sees. fused: a combiner, whose work is its parent's.
    per_device: every device runs it. unknown: the place of a loop whose trip count nobody knows, or "".
    differentiated: backward work is in it. traits: what the primitive is.
    """

    __slots__ = (
        "bodies",
        "children",
        "copies",
        "differentiated",
        "direction",
        "equation",
        "fused",
        "label",
        "loop",
        "once",
        "own",
        "per_device",
        "scope",
        "times",
        "total",
        "traits",
        "unknown",
    )

    def __init__(
        self,
        label: str,
        scope: Scope = (),
        direction: str = "",
        equation: Any = None,
        own: Cost = ZERO,
        times: Count = 1,
        children: tuple[Node, ...] = (),
        *,
        bodies: Sequence[Any] = (),
        loop: bool = False,
        copies: Count = 1,
        fused: bool = False,
        per_device: bool = False,
        unknown: str = "",
        traits: Traits = NO_TRAITS,
    ) -> None:
        """Build a node; its total is summed here, once."""
        self.label: str = label
        self.scope: Scope = scope
        self.direction: str = direction
        self.equation: Any = equation
        self.own: Cost = own
        self.times: Count = times
        self.children: tuple[Node, ...] = children
        self.bodies: Sequence[Any] = bodies
        self.loop: bool = loop
        self.copies: Count = copies
        self.fused: bool = fused
        self.traits: Traits = traits
        self.per_device: bool = per_device
        self.unknown: str = unknown
        self.once: Cost = own + _sum_of_totals(children) if children else own
        self.total: Cost = self.once * times
        self.differentiated: bool = direction in (BACKWARD, RECOMPUTE) or (
            bool(children) and any(child.differentiated for child in children)
        )

    @property
    def is_loop(self) -> bool:
        """Whether an equation runs its bodies again and again."""
        return bool(self.bodies) and all(body.loop for body in self.bodies)

    def repeated(self, times: Count) -> Node:
        """Return the node with another repeat count."""
        node = copy(self)
        node.times, node.total = times, self.once * times
        return node

    def __repr__(self) -> str:
        """Show the label, the scope and how often it runs."""
        return (
            f"Node({self.label!r}, scope={'/'.join(self.scope)!r}, times={self.times}, children={len(self.children)})"
        )

    def walk(self, scope: Scope = (), times: Count = 1) -> Iterator[tuple[Scope, Count, Node]]:
        """Yield (absolute scope, how often it runs in all, node), parents first; shared nodes come once a place."""
        scope, times = scope + self.scope, times * self.times
        yield scope, times, self
        for child in self.children:
            yield from child.walk(scope, times)

    def distinct(self) -> Iterator[Node]:
        """Yield every node once, however many places share it."""
        seen = {id(self)}
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            for child in node.children:
                if id(child) not in seen:
                    seen.add(id(child))
                    waiting.append(child)

    def where(self, times_of: Callable[[Node], Count]) -> Cost:
        """Return the total with other repeat counts: what the tree costs if each node runs `times_of(node)` times."""
        memo: dict[int, Cost] = {}

        def total(node: Node) -> Cost:
            if id(node) not in memo:
                inner = Cost.sum(total(child) for child in node.children) if node.children else ZERO
                memo[id(node)] = (node.own + inner) * times_of(node)
            return memo[id(node)]

        return total(self)


def _sum_of_totals(children: tuple[Node, ...]) -> Cost:
    # Equal equations share one Cost object, so count the objects first and scale each once.
    totals = {id(child.total): child.total for child in children}
    counts = Counter(id(child.total) for child in children)
    return Cost.sum(total * counts[key] for key, total in totals.items())


@dataclass(frozen=True, slots=True)
class Unknown:
    """A loop whose trip count the program does not fix: its place, its source line, what it was counted as.

    Unless it is answered, that is a symbol named after the place; or 1, where a number was needed.
    """

    place: str
    source: str
    assumed: Count
    answered: bool


class Row(NamedTuple):
    """What the equations of one place have in common: scope path, direction, primitive, source line."""

    scope: Scope
    direction: str
    primitive: str
    source: str


def rows(root: Node, source: Callable[[Any], str]) -> dict[Row, Cost]:
    """Fold a tree into one cost for each (scope, direction, primitive, source line); they sum to the total.

    `source` gives an equation's file and line.
    """
    memo: dict[int, dict[Row, Cost]] = {}

    def fold(node: Node) -> dict[Row, Cost]:
        if id(node) not in memo:
            memo[id(node)] = _scaled(_gather(node, fold, source), node.times)
        return memo[id(node)]

    absolute: dict[Row, list[Cost]] = {}
    for row, cost in fold(root).items():
        row = row._replace(direction=row.direction or FORWARD)
        absolute.setdefault(row, []).append(cost)
    return {row: Cost.sum(costs) for row, costs in absolute.items()}


def _gather(node: Node, fold: Callable[[Node], dict[Row, Cost]], source: Callable[[Any], str]) -> dict[Row, Cost]:
    parts: dict[Row, list[Cost]] = {}
    here = source(node.equation) if node.equation is not None else ""
    if node.own or (node.equation is not None and not node.children):
        parts[Row((), "", node.label, here)] = [node.own]
    for child in node.children:
        if child.equation is not None and not child.children:
            # Almost every node is a leaf, and needs no table of its own.
            line = source(child.equation) or here
            parts.setdefault(Row(child.scope, child.direction, child.label, line), []).append(child.total)
            continue
        for row, cost in fold(child).items():
            # A combiner's arithmetic is the work of the primitive that it combines for, on that one's line. Where
            # jax kept no line of the user's (a cached trace), the caller's stands for it.
            primitive, line = (node.label, here) if child.fused else (row.primitive, row.source or here)
            key = Row(child.scope + row.scope, _joined(child.direction, row.direction), primitive, line)
            parts.setdefault(key, []).append(cost)
    return {row: costs[0] if len(costs) == 1 else Cost.sum(costs) for row, costs in parts.items()}


def _joined(outer: str, inner: str) -> str:
    if outer == BACKWARD:
        return RECOMPUTE if inner == RECOMPUTE else BACKWARD
    return outer if outer in (RECOMPUTE, UPDATE) or not inner else inner


def _scaled(table: dict[Row, Cost], times: Count) -> dict[Row, Cost]:
    return table if times == 1 else {row: cost * times for row, cost in table.items()}
