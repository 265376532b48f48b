"""Trip counts by running the program: how often the loops of unknown length run.

The equations are run once, with two counters for each such loop: how often the loop was entered, and how often its body
ran. The counters are additional carries of all loops and additional operands of all branches, so that loops inside of
them are counted too. A loop that `vmap` has batched is one loop that runs until its last example ends.
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
from costax.core.equation import CONDITION, Body
from costax.errors import InputError
from costax.program.calls import called
from costax.program.interpreter import Interpreter
from costax.program.tree import Node

_api: Any = jax
_lax: Any = lax
_numpy: Any = jnp
Counters = Mapping[str, tuple[Any, Any]]


def count_trips(fn: Any, **options: Any) -> Callable[..., dict[str, int | Fraction]]:
    """Return a function that runs `fn` once and returns the trip counts of its loops of unknown length.

    The result is the mean number of iterations of each loop, by path, as `trips` of `analyze` expects it. The mean is a
    Fraction if the number differs from one entry of the loop to another; the total is exact nevertheless.

    Args:
        fn: A program, as for `analyze`.
        options: Those of `analyze`.

    Raises InputError if an argument has no values (a shape, a symbol), or if a loop is inside of a primitive whose body
    costax cannot run.

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
        paths = [unknown.place for unknown in analysis.unknowns if not unknown.answered]
        if not paths:
            return {}
        values = _inputs(analysis, args, kwargs)
        return _counted(analysis, paths, values)

    return call


