"""Trip counts by running: how often loops ran whose length the program does not fix.

The program is run once, equation by equation as the tree of its analysis has them, with two counters for each such
loop: how often it was entered, and how often its body ran. The counters go through scans, branches and loops as
further carries, so they are counted inside them too; a loop that `vmap` has batched is one loop that runs until its
last example is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
from jax import lax

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analysis import Analysis
from costax.analysis.symbolic import symbolic_arguments
from costax.errors import InputError
from costax.program.tree import Node

_api: Any = jax
_lax: Any = lax
_numpy: Any = jnp
# Higher-order primitives that run one body once with all of their inputs.
_CALLS: Final = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "call",
        "eval_jaxpr",
        "custom_jvp_call",
        "custom_vjp_call",
        "remat2",
        "remat",
        "checkpoint",
        "custom_vmap_call",
        "compute_on",
    }
)
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
    tree = analysis.tree
    assert tree is not None
    run = _Run(places)

    def program(*inputs: Any) -> Any:
        _, counters = run.body(tree, analysis.live, list(inputs), run.start())
        return counters

    found = _api.jit(program)(*values)
    trips: dict[str, int | Fraction] = {}
    for place, (entered, ran) in found.items():
        mean = Fraction(int(ran), max(int(entered), 1))
        trips[place] = mean.numerator if mean.denominator == 1 else mean
    return trips


class _Run:
    def __init__(self, places: Sequence[str]) -> None:
        self.places = places

    def start(self) -> Counters:
        return {place: (_numpy.zeros((), "int32"), _numpy.zeros((), "int32")) for place in self.places}

    def body(self, node: Node, jaxpr: Any, inputs: Sequence[Any], counters: Counters) -> tuple[list[Any], Counters]:
        """Run a jaxpr whose equations are the node's children."""
        opened = _jax.opened(jaxpr)
        values: dict[Any, Any] = dict(zip(opened.constvars, _jax.constants(jaxpr), strict=True))
        values.update(zip(opened.invars, inputs, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if _jax.is_literal(atom) else values[atom]

        for child in node.children:
            eqn = child.equation
            operands = [read(atom) for atom in eqn.invars]
            outputs, counters = self.equation(child, eqn, operands, counters)
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in opened.outvars], counters

    def equation(self, node: Node, eqn: Any, operands: list[Any], counters: Counters) -> tuple[list[Any], Counters]:
        name = eqn.primitive.name
        if not _holds_unknown(node):
            found: Any = _jax.bind(eqn, operands)
            return list(found), counters
        if name in _CALLS and len(node.bodies) == 1:
            return self.body(node.children[0], node.bodies[0].jaxpr, operands, counters)
        if name == "while":
            return self.loop(node, eqn, operands, counters)
        if name == "scan":
            return self.scan(node, eqn, operands, counters)
        if name == "cond":
            return self.branches(node, operands, counters)
        raise InputError(
            f"Loops inside {name} cannot be counted by running.",
            why="costax runs the program with counters in its loops, and does not know how to put them there.",
            cure="Give these trip counts yourself: trips={place: n}.",
        )

    def loop(self, node: Node, eqn: Any, operands: list[Any], counters: Counters) -> tuple[list[Any], Counters]:
        params = _jax.params(eqn)
        condition_consts, body_consts = params["cond_nconsts"], params["body_nconsts"]
        for_condition = operands[:condition_consts]
        for_body = operands[condition_consts : condition_consts + body_consts]
        condition, body = node.children
        condition_jaxpr, body_jaxpr = (part.jaxpr for part in node.bodies)

        def predicate(carry: Any) -> Any:
            # A loop in a condition is counted where the condition is run once more, in `step` and behind the loop.
            found, _ = self.body(condition, condition_jaxpr, [*for_condition, *carry[0]], carry[1])
            return found[0]

        def holds(carry: Any) -> Any:
            # Batched, a loop runs until no example goes on, and those that have ended keep their state.
            return _numpy.any(predicate(carry))

        def counted_condition(state: Any, counts: Counters) -> Counters:
            if not _holds_unknown(condition):
                return counts
            return self.body(condition, condition_jaxpr, [*for_condition, *state], counts)[1]

        def step(carry: Any) -> Any:
            state, counts = carry
            counts = counted_condition(state, counts)
            going = predicate(carry)
            found, counts = self.body(body, body_jaxpr, [*for_body, *state], counts)
            if going.ndim:
                found = [_where(going, new, old) for new, old in zip(found, state, strict=True)]
            return found, _advanced(counts, body.unknown, entered=0, ran=1)

        initial = [_numpy.asarray(x) if isinstance(x, int | float | complex) else x for x in operands[-_carries(eqn) :]]
        start = [_like(x, v) for x, v in zip(initial, eqn.outvars, strict=True)]
        counters = _advanced(counters, body.unknown, entered=1, ran=0)
        state, counters = _lax.while_loop(holds, step, (start, counters))
        return state, counted_condition(state, counters)

    def scan(self, node: Node, eqn: Any, operands: list[Any], counters: Counters) -> tuple[list[Any], Counters]:
        params = _jax.params(eqn)
        consts, carries = params["num_consts"], params["num_carry"]
        fixed, carry, slices = operands[:consts], operands[consts : consts + carries], operands[consts + carries :]
        jaxpr = node.bodies[0].jaxpr

        def step(state: Any, xs: Any) -> Any:
            found, counts = self.body(node.children[0], jaxpr, [*fixed, *state[0], *xs], state[1])
            return (found[:carries], counts), found[carries:]

        start = [_like(x, v) for x, v in zip(carry, eqn.outvars[:carries], strict=True)]
        (state, counters), stacked = _lax.scan(
            step, (start, counters), slices, length=params["length"], reverse=params["reverse"]
        )
        return [*state, *stacked], counters

    def branches(self, node: Node, operands: list[Any], counters: Counters) -> tuple[list[Any], Counters]:
        index, *rest = operands

        def made(child: Node, jaxpr: Any) -> Callable[..., Any]:
            return lambda *inputs: self.body(child, jaxpr, list(inputs[0]), inputs[1])

        functions = [made(child, body.jaxpr) for child, body in zip(node.children, node.bodies, strict=True)]
        return _lax.switch(_numpy.asarray(index, "int32"), functions, rest, counters)


def _where(going: Any, new: Any, old: Any) -> Any:
    return _lax.select(_lax.broadcast_in_dim(going, new.shape, tuple(range(going.ndim))), new, old)


def _carries(eqn: Any) -> int:
    return len(eqn.outvars)


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
