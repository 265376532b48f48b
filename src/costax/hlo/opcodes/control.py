"""Opcodes that run other computations: calls, loops, branches."""

from __future__ import annotations

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.records import Instruction


@opcode("call", "async-start")
def call(ins: Instruction, law: Law) -> Work:
    """What the called computation costs, bytes included; the call itself is free.

    XLA: HandleCall, HandleAsyncStart.
    """
    return Work(runs=(ins.callee(0),), joined="call")


@opcode("async-update", "async-done")
def async_end(ins: Instruction, law: Law) -> Work:
    """No flops; operands read, outputs written.

    XLA: HandleAsyncUpdate, HandleAsyncDone.
    """
    return Work(bytes=law.whole(ins))


@opcode("while")
def while_(ins: Instruction, law: Law) -> Work:
    """Body and condition once each: the trip count is ignored, even where it is known.

    XLA: HandleWhile. Called computations are (body, condition).
    """
    return Work(runs=(ins.callee(0), ins.callee(1)), joined="call")


@opcode("conditional")
def conditional(ins: Instruction, law: Law) -> Work:
    """Of each property the maximum over the branches; they need not be the same branch.

    A later branch takes part only with properties that are not 0, so (-1, 0) is -1 while (0, -1) is 0.
    XLA: HandleConditional.
    """
    if not ins.called:
        raise malformed("A conditional without branches", where=ins.name)
    return Work(runs=ins.called, joined="branches")
