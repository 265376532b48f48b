"""Communication between devices: bytes of operands and outputs on this device; only the all-reduce computes."""

from __future__ import annotations

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.records import Instruction


@opcode("all-reduce", "all-reduce-start")
def all_reduce(ins: Instruction, law: Law) -> Work:
    """One FLOP per element of the output arrays, as if there were two replicas and the reducer one operation.

    XLA: HandleAllReduce; bytes are added in int64.
    """
    arrays = list(ins.shape.arrays())
    moved = sum(map(law.size, arrays)) + sum(law.size(x.shape) for x in ins.operands)
    return Work(flops=sum(leaf.elements for leaf in arrays), bytes=(moved,))


@opcode(
    *("all-gather", "all-gather-done", "all-gather-start", "all-reduce-done", "all-to-all", "collective-broadcast"),
    *("collective-permute", "collective-permute-done", "collective-permute-start", "collective-reduce"),
    *("partition-id", "ragged-all-to-all", "recv", "recv-done", "reduce-scatter", "replica-id", "send", "send-done"),
)
def exchange(ins: Instruction, law: Law) -> Work:
    """No flops, a reduce-scatter's additions included; operands read, outputs written.

    XLA: HandleAllGather, HandleAllToAll, HandleCollectivePermute, HandleReduceScatter, HandleSend ...
    """
    return Work(bytes=law.whole(ins))
