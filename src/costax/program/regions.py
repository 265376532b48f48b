"""Steps: a program as the sequence of equations that make and use buffers, calls inlined, loops as regions.

XLA inlines calls before it fuses, so a call has no boundary here. A loop or a branch has one: it is a region, whose
memory counts from what is alive around it. A region that several equations share is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from costax import _jax
from costax.core.cost import Count
from costax.core.equation import Body, Operand
from costax.program.tree import Node, Scope

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

    regions: what it runs inside: the body of a loop, its condition, or the branches of a choice; `nodes` are their
    costs. node: the cost of the equation. axis_sizes: of the mesh axes that are manual here.
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

    @property
    def equation(self) -> Any:
        """The equation of the jaxpr."""
        return self.node.equation


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
    _Reader().equations(tree.children, env, region, _Place())
    region.outputs = [_lookup(env, var) for var in inner.outvars]
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


class _Reader:
    def __init__(self) -> None:
        self._regions: dict[Any, Region] = {}

    def equations(self, nodes: Sequence[Node], env: dict[Any, int], region: Region, place: _Place) -> None:
        for node in nodes:
            eqn = node.equation
            if node.label in VIEWS:
                self._view(eqn, env, region)
            elif (called := _called(node)) is not None:
                self._inline(node, *called, env, region, place)
            else:
                inside = self._inside(node, place)
                number = len(region.steps)
                outputs = tuple(region.add(_jax.operand(v.aval), "made", number) for v in eqn.outvars)
                inputs = tuple(_lookup(env, v) for v in eqn.invars)
                here = place.of(node)
                regions, costs = tuple(r for r, _ in inside), tuple(n for _, n in inside)
                step = Step(
                    node.label, inputs, outputs, here.scope, here.direction, node, regions, costs, here.axis_sizes
                )
                region.steps.append(step)
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
        place: _Place,
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
        self.equations(child.children, local, region, place.of(node, body))
        for made, var in zip(eqn.outvars, inner.outvars, strict=True):
            found = _lookup(local, var)
            env[made] = region.add(_jax.operand(made.aval), "constant") if found is None else found

    def _inside(self, node: Node, place: _Place) -> list[tuple[Region, Node]]:
        pairs = list(zip(node.bodies, node.children, strict=True))
        if node.label == "scan":
            carried = _jax.params(node.equation)["num_carry"]
            return [self._region(*pairs[0], carried, place)]
        if node.label == "while":
            condition, body = pairs
            carried = len(node.equation.outvars)
            return [self._region(*body, carried, place), self._region(*condition, carried, place, results=False)]
        if all(body.choice for body, _ in pairs):
            return [self._region(*pair, 0, place) for pair in pairs]
        return []

    def _region(
        self, body: Body, child: Node, carried: int, place: _Place, *, results: bool = True
    ) -> tuple[Region, Node]:
        key = id(body.jaxpr), id(child), carried, results, tuple(place.axis_sizes.items())
        if key not in self._regions:
            self._regions[key] = self._read(body, child, carried, _Place(axis_sizes=place.axis_sizes), results)
        return self._regions[key], child

    def _read(self, body: Body, child: Node, carried: int, place: _Place, results: bool) -> Region:
        inner, region = _jax.opened(body.jaxpr), Region()
        env: dict[Any, int] = {var: region.add(_jax.operand(var.aval), "constant") for var in inner.constvars}
        fixed = len(inner.invars) if body.fixed is None else body.fixed
        for position, var in enumerate(inner.invars):
            kind: Kind = "outer" if position < fixed else "carry" if position < fixed + carried else "slice"
            env[var] = region.add(_jax.operand(var.aval), kind)
        region.inputs = [env[var] for var in inner.invars]
        self.equations(child.children, env, region, place)
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
