"""Node: a program as a tree of equations and the bodies that they run.

An equation node has the cost of the equation itself; its children are its bodies. A body node has the number of times
that the body runs; its children are the equations of the body. A body with several call sites is a single node, so the
tree is shared as the program is. Scopes are relative to the parent, and a fold visits a shared node once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

from costax.core.cost import ZERO, Cost, Count
from costax.core.source_lines import nearest_line
from costax.rules.traits import NO_TRAITS, ContractionKind, Traits

Scope = tuple[str, ...]

FORWARD, BACKWARD, RECOMPUTE, UPDATE = "forward", "backward", "recompute", "update"
DIRECTIONS = (FORWARD, BACKWARD, RECOMPUTE, UPDATE)


class Node:
    """An equation or a body.

    label: the name of the primitive or of the body. scope: the name-stack path below that of the parent. direction: one
    of `DIRECTIONS`, or "" for the direction of the parent. own: the cost of the equation without its bodies. times: how
    often the node runs for each run of its parent. once: own plus the totals of the children. total: times * once.
    bodies: the bodies that the rule of a higher-order equation returned, one for each child. loop: the node is the body
    of a loop. copies: how many copies of a loop body are in the program that XLA gets. fused: the node is a combiner,
    whose work belongs to its parent. per_device: every device runs the node. unknown: the path of a loop with an
    unknown trip count, or "". choice: how the counted branch was chosen where the program does not fix it ("max",
    "min", "mean" or an index), and its path. differentiated: the node has backward work. traits: the properties of the
    primitive.
    """

    __slots__ = (
        "bodies",
        "children",
        "choice",
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
        choice: tuple[int | str, str] | None = None,
        traits: Traits = NO_TRAITS,
    ) -> None:
        """Build a node and compute its total."""
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
        self.choice: tuple[int | str, str] | None = choice
        self.once: Cost = own + _sum_of_totals(children) if children else own
        self.total: Cost = self.once * times
        self.differentiated: bool = direction in (BACKWARD, RECOMPUTE) or (
            bool(children) and any(child.differentiated for child in children)
        )

    @property
    def is_loop(self) -> bool:
        """Whether an equation runs its bodies again and again."""
        return bool(self.bodies) and all(body.loop for body in self.bodies)

    @property
    def is_branch(self) -> bool:
        """Whether an equation runs one of several bodies."""
        return len(self.bodies) > 1 and not any(body.loop or body.fused for body in self.bodies)

    @property
    def contraction(self) -> ContractionKind | None:
        """The kind of the contraction; None also for a `dot_general` without contracted axes, which sums nothing."""
        kind = self.traits.contraction
        # A product of a user's primitive need not have the parameters of `dot_general`.
        numbers = self.equation.params.get("dimension_numbers") if kind is ContractionKind.PRODUCT else None
        return None if numbers is not None and not numbers[0][0] else kind

    def repeated(self, times: Count) -> Node:
        """Return a copy of the node with another number of runs."""
        node = copy(self)
        node.times, node.total = times, self.once * times
        return node

    def __repr__(self) -> str:
        """Return the label, the scope, the number of runs and the number of children."""
        return (
            f"Node({self.label!r}, scope={'/'.join(self.scope)!r}, times={self.times}, children={len(self.children)})"
        )

    def walk(self, scope: Scope = (), times: Count = 1) -> Iterator[tuple[Scope, Count, Node]]:
        """Yield (absolute scope, total number of runs, node), parents first; a shared node comes once per call site."""
        scope, times = scope + self.scope, times * self.times
        yield scope, times, self
        for child in self.children:
            yield from child.walk(scope, times)

    def distinct(self) -> Iterator[Node]:
        """Yield every node once; a shared node too."""
        seen = {id(self)}
        pending: list[Node] = [self]
        while pending:
            node = pending.pop()
            yield node
            for child in node.children:
                if id(child) not in seen:
                    seen.add(id(child))
                    pending.append(child)

    def where(self, times_of: Callable[[Node], Count]) -> Cost:
        """Return the cost of the tree if each node runs `times_of(node)` times for each run of its parent."""
        memo: dict[int, Cost] = {}

        def total(node: Node) -> Cost:
            if id(node) not in memo:
                inner = Cost.sum(total(child) for child in node.children) if node.children else ZERO
                memo[id(node)] = (node.own + inner) * times_of(node)
            return memo[id(node)]

        return total(self)


def _sum_of_totals(children: tuple[Node, ...]) -> Cost:
    # Equal equations share one Cost object. Counting the objects and multiplying each once is faster than adding all.
    totals = {id(child.total): child.total for child in children}
    counts = Counter(id(child.total) for child in children)
    return Cost.sum(total * counts[key] for key, total in totals.items())


@dataclass(frozen=True, slots=True)
class Unknown:
    """A loop whose trip count the program does not fix.

    place: the scope path of the loop. source: `file:line`. assumed: the trip count that was used: the one of the user
    if `answered`, else a symbol named after the path, or 1 where a number is needed.
    """

    place: str
    source: str
    assumed: Count
    answered: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """An equation whose branches cost different amounts, and of which the program does not fix the branch that runs.

    place: the scope path of the equation. source: `file:line`. how: "max", "min" or "mean". branch: the number of the
    branch that is counted, from 0; None for the mean. branches: how many there are.
    """

    place: str
    source: str
    how: str
    branch: int | None
    branches: int

    def __str__(self) -> str:
        """Return which branch is counted: `branch 1 of 2`."""
        return (
            f"mean of {self.branches} branches" if self.branch is None else f"branch {self.branch} of {self.branches}"
        )


def choices(root: Node, source: Callable[[Any], str]) -> tuple[Choice, ...]:
    """Return the undecided branches of a tree on which its total depends, each source line once.

    source: returns the `file:line` of an equation.
    """
    found: dict[Choice, None] = {}
    seen: set[int] = set()

    def visit(node: Node, line: str) -> None:
        if id(node) in seen or node.times == 0:
            return
        seen.add(id(node))
        line = nearest_line(source(node.equation) if node.equation is not None else "", line)
        how, place = node.choice or (0, "")
        if isinstance(how, str):
            branches = [child for child, body in zip(node.children, node.bodies, strict=True) if body.choice]
            if any(branch.once != branches[0].once for branch in branches):
                counted = next((n for n, branch in enumerate(branches) if branch.times == 1), None)
                found[Choice(place, line, how, None if how == "mean" else counted, len(branches))] = None
        for child in node.children:
            visit(child, line)

    visit(root, "")
    return tuple(found)


class Row(NamedTuple):
    """The key of a row: scope path, direction, primitive and source line of its equations."""

    scope: Scope
    direction: str
    primitive: str
    source: str


def rows(root: Node, source: Callable[[Any], str]) -> dict[Row, Cost]:
    """Return the cost of each (scope, direction, primitive, source line) of a tree; the costs sum to the total.

    source: returns the `file:line` of an equation.
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
    line_of_node = source(node.equation) if node.equation is not None else ""
    if node.own or (node.equation is not None and not node.children):
        parts[Row((), "", node.label, line_of_node)] = [node.own]
    for child in node.children:
        if child.equation is not None and not child.children:
            # Almost every node is a leaf, which needs no table of its own.
            line = nearest_line(source(child.equation), line_of_node)
            parts.setdefault(Row(child.scope, child.direction, child.label, line), []).append(child.total)
            continue
        for row, cost in fold(child).items():
            # The arithmetic of a combiner belongs to the primitive that combines, and to its line: the additions of a
            # `reduce` are in the row of `reduce`. An equation without a source line (from a cached trace) gets the line
            # of its caller.
            primitive, line = (
                (node.label, line_of_node) if child.fused else (row.primitive, nearest_line(row.source, line_of_node))
            )
            key = Row(child.scope + row.scope, joined_direction(child.direction, row.direction), primitive, line)
            parts.setdefault(key, []).append(cost)
    return {row: costs[0] if len(costs) == 1 else Cost.sum(costs) for row, costs in parts.items()}


def joined_direction(outer: str, inner: str) -> str:
    """Return the direction of an equation inside another one: backward work stays backward unless it is recomputed."""
    if outer == BACKWARD:
        return RECOMPUTE if inner == RECOMPUTE else BACKWARD
    return outer if outer in (RECOMPUTE, UPDATE) or not inner else inner


def _scaled(table: dict[Row, Cost], times: Count) -> dict[Row, Cost]:
    return table if times == 1 else {row: cost * times for row, cost in table.items()}
