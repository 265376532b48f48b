"""XLA's schedule of a module: the order in which a device starts instructions, and when it waits for each.

A collective of two instructions, `all-gather-start` and `all-gather-done`, runs while the instructions between them do.
`async-start` and `async-done` do the same for the instruction in the computation that they call. Without a schedule
(`is_scheduled=true`) or as one instruction a collective runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from costax.hlo.records import Computation, Instruction, Module

NO_WORK: Final = frozenset(
    {"tuple", "get-tuple-element", "parameter", "bitcast", "constant", "after-all", "opt-barrier", "partition-id"}
)
"""Opcodes of instructions for which a device does nothing."""


class Span(NamedTuple):
    """The place of an instruction in the schedule.

    computation: the id of its computation. start: its number in the order. done: the number of the instruction that
    waits for it; its own number if it is not asynchronous.
    """

    computation: int
    start: int
    done: int

    @property
    def asynchronous(self) -> bool:
        """Whether other instructions may run before something waits for this one."""
        return self.done > self.start


class Schedule:
    """The order of the instructions of a scheduled module."""

    def __init__(self, module: Module) -> None:
        """Take the module, whose schedule may be empty."""
        self._orders = _orders(module)
        self._computations = module.computations
        self._home: dict[int, Computation] = {}
        # By the id of a computation: the instruction that runs it, in the first computation that does.
        self._caller: dict[int, Instruction] = {}
        for computation in module.computations.values():
            for ins in computation.instructions:
                self._home[id(ins)] = computation
                if ins.opcode != "fusion":
                    for callee in ins.called:
                        self._caller.setdefault(callee.id, ins)

    def __bool__(self) -> bool:
        """Return whether the module has a schedule."""
        return bool(self._orders)

    def spans(self, ins: Instruction) -> tuple[Span, ...]:
        """Return the places of an instruction and of the calls around it, outermost first; () without a schedule.

        For an instruction that `async-start` runs the place is that of the `async-start`.
        """
        spans: list[Span] = []
        seen: set[int] = set()
        current: Instruction | None = ins
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            home = self._home.get(id(current))
            order = self._orders.get(home.id) if home is not None else None
            caller = self._caller.get(home.id) if home is not None else None
            if home is None or (order is None and (caller is None or caller.opcode != "async-start")):
                return ()
            if order is not None and (caller is None or caller.opcode != "async-start"):
                start = order.get(current.id)
                if start is None:
                    return ()
                spans.append(Span(home.id, start, _done(current, order, start)))
            current = caller
        return tuple(reversed(spans))

    def between(self, ins: Instruction) -> tuple[str, ...]:
        """Return the names of the instructions that may run while an asynchronous instruction does, in order."""
        spans = self.spans(ins)
        if not spans or not spans[-1].asynchronous:
            return ()
        own = spans[-1]
        order = self._orders[own.computation]
        numbers = {number: position for number, position in order.items() if own.start < position < own.done}
        computation = self._computations[own.computation]
        inside = [x for x in computation.instructions if x.id in numbers and x.opcode not in NO_WORK]
        return tuple(x.name for x in sorted(inside, key=lambda x: numbers[x.id]))


def _orders(module: Module) -> dict[int, Mapping[int, int]]:
    """Return for each scheduled computation, by its id, the number of each instruction by its id."""
    return {
        key: {number: position for position, number in enumerate(numbers)} for key, numbers in module.schedule.items()
    }


def _done(ins: Instruction, order: Mapping[int, int], start: int) -> int:
    """Return the number of the instruction that waits for an instruction; its own if it is not asynchronous."""
    if not ins.opcode.endswith("-start"):
        return start
    pending, seen = [ins], {id(ins)}
    while pending:
        for user in pending.pop().users:
            if user.opcode.endswith("-done"):
                return max(order.get(user.id, start), start)
            if user.opcode == "async-update" and id(user) not in seen:
                seen.add(id(user))
                pending.append(user)
    return start
