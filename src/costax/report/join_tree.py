"""The scopes of a join as a tree, for the table, the icicle and the flame graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from costax.measure.join.result import JoinRow, Sum


@dataclass(eq=False)
class JoinNode:
    """A scope. name: the last part of its path, or several where a scope has nothing but one inner scope.

    total: of all instructions in it. own: of those outside of its inner scopes. children: inner scopes, longest first;
    `(own)` among them holds the own instructions of a scope that has inner ones, so that children sum to their parent.
    """

    name: str
    path: tuple[str, ...]
    total: Sum = field(default_factory=Sum)
    rows: list[JoinRow] = field(default_factory=list[JoinRow])
    children: list[JoinNode] = field(default_factory=list["JoinNode"])

    @property
    def height(self) -> int:
        """The number of levels below."""
        return 1 + max((child.height for child in self.children), default=0) if self.children else 0

    def lines(self, depth: int) -> int:
        """Return the number of nodes down to a depth."""
        return sum(1 + child.lines(depth - 1) for child in self.children) if depth else 0


def join_tree(rows: Sequence[JoinRow]) -> JoinNode:
    """Return the tree of the scopes of instructions."""
    root = JoinNode("", ())
    nodes: dict[tuple[str, ...], JoinNode] = {(): root}
    for row in rows:
        scope = row.place.scope
        for length in range(len(scope) + 1):
            path = scope[:length]
            if path not in nodes:
                nodes[path] = JoinNode(path[-1], path)
                nodes[path[:-1]].children.append(nodes[path])
            nodes[path].total = nodes[path].total.plus(row)
        nodes[scope].rows.append(row)
    # Inner scopes come after their outer ones.
    for node in reversed(list(nodes.values())):
        _finish(node)
    return root


def _finish(node: JoinNode) -> None:
    if len(node.children) == 1 and not node.rows and node.path:
        only = node.children[0]
        node.name, node.path = f"{node.name}/{only.name}", only.path
        node.rows, node.children = only.rows, only.children
        return
    if node.rows and (node.children or not node.path):
        own = Sum()
        for row in node.rows:
            own = own.plus(row)
        node.children.append(JoinNode("(own)" if node.path else "(no scope)", (*node.path, "(own)"), own, node.rows))
        node.rows = []
    node.children.sort(key=lambda child: (-child.total.seconds, -child.total.cost.flops))
