"""Places: every equation of a program at each of its call sites, with what it costs, repeats and computes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.core.address import Address
from costax.core.conventions import XlaCounts, as_xla
from costax.core.cost import Cost, Count
from costax.program.interpreter import Interpreter
from costax.program.tree import Node, Scope
from costax.program.value_numbering import Numbering, Value, origin


@dataclass(frozen=True, slots=True)
class CallSite:
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


def call_sites(tree: Node, jaxpr: Any, marks: Mapping[int, int]) -> list[CallSite]:
    """Return every equation of a tree at each of its call sites, callers first.

    jaxpr: the one that was walked.
    """
    visit = _Visit(marks)
    visit.run(jaxpr, tree.children, [("input", i) for i in range(len(_jax.opened(jaxpr).invars))], _Outside())
    return visit.call_sites


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


class _Visit(Interpreter[Value, _Outside]):
    """Collects call sites; values are those of the numbering, the context is what is around a body."""

    def __init__(self, marks: Mapping[int, int]) -> None:
        self.call_sites: list[CallSite] = []
        self._marks = marks
        self._numbering = Numbering()

    def literal(self, atom: Any) -> Value:
        return self._numbering.literal(atom)

    def constant(self, var: Any, value: Any) -> Value:
        return self._numbering.constant(var, value)

    def equation(self, node: Node, operands: list[Value], context: _Outside) -> Sequence[Value]:
        inputs, numbering = tuple(operands), self._numbering
        number = numbering.number(node, inputs)
        inside = [child for child in node.children if self._within(child)]
        place = CallSite(
            (*context.address, self._marks[id(node.equation)]),
            context.scope + node.scope,
            node.direction or context.direction,
            node,
            node.own + Cost.sum(child.total for child in inside) if inside else node.own,
            node.own + Cost.sum(child.where(_as_it_stands) for child in inside) if inside else node.own,
            context.loops,
            context.copies,
            context.devices,
            context.others,
            context.branches,
            number,
            numbering.loose(number),
            tuple(x[0] if isinstance(x[0], int) else x for x in inputs if x[0] != "literal"),
            tuple(scalar for x in inputs if (scalar := numbering.scalar(x))),
            numbering.scalar((number, 0)),
            numbering.is_fixed((number, 0)),
            any(x[0] not in ("literal", "constant") and numbering.is_fixed(x) for x in inputs),
            len(set(inputs)) < len(inputs),
        )
        self.call_sites.append(place)
        results = numbering.results(node, number, inputs)
        for position, child in enumerate(node.children):
            if child not in inside:
                inner = self._body(place, position, child, inputs)
                # A call gives what its body gives; a loop or a branch gives something of its own.
                if len(node.children) == 1 and not (child.loop or child.per_device) and len(inner) == len(results):
                    results = inner
        return results

    def _within(self, child: Node) -> bool:
        """Say whether a body is a combiner, or one that the rule knows and the jaxpr does not hold: it has no marks."""
        return child.fused or (bool(child.children) and id(child.children[0].equation) not in self._marks)

    def _body(self, place: CallSite, position: int, child: Node, inputs: Sequence[Value]) -> Sequence[Value]:
        body = place.node.bodies[position]
        inner = _jax.opened(body.jaxpr)
        kept = kept_inputs(place.node, position)
        values: list[Value] = [
            inputs[kept[i]] if i in kept else ("body", place.value, position, i) for i in range(len(inner.invars))
        ]
        chosen = len(place.node.bodies) > 1 and child.label.startswith("branch_")
        repeated = 1 if chosen or child.loop or child.per_device else child.times
        return self.run(
            body.jaxpr,
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


def kept_inputs(node: Node, position: int) -> dict[int, int]:
    """Return which inputs of a body have the same value in every run, and which operand of the equation that is.

    Of a loop these are its constants, and what it carries without ever changing it.
    """
    body, last = node.bodies[position], node.bodies[-1]
    fixed = len(body.inputs) if body.fixed is None else body.fixed
    kept = {i: source for i, source in enumerate(body.inputs) if i < fixed}
    if node.children[position].loop and last.fixed is not None:
        inner, outer = _jax.opened(last.jaxpr), node.equation.invars
        makers = {var: maker for maker in node.children[-1].children for var in maker.equation.outvars}
        for carried, (given, var) in enumerate(zip(inner.outvars, inner.invars[last.fixed :], strict=False)):
            out = origin(given, makers)
            source = body.inputs[fixed + carried] if fixed + carried < len(body.inputs) else None
            # What a scan gives out for each step has the shape of a slice of what it takes in.
            if out is var and source is not None and outer[source].aval.shape == var.aval.shape:
                kept[fixed + carried] = source
    return kept


def _as_it_stands(node: Node) -> Count:
    return node.copies if node.loop else node.times
