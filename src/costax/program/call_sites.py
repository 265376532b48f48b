"""Call sites: every equation of a program at each place from which it is called, with its cost, repeats and value."""

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
from costax.program.value_numbering import Value, ValueNumbering, origin


@dataclass(frozen=True, slots=True)
class CallSite:
    """An equation at one of its call sites.

    address: the marks of the calls around the equation, and its own. scope, direction: from the root of the program.
    cost: of one run, with the bodies that have no marks (combiners) and without the bodies whose equations are call
    sites of their own. static_cost: the same, with every loop in it counted as often as its body stands in the lowered
    module.
    The equation runs `loops * devices * other_repeats` times if every branch around it is taken: the iterations of
    loops, the devices of meshes, and all other repeats. In the lowered module the loops around it leave `copies` of it.
    branches: for each `cond` around it, the address of the cond, the branch, and whether costax counts that branch.

    value: the number of the value; call sites with equal numbers compute the same value. value_up_to_shape: the same,
    where operands may be broadcast or reshaped. operands: the numbers of the operands, or inputs of the program.
    scalar_operands: of the operands that are one known number everywhere, these numbers. scalar: the number that the
    result is everywhere, or "". is_constant: the value depends on no input of the program. has_constant_operand: an
    operand that is no literal depends on no input. has_equal_operands: two operands have the same value.
    """

    address: Address
    scope: Scope
    direction: str
    node: Node
    cost: Cost
    static_cost: Cost
    loops: Count
    copies: Count
    devices: Count
    other_repeats: Count
    branches: tuple[tuple[Address, int, bool], ...]
    value: int
    value_up_to_shape: Any
    operands: tuple[Any, ...] = ()
    scalar_operands: tuple[str, ...] = ()
    scalar: str = ""
    is_constant: bool = False
    has_constant_operand: bool = False
    has_equal_operands: bool = False

    @property
    def primitive(self) -> str:
        """The name of the primitive."""
        return self.node.label

    @property
    def is_counted(self) -> bool:
        """Whether costax counts every branch around the equation."""
        return all(is_counted for _, _, is_counted in self.branches)

    @property
    def by_xla(self) -> XlaCounts:
        """The cost of one run in XLA's convention."""
        return as_xla(self.cost)


def call_sites(tree: Node, jaxpr: Any, marks: Mapping[int, int]) -> list[CallSite]:
    """Return every equation of a tree at each of its call sites, callers first.

    jaxpr: the one that was walked. marks: of the equations, by their ids.
    """
    collector = _Collector(marks)
    inputs: list[Value] = [("input", i) for i in range(len(_jax.opened(jaxpr).invars))]
    collector.run(jaxpr, tree.children, inputs, _Surroundings())
    return collector.call_sites


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """The calls, loops and branches around a body; the fields are those of CallSite."""

    address: Address = ()
    scope: Scope = ()
    direction: str = ""
    loops: Count = 1
    copies: Count = 1
    devices: Count = 1
    other_repeats: Count = 1
    branches: tuple[tuple[Address, int, bool], ...] = ()


