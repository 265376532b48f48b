"""Walk: from a jaxpr to a tree of costs.

The cost of a leaf equation comes from its rule. The rule of a higher-order equation returns bodies, and the walk goes
into each of them. A body that several equations share is walked once for all calls that give the same costs. Two calls
do if the inputs whose values the walk used are equal (such as the bound of a loop that is passed in) and, where the
body has a loop of unknown length or a branch, if they are at the same path: its symbol is named after the path.
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
from costax.errors import Foreign, Missing, RuleError, Uncountable, Undecided
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
from costax.rules.known_blocks import key_of
from costax.rules.known_values import CallFrame
from costax.rules.registry import Rule, no_traffic, whole_operands

# The scope that `jax.checkpoint` adds to recomputed equations. It gives their direction and is no layer of the model.
_REMATTED = "rematted_computation"


@dataclass(slots=True)
class Findings:
    """The results of a walk beside the tree: unknown trip counts, missing rules, branches, symbols, devices."""

    unknowns: dict[str, Unknown] = field(default_factory=dict[str, Unknown])
    missing: dict[tuple[str, str], Missing] = field(default_factory=dict[tuple[str, str], Missing])
    # Callbacks and foreign functions.
    foreign: dict[tuple[str, str], Missing] = field(default_factory=dict[tuple[str, str], Missing])
    used_trips: set[str] = field(default_factory=set[str])
    # The paths of equations that run one of several branches, and the patterns of `branches` that matched one of them.
    choices: set[str] = field(default_factory=set[str])
    used_branches: set[str] = field(default_factory=set[str])
    # Extents that depend on symbols.
    extents: dict[str, Count] = field(default_factory=dict[str, Count])
    # Conditions (difference >= 0) under which the counted branch is the costliest or the cheapest, by their text.
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
    own_package: str = "",
) -> tuple[Node, Findings]:
    """Return the tree of the costs of a jaxpr, and the findings.

    rules: by primitive name. trips: the trip counts of loops whose length is not in the program, by path
    (`solver/while`) or pattern. The trip count of any other such loop is a symbol with the name of its path, or 1 if
    `loops_once`. branches: which branch is counted, by path or pattern: "max", "min", "mean" or an index.
    own_package: the installed package whose lines are the user's.
    Raises RuleError if a rule raises or returns something that is no cost or no list of bodies.
    """
    walker = _Walker(rules, trips or {}, branches or {}, loops_once=loops_once)
    frame = CallFrame(jaxpr, rules=rules, own_package=own_package)
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
        self._scopes: dict[int, tuple[Scope, str]] = {}
        self._costs: dict[Any, Cost] = {}
        # By body, by the kind of facts about the caller that its walk used, by those facts: the walked node.
        self._bodies: dict[Any, dict[_UsedFacts, dict[Any, Node]]] = {}
        # By path: the numbers of the equations with that path, by their ids.
        self._numbers: dict[str, dict[int, int]] = {}
        # The objects whose ids are keys above. An id may be used again once its object is freed.
        self._alive: list[Any] = []

    def equations(self, frame: CallFrame, *, fused: bool = False) -> tuple[Node, ...]:
        scopes, rules = self._scopes, self.rules
        axes = tuple(frame.axis_sizes.items())
        nodes: list[Node] = []
        for eqn in frame.jaxpr.eqns:
            stack = _jax.name_stack(eqn)
            scope, direction = scopes.get(id(stack)) or self._read_scope(stack)
            name = eqn.primitive.name
            rule = rules.get(name)
            if rule is None:
                self._add(self.findings.missing, eqn, frame)
                nodes.append(Node(name, scope, direction, eqn))
                continue
            try:
                if rule.higher_order:
                    nodes.append(self._higher_order(rule, eqn, frame, scope, direction))
                else:
                    cost = ZERO if frame.is_size(eqn) else self._cost(rule, eqn, frame, axes, fused)
                    nodes.append(Node(name, scope, direction, eqn, cost, traits=rule.traits))
            except Foreign as error:
                # Its operands and results are read and written, whatever else it does.
                self._add(self.findings.foreign, eqn, frame, str(error))
                moved = _traffic(rule, frame.equation(rule, eqn), eqn)
                nodes.append(Node(name, scope, direction, eqn, moved, traits=rule.traits))
            except Uncountable as error:
                self._add(self.findings.missing, eqn, frame, str(error))
                nodes.append(Node(name, scope, direction, eqn))
        _mark_updates(nodes)
        return tuple(nodes)

    # Leaf equations.

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
        """Return the operand of an abstract value; equal operands are one object, so that their ids are cache keys."""
        operand = self._operands.get(id(aval))
        if operand is None:
            new = _jax.operand(aval)
            operand = self._interned.get(new)
            if operand is None:
                operand = self._interned[new] = new
                for extent in new.shape:
                    if isinstance(extent, Polynomial):
                        self.findings.extents[str(extent)] = extent
            self._operands[id(aval)] = operand
            self._alive.append(aval)
        return operand

    def _read_scope(self, stack: Any) -> tuple[Scope, str]:
        scope_and_direction = self._scopes[id(stack)] = _read_name_stack(_jax.name_stack_parts(stack))
        self._alive.append(stack)
        return scope_and_direction

    # Bodies of higher-order equations.

    def _higher_order(self, rule: Rule, eqn: Any, frame: CallFrame, scope: Scope, direction: str) -> Node:
        for var in (*eqn.invars, *eqn.outvars):
            self._operand(var.aval)
        equation = frame.equation(rule, eqn)
        bodies = _checked_bodies(rule, equation, eqn)
        nodes = [self._body(body, eqn, frame, scope) for body in bodies]
        own = _traffic(rule, equation, eqn)
        children, choice = self._weighted(bodies, nodes, eqn, frame, scope)
        return Node(
            rule.name, scope, direction, eqn, own, children=children, bodies=bodies, choice=choice, traits=rule.traits
        )

    def _weighted(
        self, bodies: Sequence[Body], nodes: list[Node], eqn: Any, frame: CallFrame, scope: Scope
    ) -> tuple[tuple[Node, ...], tuple[int | str, str] | None]:
        """Return the nodes of the bodies, and how the counted branch was chosen, with the path of the equation.

        Of alternative branches one runs and the others run 0 times; with "mean" each of n branches runs 1 / n times.
        """
        alternatives = [position for position, body in enumerate(bodies) if body.choice]
        if not alternatives:
            return tuple(nodes), None
        how: int | str = "max"
        path = self._equation_path(eqn, frame.path + scope)
        self.findings.choices.add(path)
        if self.branches:
            _mark_path_used(frame)
            patterns = [pattern for pattern in self.branches if pattern == path or fnmatchcase(path, pattern)]
            self.findings.used_branches.update(patterns)
            if patterns:
                how = self.branches[path if path in patterns else patterns[0]]
        weights, presumed = chosen([nodes[position].once for position in alternatives], how, path)
        self.findings.presumed.update(presumed)
        weight_of = dict(zip(alternatives, weights, strict=True))
        weighted = tuple(
            node.repeated(weight_of[position]) if position in weight_of and weight_of[position] != 1 else node
            for position, node in enumerate(nodes)
        )
        return weighted, (how, path)

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
        key = (*key, inner.runs)
        # Which facts about its caller a body needs is known only after it was walked. So an earlier walk is used again
        # if the facts that it used are the same for this caller. Example: a function with `fori_loop(0, n, ...)` is
        # walked for n = 10 and for n = 20; a third call with n = 10 uses the first walk again.
        walks = self._bodies.setdefault(key, {})
        for used, nodes in walks.items():
            earlier = nodes.get(_facts(inner, used))
            if earlier is not None:
                if used.path:
                    # What a body depends on, the body around it depends on too.
                    _mark_path_used(frame)
                return earlier
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
        used = _UsedFacts(tuple(inner.input_values), tuple(inner.input_arrays), path=inner.path_used)
        walks.setdefault(used, {})[_facts(inner, used)] = node
        self._alive.append(body.jaxpr)
        return node

    def _times(self, body: Body, eqn: Any, frame: CallFrame, scope: Scope) -> tuple[Count, str]:
        if body.times is not None:
            return body.times, ""
        _mark_path_used(frame)
        path = self._equation_path(eqn, frame.path + scope)
        patterns = [pattern for pattern in self.trips if pattern == path or fnmatchcase(path, pattern)]
        self.findings.used_trips.update(patterns)
        if not patterns:
            times: Count = 1 if self.loops_once else symbol(path, least=0)
            self.findings.unknowns[path] = Unknown(path, frame.source(eqn), times, answered=False)
            return (times + 1 if body.name == CONDITION and not self.loops_once else times), path
        trips = self.trips[path if path in patterns else patterns[0]]
        self.findings.unknowns[path] = Unknown(path, frame.source(eqn), trips, answered=True)
        # The condition runs once more than the body: the last time it is false.
        return (trips + 1 if body.name == CONDITION else trips), ""

    def _equation_path(self, eqn: Any, scope: Scope) -> str:
        """Return the path of a loop or branch: its scope and primitive; the second of the same path is `while_2`."""
        base = "/".join((*scope, eqn.primitive.name))
        numbers = self._numbers.setdefault(base, {})
        number = numbers.setdefault(id(eqn), len(numbers) + 1)
        return base if number == 1 else f"{base}_{number}"

    def _add(self, missing: dict[tuple[str, str], Missing], eqn: Any, frame: CallFrame, reason: str = "") -> None:
        """Add an equation without a cost to the findings; equations of one primitive and line are one entry."""
        name, where = eqn.primitive.name, frame.source(eqn)
        first = missing.get((name, where))
        if first is None:
            shapes = [" ".join(str(self._operand(v.aval)) for v in side) for side in (eqn.invars, eqn.outvars)]
            missing[name, where] = Missing(name, where, *shapes, params=", ".join(eqn.params), reason=reason)
        else:
            missing[name, where] = replace(first, count=first.count + 1)


class _UsedFacts(NamedTuple):
    """Which facts about its caller the walk of a body used: the values of some inputs, and whether the path."""

    inputs: tuple[int, ...]
    arrays: tuple[int, ...]
    path: bool


def _facts(frame: CallFrame, used: _UsedFacts) -> Any:
    arrays = tuple(key_of(frame.input_array(position)) for position in used.arrays)
    return tuple(map(frame.input_value, used.inputs)), arrays, frame.path if used.path else None


def _mark_path_used(frame: CallFrame | None) -> None:
    """Note that the walk of a frame, and so that of every frame around it, used its path."""
    while frame is not None and not frame.path_used:
        frame.path_used = True
        frame = frame.parent


def _read_name_stack(parts: list[tuple[bool, str]]) -> tuple[Scope, str]:
    """Return the scope and the direction of a name stack. parts: (is it a transformation, name).

    The stack of a backward equation of a rematerialised function has the scope twice, `transpose(jvp(net))/jvp(net)`:
    after a `jvp` the scope may start again, which is not the scope net/net. A `transpose` without a `jvp` comes from
    `jax.linear_transpose` and is forward work.
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
    """Give the optimizer update its direction: equations outside `jvp` that use a gradient, or that no model uses.

    The first pass goes forwards from the gradients (weights - rate * gradient); the second goes backwards, for
    equations such as `step + 1` that use no gradient and that no equation of the model uses.
    """
    if not any(node.differentiated for node in nodes):
        return
    # Variables that are computed by the model or its gradient, or from those.
    from_gradient: set[int] = set()
    for node in nodes:
        is_update = (
            not node.differentiated
            and not node.direction
            and not from_gradient.isdisjoint(map(id, node.equation.invars))
        )
        if is_update:
            node.direction = UPDATE
        if is_update or node.differentiated:
            from_gradient.update(map(id, node.equation.outvars))
    feeds_model: set[int] = set()
    for node in reversed(nodes):
        undecided = not node.direction and not node.differentiated
        if undecided and feeds_model.isdisjoint(map(id, node.equation.outvars)):
            node.direction = UPDATE
        elif node.direction != UPDATE:
            feeds_model.update(map(id, node.equation.invars))


