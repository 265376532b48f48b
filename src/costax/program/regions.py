"""Regions: a program as operations on values, calls inlined, loops and branches as regions.

This is the intermediate form that memory, kernels and residuals share. XLA inlines calls before it fuses, so a call has
no boundary here. A loop or a branch has one: it is a region, whose memory counts from what is alive around it. A region
that several equations share is built once. What an operation is, its traits say; that it loops or branches, its bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from costax import _jax
from costax.core.cost import Count
from costax.core.equation import CONDITION, Body, Operand
from costax.program.interpreter import Interpreter
from costax.program.tree import Node, Scope
from costax.rules.traits import Traits

Kind = Literal["argument", "constant", "carry", "slice", "outer", "computed"]


@dataclass(slots=True)
class Value:
    """An array: what it is, where it comes from (op: the number of the operation that makes it), and its bytes."""

    operand: Operand
    kind: Kind
    nbytes: Count
    op: int = -1
    name: str = ""


@dataclass(slots=True)
class Op:
    """An operation: an equation that reads and writes values, numbers of `Region.values`; None is a literal.

    regions: what it runs inside: the body of a loop, then its condition, or the branches of a choice; `nodes` are their
    costs. loop: its regions run again and again. carried: positions of the inputs that a loop starts from. node: the
    cost of the equation. axis_sizes: of the mesh axes that are manual where it stands.
    """

    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    scope: Scope
    direction: str
    node: Node
    regions: tuple[Region, ...] = ()
    nodes: tuple[Node, ...] = ()
    axis_sizes: Mapping[str, Count] = field(default_factory=dict[str, Count])
    loop: bool = False
    carried: range = range(0)

    @property
    def equation(self) -> Any:
        """The equation of the jaxpr."""
        return self.node.equation

    @property
    def traits(self) -> Traits:
        """What the primitive is."""
        return self.node.traits

    @property
    def has_condition(self) -> bool:
        """Whether a loop has a condition of its own; else the compiler counts its steps."""
        return self.loop and len(self.regions) > 1


@dataclass(slots=True)
class Region:
    """A sequence of operations with its inputs and results.

    sources: for each input, which input of the operation that runs the region it is, or starts as, or is a slice of.
    carries: for each result that is carried round a loop, the input that it becomes; None for any other result.
    donated: inputs whose memory the program may use for something else.
    """

    values: list[Value] = field(default_factory=list[Value])
    ops: list[Op] = field(default_factory=list[Op])
    inputs: list[int] = field(default_factory=list[int])
    sources: tuple[int | None, ...] = ()
    outputs: list[int | None] = field(default_factory=list["int | None"])
    carries: list[int | None] = field(default_factory=list["int | None"])
    donated: frozenset[int] = frozenset()

    def add(self, operand: Operand, kind: Kind, op: int = -1, name: str = "") -> int:
        """Return the number of a new value."""
        self.values.append(Value(operand, kind, operand.nbytes, op, name))
        return len(self.values) - 1


def program(jaxpr: Any, tree: Node, names: Sequence[str], donated: Sequence[bool]) -> Region:
    """Return a whole program as a region; its inputs are its arguments.

    tree: of `walk`, for the same jaxpr. names: of the inputs. donated: which of them the program may overwrite.
    """
    region = Region()
    invars = _jax.opened(jaxpr).invars
    region.inputs = [
        region.add(_jax.operand(var.aval), "argument", name=name) for var, name in zip(invars, names, strict=True)
    ]
    region.donated = frozenset(
        number for number, may_overwrite in zip(region.inputs, donated, strict=False) if may_overwrite
    )
    region.outputs = _Builder(region, {}).run(jaxpr, tree.children, region.inputs, _Place())
    region.carries = [None] * len(region.outputs)
    return region


class _Place(NamedTuple):
    """Where equations stand: their scope and direction below the region, and the mesh axes that are manual."""

    scope: Scope = ()
    direction: str = ""
    axis_sizes: Mapping[str, Count] = {}

    def of(self, node: Node, body: Body | None = None) -> _Place:
        """Return the place of what an equation runs."""
        axes = {**self.axis_sizes, **body.axis_sizes} if body is not None and body.axis_sizes else self.axis_sizes
        return _Place(self.scope + node.scope, node.direction or self.direction, axes)


class _Builder(Interpreter["int | None", _Place]):
    """Fills a region; values are numbers of `Region.values`, None for a literal."""

    def __init__(self, region: Region, shared: dict[Any, Region]) -> None:
        self._region = region
        # Regions that were built before, by the body and the cost of it.
        self._shared = shared

    def literal(self, atom: Any) -> None:
        return None

    def constant(self, var: Any, value: Any) -> int:
        return self._region.add(_jax.operand(var.aval), "constant")

    def equation(self, node: Node, operands: list[int | None], context: _Place) -> Sequence[int]:
        if node.traits.view:
            return self._views(node, operands)
        call = called(node)
        if call is not None:
            return self._inlined(node, *call, operands, context)
        region, place = self._region, context.of(node)
        inside = self._inside(node, context)
        outputs = tuple(region.add(_jax.operand(v.aval), "computed", len(region.ops)) for v in node.equation.outvars)
        op = Op(node.label, tuple(operands), outputs, place.scope, place.direction, node, axis_sizes=place.axis_sizes)
        op.regions, op.nodes = tuple(region for region, _, _ in inside), tuple(child for _, _, child in inside)
        op.loop = bool(inside) and inside[0][1].loop
        if op.loop:
            body = inside[0][1]
            start = len(body.inputs) if body.fixed is None else body.fixed
            positions = [x for x in body.inputs[start : start + body.carried] if x is not None]
            op.carried = range(positions[0], positions[-1] + 1) if positions else range(0)
        region.ops.append(op)
        return outputs

    def _views(self, node: Node, operands: Sequence[int | None]) -> list[int]:
        """Return the operands under the names of the results: an identity of several operands passes each on."""
        results: list[int] = []
        for position, var in enumerate(node.equation.outvars):
            operand = operands[min(position, len(operands) - 1)] if operands else None
            results.append(self._region.add(_jax.operand(var.aval), "constant") if operand is None else operand)
        return results

    def _inlined(
        self, node: Node, body: Body, child: Node, operands: Sequence[int | None], place: _Place
    ) -> Sequence[int]:
        region, inputs = self._region, list[int]()
        for var, position in zip(_jax.opened(body.jaxpr).invars, body.inputs, strict=True):
            operand = _jax.operand(var.aval)
            number = None if position is None else operands[position]
            if number is None:
                number = region.add(operand, "constant")
            elif body.per_device:
                # Outside is the whole array, inside the shard that one device holds.
                region.values[number].nbytes = min(region.values[number].nbytes, operand.nbytes)
            inputs.append(number)
        results = self.run(body.jaxpr, child.children, inputs, place.of(node, body))
        return [
            region.add(_jax.operand(var.aval), "constant") if number is None else number
            for var, number in zip(node.equation.outvars, results, strict=True)
        ]

    def _inside(self, node: Node, place: _Place) -> list[tuple[Region, Body, Node]]:
        """Return the regions that an equation runs: of a loop the body first, then the condition."""
        pairs = list(zip(node.bodies, node.children, strict=True))
        known = all(len(body.inputs) == len(_jax.opened(body.jaxpr).invars) for body, _ in pairs)
        if not known or not (all(body.loop for body, _ in pairs) or all(body.choice for body, _ in pairs)):
            return []
        ordered = sorted(pairs, key=lambda pair: pair[0].name == CONDITION)
        return [(self._body(body, child, place), body, child) for body, child in ordered]

    def _body(self, body: Body, child: Node, place: _Place) -> Region:
        key = id(body.jaxpr), id(child), body.name == CONDITION, tuple(place.axis_sizes.items())
        if key not in self._shared:
            self._shared[key] = self._built(body, child, _Place(axis_sizes=place.axis_sizes))
        return self._shared[key]

    def _built(self, body: Body, child: Node, place: _Place) -> Region:
        inner, region = _jax.opened(body.jaxpr), Region(sources=body.inputs)
        fixed = len(inner.invars) if body.fixed is None else body.fixed
        for position, var in enumerate(inner.invars):
            kind: Kind = "outer" if position < fixed else "carry" if position < fixed + body.carried else "slice"
            region.inputs.append(region.add(_jax.operand(var.aval), kind))
        region.outputs = _Builder(region, self._shared).run(body.jaxpr, child.children, region.inputs, place)
        into = [] if body.name == CONDITION else region.inputs[fixed : fixed + body.carried]
        region.carries = [*into, *[None] * (len(region.outputs) - len(into))]
        return region


def called(node: Node) -> tuple[Body, Node] | None:
    """Return the one body that an equation runs once on its own inputs, with its cost; None for any other equation.

    A shard is a call too: each device runs it once.
    """
    running = [(b, c) for b, c in zip(node.bodies, node.children, strict=True) if b.choice or c.times]
    if len(running) != 1:
        return None
    body, child = running[0]
    inner = _jax.opened(body.jaxpr)
    once = not (body.loop or body.fused or body.choice) and (child.times == 1 or body.per_device)
    fits = len(inner.outvars) == len(node.equation.outvars) and len(body.inputs) == len(inner.invars)
    return (body, child) if once and fits else None
