"""Provenance: how an HLO instruction knows the equation that it came from.

Before lowering, the name stack of every equation gets a short unique mark, `~12~`. XLA carries names through
optimisation and does not optimise by them, so the marked program compiles to the same code; a guard compares the
costs of both all the same. Each distinct inner jaxpr is marked once, so that functions that are shared stay shared:
the marks of the call sites and the inner mark together are an equation's address.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.conventions import XlaCounts, as_xla
from costax.cost import Cost, Count
from costax.tree import Node, Scope

_ROOT = "~0~"
_MARK = re.compile(r"~(\d+)~")
# Primitives whose result holds nothing but the elements of their first operand.
_SPREADS = frozenset({"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "transpose", "slice"})
_RESHAPES = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims"})
_IDENTITIES = frozenset(
    {"stop_gradient", "copy", "copy_p", "name", "pvary", "sharding_constraint", "optimization_barrier"}
)
# What leaves the other operand as it is; a sum or product may have it on either side.
_ZERO, _ONE = ("0", "0.0", "-0.0"), ("1", "1.0")
_NEUTRAL = {"add": _ZERO, "add_any": _ZERO, "sub": _ZERO, "mul": _ONE, "div": _ONE}
_DECIDED = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "sub", "xor"})
_DECISIONS: Mapping[str, Callable[..., bool]] = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}
_ABSORBING = {"and": "False", "or": "True"}
_ARITHMETIC: Mapping[str, Callable[..., float]] = {
    "add": float.__add__,
    "sub": float.__sub__,
    "mul": float.__mul__,
    "div": float.__truediv__,
    "neg": float.__neg__,
    "max": max,
    "min": min,
    "pow": math.pow,
    "sqrt": math.sqrt,
    "abs": float.__abs__,
    "floor": lambda x: float(math.floor(x)),
    "ceil": lambda x: float(math.ceil(x)),
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
}

Address = tuple[int, ...]
"""The marks of the equations that lead to an equation, outermost first, its own last."""

Values = tuple[Any, ...]
"""What identifies the value of a variable: equal values have equal numbers."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A jaxpr whose equations carry marks, and the mark of each original equation, by the equation's id."""

    jaxpr: Any
    marks: Mapping[int, int]


def mark(jaxpr: Any) -> Marked:
    """Return the jaxpr with every equation marked, those of inner jaxprs too; nothing else changes.

    jaxpr: closed, after dead-code elimination, so that its equations are those of the tree.
    """
    marks: dict[int, int] = {}
    rewritten: dict[int, Any] = {}

    def rewrite(inner: Any, prefix: str = "") -> Any:
        if id(inner) not in rewritten:
            eqns = [marked_equation(eqn, prefix) for eqn in _jax.opened(inner).eqns]
            rewritten[id(inner)] = _jax.with_equations(inner, eqns)
        return rewritten[id(inner)]

    def marked_equation(eqn: Any, prefix: str) -> Any:
        number = marks.setdefault(id(eqn), len(marks) + 1)
        params = {name: _jax.map_jaxprs(value, rewrite) for name, value in eqn.params.items()}
        return _jax.with_scopes(eqn, params, prefix, f"~{number}~")

    return Marked(rewrite(jaxpr, _ROOT), marks)


