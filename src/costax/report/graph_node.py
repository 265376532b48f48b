"""The nodes of a graph of a program, as Model Explorer takes them: an equation, a kernel or an instruction each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from costax.core import units
from costax.core.cost import Cost, Count
from costax.core.printable import printable
from costax.program.tree import Scope


class Output(NamedTuple):
    """A result of a node: the id of the node, and the number of the result."""

    node: str
    number: int


@dataclass
class GraphNode:
    """A node of the graph. counts: of all its runs. seconds: None where no time is known."""

    id: str
    label: str
    namespace: str
    inputs: Sequence[Output | None] = ()
    outputs: Sequence[str] = ()
    cost: Cost | None = None
    runs: Count = 1
    source: str = ""
    seconds: float | None = None
    equation: Any = None
    more: Mapping[str, str] = field(default_factory=dict[str, str])

    def record(self) -> dict[str, Any]:
        """Return the node in the format of Model Explorer."""
        attributes = {**self.more}
        if self.cost is not None:
            attributes |= counts(self.cost)
        if self.runs != 1:
            attributes["runs"] = units.exact(self.runs)
        if self.seconds is not None:
            attributes["time"] = units.seconds(self.seconds)
        if self.source:
            attributes["source"] = printable(self.source)
        edges = [
            {"sourceNodeId": x.node, "sourceNodeOutputId": str(x.number), "targetNodeInputId": str(position)}
            for position, x in enumerate(self.inputs)
            if x is not None
        ]
        return {
            "id": self.id,
            "label": printable(self.label),
            "namespace": self.namespace,
            "attrs": [{"key": key, "value": value} for key, value in attributes.items()],
            "incomingEdges": edges,
            "outputsMetadata": [
                {"id": str(number), "attrs": [{"key": "shape", "value": shape}]}
                for number, shape in enumerate(self.outputs)
            ],
        }


def counts(cost: Cost) -> dict[str, str]:
    """Return the counts of a cost that are not 0, as texts."""
    named = {
        "FLOPs": cost.flops,
        "MACs": cost.macs,
        "transcendentals": cost.transcendentals,
        "bytes, unfused": cost.bytes_unfused,
    }
    return {name: units.exact(count) for name, count in named.items() if count}


def namespace(scope: Scope) -> str:
    """Return a scope as the path of the layers around a node."""
    return "/".join(printable(part).replace("/", "\u2215") for part in scope if part)
