"""The graph of the equations of a program: a node for each equation at each of its call sites, edges for operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.core.cost import Cost, Count
from costax.core.equation import CONDITION, Body
from costax.core.source_lines import nearest_line
from costax.program.interpreter import Interpreter
from costax.program.tree import FORWARD, Node, Scope, joined_direction
from costax.report.graph_node import GraphNode, Output, namespace


def equation_nodes(analysis: Analysis) -> list[GraphNode]:
    """Return the nodes of the inputs, the equations and the results of a program that was traced here."""
    builder = _Builder(analysis)
    tree = analysis.whole_tree()
    inputs: list[Output | None] = []
    for number, (path, operand) in enumerate(analysis.inputs):
        node = GraphNode(f"input {number}", path or "constant", "inputs", outputs=(str(operand),))
        builder.nodes.append(node)
        inputs.append(Output(node.id, 0))
    results = builder.run(analysis.live, tree.children, inputs, _Place())
    builder.nodes.append(GraphNode("outputs", "outputs", "", inputs=results))
    return builder.nodes


class _Place(NamedTuple):
    """Where an equation stands: scope, direction, how often it runs, and the source line of the call around it."""

    scope: Scope = ()
    direction: str = ""
    runs: Count = 1
    source: str = ""

    def inside(self, node: Node, part: Scope = ()) -> _Place:
        """Return the place below an equation or a body. part: what the body adds to the namespace."""
        direction = joined_direction(self.direction, node.direction)
        return _Place(self.scope + node.scope + part, direction, self.runs * node.times, self.source)


class _Builder(Interpreter["Output | None", _Place]):
    """Adds a node for each equation; a value is the result of a node, or None for a literal or a constant."""

    def __init__(self, analysis: Analysis) -> None:
        self.nodes: list[GraphNode] = []
        self._source = analysis.source_of
        self._directions = len(analysis.by_direction()) > 1

    def literal(self, atom: Any) -> None:
        return None

    def constant(self, var: Any, value: Any) -> None:
        return None

    def equation(self, node: Node, operands: list[Output | None], context: _Place) -> Sequence[Output | None]:
        place = context._replace(source=nearest_line(self._source(node.equation), context.source))
        if not node.children or any(child.fused for child in node.children):
            return self._add(node, node.total, operands, place)
        runs = [
            (body, self._run_body(node, body, child, operands, place))
            for body, child in zip(node.bodies, node.children, strict=True)
        ]
        bodies = [outputs for body, outputs in runs if body.name != CONDITION and not body.choice]
        if len(bodies) == 1 and len(bodies[0]) == len(node.equation.outvars) and not node.own:
            return bodies[0]
        # A branch ends in a node of its own, as does whatever has work beside its bodies.
        operands = [*operands, *(output for _, outputs in runs for output in outputs)]
        return self._add(node, node.own * node.times, operands, place)

    def _run_body(
        self, node: Node, body: Body, child: Node, operands: list[Output | None], place: _Place
    ) -> list[Output | None]:
        count = len(_jax.opened(body.jaxpr).invars)
        inputs = [None if x is None else operands[x] for x in body.inputs]
        named = f"{node.label} {len(self.nodes)}" if body.loop or body.choice else ""
        inner = place.inside(node, (named,) if named else ()).inside(child)
        return self.run(body.jaxpr, child.children, inputs if len(inputs) == count else [None] * count, inner)

    def _add(self, node: Node, cost: Cost, operands: Sequence[Output | None], place: _Place) -> list[Output | None]:
        scope = place.scope + node.scope
        direction = joined_direction(place.direction, node.direction) or FORWARD
        added = GraphNode(
            str(len(self.nodes)),
            node.label,
            namespace((direction, *scope) if self._directions else scope),
            operands,
            [str(_jax.operand(var.aval)) for var in node.equation.outvars],
            cost * place.runs,
            place.runs,
            place.source,
            equation=node.equation,
        )
        self.nodes.append(added)
        return [Output(added.id, number) for number in range(len(added.outputs))]
