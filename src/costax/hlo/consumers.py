"""Consumers: the instructions for which XLA's partitioner moves a value between devices.

Since jaxlib 0.12 the partitioner gives a collective that it adds the name of the value that it moves. The weights that
a scan over layers takes from its stack have the name of the scan's slice, which is in no layer. The partitioner moves
them because an instruction needs them with another sharding, such as the product of the layer. Older versions name the
collective after that instruction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from costax.core.cost import Count
from costax.hlo.collectives import bytes_of, kind
from costax.hlo.proto import decode
from costax.hlo.records import Computation, Instruction, Module

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
    ins: Instruction,
    computation: Computation,
    is_named: Callable[[Instruction], bool],
    fusion: Instruction | None = None,
) -> Sequence[tuple[Count, Sequence[tuple[Instruction, Computation]]]]:
    """Return the parts of a collective that XLA combined from several: bytes, and the instructions that each serves.

    A part is an operand, or a piece of an operand that XLA concatenates. A collective that moves values serves their
    consumers, one that reduces them serves the producers of what it adds. () for a collective of one part. fusion: that
    the collective is in.
    """
    if not kind(ins):
        return ()
    if kind(ins) in _MOVING:
        found = [list(consumers(ins, computation, is_named, (i,))) for i in range(len(ins.operands))]
        return list(zip(map(bytes_of, ins.operands), found, strict=True)) if len(found) > 1 else ()
    outside = fusion.operands if fusion is not None else ()
    operands = [outside[x.parameter_number] if _enters(x, outside) else x for x in ins.operands]
    pieces = [piece for operand in operands for piece in _pieces(operand)]
    producers = [_producer(piece, is_named) for piece in pieces] if len(pieces) > 1 else []
    return [(bytes_of(x), [(y, computation)] if y else []) for x, y in zip(pieces, producers, strict=False)]


def fusions(module: Module) -> Mapping[int, Instruction]:
    """Return the fusion of each computation that is one, by the id of the computation."""
    instructions = (x for computation in module.computations.values() for x in computation.instructions)
    return {callee.id: x for x in instructions if x.opcode == "fusion" for callee in x.called}


def _enters(value: Instruction, outside: Sequence[Instruction]) -> bool:
    return value.opcode == "parameter" and value.parameter_number < len(outside)


def _pieces(value: Instruction) -> Sequence[Instruction]:
    """Return the values that XLA concatenates to a value; the value itself for any other."""
    root = value.called[0].root if value.opcode == "fusion" and value.called else value
    if root.opcode != "concatenate" or root.op_name:
        return (value,)
    sources = [_origin(x) for x in root.operands]
    if root is value:
        return sources
    inside = all(x.opcode == "parameter" and x.parameter_number < len(value.operands) for x in sources)
    return [value.operands[x.parameter_number] for x in sources] if inside else (value,)


def _producer(value: Instruction, is_named: Callable[[Instruction], bool]) -> Instruction | None:
    """Return the instruction that computes a value, through those that change its form alone."""
    value = _origin(value)
    return value if is_named(value) else None


def _origin(value: Instruction) -> Instruction:
    for _ in range(_MOST_STEPS):
        if value.opcode not in _PASSING or not value.operands:
            break
        value = value.operands[0]
    return value


def _entered(user: Instruction, places: Sequence[int]) -> Iterator[tuple[Computation, Instruction]]:
    """Yield the computations that operands of an instruction enter, with the parameters that take them."""
    for i in places:
        if user.opcode == "conditional":
            entered = [(callee, 0) for callee in user.called[i - 1 : i]] if i else []
        else:
            entered = [(callee, i) for callee in user.called]
        for callee, number in entered:
            yield from ((callee, x) for x in callee.parameters[number : number + 1])
