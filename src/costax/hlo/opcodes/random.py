"""Random numbers: one transcendental per number, whatever the algorithm does."""

from __future__ import annotations

from costax.hlo.cost_model import Law, Work, opcode
from costax.hlo.records import Instruction


@opcode("rng")
def rng(ins: Instruction, law: Law) -> Work:
    """One transcendental per output element.

    XLA: HandleRng.
    """
    return Work(transcendentals=ins.shape.elements, bytes=law.whole(ins))


@opcode("rng-bit-generator")
def rng_bit_generator(ins: Instruction, law: Law) -> Work:
    """One transcendental per element of every output, the state included.

    XLA: HandleRngBitGenerator.
    """
    return Work(transcendentals=sum(leaf.elements for leaf in ins.shape.arrays()), bytes=law.whole(ins))


@opcode("rng-get-and-update-state")
def rng_state(ins: Instruction, law: Law) -> Work:
    """No transcendental; the state is written.

    XLA: HandleRngGetAndUpdateState.
    """
    return Work(bytes=law.whole(ins))
