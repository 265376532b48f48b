"""Consumers: the instructions for which XLA's partitioner moves a value between devices.

Since jaxlib 0.12 the partitioner gives a collective that it adds the name of the value that it moves. The weights that
a scan over layers takes from its stack have the name of the scan's slice, which is in no layer. The partitioner moves
them because an instruction needs them with another sharding, such as the product of the layer. Older versions name the
collective after that instruction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from costax.hlo.collectives import kind
from costax.hlo.proto import decode
from costax.hlo.records import Computation, Instruction

# Collectives that reduce have the name of the instruction whose partial sums they add.
_MOVING: Final = frozenset({"all-gather", "all-to-all", "collective-permute"})
_MADE_BY_PARTITIONER: Final = b"is_spmd_generated"
# Instructions that change the form of a value alone, or wait for it.
_PASSING: Final = frozenset(
    {*("tuple", "get-tuple-element", "parameter", "bitcast", "copy", "reshape", "transpose", "opt-barrier")}
    | {"copy-start", "copy-done", "all-gather-done", "collective-permute-done"}
)
_CALLS: Final = frozenset({"fusion", "call", "while", "conditional"})
# A value that passes through more instructions than these is carried around.
_MOST_STEPS: Final = 1000

_Path = tuple[int, ...]


def is_resharding(ins: Instruction) -> bool:
    """Return whether an instruction is a collective that the partitioner added to move a value."""
    return kind(ins) in _MOVING and _by_partitioner(ins)


def _by_partitioner(ins: Instruction) -> bool:
    if not ins.raw.frontend_attributes:
        return False
    attributes = decode("Attributes", ins.raw.frontend_attributes, ins.name).entries
    return any(decode("Attribute", raw, ins.name).key == _MADE_BY_PARTITIONER for raw in attributes)


class _Use(NamedTuple):
    """Where a value is: an instruction, the place in its tuple, its computation, and the calls around it."""

    value: Instruction
    path: _Path
    inside: Computation
    around: tuple[tuple[Instruction, Computation], ...]

    def next(self) -> Iterator[_Use]:
        """Yield where the value goes on: each user, or what a user that runs a computation passes the value to."""
        value, path, inside, around = self
        if value is inside.root and around:
            yield _Use(around[0][0], path, around[0][1], around[1:])
        for user in value.users:
            places = [i for i, operand in enumerate(user.operands) if operand is value]
            if user.opcode == "tuple":
                yield from (_Use(user, (i, *path), inside, around) for i in places)
            elif user.opcode == "get-tuple-element":
                if path[:1] == (user.tuple_index,):
                    yield _Use(user, path[1:], inside, around)
            elif user.opcode in _CALLS:
                # What leaves a fusion or a call goes on where it stands; what leaves a loop is another iteration's.
                callers = ((user, inside), *around) if user.opcode in ("fusion", "call") else ()
                yield from (_Use(parameter, path, callee, callers) for callee, parameter in _entered(user, places))
            else:
                yield _Use(user, path, inside, around)


def consumers(
    ins: Instruction, computation: Computation, is_named: Callable[[Instruction], bool], path: _Path = ()
) -> Iterator[tuple[Instruction, Computation]]:
    """Yield the instructions that use a value otherwise than to pass it on, each with its computation.

    computation: of `ins`. is_named: whether the name of an instruction tells what it belongs to. path: the place of the
    value in a tuple that `ins` returns. The search goes into fusions, loops and branches. A result of the program, or a
    value that a loop carries on, has no consumer there.
    """
    pending = deque(_Use(ins, path, computation, ()).next())
    seen: set[tuple[int, _Path]] = set()
    while pending and len(seen) < _MOST_STEPS:
        use = pending.popleft()
        key = id(use.value), use.path
        if key in seen:
            continue
        seen.add(key)
        opcode = use.value.opcode
        if opcode in _PASSING or opcode in _CALLS or _by_partitioner(use.value):
            pending.extend(use.next())
        elif is_named(use.value):
            yield use.value, use.inside


def served(
    ins: Instruction, computation: Computation, is_named: Callable[[Instruction], bool]
) -> Sequence[Sequence[tuple[Instruction, Computation]]]:
    """Return the instructions for which a collective handles each of its operands, if it has several; () otherwise.

    XLA combines collectives of several layers into one. One that moves values serves their consumers, one that reduces
    them serves the producers of what it adds.
    """
    if len(ins.operands) < 2 or not kind(ins):
        return ()
    if kind(ins) in _MOVING:
        return [list(consumers(ins, computation, is_named, (i,))) for i in range(len(ins.operands))]
    return [[(x, computation) for x in (_producer(operand, is_named),) if x] for operand in ins.operands]


def _producer(value: Instruction, is_named: Callable[[Instruction], bool]) -> Instruction | None:
    """Return the instruction that computes a value, through those that change its form alone."""
    for _ in range(_MOST_STEPS):
        if value.opcode not in _PASSING or not value.operands:
            break
        value = value.operands[0]
    return value if is_named(value) else None


def _entered(user: Instruction, places: Sequence[int]) -> Iterator[tuple[Computation, Instruction]]:
    """Yield the computations that operands of an instruction enter, with the parameters that take them."""
    for i in places:
        if user.opcode == "conditional":
            entered = [(callee, 0) for callee in user.called[i - 1 : i]] if i else []
        else:
            entered = [(callee, i) for callee in user.called]
        for callee, number in entered:
            yield from ((callee, x) for x in callee.parameters[number : number + 1])
