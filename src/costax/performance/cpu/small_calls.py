"""Small calls of XLA:CPU: loops on little data, which it compiles into one function without launches."""

from __future__ import annotations

from typing import Final

from costax.hlo.records import Module

_SMALL_CALL: Final = b"xla_cpu_small_call"


def inlined_computations(module: Module) -> frozenset[int]:
    """Return the ids of the computations that XLA compiles into the function of one small call, without launches."""
    found: set[int] = set()
    waiting = [
        callee
        for computation in module.computations.values()
        for ins in computation.instructions
        if ins.opcode == "call" and _SMALL_CALL in ins.raw.frontend_attributes
        for callee in ins.called
    ]
    while waiting:
        computation = waiting.pop()
        if computation.id not in found:
            found.add(computation.id)
            waiting += [callee for ins in computation.instructions for callee in ins.called]
    return frozenset(found)
