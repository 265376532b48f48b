"""Loops: `scan`, whose length is a parameter, and `while`, whose length the program may determine or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costax import _jax
from costax.core.equation import CONDITION, Body, Equation
from costax.rules.higher_order.loop_runs import input_values, scan_runs, while_runs
from costax.rules.higher_order.trip_count import trip_count
from costax.rules.registry import body_rule


@body_rule("scan")
def scan(eqn: Equation) -> Sequence[Body]:
    """The body runs `length` times, whatever `unroll` and `reverse` are.

    XLA: a while loop whose body is counted once, and 2 FLOPs for the counter; where it is unrolled, the loop contains
    `unroll` copies of the body, and the `length % unroll` remaining iterations follow the loop.
    """
    length, unroll, fixed = eqn.params["length"], eqn.params["unroll"], eqn.params["num_consts"]
    inputs = tuple(range(len(eqn.inputs)))
    whole = not isinstance(length, int) or 0 < unroll <= length
    copies = unroll + length % unroll if whole else length
    loop = scan_runs(eqn)
    return [
        Body(
            eqn.params["jaxpr"],
            length,
            "body",
            inputs,
            fixed=fixed,
            carried=eqn.params["num_carry"],
            loop=True,
            copies=copies,
            runs=None if loop is None else loop.runs,
            values=None if loop is None else input_values(loop, eqn, inputs, fixed),
            results=None if loop is None else loop.final,
        )
    ]


@body_rule("while")
def while_loop(eqn: Equation) -> Sequence[Body]:
    """The body runs n times and the condition n + 1 times.

    n is known if the condition compares a counter with a bound, the program determines the start of the counter and
    the bound, and the body adds a constant to the counter; in a kernel, n is the mean over the points of the grid if
    the condition depends on the index in the grid and on constants. Else n is a symbol, which `trips={path: n}` sets.
    XLA: HandleWhile counts the body and the condition once. A condition with a batch of answers is lowered a second
    time, in the body, where it chooses which elements go on.
    """
    condition_consts, body_consts = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = range(condition_consts + body_consts, len(eqn.inputs))
    n: Any = trip_count(eqn)
    loop = while_runs(eqn)
    if n is None and loop is not None and eqn.runs is not None:
        n = eqn.runs.share_of(loop.runs)
    answers = _jax.opened(eqn.params["cond_jaxpr"]).outvars[0].aval.shape
    inputs = (*range(condition_consts, condition_consts + body_consts), *carry)
    return [
        Body(
            eqn.params["cond_jaxpr"],
            None if n is None else n + 1,
            CONDITION,
            (*range(condition_consts), *carry),
            fixed=condition_consts,
            carried=len(carry),
            loop=True,
            copies=2 if answers else 1,
        ),
        Body(
            eqn.params["body_jaxpr"],
            n,
            "body",
            inputs,
            fixed=body_consts,
            carried=len(carry),
            loop=True,
            runs=None if loop is None else loop.runs,
            values=None if loop is None else input_values(loop, eqn, inputs, body_consts),
            results=None if loop is None else loop.final,
        ),
    ]
