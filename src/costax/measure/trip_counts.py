"""Trip counts by running: how often loops ran whose length the program does not fix.

The program is run once, equation by equation as the tree of its analysis has them, with two counters for each such
loop: how often it was entered, and how often its body ran. The counters go through scans, branches and loops as
further carries, so they are counted inside them too; a loop that `vmap` has batched is one loop that runs until its
last example is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analysis import Analysis
from costax.analysis.symbolic import symbolic_arguments
from costax.core.equation import Body
from costax.errors import InputError
from costax.program.interpreter import Interpreter
from costax.program.regions import CONDITION, called
from costax.program.tree import Node

_api: Any = jax
_lax: Any = lax
_numpy: Any = jnp
Counters = Mapping[str, tuple[Any, Any]]


def count_trips(fn: Any, **options: Any) -> Callable[..., dict[str, int | Fraction]]:
    """Return a function that runs `fn` once on its arguments, and says how often its loops of unknown length ran.

    The result is what `trips` takes, by place: runs each time that the loop is entered; a Fraction where that is not
    the same every time, which makes the total exact nonetheless. options: those of `analyze`.

    >>> import jax
    >>> halve = lambda x: jax.lax.while_loop(lambda c: c > 1.0, lambda c: c / 2, x)
    >>> count_trips(halve)(1000.0)
    {'while': 10}
    """

    def call(*args: Any, **kwargs: Any) -> dict[str, int | Fraction]:
        from costax.analysis.analyze import analyze

        if symbolic_arguments(fn, args, kwargs) is not None:
            raise _no_values("symbols")
        analysis = cast("Analysis", analyze(fn, **options)(*args, **kwargs))
        places = [unknown.place for unknown in analysis.unknowns if not unknown.answered]
        if not places:
            return {}
        values = _inputs(analysis, args, kwargs)
        return _counted(analysis, places, values)

    return call


def _inputs(analysis: Analysis, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    given = dict(pytrees.leaf_paths((tuple(args), dict(kwargs))))
    values: list[Any] = []
    for path, operand in analysis.inputs:
        value = given.get(path)
        if value is None:
            raise _no_values(f"no argument at {path!r}")
        if isinstance(value, jax.ShapeDtypeStruct):
            raise _no_values(f"only the shape {operand}")
        values.append(value)
    return values


def _no_values(found: str) -> InputError:
    return InputError(
        f"There are no values to run the program with: {found}.",
        why="How often its loops run is counted by running it once.",
        cure="Call count_trips(fn) with arrays, as fn itself is called; a module as the function that applies it.",
    )


def _counted(analysis: Analysis, places: Sequence[str], values: Sequence[Any]) -> dict[str, int | Fraction]:
    tree = analysis.whole_tree()

    def program(*inputs: Any) -> Any:
        counting = _Counting({place: (_numpy.zeros((), "int32"), _numpy.zeros((), "int32")) for place in places})
        counting.run(analysis.live, tree.children, inputs, None)
        return counting.counters

    trips: dict[str, int | Fraction] = {}
    for place, (entered, ran) in _api.jit(program)(*values).items():
        mean = Fraction(int(ran), max(int(entered), 1))
        trips[place] = mean.numerator if mean.denominator == 1 else mean
    return trips


class _Counting(Interpreter[Any, None]):
    """Runs a program under a trace of jax, with the counters of its loops; values are arrays."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def literal(self, atom: Any) -> Any:
        return atom.val

    def constant(self, var: Any, value: Any) -> Any:
        return value

    def equation(self, node: Node, operands: list[Any], context: None) -> Sequence[Any]:
        if not _holds_unknown(node):
            return list(_jax.bind(node.equation, operands))
        call = called(node)
        if call is not None:
            body, child = call
            return self.body(child, body, _taken(operands, body), self)
        if node.is_loop:
            return self.loop(node, operands)
        if node.bodies and all(body.choice for body in node.bodies):
            return self.branches(node, operands)
        raise _cannot_count(node)

    def body(self, node: Node, body: Body, inputs: Sequence[Any], counting: _Counting) -> list[Any]:
        """Run a body in which `counting` counts."""
        return counting.run(body.jaxpr, node.children, inputs, None)

    def loop(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Run a loop with the counters as further carries."""
        bodies = list(zip(node.bodies, node.children, strict=True))
        conditions = [pair for pair in bodies if pair[0].name == CONDITION]
        (body, child), *_ = [pair for pair in bodies if pair[0].name != CONDITION]
        inputs = _taken(operands, body)
        fixed = len(inputs) if body.fixed is None else body.fixed
        carry = [_array(x) for x in inputs[fixed : fixed + body.carried]]
        start = [_like(x, v) for x, v in zip(carry, node.equation.outvars, strict=False)]
        if not conditions:
            if not {"length", "reverse"} <= node.equation.params.keys():
                raise _cannot_count(node)
            return self.scan(node, inputs, fixed, start)
        (condition, condition_child), *_ = conditions
        for_condition = _taken(operands, condition)[: condition.fixed]
        return self.while_loop((body, child, inputs[:fixed]), (condition, condition_child, for_condition), start)

    def while_loop(
        self, step_of: tuple[Body, Node, list[Any]], condition_of: tuple[Body, Node, list[Any]], start: list[Any]
    ) -> Sequence[Any]:
        body, child, for_body = step_of
        condition, condition_child, for_condition = condition_of

        def predicate(state: Sequence[Any]) -> Any:
            # A loop in a condition is counted where the condition is run once more, in `step` and behind the loop.
            ignored = _Counting(self.counters)
            return self.body(condition_child, condition, [*for_condition, *state], ignored)[0]

        def holds(carry: Any) -> Any:
            # Batched, a loop runs until no example goes on, and those that have ended keep their state.
            return _numpy.any(predicate(carry[0]))

        def counted_condition(state: Sequence[Any], counters: Counters) -> Counters:
            if not _holds_unknown(condition_child):
                return counters
            counting = _Counting(counters)
            self.body(condition_child, condition, [*for_condition, *state], counting)
            return counting.counters

        def step(carry: Any) -> Any:
            state, counters = carry
            counting = _Counting(counted_condition(state, counters))
            going = predicate(state)
            results = self.body(child, body, [*for_body, *state], counting)
            if going.ndim:
                results = [_where(going, new, old) for new, old in zip(results, state, strict=True)]
            return results, _advanced(counting.counters, child.unknown, entered=0, ran=1)

        counters = _advanced(self.counters, child.unknown, entered=1, ran=0)
        state, counters = _lax.while_loop(holds, step, (start, counters))
        self.counters = counted_condition(state, counters)
        return state

    def scan(self, node: Node, inputs: list[Any], fixed: int, start: list[Any]) -> Sequence[Any]:
        (body,), (child,) = node.bodies, node.children
        slices = inputs[fixed + body.carried :]

        def step(state: Any, xs: Any) -> Any:
            carry, counters = state
            counting = _Counting(counters)
            results = self.body(child, body, [*inputs[:fixed], *carry, *xs], counting)
            return (results[: body.carried], counting.counters), results[body.carried :]

        # Whether it goes backwards is a parameter of the equation; the rule does not tell.
        options = {"length": node.equation.params["length"], "reverse": node.equation.params["reverse"]}
        (state, self.counters), stacked = _lax.scan(step, (start, self.counters), slices, **options)
        return [*state, *stacked]

    def branches(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Run one of several bodies, which the first operand chooses."""

        def function(body: Body, child: Node) -> Callable[..., Any]:
            def branch(inputs: Sequence[Any], counters: Counters) -> Any:
                counting = _Counting(counters)
                return self.body(child, body, list(inputs), counting), counting.counters

            return branch

        functions = [function(body, child) for body, child in zip(node.bodies, node.children, strict=True)]
        inputs = _taken(operands, node.bodies[0])
        results, self.counters = _lax.switch(_numpy.asarray(operands[0], "int32"), functions, inputs, self.counters)
        return results


def _cannot_count(node: Node) -> InputError:
    return InputError(
        f"Loops inside {node.label} cannot be counted by running.",
        why="costax runs the program with counters in its loops. The rule of this primitive does not say how its "
        "results follow from its bodies.",
        cure="Give these trip counts yourself: trips={place: n}.",
    )


def _taken(operands: Sequence[Any], body: Body) -> list[Any]:
    """Return the operands that the inputs of a body are, in the order of the inputs."""
    return [operands[source] for source in body.inputs if source is not None]


def _array(value: Any) -> Any:
    return _numpy.asarray(value) if isinstance(value, int | float | complex) else value


def _where(going: Any, new: Any, old: Any) -> Any:
    return _lax.select(_lax.broadcast_in_dim(going, new.shape, tuple(range(going.ndim))), new, old)


def _like(value: Any, var: Any) -> Any:
    """Return a value with the dtype that a carry has, weak or not."""
    return _lax.convert_element_type(value, var.aval.dtype) if hasattr(value, "dtype") else value


def _advanced(counters: Counters, place: str, *, entered: int, ran: int) -> Counters:
    if not place:
        return counters
    before = counters[place]
    return {**counters, place: (before[0] + entered, before[1] + ran)}


def _holds_unknown(node: Node) -> bool:
    return any(inner.unknown for inner in node.distinct())