class _Collector(Interpreter[Value, _Surroundings]):
    """Collects call sites. Values are those of the value numbering."""

    def __init__(self, marks: Mapping[int, int]) -> None:
        self.call_sites: list[CallSite] = []
        self._marks = marks
        self._numbering = ValueNumbering()

    def literal(self, atom: Any) -> Value:
        return self._numbering.literal(atom)

    def constant(self, var: Any, value: Any) -> Value:
        return self._numbering.constant(var, value)

    def equation(self, node: Node, operands: list[Value], context: _Surroundings) -> Sequence[Value]:
        inputs, numbering = tuple(operands), self._numbering
        number = numbering.number(node, inputs)
        unmarked = [child for child in node.children if self._is_unmarked(child)]
        call_site = CallSite(
            (*context.address, self._marks[id(node.equation)]),
            context.scope + node.scope,
            node.direction or context.direction,
            node,
            node.own + Cost.sum(child.total for child in unmarked) if unmarked else node.own,
            node.own + Cost.sum(child.where(_copies_or_times) for child in unmarked) if unmarked else node.own,
            context.loops,
            context.copies,
            context.devices,
            context.other_repeats,
            context.branches,
            number,
            numbering.up_to_shape(number),
            tuple(x[0] if isinstance(x[0], int) else x for x in inputs if x[0] != "literal"),
            tuple(scalar for x in inputs if (scalar := numbering.scalar(x))),
            numbering.scalar((number, 0)),
            numbering.is_constant((number, 0)),
            any(x[0] not in ("literal", "constant") and numbering.is_constant(x) for x in inputs),
            len(set(inputs)) < len(inputs),
        )
        self.call_sites.append(call_site)
        results = numbering.results(node, number, inputs)
        for position, child in enumerate(node.children):
            if child not in unmarked:
                inner = self._body(call_site, position, child, inputs)
                # The results of a call are those of its body. The results of a loop or branch are values of its own,
                # because they depend on how often the body runs, or on which body does.
                if len(node.children) == 1 and not (child.loop or child.per_device) and len(inner) == len(results):
                    results = inner
        return results

    def _is_unmarked(self, child: Node) -> bool:
        """Say whether a body has no marks: a combiner, or one that its rule traced and the jaxpr does not contain."""
        return child.fused or (bool(child.children) and id(child.children[0].equation) not in self._marks)

    def _body(self, call_site: CallSite, position: int, child: Node, inputs: Sequence[Value]) -> Sequence[Value]:
        """Collect the call sites of a body, and return the values of its results."""
        body = call_site.node.bodies[position]
        inner = _jax.opened(body.jaxpr)
        unchanged = invariant_inputs(call_site.node, position)
        # An input that changes from run to run is a value of its own, different in each body of each equation.
        values: list[Value] = [
            inputs[unchanged[i]] if i in unchanged else ("body", call_site.value, position, i)
            for i in range(len(inner.invars))
        ]
        is_branch = len(call_site.node.bodies) > 1 and child.label.startswith("branch_")
        repeats = 1 if is_branch or child.loop or child.per_device else child.times
        branches = call_site.branches
        if is_branch:
            branches = (*branches, (call_site.address, position, bool(child.times)))
        return self.run(
            body.jaxpr,
            child.children,
            values,
            _Surroundings(
                call_site.address,
                call_site.scope,
                call_site.direction,
                call_site.loops * (child.times if child.loop else 1),
                call_site.copies * (child.copies if child.loop else 1),
                call_site.devices * (child.times if child.per_device else 1),
                call_site.other_repeats * repeats,
                branches,
            ),
        )


def invariant_inputs(node: Node, position: int) -> dict[int, int]:
    """Return which inputs of a body have the same value in every run, with the operand of the equation that each is.

    For a loop these are its constants, and the parts of the carry that the body returns unchanged.
    """
    body, last = node.bodies[position], node.bodies[-1]
    fixed = len(body.inputs) if body.fixed is None else body.fixed
    invariant = {i: source for i, source in enumerate(body.inputs) if i < fixed}
    if node.children[position].loop and last.fixed is not None:
        # The last body is the body of the loop; the carry of the condition is unchanged where that of the body is.
        inner, outer = _jax.opened(last.jaxpr), node.equation.invars
        producers = {var: producer for producer in node.children[-1].children for var in producer.equation.outvars}
        for carried, (result, var) in enumerate(zip(inner.outvars, inner.invars[last.fixed :], strict=False)):
            source = body.inputs[fixed + carried] if fixed + carried < len(body.inputs) else None
            if origin(result, producers) is not var or source is None:
                continue
            # A scan that returns the slices of its input as a stacked output looks like an unchanged carry. But its
            # operand is the whole array, whose shape differs from that of a slice.
            if outer[source].aval.shape == var.aval.shape:
                invariant[fixed + carried] = source
    return invariant


def _copies_or_times(node: Node) -> Count:
    """Return how often a node stands in the lowered module."""
    return node.copies if node.loop else node.times