def _inputs(analysis: Analysis, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    arguments = dict(pytrees.leaf_paths((tuple(args), dict(kwargs))))
    values: list[Any] = []
    for path, operand in analysis.inputs:
        value = arguments.get(path)
        if value is None:
            raise _no_values(f"no argument at {path!r}")
        if isinstance(value, jax.ShapeDtypeStruct):
            raise _no_values(f"only the shape {operand}")
        values.append(value)
    return values


def _no_values(arguments: str) -> InputError:
    return InputError(
        f"count_trips needs values to run the program with, got {arguments}.",
        why="It counts the iterations of loops by running the program once.",
        cure="Call count_trips(fn) with arrays, as fn is called; for a module, pass the function that applies it.",
    )


def _counted(analysis: Analysis, paths: Sequence[str], values: Sequence[Any]) -> dict[str, int | Fraction]:
    tree = analysis.whole_tree()

    def program(*inputs: Any) -> Any:
        counting = _CountingInterpreter(
            {path: (_numpy.zeros((), "int32"), _numpy.zeros((), "int32")) for path in paths}
        )
        counting.run(analysis.live, tree.children, inputs, None)
        return counting.counters

    trips: dict[str, int | Fraction] = {}
    for path, (entered, ran) in _api.jit(program)(*values).items():
        mean = Fraction(int(ran), max(int(entered), 1))
        trips[path] = mean.numerator if mean.denominator == 1 else mean
    return trips


class _CountingInterpreter(Interpreter[Any, None]):
    """Runs a program, under a trace of jax, with the counters of its loops. Values are arrays."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def literal(self, atom: Any) -> Any:
        return atom.val

    def constant(self, var: Any, value: Any) -> Any:
        return value

    def equation(self, node: Node, operands: list[Any], context: None) -> Sequence[Any]:
        if not _contains_unknown_loop(node):
            return list(_jax.bind(node.equation, operands))
        call = called(node)
        if call is not None:
            body, child = call
            return self.body(child, body, _body_operands(operands, body), self)
        if node.is_loop:
            return self.loop(node, operands)
        if node.bodies and all(body.choice for body in node.bodies):
            return self.branches(node, operands)
        raise _cannot_count(node)

    def body(self, node: Node, body: Body, inputs: Sequence[Any], counting: _CountingInterpreter) -> list[Any]:
        """Run a body in which `counting` counts."""
        return counting.run(body.jaxpr, node.children, inputs, None)

    def loop(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Run a loop with the counters as additional carries."""
        bodies = list(zip(node.bodies, node.children, strict=True))
        conditions = [pair for pair in bodies if pair[0].name == CONDITION]
        (body, child), *_ = [pair for pair in bodies if pair[0].name != CONDITION]
        inputs = _body_operands(operands, body)
        fixed = len(inputs) if body.fixed is None else body.fixed
        carry = [_array(x) for x in inputs[fixed : fixed + body.carried]]
        start = [_like(x, v) for x, v in zip(carry, node.equation.outvars, strict=False)]
        if not conditions:
            if not {"length", "reverse"} <= node.equation.params.keys():
                raise _cannot_count(node)
            return self.scan(node, inputs, fixed, start)
        (condition, condition_child), *_ = conditions
        for_condition = _body_operands(operands, condition)[: condition.fixed]
        return self.while_loop((body, child, inputs[:fixed]), (condition, condition_child, for_condition), start)

    def while_loop(
        self,
        body_and_operands: tuple[Body, Node, list[Any]],
        condition_and_operands: tuple[Body, Node, list[Any]],
        start: list[Any],
    ) -> Sequence[Any]:
        """Run a while loop with the counters as additional carries. start: the first carry."""
        body, child, for_body = body_and_operands
        condition, condition_child, for_condition = condition_and_operands

        def predicate(state: Sequence[Any]) -> Any:
            # jax's condition cannot update counters. A loop inside of the condition is counted by running the condition
            # once more: in `step`, and for its last run after the loop.
            ignored = _CountingInterpreter(self.counters)
            return self.body(condition_child, condition, [*for_condition, *state], ignored)[0]

        def holds(carry: Any) -> Any:
            # A batched loop runs until the condition is false for all examples; those that have ended keep their carry.
            return _numpy.any(predicate(carry[0]))

        def counted_condition(state: Sequence[Any], counters: Counters) -> Counters:
            if not _contains_unknown_loop(condition_child):
                return counters
            counting = _CountingInterpreter(counters)
            self.body(condition_child, condition, [*for_condition, *state], counting)
            return counting.counters

        def step(carry: Any) -> Any:
            state, counters = carry
            counting = _CountingInterpreter(counted_condition(state, counters))
            continues = predicate(state)
            results = self.body(child, body, [*for_body, *state], counting)
            if continues.ndim:
                results = [_where(continues, new, old) for new, old in zip(results, state, strict=True)]
            return results, _advanced(counting.counters, child.unknown, entered=0, ran=1)

        counters = _advanced(self.counters, child.unknown, entered=1, ran=0)
        state, counters = _lax.while_loop(holds, step, (start, counters))
        self.counters = counted_condition(state, counters)
        return state

    def scan(self, node: Node, inputs: list[Any], fixed: int, start: list[Any]) -> Sequence[Any]:
        """Run a scan with the counters as additional carries. fixed: the number of its constants."""
        (body,), (child,) = node.bodies, node.children
        slices = inputs[fixed + body.carried :]

        def step(state: Any, xs: Any) -> Any:
            carry, counters = state
            counting = _CountingInterpreter(counters)
            results = self.body(child, body, [*inputs[:fixed], *carry, *xs], counting)
            return (results[: body.carried], counting.counters), results[body.carried :]

        # The direction of the scan is a parameter of the equation; a Body does not have it.
        options = {"length": node.equation.params["length"], "reverse": node.equation.params["reverse"]}
        (state, self.counters), stacked = _lax.scan(step, (start, self.counters), slices, **options)
        return [*state, *stacked]

    def branches(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Run the branch whose index is the first operand."""

        def function(body: Body, child: Node) -> Callable[..., Any]:
            def branch(inputs: Sequence[Any], counters: Counters) -> Any:
                counting = _CountingInterpreter(counters)
                return self.body(child, body, list(inputs), counting), counting.counters

            return branch

        functions = [function(body, child) for body, child in zip(node.bodies, node.children, strict=True)]
        inputs = _body_operands(operands, node.bodies[0])
        results, self.counters = _lax.switch(_numpy.asarray(operands[0], "int32"), functions, inputs, self.counters)
        return results


def _cannot_count(node: Node) -> InputError:
    return InputError(
        f"costax cannot count the loops inside {node.label} by running it.",
        why="costax runs the bodies of primitives with counters. The rule of this primitive does not define how its "
        "results follow from its bodies.",
        cure="Pass the trip counts to analyze: trips={path: n}.",
    )


def _body_operands(operands: Sequence[Any], body: Body) -> list[Any]:
    """Return the operands of the equation that are the inputs of a body, in the order of the inputs."""
    return [operands[source] for source in body.inputs if source is not None]


def _array(value: Any) -> Any:
    return _numpy.asarray(value) if isinstance(value, int | float | complex) else value


def _where(predicate: Any, new: Any, old: Any) -> Any:
    """Select by a predicate over the leading axes, those of the batch."""
    return _lax.select(_lax.broadcast_in_dim(predicate, new.shape, tuple(range(predicate.ndim))), new, old)


def _like(value: Any, var: Any) -> Any:
    """Return a value with the dtype of a carry, without weak typing."""
    return _lax.convert_element_type(value, var.aval.dtype) if hasattr(value, "dtype") else value


def _advanced(counters: Counters, path: str, *, entered: int, ran: int) -> Counters:
    """Return the counters with the numbers added to those of a loop; unchanged for a loop of known length ("")."""
    if not path:
        return counters
    before = counters[path]
    return {**counters, path: (before[0] + entered, before[1] + ran)}


def _contains_unknown_loop(node: Node) -> bool:
    return any(inner.unknown for inner in node.distinct())
