"""Places: every equation of a program at each of its call sites, with what it costs, repeats and computes there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.core.address import Address
from costax.core.conventions import XlaCounts, as_xla
from costax.core.cost import Cost, Count
from costax.program.tree import Node, Scope
from costax.program.value_numbering import Numbering, Value, origin


@dataclass(frozen=True, slots=True)
class Place:
    """An equation where it is called.

    address, scope and direction are absolute. cost: of one run, with the bodies that have no marks and without those
    whose equations are places too; once: the same with every loop in it run as often as its body stands there. It runs
    `loops * devices * others` times in all where every branch around it is taken: repeats of loops, of meshes, and of
    everything else; in the lowered module the bodies of its loops leave `copies` of it. branches: for each `cond`
    around it, its address, the branch, and whether our count takes it.
    value: equal for equations that compute the same from the same; loose: equal where that holds up to broadcasting
    and reshaping of operands. operands: what made its operands, the values of equations or inputs of the program;
    scalars: those operands that are one known number everywhere; known: that number, where the result is one. fixed:
    no input of the program reaches it; fixed_operands: none reaches one of its operands that is no plain literal.
    alike: two operands are equal.
    """

    address: Address
    scope: Scope
    direction: str
    node: Node
    cost: Cost
    once: Cost
    loops: Count
    copies: Count
    devices: Count
    others: Count
    branches: tuple[tuple[Address, int, bool], ...]
    value: int
    loose: Any
    operands: tuple[Any, ...] = ()
    scalars: tuple[str, ...] = ()
    known: str = ""
    fixed: bool = False
    fixed_operands: bool = False
    alike: bool = False

    @property
    def primitive(self) -> str:
        """The name of the primitive."""
        return self.node.label

    @property
    def taken(self) -> bool:
        """Say whether our count takes every branch around it."""
        return all(taken for _, _, taken in self.branches)

    @property
    def by_xla(self) -> XlaCounts:
        """One run in XLA's convention."""
        return as_xla(self.cost)


def places(tree: Node, jaxpr: Any, marks: Mapping[int, int]) -> Iterator[Place]:
    """Yield every equation of a tree at each of its call sites, callers first.

    jaxpr: the one that was walked.
    """
    inner = _jax.opened(jaxpr)
    values: dict[Any, Value] = {var: ("input", i) for i, var in enumerate(inner.invars)}
    numbering = Numbering()
    values |= numbering.constants(jaxpr)
    yield from _Visit(marks, numbering).equations(tree.children, values, _Outside())


@dataclass(frozen=True, slots=True)
class _Outside:
    address: Address = ()
    scope: Scope = ()
    direction: str = ""
    loops: Count = 1
    copies: Count = 1
    devices: Count = 1
    others: Count = 1
    branches: tuple[tuple[Address, int, bool], ...] = ()


class _Visit:
    def __init__(self, marks: Mapping[int, int], numbering: Numbering) -> None:
        self._marks = marks
        self._numbering = numbering

    def equations(self, nodes: Sequence[Node], values: dict[Any, Value], outside: _Outside) -> Iterator[Place]:
        for node in nodes:
            eqn = node.equation
            inputs = tuple(self._numbering.value(atom, values) for atom in eqn.invars)
            number = self._numbering.number(eqn, inputs)
            values.update(zip(eqn.outvars, self._numbering.results(eqn, number, inputs), strict=False))
            inside = [child for child in node.children if self._within(child)]
            place = Place(
                (*outside.address, self._marks[id(eqn)]),
                outside.scope + node.scope,
                node.direction or outside.direction,
                node,
                node.own + Cost.sum(child.total for child in inside) if inside else node.own,
                node.own + Cost.sum(child.where(_as_it_stands) for child in inside) if inside else node.own,
                outside.loops,
                outside.copies,
                outside.devices,
                outside.others,
                outside.branches,
                number,
                self._numbering.loose(number),
                tuple(x[0] if isinstance(x[0], int) else x for x in inputs if x[0] != "literal"),
                tuple(scalar for x in inputs if (scalar := self._numbering.scalar(x))),
                self._numbering.scalar((number, 0)),
                self._numbering.is_fixed((number, 0)),
                any(x[0] not in ("literal", "constant") and self._numbering.is_fixed(x) for x in inputs),
                len(set(inputs)) < len(inputs),
            )
            yield place
            results: list[Any] = []
            for position, child in enumerate(node.children):
                if child not in inside:
                    results = yield from self._body(place, position, child, inputs)
            # A call gives what its body gives; a loop or a branch gives something of its own.
            if len(node.children) == 1 and not (node.children[0].loop or node.children[0].per_device):
                values.update(zip(eqn.outvars, results, strict=False))

    def _within(self, child: Node) -> bool:
        """Say whether a body is a combiner, or one that the rule knows and the jaxpr does not hold: it has no marks."""
        return child.fused or (bool(child.children) and id(child.children[0].equation) not in self._marks)

    def _body(
        self, place: Place, position: int, child: Node, inputs: Sequence[Any]
    ) -> Generator[Place, None, list[Any]]:
        body = place.node.bodies[position]
        inner = _jax.opened(body.jaxpr)
        kept = kept_inputs(place.node, position)
        values: dict[Any, Value] = {
            var: inputs[kept[i]] if i in kept else ("body", place.value, position, i)
            for i, var in enumerate(inner.invars)
        }
        values |= self._numbering.constants(body.jaxpr)
        chosen = len(place.node.bodies) > 1 and child.label.startswith("branch_")
        repeated = 1 if chosen or child.loop or child.per_device else child.times
        yield from self.equations(
            child.children,
            values,
            _Outside(
                place.address,
                place.scope,
                place.direction,
                place.loops * (child.times if child.loop else 1),
                place.copies * (child.copies if child.loop else 1),
                place.devices * (child.times if child.per_device else 1),
                place.others * repeated,
                (*place.branches, (place.address, position, bool(child.times))) if chosen else place.branches,
            ),
        )
        return [self._numbering.value(atom, values) for atom in inner.outvars]


def kept_inputs(node: Node, position: int) -> dict[int, int]:
    """Return which inputs of a body have the same value in every run, and which operand of the equation that is.

    Of a loop these are its constants, and what it carries without ever changing it.
    """
    body, last = node.bodies[position], node.bodies[-1]
    fixed = len(body.inputs) if body.fixed is None else body.fixed
    kept = {i: source for i, source in enumerate(body.inputs) if i < fixed}
    if node.children[position].loop and last.fixed is not None:
        inner, outer = _jax.opened(last.jaxpr), node.equation.invars
        makers = {made: eqn for eqn in inner.eqns for made in eqn.outvars}
        for carried, (given, var) in enumerate(zip(inner.outvars, inner.invars[last.fixed :], strict=False)):
            out = origin(given, makers)
            source = body.inputs[fixed + carried] if fixed + carried < len(body.inputs) else None
            # What a scan gives out for each step has the shape of a slice of what it takes in.
            if out is var and source is not None and outer[source].aval.shape == var.aval.shape:
                kept[fixed + carried] = source
    return kept


def _as_it_stands(node: Node) -> Count:
    return node.copies if node.loop else node.times
