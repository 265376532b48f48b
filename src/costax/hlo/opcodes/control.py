"""Opcodes that run other computations: calls, loops and conditionals."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.records import Instruction


@opcode("call", "async-start")
def call(ins: Instruction, model: CostModel) -> Work:
    """The cost of the called computation, bytes included; the call itself is free.

    XLA: HandleCall, HandleAsyncStart.
    """
    return Work(runs=(ins.callee(0),), joined="call")


@opcode("async-update", "async-done")
def async_end(ins: Instruction, model: CostModel) -> Work:
    """No FLOPs; operands are read and outputs written.

    XLA: HandleAsyncUpdate, HandleAsyncDone.
    """
    return Work(bytes=model.default_bytes(ins))


@opcode("while")
def while_(ins: Instruction, model: CostModel) -> Work:
    """The body once and the condition once: XLA ignores the trip count, even if it is known.

    XLA: HandleWhile. Called computations are (body, condition).
    """
    return Work(runs=(ins.callee(0), ins.callee(1)), joined="call")


@opcode("conditional")
def conditional(ins: Instruction, model: CostModel) -> Work:
    """For each property the maximum over the branches, which may be different branches.

    A property of a later branch takes part only if it is not 0: branches with (-1, 0) give -1, and (0, -1) give 0.
    XLA: HandleConditional.
    """
    if not ins.called:
        raise malformed("A conditional has no branches", where=ins.name)
    return Work(runs=ins.called, joined="branches")
