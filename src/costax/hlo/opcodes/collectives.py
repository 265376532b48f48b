"""Collectives: bytes of operands and outputs on one device; XLA counts FLOPs for the all-reduce alone."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode("all-reduce", "all-reduce-start")
def all_reduce(ins: Instruction, model: CostModel) -> Work:
    """One FLOP per element of the output arrays, as if there were two replicas and the reducer one operation.

    XLA: HandleAllReduce; bytes are added in int64.
    """
    arrays = list(ins.shape.arrays())
    moved = sum(map(model.size, arrays)) + sum(model.size(x.shape) for x in ins.operands)
    return Work(flops=sum(leaf.elements for leaf in arrays), bytes=(moved,))


@opcode(
    *("all-gather", "all-gather-done", "all-gather-start", "all-reduce-done", "all-to-all", "collective-broadcast"),
    *("collective-permute", "collective-permute-done", "collective-permute-start", "collective-reduce"),
    *("partition-id", "ragged-all-to-all", "recv", "recv-done", "reduce-scatter", "replica-id", "send", "send-done"),
)
def communicate(ins: Instruction, model: CostModel) -> Work:
    """No FLOPs, not even for the additions of a reduce-scatter; operands are read and outputs written.

    XLA: HandleAllGather, HandleAllToAll, HandleCollectivePermute, HandleReduceScatter, HandleSend ...
    """
    return Work(bytes=model.default_bytes(ins))
