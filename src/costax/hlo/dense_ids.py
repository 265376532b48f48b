"""Dense ids: a module with its instructions numbered anew, so that XLA's parser needs little memory.

For each computation XLA's parser keeps a table as long as the largest id of an instruction in it. A production module
that went through hundreds of passes can have ids up to 458,808 in each of 2,533 computations: its parser then takes
more than 9 GB for a module of 6 MB. Ids only name instructions; the new ones keep their order, by which XLA visits dead
instructions, so that the module means the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from costax.hlo.proto import decode
from costax.hlo.read import opened

# XLA writes the id of the computation into the upper half of an id since jaxlib 0.8.
_LOCAL: Final = 2**32 - 1
# The entries of all tables of XLA's parser, of about 8 bytes each, that are few enough to leave the ids as they are.
_FEW: Final = 4_000_000


def with_dense_ids(hlo: bytes) -> bytes:
    """Return a serialised module whose ids are dense; the same bytes where they are dense enough already."""
    _, module = opened(hlo)
    computations = [decode("ComputationNumbers", raw) for raw in module.computations]
    if sum(max((x.id & _LOCAL for x in c.instructions), default=0) for c in computations) <= _FEW:
        return hlo
    by_computation: dict[int, Mapping[int, int]] = {}
    for computation in computations:
        numbers = _numbers(x.id for x in computation.instructions)
        by_computation[computation.id] = numbers
        for instruction in computation.instructions:
            instruction.id = numbers[instruction.id]
            for ids in (instruction.operand_ids, instruction.control_predecessor_ids):
                ids[:] = [numbers.get(i, i) for i in ids]
        computation.root_id = numbers.get(computation.root_id, computation.root_id)
    module.computations[:] = [computation.SerializeToString() for computation in computations]
    if module.schedule:
        module.schedule = _schedule(module.schedule, by_computation)
    return module.SerializeToString()


def _schedule(serialized: bytes, by_computation: Mapping[int, Mapping[int, int]]) -> bytes:
    schedule = decode("Schedule", serialized)
    sequences: list[bytes] = []
    for raw in schedule.sequences:
        entry = decode("ScheduleEntry", raw)
        numbers = by_computation.get(entry.computation_id, {})
        entry.sequence.instruction_ids[:] = [numbers.get(i, i) for i in entry.sequence.instruction_ids]
        sequences.append(entry.SerializeToString())
    schedule.sequences[:] = sequences
    return schedule.SerializeToString()


def _numbers(ids: Any) -> dict[int, int]:
    """Return the new id of each old one: 1, 2, 3 ... in the same order, with the same upper half."""
    return {old: (old & ~_LOCAL) | number for number, old in enumerate(sorted(ids), start=1)}
