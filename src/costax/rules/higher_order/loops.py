"""Loops: scan, whose length the equation states, and while, whose length the program may fix or not."""

from __future__ import annotations

from collections.abc import Sequence

from costax.core.equation import CONDITION, Body, Equation
from costax.rules.higher_order.trip_count import trip_count
from costax.rules.registry import body_rule


@body_rule("scan")
def scan(eqn: Equation) -> Sequence[Body]:
    """The body runs `length` times, whatever `unroll` and `reverse` say.

    XLA: a while loop whose body is counted once, plus 2 FLOPs of counter; where it is unrolled, `unroll` copies of the
    body stand in the loop, and those of the steps that are left over behind it.
    """
    length, unroll, fixed = eqn.params["length"], eqn.params["unroll"], eqn.params["num_consts"]
    inputs = tuple(range(len(eqn.inputs)))
    whole = not isinstance(length, int) or 0 < unroll <= length
    copies = unroll + length % unroll if whole else length
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
        )
    ]


@body_rule("while")
def while_loop(eqn: Equation) -> Sequence[Body]:
    """The body runs n times and the condition n + 1 times.

    n is known where the condition compares a counter with a bound, the program fixes both, and the body moves the
    counter by a fixed step; else it is unknown, counted once, and `trips={place: n}` answers it.
    XLA: HandleWhile counts the body and the condition once.
    """
    condition_consts, body_consts = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = range(condition_consts + body_consts, len(eqn.inputs))
    n = trip_count(eqn)
    return [
        Body(
            eqn.params["cond_jaxpr"],
            None if n is None else n + 1,
            CONDITION,
            (*range(condition_consts), *carry),
            fixed=condition_consts,
            carried=len(carry),
            loop=True,
        ),
        Body(
            eqn.params["body_jaxpr"],
            n,
            "body",
            (*range(condition_consts, condition_consts + body_consts), *carry),
            fixed=body_consts,
            carried=len(carry),
            loop=True,
        ),
    ]