def _checked_cost(rule: Rule, equation: Equation, eqn: Any) -> Cost:
    cost = _call_rule(rule, rule.function, equation, eqn)
    if not isinstance(cost, Cost):
        raise _rule_error(rule, equation, eqn, f"returned {cost!r} of type {type(cost).__name__}, not a costax.Cost")
    for (kind, dtype), count in cost.items():
        # A count may be symbolic: neither an int nor comparable with 0.
        number: Any = count
        if isinstance(number, float | complex | bool | str) or (isinstance(number, int) and number < 0):
            raise _rule_error(rule, equation, eqn, f"returned {kind}[{dtype}] = {count!r}, not a non-negative integer")
    return cost


def _checked_bodies(rule: Rule, equation: Equation, eqn: Any) -> Sequence[Body]:
    bodies = _call_rule(rule, rule.function, equation, eqn)
    if not _are_bodies(bodies):
        raise _rule_error(rule, equation, eqn, f"returned {bodies!r}, not a list of costax.Body")
    for times in (body.times for body in cast("Sequence[Any]", bodies)):
        if isinstance(times, float | bool | str) or (isinstance(times, int) and times < 0):
            raise _rule_error(rule, equation, eqn, f"returned a body that runs {times!r} times")
    return bodies


def _are_bodies(value: Any) -> TypeGuard[Sequence[Body]]:
    return isinstance(value, list | tuple) and all(isinstance(body, Body) for body in cast("Sequence[Any]", value))


def _traffic(rule: Rule, equation: Equation, eqn: Any) -> Cost:
    if rule.traffic is no_traffic:
        return ZERO
    if rule.traffic is whole_operands:
        counts: dict[tuple[str, str], Count] = {}
        for kind, operands in ((BYTES_READ, equation.inputs), (BYTES_WRITTEN, equation.outputs)):
            for x in operands:
                counts[kind, x.dtype] = counts.get((kind, x.dtype), 0) + x.nbytes
        return Cost(counts)
    read, written = _call_rule(rule, rule.traffic, equation, eqn)
    if not (read or written):
        return ZERO
    dtype = (equation.outputs or equation.inputs)[0].dtype
    return Cost({(BYTES_READ, dtype): read, (BYTES_WRITTEN, dtype): written})


def _call_rule(rule: Rule, function: Callable[[Equation], Any], equation: Equation, eqn: Any) -> Any:
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
        cure="Correct the rule: it takes an Equation and returns a Cost of non-negative integers "
        "(a body rule: a list of Body).",
    )
