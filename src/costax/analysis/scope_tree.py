"""The scope tree: layers inside layers, each with its own cost and parameters and those of all below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from costax.analysis.counts import Counts
from costax.core.cost import ZERO, Cost
from costax.core.size import Size
from costax.program.tree import Scope


@dataclass(slots=True)
class ScopeNode:
    """One scope. own: what its equations cost outside of deeper scopes; total: own plus the children's totals."""

    name: str
    scope: Scope = ()
    own: Cost = ZERO
    own_params: Size = field(default_factory=Size)
    total: Cost = ZERO
    params: Size = field(default_factory=Size)
    children: list[ScopeNode] = field(default_factory=list["ScopeNode"])

    def walk(self) -> Iterator[tuple[int, ScopeNode]]:
        """Yield (depth, scope), parents first; the root has depth 0. Children may be changed on the way."""
        waiting: list[tuple[int, ScopeNode]] = [(0, self)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))


def scope_tree(analysis: Counts) -> ScopeNode:
    """Return the root of an analysis's scopes; the root's total is the analysis's, and children keep program order."""
    costs: dict[Scope, list[Cost]] = {}
    for row, cost in analysis.rows.items():
        costs.setdefault(row.scope, []).append(cost)
    sizes: dict[Scope, Size] = {}
    for (scope, _), size in (analysis.parameters or {}).items():
        sizes[scope] = sizes.get(scope, Size()) + size
    nodes: dict[Scope, ScopeNode] = {(): ScopeNode(analysis.name)}
    for scope in (*costs, *sizes):
        for length in range(1, len(scope) + 1):
            path = scope[:length]
            if path not in nodes:
                nodes[path] = ScopeNode(path[-1], path)
                nodes[path[:-1]].children.append(nodes[path])
    for scope, node in sorted(nodes.items(), key=lambda item: -len(item[0])):
        node.own = Cost.sum(costs.get(scope, ()))
        node.own_params = sizes.get(scope, Size())
        node.total = Cost.sum([node.own, *(child.total for child in node.children)])
        node.params = sum((child.params for child in node.children), node.own_params)
    return nodes[()]
