"""Steps: a program as the sequence of equations that make and use buffers, calls inlined, loops as regions.

XLA inlines calls before it fuses, so a call has no boundary here. A loop or a branch has one: it is a region, whose
memory counts from what is alive around it. A region that several equations share is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from costax import _jax
from costax.cost import Count
from costax.equation import Body, Operand
from costax.tree import Node, Scope

Kind = Literal["argument", "constant", "carry", "slice", "outer", "made"]

# The result is the operand under another shape or name: no buffer of its own.
VIEWS: Final = frozenset(
    {
        "assert_consumed_value",
        "bitcast_convert_type",
        "consume",
        "copy_p",
        "device_put",
        "expand_dims",
        "layout_constraint",
        "mesh_cast",
        "name",
        "optimization_barrier",
        "pcast",
        "preduced",
        "pvary",
        "random_clone",
        "random_unwrap",
        "random_wrap",
        "reshape",
        "sharding_constraint",
        "squeeze",
        "stage",
        "stop_gradient",
        "tie",
        "vary_unreduced_cast",
    }
)


@dataclass(slots=True)
class Value:
    """An array: what it is, where it comes from (step: the number of the one that makes it), and its bytes."""

    operand: Operand
    kind: Kind
    nbytes: Count
    step: int = -1
    name: str = ""


@dataclass(slots=True)
class Step:
    """An equation that reads and writes arrays, numbers of `Region.values`; None is a literal.

    regions: what it runs inside: the body of a loop, its condition, or the branches of a choice.
    """

    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    scope: Scope
    direction: str
    equation: Any
    regions: tuple[Region, ...] = ()


@dataclass(slots=True)
class Region:
    """A sequence of steps with its inputs and results.

    carries: for each result that is carried round a loop, the input that it becomes; None for any other result.
    donated: inputs whose memory the program may use for something else.
    """

    values: list[Value] = field(default_factory=list[Value])
    steps: list[Step] = field(default_factory=list[Step])
    inputs: list[int] = field(default_factory=list[int])
    outputs: list[int | None] = field(default_factory=list["int | None"])
    carries: list[int | None] = field(default_factory=list["int | None"])
    donated: frozenset[int] = frozenset()

    def add(self, operand: Operand, kind: Kind, step: int = -1, name: str = "") -> int:
        """Return the number of a new value."""
        self.values.append(Value(operand, kind, operand.nbytes, step, name))
        return len(self.values) - 1


def program(jaxpr: Any, tree: Node, names: Sequence[str], donated: Sequence[bool]) -> Region:
    """Return a whole program as a region; its inputs are its arguments.

    tree: of `walk`, for the same jaxpr. names: of the inputs. donated: which of them the program may overwrite.
    """
    inner = _jax.opened(jaxpr)
    region = Region()
    env: dict[Any, int] = {var: region.add(_jax.operand(var.aval), "constant") for var in inner.constvars}
    for var, name in zip(inner.invars, names, strict=True):
        env[var] = region.add(_jax.operand(var.aval), "argument", name=name)
    region.inputs = [env[var] for var in inner.invars]
    given = [number for number, gift in zip(region.inputs, donated, strict=False) if gift]
    region.donated = frozenset(given)
    _Reader().equations(tree.children, env, region, (), "")
    region.outputs = [_lookup(env, var) for var in inner.outvars]
    region.carries = [None] * len(region.outputs)
    return region


class _Reader:
    def __init__(self) -> None:
        self._regions: dict[Any, Region] = {}

    def equations(
        self, nodes: Sequence[Node], env: dict[Any, int], region: Region, scope: Scope, direction: str
    ) -> None:
        for node in nodes:
            eqn = node.equation
            if node.label in VIEWS:
                self._view(eqn, env, region)
            elif (called := _called(node)) is not None:
                self._inline(node, *called, env, region, scope, direction)
            else:
                regions = self._inside(node)
                number = len(region.steps)
                outputs = tuple(region.add(_jax.operand(v.aval), "made", number) for v in eqn.outvars)
                inputs = tuple(_lookup(env, v) for v in eqn.invars)
                place, way = scope + node.scope, node.direction or direction
                region.steps.append(Step(node.label, inputs, outputs, place, way, eqn, regions))
                env.update(zip(eqn.outvars, outputs, strict=True))

    def _view(self, eqn: Any, env: dict[Any, int], region: Region) -> None:
        for made, read in zip(eqn.outvars, eqn.invars, strict=False):
            found = _lookup(env, read)
            env[made] = region.add(_jax.operand(made.aval), "constant") if found is None else found

    def _inline(
        self,
        node: Node,
        body: Body,
        child: Node,
        env: dict[Any, int],
        region: Region,
        scope: Scope,
        direction: str,
    ) -> None:
        inner, eqn = _jax.opened(body.jaxpr), node.equation
        local: dict[Any, int] = {var: region.add(_jax.operand(var.aval), "constant") for var in inner.constvars}
        for var, position in zip(inner.invars, body.inputs, strict=True):
            found = None if position is None else _lookup(env, eqn.invars[position])
            operand = _jax.operand(var.aval)
            if found is None:
                found = region.add(operand, "constant")
            elif body.per_device:
                # Outside stands the whole array, inside the shard that one device holds.
                region.values[found].nbytes = min(region.values[found].nbytes, operand.nbytes)
            local[var] = found
        self.equations(child.children, local, region, scope + node.scope, node.direction or direction)
        for made, var in zip(eqn.outvars, inner.outvars, strict=True):
            found = _lookup(local, var)
            env[made] = region.add(_jax.operand(made.aval), "constant") if found is None else found

    def _inside(self, node: Node) -> tuple[Region, ...]:
        if node.label == "scan":
            carried = _jax.params(node.equation)["num_carry"]
            return (self._region(node.bodies[0], node.children[0], carried),)
        if node.label == "while":
            condition, body = zip(node.bodies, node.children, strict=True)
            carried = len(node.equation.outvars)
            return (self._region(*body, carried), self._region(*condition, carried, results=False))
        if all(body.choice for body in node.bodies):
            return tuple(self._region(b, c, 0) for b, c in zip(node.bodies, node.children, strict=True))
        return ()

    def _region(self, body: Body, child: Node, carried: int, *, results: bool = True) -> Region:
        key = id(body.jaxpr), carried, results
        if key not in self._regions:
            self._regions[key] = self._read(body, child, carried, results)
        return self._regions[key]

    def _read(self, body: Body, child: Node, carried: int, results: bool) -> Region:
        inner, region = _jax.opened(body.jaxpr), Region()
        env: dict[Any, int] = {var: region.add(_jax.operand(var.aval), "constant") for var in inner.constvars}
        fixed = len(inner.invars) if body.fixed is None else body.fixed
        for position, var in enumerate(inner.invars):
            kind: Kind = "outer" if position < fixed else "carry" if position < fixed + carried else "slice"
            env[var] = region.add(_jax.operand(var.aval), kind)
        region.inputs = [env[var] for var in inner.invars]
        self.equations(child.children, env, region, (), "")
        region.outputs = [_lookup(env, var) for var in inner.outvars]
        into = region.inputs[fixed : fixed + carried] if results else []
        region.carries = [*into, *[None] * (len(region.outputs) - len(into))]
        return region


def _called(node: Node) -> tuple[Body, Node] | None:
    """Return the one body that an equation runs once on its own inputs, or None."""
    running = [(b, c) for b, c in zip(node.bodies, node.children, strict=True) if b.choice or c.times]
    if len(running) != 1 or node.label in ("scan", "while"):
        return None
    body, child = running[0]
    inner = _jax.opened(body.jaxpr)
    once = not (body.loop or body.fused or body.choice) and (child.times == 1 or body.per_device)
    fits = len(inner.outvars) == len(node.equation.outvars) and len(body.inputs) == len(inner.invars)
    return (body, child) if once and fits else None


def _lookup(env: Mapping[Any, int], atom: Any) -> int | None:
    return None if _jax.is_literal(atom) else env.get(atom)