def address(op_name: str, caller: Address) -> Address:
    """Return the address that an instruction's name tells; names inside a shared function go on from the caller's.

    >>> address("jit(f)/~0~/jvp(net)/~3~/while/body/~7~/dot_general", (1,)), address("jit(silu)/~5~/neg", (1, 4))
    ((3, 7), (1, 4, 5))
    """
    # Of an instruction that has several names, joined by `;`, the first is the innermost.
    _, root, below = op_name.partition(";")[0].rpartition(_ROOT)
    marks = tuple(map(int, _MARK.findall(below)))
    return marks if root else caller + marks


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
    values = {var: ("input", i) for i, var in enumerate(inner.invars)}
    values |= {var: ("constant", id(var)) for var in inner.constvars}
    yield from _Visit(marks).equations(tree.children, values, _Outside())


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
    def __init__(self, marks: Mapping[int, int]) -> None:
        self._marks = marks
        self._numbers: dict[Any, int] = {}
        # By number: the loose one; of a broadcast or reshape, that of what it spreads.
        self._loose: dict[int, Any] = {}
        # By number: what is the same for all elements, and known; then what depends on no input of the program.
        self._scalars: dict[int, str] = {}
        self._fixed: set[int] = set()
        # Abstract values as text, which takes numpy long.
        self._types: dict[Any, str] = {}
        # By value: what it is the negative of.
        self._negated: dict[Any, Any] = {}

    def equations(self, nodes: Sequence[Node], values: dict[Any, Any], outside: _Outside) -> Iterator[Place]:
        for node in nodes:
            eqn = node.equation
            inputs = tuple(self._value(atom, values) for atom in eqn.invars)
            value = self._number(eqn, inputs)
            same = self._unchanged(eqn, inputs)
            if eqn.primitive.name == "neg":
                self._negated[value, 0] = inputs[0]
            for i, out in enumerate(eqn.outvars):
                values[out] = same if same is not None else (value, i)
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
                value,
                self._loose[value],
                tuple(x[0] if isinstance(x[0], int) else x for x in inputs if x[0] != "literal"),
                tuple(scalar for x in inputs if (scalar := self._scalar(x))),
                self._scalars.get(value, ""),
                value in self._fixed,
                any(x[0] in self._fixed for x in inputs),
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
        fixed = len(body.inputs) if body.fixed is None else body.fixed
        values: dict[Any, Any] = {}
        for i, var in enumerate(inner.invars):
            source = body.inputs[i] if i < len(body.inputs) else None
            values[var] = inputs[source] if source is not None and i < fixed else ("body", place.value, position, i)
        values |= {var: ("constant", id(var)) for var in inner.constvars}
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
        return [self._value(atom, values) for atom in inner.outvars]

    def _value(self, atom: Any, values: Mapping[Any, Any]) -> Any:
        if _jax.is_literal(atom):
            return ("literal", _jax.literal_text(atom), self._type(atom.aval))
        return values.get(atom, ("free", id(atom)))

    def _type(self, aval: Any) -> str:
        found = self._types.get(aval)
        if found is None:
            found = self._types[aval] = str(aval)
        return found

    def _number(self, eqn: Any, inputs: Values) -> int:
        params = tuple([(name, value if _hashable(value) else id(value)) for name, value in eqn.params.items()])
        # What has effects is equal to nothing else.
        key = _canonical(eqn.primitive.name, params, inputs) if not eqn.effects else (id(eqn), inputs)
        number = self._numbers.setdefault(key, len(self._numbers))
        if not eqn.effects and (_is_known(eqn, inputs) or all(self._is_fixed(x) for x in inputs)):
            self._fixed.add(number)
        self._loose[number] = self._loosely(eqn, params, inputs)
        if number not in self._scalars and (scalar := self._computed(eqn, inputs)):
            self._scalars[number] = scalar
        return number

    def _loosely(self, eqn: Any, params: Values, inputs: Values) -> Any:
        within = tuple((self._loose.get(x[0], x[0]), *x[1:]) for x in inputs)
        if eqn.primitive.name in _RESHAPES:
            return within[0][0] if within[0][1:] in ((), (0,)) else within[0]
        size = math.prod(getattr(eqn.outvars[0].aval, "shape", ())) if eqn.outvars else 0
        key = ("loose", size, _canonical(eqn.primitive.name, params, within)) if not eqn.effects else (id(eqn), within)
        return self._numbers.setdefault(key, len(self._numbers))

    def _unchanged(self, eqn: Any, inputs: Values) -> Any:
        """Return the operand whose value a result is: of an identity, a neutral operand, a choice between equals."""
        name = eqn.primitive.name
        if name in _IDENTITIES and len(inputs) == 1:
            return inputs[0]
        if name == "neg":
            return self._negated.get(inputs[0])
        if name == "integer_pow" and eqn.params["y"] == 1:
            return inputs[0]
        if name == "select_n":
            chosen = self._chosen(inputs)
            return inputs[1] if len(set(inputs[1:])) == 1 else None if chosen is None else inputs[1 + chosen]
        if name in _NEUTRAL and len(inputs) == 2:
            for operand, other in ((0, 1), (1, 0)) if name in ("add", "add_any", "mul") else ((0, 1),):
                kept = eqn.invars[operand].aval.shape == eqn.outvars[0].aval.shape
                if kept and self._scalar(inputs[other]) in _NEUTRAL[name]:
                    return inputs[operand]
        return None

    def _chosen(self, inputs: Values) -> int | None:
        """Return which case a selection takes, where its predicate is known."""
        known = self._scalar(inputs[0])
        return {"False": 0, "True": 1}.get(known, int(known) if known.isdecimal() else None) if known else None

    def _computed(self, eqn: Any, inputs: Values) -> str:
        """Return the number that all elements of a result are, where the operands are such numbers."""
        name = eqn.primitive.name
        if name in _SPREADS:
            return self._scalar(inputs[0])
        if name == "pad" and 0 in eqn.invars[0].aval.shape:
            return self._scalar(inputs[1])
        if name == "integer_pow" and eqn.params["y"] == 0:
            return "1.0"
        known = [self._scalar(x) for x in inputs]
        if name == "select_n":
            chosen = self._chosen(inputs)
            return known[1] if len(set(known[1:])) == 1 else "" if chosen is None else known[1 + chosen]
        if name in _ABSORBING and _ABSORBING[name] in known:
            return _ABSORBING[name]
        if name in _DECISIONS and all(known):
            return str(_DECISIONS[name](*map(_number, known)))
        if name == "square":
            name, known = "mul", known * 2
        if name in _ARITHMETIC and all(known):
            try:
                return str(_ARITHMETIC[name](*map(_number, known)))
            except (ValueError, ArithmeticError):
                return ""
        return "0.0" if name == "mul" and any(x and float(x) == 0 for x in known if _is_number(x)) else ""

    def _is_fixed(self, value: Any) -> bool:
        return value[0] in ("literal", "constant") or value[0] in self._fixed

    def _scalar(self, value: Any) -> str:
        return value[1] if value[0] == "literal" else self._scalars.get(value[0], "")


def _as_it_stands(node: Node) -> Count:
    return node.copies if node.loop else node.times


def _is_known(eqn: Any, inputs: Values) -> bool:
    """Say whether equal operands alone decide the result: a comparison of whole numbers, which are never NaN."""
    whole = getattr(getattr(eqn.invars[0].aval, "dtype", None), "kind", "") in ("i", "u", "b") if inputs else False
    return whole and len(inputs) == 2 and inputs[0] == inputs[1] and eqn.primitive.name in _DECIDED


def _canonical(name: str, params: Any, inputs: Values) -> Any:
    """Return what equal operations have in common: x**2 is x*x, and operands of a sum or product may change places."""
    if name == "square" or (name == "integer_pow" and ("y", 2) in params):
        return ("mul", (), inputs * 2)
    if name in ("add", "add_any", "mul", "max", "min", "and", "or", "eq", "ne"):
        return (name.removesuffix("_any"), (), tuple(sorted(inputs, key=repr)))
    return (name, params, inputs)


def _number(text: str) -> float:
    return float(text == "True") if text in ("True", "False") else float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
