"""Regions: a program as operations on values, with calls inlined and the bodies of loops and branches as regions.

This is the intermediate representation of memory, kernels and residuals; op, region and value mean what they mean in
MLIR. XLA inlines calls before it fuses, so calls are inlined here too, except for functions that a very large program
calls more than once (`costax.program.calls`). The body of a loop or branch is a region of its own, whose memory is
counted beyond the values that are alive around it. A region that several equations share is built once. The traits of
an operation say what it computes; its bodies say whether it loops or branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
from typing import Any, Literal, NamedTuple

from costax import _jax
from costax.core.cost import Count
from costax.core.equation import CONDITION, Body, Operand
from costax.program.calls import FunctionKey, called, function_key, shared_functions
from costax.program.interpreter import Interpreter
from costax.program.tree import Node, Scope, joined_direction
from costax.rules.traits import Traits

Kind = Literal["argument", "constant", "carry", "slice", "outer", "computed"]


@dataclass(slots=True)
class Value:
    """An array.

    kind: "argument" of the program, "constant", "computed" by an op; in a region, "outer": the same in every run,
    "carry": carried from one iteration to the next, "slice": of an array that a scan goes through. nbytes: its bytes on
    one device. op: the number of the op that computes it, or -1. name: of an argument.
    """

    operand: Operand
    kind: Kind
    nbytes: Count
    op: int = -1
    name: str = ""


@dataclass(slots=True)
class Op:
    """An operation: an equation that reads and writes values.

    inputs, outputs: numbers of `Region.values`; None for a literal. node: the cost of the equation. scope, direction:
    below the region. regions: the body of a loop and then its condition, or the branches of a `cond`; nodes: the costs
    of these. loop: whether the regions run repeatedly. carried: positions of the inputs that are the first carry.
    axis_sizes: of the manual mesh axes around the equation. parts: how many devices share its work evenly. call: the
    one region is a function, and the outputs are those of its results that it computes, in their order. inserted: the
    traits of an op that a compiler inserts beside an equation, such as a cast of an operand. after: values that exist
    before the op runs although it does not read them: the operands of the barrier behind which a recomputation starts.
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
    parts: int = 1
    loop: bool = False
    carried: range = range(0)
    call: bool = False
    inserted: Traits | None = None
    after: tuple[int, ...] = ()

    @property
    def equation(self) -> Any:
        """The equation in the jaxpr."""
        return self.node.equation

    @property
    def traits(self) -> Traits:
        """The traits of the primitive."""
        return self.inserted or self.node.traits

    @property
    def has_condition(self) -> bool:
        """Whether a loop has a condition, as `while` has; a scan has none and counts its iterations."""
        return self.loop and len(self.regions) > 1


