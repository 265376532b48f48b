"""Opcodes that XLA charges nothing at all: they name, point or order, and move no data."""

from __future__ import annotations

from costax.hlo.cost_model import NOTHING, Law, Work, opcode
from costax.hlo.records import Instruction


@opcode("parameter", "constant", "get-tuple-element", "bitcast", "after-all", "add-dependency", "domain")
def free(ins: Instruction, law: Law) -> Work:
    """Nothing. A large constant inside a fusion is read by the fusion.

    XLA: HandleParameter, HandleConstant, HandleGetTupleElement, HandleBitcast, HandleAfterAll, HandleAddDependency,
    HandleDomain.
    """
    return NOTHING


@opcode("tuple")
def tuple_(ins: Instruction, law: Law) -> Work:
    """The table of pointers is written: 8 bytes an element, 4 since jaxlib 0.11.2.

    XLA: HandleTuple.
    """
    return Work(bytes=(law.size(ins.shape),))


@opcode("custom-call")
def custom_call(ins: Instruction, law: Law) -> Work:
    """Minus one flop and minus one byte: XLA's way to say that it does not know. It is summed like any number.

    libtpu takes what a Pallas kernel says of itself (`cost_estimate`), and nothing where it says nothing.
    XLA: HandleCustomCall. Since jaxlib 0.11 the markers around inlined calls are free.
    """
    if ins.custom_call_target in law.free_targets:
        return NOTHING
    if law.tpu and ins.custom_call_target == "tpu_custom_call":
        flops, transcendentals, moved = ins.cost_estimate or (0, 0, -1)
        return Work(flops=flops, transcendentals=transcendentals, bytes=(moved,))
    return Work(flops=-1, bytes=(-1,))
