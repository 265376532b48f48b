"""Opcodes that cost nothing, or almost nothing: they name values or order instructions, and move no data."""

from __future__ import annotations

from costax.hlo.cost_model import NOTHING, CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode("parameter", "constant", "get-tuple-element", "bitcast", "after-all", "add-dependency", "domain")
def free(ins: Instruction, model: CostModel) -> Work:
    """Nothing. If a fusion contains a large constant, the fusion reads it.

    XLA: HandleParameter, HandleConstant, HandleGetTupleElement, HandleBitcast, HandleAfterAll, HandleAddDependency,
    HandleDomain.
    """
    return NOTHING


@opcode("tuple")
def tuple_(ins: Instruction, model: CostModel) -> Work:
    """The table of pointers is written: 8 bytes for each element, 4 since jaxlib 0.11.2.

    XLA: HandleTuple.
    """
    return Work(bytes=(model.size(ins.shape),))


@opcode("custom-call")
def custom_call(ins: Instruction, model: CostModel) -> Work:
    """-1 FLOP and -1 byte, by which XLA means "unknown", and which it adds like any other number.

    libtpu takes the `cost_estimate` of a Pallas kernel; without one it counts 0 FLOPs and -1 byte.
    XLA: HandleCustomCall. Since jaxlib 0.11 the markers around inlined calls are free.
    """
    if ins.custom_call_target in model.free_targets:
        return NOTHING
    if model.tpu and ins.custom_call_target == "tpu_custom_call":
        flops, transcendentals, moved = ins.cost_estimate or (0, 0, -1)
        return Work(flops=flops, transcendentals=transcendentals, bytes=(moved,))
    return Work(flops=-1, bytes=(-1,))
