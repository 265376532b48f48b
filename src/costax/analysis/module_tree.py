"""The module tree: the modules that a program calls, each with its class, its output, its cost and its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from costax.analysis.counts import Counts
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core.cost import Cost
from costax.core.size import Size
from costax.errors import InputError

if TYPE_CHECKING:
    from costax.program.frameworks import Modules


@dataclass(slots=True)
class ModuleNode:
    """One module. name: its path from the module around it, `layer/0/query`. kind: its class. output: a shape as text.

    total, params: of its whole scope. own, own_params: of its scope without the modules inside.
    """

    name: str
    kind: str
    output: str
    total: Cost
    params: Size
    own: Cost
    own_params: Size
    children: list[ModuleNode] = field(default_factory=list["ModuleNode"])

    def walk(self) -> Iterator[tuple[int, ModuleNode]]:
        """Yield (depth, module), parents first; the root has depth 0."""
        pending: list[tuple[int, ModuleNode]] = [(0, self)]
        while pending:
            depth, node = pending.pop()
            yield depth, node
            pending.extend((depth + 1, child) for child in reversed(node.children))


def module_tree(analysis: Counts) -> ModuleNode:
    """Return the program as the root of its modules, which keep the order of their first calls.

    A program that calls no modules has the root alone. Raises InputError for an analysis from a record.
    """
    modules = called_modules(analysis)
    scopes = {node.scope: node for _, node in scope_tree(analysis).walk()}
    kinds, outputs = modules.kinds, modules.outputs
    root = _module(scopes[()], analysis.name, kinds.get((), ""), outputs.get((), ""))
    nodes: dict[tuple[str, ...], ModuleNode] = {(): root}
    # A module is called before the modules inside it, so that each parent exists before its children.
    for scope in kinds:
        if scope:
            parent = next(scope[:n] for n in range(len(scope) - 1, -1, -1) if scope[:n] in nodes)
            name = "/".join(scope[len(parent) :])
            found = scopes.get(scope, ScopeNode(name, scope))
            node = nodes[scope] = _module(found, name, kinds[scope], outputs.get(scope, ""))
            nodes[parent].children.append(node)
    for node in nodes.values():
        node.own = node.total - Cost.sum([child.total for child in node.children])
        inside = sum((child.params for child in node.children), Size())
        node.own_params = Size(node.params.elements - inside.elements, node.params.nbytes - inside.nbytes)
    return root


def called_modules(analysis: Counts) -> Modules:
    """Return the classes and the outputs of the modules of a program by scope. Raises InputError for a record."""
    if analysis.program is None:
        raise InputError(
            f"The modules of `{analysis.name}` are not known.",
            why="A record has no classes of modules.",
            cure='Analyse the program again, or use by="scope" without columns.',
        )
    return analysis.program.modules


def _module(node: ScopeNode, name: str, kind: str, output: str) -> ModuleNode:
    return ModuleNode(name, kind, output, node.total, node.params, node.total, node.params)