@dataclass(slots=True)
class Region:
    """A sequence of operations with its inputs and results.

    values: all arrays of the region; inputs, outputs and the ops refer to them by number. sources: for each input, the
    position of the operand of the enclosing operation that it is, is initialised with, or is a slice of. carries: for
    each result that is a carry, the input that it becomes in the next iteration; None for any other result. donated:
    inputs whose buffers the program may overwrite.
    """

    values: list[Value] = field(default_factory=list[Value])
    ops: list[Op] = field(default_factory=list[Op])
    inputs: list[int] = field(default_factory=list[int])
    sources: tuple[int | None, ...] = ()
    outputs: list[int | None] = field(default_factory=list["int | None"])
    carries: list[int | None] = field(default_factory=list["int | None"])
    donated: frozenset[int] = frozenset()

    def add(self, operand: Operand, kind: Kind, op: int = -1, name: str = "", parts: int = 1) -> int:
        """Add a value and return its number. parts: how many devices share it evenly; each holds one part.

        A part has one element at least: every device has a scalar.
        """
        nbytes: Any = operand.nbytes
        if parts > 1 and isinstance(nbytes, int) and nbytes:
            nbytes = max(-(-nbytes // parts), -(-nbytes // prod(map(int, operand.shape))))
        elif parts > 1:
            nbytes = -(-nbytes // parts)
        self.values.append(Value(operand, kind, nbytes, op, name))
        return len(self.values) - 1


def program(
    jaxpr: Any,
    tree: Node,
    names: Sequence[str],
    donated: Sequence[bool],
    devices: int = 1,
    shards: Sequence[Operand | None] = (),
    result_shards: Sequence[Operand | None] = (),
) -> Region:
    """Return a whole program as a region, whose inputs are the arguments of the program.

    tree: the result of `walk` for the same jaxpr. names, donated: of the inputs. devices: how many devices share the
    program evenly, except where a `shard_map` says the part of each. shards, result_shards: what one device holds of
    each input and result; None or missing where no sharding says it.
    """
    region = Region()
    context = _OpContext(devices=devices)
    invars = _jax.opened(jaxpr).invars
    for (var, name), shard in zip_longest(zip(invars, names, strict=True), shards):
        number = region.add(_jax.operand(var.aval), "argument", name=name, parts=devices)
        region.inputs.append(number)
        if shard is not None:
            region.values[number].nbytes = shard.nbytes
    region.donated = frozenset(
        number for number, may_overwrite in zip(region.inputs, donated, strict=False) if may_overwrite
    )
    region.outputs = _Builder(region, {}, shared_functions(tree.children)).run(
        jaxpr, tree.children, region.inputs, context
    )
    for number, shard in zip(region.outputs, result_shards, strict=False):
        if number is not None and shard is not None and number not in region.inputs:
            region.values[number].nbytes = shard.nbytes
    region.carries = [None] * len(region.outputs)
    return region


class _OpContext(NamedTuple):
    """The scope and direction of equations below the region, and the sizes of the manual mesh axes around them.

    devices: how many devices run the program. barrier: the values that the barrier of a recomputation around the
    equations waits for.
    """

    scope: Scope = ()
    direction: str = ""
    axis_sizes: Mapping[str, Count] = {}
    devices: int = 1
    barrier: tuple[int, ...] = ()

    @property
    def parts(self) -> int:
        """How many devices share an array: in a `shard_map` its shape is already that of one device."""
        return max(self.devices // prod(map(int, self.axis_sizes.values())), 1) if self.devices > 1 else 1

    def inside(self, node: Node, body: Body | None = None) -> _OpContext:
        """Return the surroundings of the equations in a body of an equation."""
        axes = {**self.axis_sizes, **body.axis_sizes} if body is not None and body.axis_sizes else self.axis_sizes
        direction = joined_direction(self.direction, node.direction)
        return self._replace(scope=self.scope + node.scope, direction=direction, axis_sizes=axes)


class _Builder(Interpreter["int | None", _OpContext]):
    """Adds the equations of a jaxpr to a region. Values are numbers of `Region.values`, or None for a literal."""

    def __init__(self, region: Region, shared: dict[Any, Region], functions: frozenset[FunctionKey]) -> None:
        self._region = region
        # Regions that were built already, by body and cost.
        self._shared = shared
        # The functions that are regions of their own and not inlined.
        self._functions = functions

    def literal(self, atom: Any) -> None:
        return None

    def constant(self, var: Any, value: Any) -> int:
        return self._region.add(_jax.operand(var.aval), "constant")

    def equation(self, node: Node, operands: list[int | None], context: _OpContext) -> Sequence[int]:
        if node.traits.view:
            return self._views(node, operands)
        call = called(node)
        if call is not None and function_key(*call) in self._functions:
            return self._outlined(node, *call, operands, context)
        if call is not None:
            return self._inlined(node, *call, operands, context)
        region, surroundings = self._region, context.inside(node)
        inner = self._regions(node, context)
        outputs = tuple(
            region.add(_jax.operand(v.aval), "computed", len(region.ops), parts=surroundings.parts)
            for v in node.equation.outvars
        )
        op = Op(
            node.label,
            tuple(operands),
            outputs,
            surroundings.scope,
            surroundings.direction,
            node,
            axis_sizes=surroundings.axis_sizes,
            parts=surroundings.parts,
        )
        if not set(context.barrier).isdisjoint(operands):
            op.after = context.barrier
        op.regions, op.nodes = tuple(region for region, _, _ in inner), tuple(child for _, _, child in inner)
        op.loop = bool(inner) and inner[0][1].loop
        if op.loop:
            body = inner[0][1]
            start = len(body.inputs) if body.fixed is None else body.fixed
            positions = [x for x in body.inputs[start : start + body.carried] if x is not None]
            op.carried = range(positions[0], positions[-1] + 1) if positions else range(0)
        region.ops.append(op)
        return outputs

    def _views(self, node: Node, operands: Sequence[int | None]) -> list[int]:
        """Return the values of a view, which are its operands: an identity of n operands has n results."""
        results: list[int] = []
        for position, var in enumerate(node.equation.outvars):
            operand = operands[min(position, len(operands) - 1)] if operands else None
            results.append(self._region.add(_jax.operand(var.aval), "constant") if operand is None else operand)
        return results

    def _inlined(
        self, node: Node, body: Body, child: Node, operands: Sequence[int | None], context: _OpContext
    ) -> Sequence[int]:
        """Add the equations of a call to the region, and return the values of the results."""
        region, inputs = self._region, list[int]()
        for var, position in zip(_jax.opened(body.jaxpr).invars, body.inputs, strict=True):
            operand = _jax.operand(var.aval)
            number = None if position is None else operands[position]
            if number is None:
                number = region.add(operand, "constant")
            elif body.per_device:
                # The operand of a `shard_map` is the whole array, its body has the shard of one device. The memory is
                # that of one device.
                shard = -(-operand.nbytes // context.inside(node, body).parts)
                region.values[number].nbytes = (
                    shard if context.devices > 1 else min(region.values[number].nbytes, shard)
                )
            inputs.append(number)
        inside = context.inside(node, body)
        barrier = _behind_a_barrier(node, inputs)
        if barrier:
            inside = inside._replace(barrier=barrier)
        results = self.run(body.jaxpr, child.children, inputs, inside)
        return [
            region.add(_jax.operand(var.aval), "constant") if number is None else number
            for var, number in zip(node.equation.outvars, results, strict=True)
        ]

    def _outlined(
        self, node: Node, body: Body, child: Node, operands: Sequence[int | None], context: _OpContext
    ) -> Sequence[int]:
        """Add a call of a function that is a region of its own, and return the values of its results.

        A result that is an argument of the function is the operand of the call, as it is after inlining.
        """
        region, surroundings = self._region, context.inside(node, body)
        function = self._body(body, child, surroundings)
        operand_of = dict(zip(function.inputs, body.inputs, strict=True))
        results, outputs = list[int](), dict[int, int]()
        for var, number in zip(node.equation.outvars, function.outputs, strict=True):
            position = None if number is None else operand_of.get(number)
            value = None if position is None else operands[position]
            if number is None or (number in operand_of and value is None):
                value = region.add(_jax.operand(var.aval), "constant")
            elif value is None:
                if number not in outputs:
                    parts = surroundings.parts
                    outputs[number] = region.add(_jax.operand(var.aval), "computed", len(region.ops), parts=parts)
                value = outputs[number]
            results.append(value)
        region.ops.append(
            Op(
                node.label,
                tuple(operands),
                tuple(outputs.values()),
                surroundings.scope,
                surroundings.direction,
                node,
                regions=(function,),
                nodes=(child,),
                axis_sizes=surroundings.axis_sizes,
                parts=surroundings.parts,
                call=True,
            )
        )
        return results

    def _regions(self, node: Node, context: _OpContext) -> list[tuple[Region, Body, Node]]:
        """Return the regions of a loop (the body, then the condition) or of branches; [] for any other equation."""
        pairs = list(zip(node.bodies, node.children, strict=True))
        known = all(len(body.inputs) == len(_jax.opened(body.jaxpr).invars) for body, _ in pairs)
        if not known or not (all(body.loop for body, _ in pairs) or all(body.choice for body, _ in pairs)):
            return []
        ordered = sorted(pairs, key=lambda pair: pair[0].name == CONDITION)
        return [(self._body(body, child, context), body, child) for body, child in ordered]

    def _body(self, body: Body, child: Node, context: _OpContext) -> Region:
        """Return the region of a body, which equations with the same body and the same cost share."""
        key = id(body.jaxpr), id(child), body.name == CONDITION, tuple(context.axis_sizes.items())
        if key not in self._shared:
            inside = _OpContext(axis_sizes=context.axis_sizes, devices=context.devices)
            self._shared[key] = self._new_region(body, child, inside)
        return self._shared[key]

    def _new_region(self, body: Body, child: Node, context: _OpContext) -> Region:
        inner, region = _jax.opened(body.jaxpr), Region(sources=body.inputs)
        fixed = len(inner.invars) if body.fixed is None else body.fixed
        for position, var in enumerate(inner.invars):
            kind: Kind = "outer" if position < fixed else "carry" if position < fixed + body.carried else "slice"
            region.inputs.append(region.add(_jax.operand(var.aval), kind, parts=context.parts))
        region.outputs = _Builder(region, self._shared, self._functions).run(
            body.jaxpr, child.children, region.inputs, context
        )
        # The first results of the body of a loop are its next carry; the others are stacked outputs. The result of a
        # condition is a boolean.
        carry = [] if body.name == CONDITION else region.inputs[fixed : fixed + body.carried]
        region.carries = [*carry, *[None] * (len(region.outputs) - len(carry))]
        return region


def _behind_a_barrier(node: Node, inputs: Sequence[int]) -> tuple[int, ...]:
    """Return the inputs of a recomputation that a barrier joins: no op behind it runs before all of them exist.

    The cotangents of a checkpointed function are among them, so that its recomputation waits for the backward pass to
    arrive. Source: jax, _src/ad_checkpoint.py, _remat_lowering.
    """
    params = node.equation.params
    prevented = params.get("prevent_cse", False)
    if not params.get("differentiated", False):
        return ()
    chosen = (prevented,) * len(inputs) if isinstance(prevented, bool) else prevented
    return tuple(dict.fromkeys(x for x, joined in zip(inputs, chosen, strict=False) if joined))
