"""From a jaxpr to a tree of costs. All recursion over programs is here.

A leaf equation costs what its rule says; a higher-order one runs the bodies that its rule names, and the walk goes
into each. A body that several equations share is walked once for all calls that it cannot tell apart: those that give
the same answer to what it asked of its caller (the bound of a loop that is passed in), and, where it has a loop that
the program does not bound, those of the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Any, NamedTuple, TypeGuard, cast

from costax import _jax
from costax.core.cost import BYTES_READ, BYTES_WRITTEN, ZERO, Cost, Count
from costax.core.equation import CONDITION, Body, Equation, Operand
from costax.core.polynomial import Polynomial, symbol
from costax.core.progress import stage
from costax.errors import Missing, RuleError, Uncountable, Undecided
from costax.program.branches import chosen
from costax.program.tree import (
    BACKWARD,
    FORWARD,
    RECOMPUTE,
    UPDATE,
    Node,
    Scope,
    Unknown,
)
from costax.rules.known_values import CallFrame
from costax.rules.registry import Rule, no_traffic, whole_operands

# What `jax.checkpoint` puts on the name stack of what is computed again; it tells the direction and is no layer.
_REMATTED = "rematted_computation"


@dataclass(slots=True)
class Findings:
    """What a walk found beside the costs."""

    unknowns: dict[str, Unknown] = field(default_factory=dict[str, Unknown])
    missing: dict[tuple[str, str], Missing] = field(default_factory=dict[tuple[str, str], Missing])
    used_trips: set[str] = field(default_factory=set[str])
    # Places of equations that take one of several branches, and the answers that were for one of them.
    choices: set[str] = field(default_factory=set[str])
    used_branches: set[str] = field(default_factory=set[str])
    # Extents that depend on symbols.
    extents: dict[str, Count] = field(default_factory=dict[str, Count])
    # What must not be negative for the branches that are charged to be the ones: a difference, by its words.
    presumed: dict[str, Count] = field(default_factory=dict[str, Count])
    devices: int = 1


@stage("counting")
def walk(
    jaxpr: Any,
    rules: Mapping[str, Rule],
    trips: Mapping[str, Count] | None = None,
    *,
    branches: Mapping[str, int | str] | None = None,
    loops_once: bool = False,
) -> tuple[Node, Findings]:
    """Return the tree of a jaxpr's costs, and what was found on the way.

    trips: how often loops run whose length is not in the program, by place (`solver/while`, or a pattern); any other
    one runs as often as a symbol of its name says, or, if `loops_once`, once.
    branches: which branch is charged, by place: "max", "min", "mean" or an index.
    Raises RuleError where a rule raises or returns something else than it should.
    """
    walker = _Walker(rules, trips or {}, branches or {}, loops_once=loops_once)
    frame = CallFrame(jaxpr, rules=rules)
    return Node("program", children=walker.equations(frame)), walker.findings


class _Walker:
    def __init__(
        self,
        rules: Mapping[str, Rule],
        trips: Mapping[str, Count],
        branches: Mapping[str, int | str],
        *,
        loops_once: bool,
    ) -> None:
        self.rules = rules
        self.trips = trips
        self.branches = branches
        self.loops_once = loops_once
        self.findings = Findings()
        self._operands: dict[int, Operand] = {}
        self._interned: dict[Operand, Operand] = {}
        self._places: dict[int, tuple[Scope, str]] = {}
        self._costs: dict[Any, Cost] = {}
        # By body, and what its walk asked for (inputs, and whether the path): the nodes by the answers.
        self._bodies: dict[Any, dict[_Asked, dict[Any, Node]]] = {}
        self._loops: dict[str, dict[int, int]] = {}
        # Ids stay unique only while their objects live.
        self._alive: list[Any] = []

    def equations(self, frame: CallFrame, *, fused: bool = False) -> tuple[Node, ...]:
        places, rules = self._places, self.rules
        axes = tuple(frame.axis_sizes.items())
        nodes: list[Node] = []
        for eqn in frame.jaxpr.eqns:
            stack = _jax.name_stack(eqn)
            scope, direction = places.get(id(stack)) or self._place(stack)
            name = eqn.primitive.name
            rule = rules.get(name)
            if rule is None:
                self._miss(eqn, frame)
                nodes.append(Node(name, scope, direction, eqn))
                continue
            try:
                if rule.higher_order:
                    nodes.append(self._higher_order(rule, eqn, frame, scope, direction))
                else:
                    cost = ZERO if frame.is_size(eqn) else self._cost(rule, eqn, frame, axes, fused)
                    nodes.append(Node(name, scope, direction, eqn, cost, traits=rule.traits))
            except Uncountable as error:
                self._miss(eqn, frame, str(error))
                nodes.append(Node(name, scope, direction, eqn))
        _mark_updates(nodes)
        return tuple(nodes)

    # Leaves.

    def _cost(self, rule: Rule, eqn: Any, frame: CallFrame, axes: Any, fused: bool) -> Cost:
        # Most abstract values were seen before: looking them up here saves a call for each.
        seen = self._operands.get
        inputs = tuple([seen(id(v.aval)) or self._operand(v.aval) for v in eqn.invars])
        outputs = tuple([seen(id(v.aval)) or self._operand(v.aval) for v in eqn.outvars])
        params = eqn.params
        key = (rule.name, *map(id, inputs), None, *map(id, outputs), axes, fused, *params.values())
        try:
            cost = self._costs.get(key)
        except TypeError:  # a parameter that cannot be hashed
            key, cost = None, None
        if cost is None:
            equation = Equation(rule.name, inputs, outputs, _jax.params(eqn), frame.axis_sizes)
            cost = _checked_cost(rule, equation, eqn)
            if not fused:
                cost = cost + _traffic(rule, equation, eqn)
            if key is not None:
                self._costs[key] = cost
        return cost

    def _operand(self, aval: Any) -> Operand:
        found = self._operands.get(id(aval))
        if found is None:
            made = _jax.operand(aval)
            found = self._interned.get(made)
            if found is None:
                found = self._interned[made] = made
                for extent in made.shape:
                    if isinstance(extent, Polynomial):
                        self.findings.extents[str(extent)] = extent
            self._operands[id(aval)] = found
            self._alive.append(aval)
        return found

    def _place(self, stack: Any) -> tuple[Scope, str]:
        place = self._places[id(stack)] = _read_name_stack(_jax.name_stack_parts(stack))
        self._alive.append(stack)
        return place

    # Bodies.

    def _higher_order(self, rule: Rule, eqn: Any, frame: CallFrame, scope: Scope, direction: str) -> Node:
        inputs = tuple(self._operand(v.aval) for v in eqn.invars)
        outputs = tuple(self._operand(v.aval) for v in eqn.outvars)
        equation = Equation(rule.name, inputs, outputs, _jax.params(eqn), frame.axis_sizes, frame.known_inputs(eqn))
        bodies = _checked_bodies(rule, equation, eqn)
        nodes = [self._body(body, eqn, frame, scope) for body in bodies]
        own = _traffic(rule, equation, eqn)
        children = self._taken(bodies, nodes, eqn, frame, scope)
        return Node(rule.name, scope, direction, eqn, own, children=tuple(children), bodies=bodies, traits=rule.traits)

    def _taken(
        self, bodies: Sequence[Body], nodes: list[Node], eqn: Any, frame: CallFrame, scope: Scope
    ) -> Sequence[Node]:
        """Let one of the bodies that exclude each other run, and the others not at all; or each as often."""
        alternatives = [position for position, body in enumerate(bodies) if body.choice]
        if not alternatives:
            return tuple(nodes)
        how: int | str = "max"
        place = self._loop_place(eqn, frame.path + scope)
        self.findings.choices.add(place)
        if self.branches:
            _depends_on_place(frame)
            patterns = [pattern for pattern in self.branches if pattern == place or fnmatchcase(place, pattern)]
            self.findings.used_branches.update(patterns)
            if patterns:
                how = self.branches[place if place in patterns else patterns[0]]
        shares, presumed = chosen([nodes[position].once for position in alternatives], how, place)
        self.findings.presumed.update(presumed)
        taken = dict(zip(alternatives, shares, strict=True))
        return tuple(
            node.repeated(taken[position]) if position in taken and taken[position] != 1 else node
            for position, node in enumerate(nodes)
        )

    def _body(self, body: Body, eqn: Any, frame: CallFrame, scope: Scope) -> Node:
        axis_sizes = {**frame.axis_sizes, **body.axis_sizes}
        if body.per_device:
            self.findings.devices = max(self.findings.devices, prod(axis_sizes.values()))
        times, unknown = self._times(body, eqn, frame, scope)
        key = (
            id(body.jaxpr),
            tuple(axis_sizes.items()),
            body.fused,
            body.name,
            times,
            body.loop,
            body.copies,
            body.per_device,
            unknown,
        )
        inner = CallFrame(body.jaxpr, frame.path + scope, frame, eqn, body, axis_sizes)
        walked = self._bodies.setdefault(key, {})
        for asked, nodes in walked.items():
            found = nodes.get(_answers(inner, asked))
            if found is not None:
                if asked.path:
                    _depends_on_place(frame)
                return found
        children = self.equations(inner, fused=body.fused)
        node = Node(
            body.name,
            times=times,
            children=children,
            loop=body.loop,
            copies=body.copies,
            fused=body.fused,
            per_device=body.per_device,
            unknown=unknown,
        )
        asked = _Asked(tuple(inner.answers), path=inner.placed)
        walked.setdefault(asked, {})[_answers(inner, asked)] = node
        self._alive.append(body.jaxpr)
        return node

    def _times(self, body: Body, eqn: Any, frame: CallFrame, scope: Scope) -> tuple[Count, str]:
        if body.times is not None:
            return body.times, ""
        _depends_on_place(frame)
        place = self._loop_place(eqn, frame.path + scope)
        patterns = [pattern for pattern in self.trips if pattern == place or fnmatchcase(place, pattern)]
        self.findings.used_trips.update(patterns)
        if not patterns:
            times: Count = 1 if self.loops_once else symbol(place, least=0)
            self.findings.unknowns[place] = Unknown(place, frame.source(eqn), times, answered=False)
            return (times + 1 if body.name == CONDITION and not self.loops_once else times), place
        answer = self.trips[place if place in patterns else patterns[0]]
        self.findings.unknowns[place] = Unknown(place, frame.source(eqn), answer, answered=True)
        # The condition is tried once more than it holds.
        return (answer + 1 if body.name == CONDITION else answer), ""

    def _loop_place(self, eqn: Any, path: Scope) -> str:
        """Name a loop after its scope; the second one of a scope gets `while_2`."""
        base = "/".join((*path, eqn.primitive.name))
        named = self._loops.setdefault(base, {})
        number = named.setdefault(id(eqn), len(named) + 1)
        return base if number == 1 else f"{base}_{number}"

    def _miss(self, eqn: Any, frame: CallFrame, reason: str = "") -> None:
        name, where = eqn.primitive.name, frame.source(eqn)
        first = self.findings.missing.get((name, where))
        if first is None:
            shapes = [" ".join(str(self._operand(v.aval)) for v in side) for side in (eqn.invars, eqn.outvars)]
            self.findings.missing[name, where] = Missing(
                name, where, *shapes, params=", ".join(eqn.params), reason=reason
            )
        else:
            self.findings.missing[name, where] = replace(first, count=first.count + 1)


class _Asked(NamedTuple):
    """What a walk of a body asked of its caller: the values of some inputs, and maybe the path."""

    inputs: tuple[int, ...]
    path: bool


def _answers(frame: CallFrame, asked: _Asked) -> Any:
    return tuple(map(frame.answer, asked.inputs)), frame.path if asked.path else None


def _depends_on_place(frame: CallFrame | None) -> None:
    while frame is not None and not frame.placed:
        frame.placed = True
        frame = frame.parent


def _read_name_stack(parts: list[tuple[bool, str]]) -> tuple[Scope, str]:
    """Return the scope path and the direction that a name stack tells.

    Backward equations of a rematerialised function carry the path twice, `transpose(jvp(net))/jvp(net)`: a `jvp`
    after which the path starts anew does not nest. A `transpose` of no `jvp` is a `jax.linear_transpose`, forward work.
    """
    path: list[str] = []
    transforms: list[str] = []
    for position, (is_transform, name) in enumerate(parts):
        if not is_transform:
            path.append(name)
            continue
        transforms.append(name)
        ahead = [n for transform, n in parts[position + 1 :] if not transform]
        if name == "jvp" and ahead[: len(path)] == path:
            path = []
    direction = (
        RECOMPUTE
        if _REMATTED in path
        else BACKWARD
        if "transpose" in transforms and "jvp" in transforms[transforms.index("transpose") :]
        else FORWARD
        if "jvp" in transforms
        else ""
    )
    # haiku names modules `net/~/linear`, where `~` stands for the constructor; einsum names its subscripts `ij,jk->ik`.
    names = [name for name in path if name != _REMATTED and "->" not in name]
    scope = tuple(part for name in names for part in name.split("/") if part not in ("", "~"))
    return scope, direction


def _mark_updates(nodes: Sequence[Node]) -> None:
    """Mark what follows the gradient: equations outside `jvp` that use gradients, or that feed no model equation."""
    if not any(node.differentiated for node in nodes):
        return
    from_gradient: set[int] = set()
    for node in nodes:
        follows = (
            not node.differentiated
            and not node.direction
            and not from_gradient.isdisjoint(map(id, node.equation.invars))
        )
        if follows:
            node.direction = UPDATE
        if follows or node.differentiated:
            from_gradient.update(map(id, node.equation.outvars))
    feeds_model: set[int] = set()
    for node in reversed(nodes):
        plain = not node.direction and not node.differentiated
        if plain and feeds_model.isdisjoint(map(id, node.equation.outvars)):
            node.direction = UPDATE
        elif node.direction != UPDATE:
            feeds_model.update(map(id, node.equation.invars))


def _checked_cost(rule: Rule, equation: Equation, eqn: Any) -> Cost:
    cost = _called(rule, rule.function, equation, eqn)
    if not isinstance(cost, Cost):
        raise _rule_error(rule, equation, eqn, f"returned {cost!r} of type {type(cost).__name__}, not a costax.Cost")
    for (kind, dtype), count in cost.items():
        # A count may be symbolic: neither an int nor comparable with 0.
        number: Any = count
        if isinstance(number, float | complex | bool | str) or (isinstance(number, int) and number < 0):
            raise _rule_error(rule, equation, eqn, f"returned {kind}[{dtype}] = {count!r}, not a non-negative integer")
    return cost


def _checked_bodies(rule: Rule, equation: Equation, eqn: Any) -> Sequence[Body]:
    bodies = _called(rule, rule.function, equation, eqn)
    if not _are_bodies(bodies):
        raise _rule_error(rule, equation, eqn, f"returned {bodies!r}, not a list of costax.Body")
    for times in (body.times for body in cast("Sequence[Any]", bodies)):
        if isinstance(times, float | bool | str) or (isinstance(times, int) and times < 0):
            raise _rule_error(rule, equation, eqn, f"returned a body that runs {times!r} times")
    return bodies


def _are_bodies(found: Any) -> TypeGuard[Sequence[Body]]:
    return isinstance(found, list | tuple) and all(isinstance(body, Body) for body in cast("Sequence[Any]", found))


def _traffic(rule: Rule, equation: Equation, eqn: Any) -> Cost:
    if rule.traffic is no_traffic:
        return ZERO
    if rule.traffic is whole_operands:
        counts: dict[tuple[str, str], Count] = {}
        for kind, operands in ((BYTES_READ, equation.inputs), (BYTES_WRITTEN, equation.outputs)):
            for x in operands:
                counts[kind, x.dtype] = counts.get((kind, x.dtype), 0) + x.nbytes
        return Cost(counts)
    read, written = _called(rule, rule.traffic, equation, eqn)
    if not (read or written):
        return ZERO
    dtype = (equation.outputs or equation.inputs)[0].dtype
    return Cost({(BYTES_READ, dtype): read, (BYTES_WRITTEN, dtype): written})


def _called(rule: Rule, function: Callable[[Equation], Any], equation: Equation, eqn: Any) -> Any:
    try:
        return function(equation)
    except (Uncountable, Undecided):
        raise
    except Exception as error:
        raise _rule_error(rule, equation, eqn, f"raised {type(error).__name__}: {error}") from error


def _rule_error(rule: Rule, equation: Equation, eqn: Any, what: str) -> RuleError:
    return RuleError(
        f"The rule of `{rule.name}` {what}.",
        where=", ".join(part for part in (_jax.source(eqn), f"rule in {rule.file}:{rule.line}") if part),
        why=f"The equation `{equation}` would have no trustworthy cost, nor would any total above it.",
        cure="Mend the rule: it takes an Equation and returns a Cost of non-negative integers "
        "(a body rule: a list of Body).",
    )
