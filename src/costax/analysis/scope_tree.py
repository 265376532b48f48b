"""The scope tree: nested layers, each with the cost and the parameters of its own and of its whole subtree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from costax.analysis.counts import Counts
from costax.core.cost import ZERO, Cost
from costax.core.size import Size
from costax.program.tree import Scope


@dataclass(slots=True)
class ScopeNode:
    """One scope. own: the cost of its equations outside of deeper scopes. total: own plus the children's totals."""

    name: str
    scope: Scope = ()
    own: Cost = ZERO
    own_params: Size = field(default_factory=Size)
    total: Cost = ZERO
    params: Size = field(default_factory=Size)
    children: list[ScopeNode] = field(default_factory=list["ScopeNode"])

    def walk(self) -> Iterator[tuple[int, ScopeNode]]:
        """Yield (depth, scope), parents first; the root has depth 0. The caller may change the children it gets."""
        pending: list[tuple[int, ScopeNode]] = [(0, self)]
        while pending:
            depth, node = pending.pop()
            yield depth, node
            pending.extend((depth + 1, child) for child in reversed(node.children))


def scope_tree(analysis: Counts) -> ScopeNode:
    """Return the root scope of an analysis. Its total is the total of the analysis; children keep program order."""
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
    # Deepest scopes first, so that the totals of all children exist before their parent sums them.
    for scope, node in sorted(nodes.items(), key=lambda item: -len(item[0])):
        node.own = Cost.sum(costs.get(scope, ()))
        node.own_params = sizes.get(scope, Size())
        node.total = Cost.sum([node.own, *(child.total for child in node.children)])
        node.params = sum((child.params for child in node.children), node.own_params)
    return nodes[()]
