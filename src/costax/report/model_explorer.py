"""Graphs for Google's Model Explorer: a node for each equation, in the layers of the program, with its counts.

Model Explorer reads a graph from one file, and each overlay of numbers, its "node data", from a file of its own:

    model-explorer gpt2.model_explorer.json --node_data_paths=gpt2.flops.node_data.json

The numbers of all nodes add up to the total of the program. Format: `graph_builder.py` and `node_data_builder.py` of
google-ai-edge/model-explorer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.core.open_symbols import check_numbers
from costax.core.printable import printable
from costax.report.graph_node import GraphNode, counts, namespace
from costax.report.shown import analysis_of

if TYPE_CHECKING:
    from costax.performance.kernels import Kernel
    from costax.report.shown import Shown

_NUMBERS: Final = "An overlay of Model Explorer colours each node by a number."
# From the least to the largest number: white to the blue of the HTML report.
_GRADIENT: Final = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#3b82c4"}]
_OVERLAYS: Final = {"flops": "FLOPs", "bytes": "bytes, unfused"}


def as_graph(account: Shown, **_: Any) -> str:
    """Return the graph of a program: a collection of one graph, as JSON."""
    analysis = analysis_of(account)
    return _graph(analysis.name, _nodes(analysis))


def overlays(account: Shown) -> dict[str, str]:
    """Return the node data of a program, by the suffix of their file: the FLOPs and the bytes of each node."""
    analysis = analysis_of(account)
    return _overlays(analysis.name, _nodes(analysis))


def prediction_as_graph(prediction: Any, **_: Any) -> str:
    """Return the graph of a predicted program, whose nodes have the seconds of the kernels that end in them."""
    return _graph(prediction.analysis.name, _timed(prediction))


def prediction_overlays(prediction: Any) -> dict[str, str]:
    """Return the node data of a predicted program, by suffix: FLOPs, bytes and predicted seconds of each node."""
    return _overlays(prediction.analysis.name, _timed(prediction), "predicted seconds")


def join_as_graph(join: Any, **_: Any) -> str:
    """Return the instructions of a measured program, in their layers; they have no edges."""
    return _graph(join.name, _measured(join))


def join_overlays(join: Any) -> dict[str, str]:
    """Return the node data of a measured program, by suffix: the measured seconds of each instruction."""
    return _overlays(join.name, _measured(join), "measured seconds")


def _nodes(analysis: Analysis) -> list[GraphNode]:
    """Return the nodes of a program; a record has no equations any more, so its rows are the nodes, without edges."""
    check_numbers(analysis, _NUMBERS)
    if analysis.tree is not None:
        # Records are shown without jax, which the equations need.
        from costax.report.equation_graph import equation_nodes

        return equation_nodes(analysis)
    several = len(analysis.by_direction()) > 1
    return [
        GraphNode(
            str(number),
            row.primitive,
            namespace((row.direction, *row.scope) if several else row.scope),
            cost=cost,
            source=row.source,
        )
        for number, (row, cost) in enumerate(analysis.rows.items())
    ]


def _timed(prediction: Any) -> list[GraphNode]:
    """Return the nodes with the seconds of each kernel at the last of its equations; other kernels are nodes too."""
    analysis = prediction.analysis
    # A compiled module has no equations: its kernels are the nodes.
    nodes = _nodes(analysis) if isinstance(analysis, Analysis) else []
    places: dict[int, list[GraphNode]] = defaultdict(list)
    for node in reversed(nodes):
        places[id(node.equation)].append(node)
    for number, part in enumerate(prediction.parts):
        kernel: Kernel = part.kernel
        ops = kernel.origin if isinstance(kernel.origin, tuple) else ()
        at = next((places[id(op.equation)] for op in reversed(ops) if places.get(id(op.equation))), None)
        if at is None:
            more = {"bound by": part.timing.bound}
            added = GraphNode(f"kernel {number}", kernel.name, namespace(kernel.scope), source=kernel.source, more=more)
            added.seconds = part.seconds
            nodes.append(added)
            continue
        # Kernels and nodes are in the order of the program: the next kernel of the equation is at its next call site.
        node = at.pop() if len(at) > 1 else at[0]
        node.seconds = (node.seconds or 0.0) + part.seconds
        node.more = {**node.more, "bound by": part.timing.bound}
    return nodes


def _measured(join: Any) -> list[GraphNode]:
    return [
        GraphNode(
            str(number), row.name, namespace(tuple(row.place.scope)), source=row.source, seconds=float(row.seconds)
        )
        for number, row in enumerate(join.rows)
    ]


def _graph(name: str, nodes: Sequence[GraphNode]) -> str:
    groups: dict[str, list[Cost]] = defaultdict(list)
    for node in nodes:
        if node.cost is not None:
            parts = node.namespace.split("/") if node.namespace else []
            for depth in range(len(parts) + 1):
                groups["/".join(parts[:depth])].append(node.cost)
    graph = {
        "id": _id(name),
        "nodes": [node.record() for node in nodes],
        "groupNodeAttributes": {namespace: counts(Cost.sum(costs)) for namespace, costs in groups.items()},
    }
    return json.dumps({"label": _id(name), "graphs": [graph]}) + "\n"


def _overlays(name: str, nodes: Sequence[GraphNode], time: str = "") -> dict[str, str]:
    counted = [node for node in nodes if node.cost is not None]
    data = {
        "flops": [(node.id, node.cost.flops) for node in counted if node.cost is not None],
        "bytes": [(node.id, node.cost.bytes_unfused) for node in counted if node.cost is not None],
        "seconds": [(node.id, node.seconds) for node in nodes if node.seconds is not None],
    }
    names = {**_OVERLAYS, "seconds": time}
    return {f".{key}.node_data.json": _overlay(name, names[key], values) for key, values in data.items() if values}


def _overlay(name: str, title: str, values: Iterable[tuple[str, Any]]) -> str:
    results = {node: {"value": value} for node, value in values}
    return json.dumps({_id(name): {"name": title, "results": results, "gradient": _GRADIENT}}) + "\n"


def _id(name: str) -> str:
    return printable(name) or "program"
