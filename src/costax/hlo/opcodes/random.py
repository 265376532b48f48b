"""Random numbers: one transcendental for each number, for every algorithm."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode("rng")
def rng(ins: Instruction, model: CostModel) -> Work:
    """One transcendental for each output element.

    XLA: HandleRng.
    """
    return Work(transcendentals=ins.shape.elements, bytes=model.default_bytes(ins))


@opcode("rng-bit-generator")
def rng_bit_generator(ins: Instruction, model: CostModel) -> Work:
    """One transcendental for each element of every output, the state included.

    XLA: HandleRngBitGenerator.
    """
    return Work(transcendentals=sum(leaf.elements for leaf in ins.shape.arrays()), bytes=model.default_bytes(ins))


@opcode("rng-get-and-update-state")
def rng_state(ins: Instruction, model: CostModel) -> Work:
    """No transcendentals; the state is written.

    XLA: HandleRngGetAndUpdateState.
    """
    return Work(bytes=model.default_bytes(ins))
