"""XLA's buffer assignment: which buffers share which allocation, and which are alive at the peak of the temporaries.

XLA writes it beside the module, into the `HloProto` of a dump (`--xla_dump_hlo_as_proto`), and jax has it in
`compiled.memory_analysis()`. Its heap trace has the order in which temporaries are allocated and freed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from costax.core.listing import shown
from costax.hlo.errors import malformed
from costax.hlo.module_memory import (
    ARGUMENTS,
    CONSTANTS,
    KINDS,
    RESULTS,
    TEMPORARIES,
    THREAD_LOCAL,
    LiveBuffer,
    ModuleMemory,
    Moment,
)
from costax.hlo.proto import decode
from costax.hlo.records import Computation, Instruction, Module, text
from costax.hlo.shapes import Shape

SOURCE = "XLA's buffer assignment"
# Kinds of events; 0 is an allocation.
_FREE, _SHARE = 1, 2


class _Buffer(NamedTuple):
    """A logical buffer: its size, and the result that it holds."""

    size: int
    name: str
    path: tuple[int, ...]


def read_assignment(serialized: bytes, module: Module) -> ModuleMemory:
    """Return the memory of a module by its serialised BufferAssignmentProto. Raises HloError for other bytes."""
    raw = decode("BufferAssignment", serialized, "buffer assignment")
    names = {x.id: x.name for c in module.computations.values() for x in c.instructions}
    buffers = {b.id: _buffer(b, names) for b in (decode("LogicalBuffer", x) for x in raw.buffers)}
    allocations = [decode("BufferAllocation", x) for x in raw.allocations]
    if not allocations:
        raise malformed("The buffer assignment has no allocation")
    by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for allocation in allocations:
        if allocation.size < 0:
            raise malformed(f"The allocation {allocation.index} has {allocation.size} bytes")
        by_kind[_kind(allocation)].append(allocation)
    parts = {kind: sum(x.size for x in found) for kind, found in by_kind.items()}
    finder = Finder(module)
    alive = [
        finder.live(x.size, kind, *_largest(x, buffers))
        for kind in (ARGUMENTS, RESULTS, CONSTANTS)
        for x in by_kind[kind]
    ]
    held = {decode("AssignedBuffer", y).buffer_id for x in by_kind[TEMPORARIES] for y in x.assigned}
    live_temporaries, timeline = 0, list[Moment]()
    for trace in raw.traces:
        at_peak, moments = _peak(decode("HeapTrace", trace).events, buffers)
        if not held.issuperset(at_peak):
            # Another heap than that of the temporaries.
            continue
        timeline += moments
        live_temporaries += sum(buffers[i].size for i in at_peak)
        alive += [finder.live(buffers[i].size, TEMPORARIES, buffers[i].name, buffers[i].path) for i in at_peak]
    traced = live_temporaries > 0 or not parts[TEMPORARIES]
    return ModuleMemory(
        SOURCE,
        False,
        parts,
        sum(x.size for x in by_kind[ARGUMENTS] if x.is_aliased or x.maybe_live_out),
        len(allocations),
        shown(sorted(alive, key=lambda buffer: -buffer.nbytes)),
        live_temporaries if traced else None,
        shown(timeline),
    )


def _buffer(raw: Any, names: Mapping[int, str]) -> _Buffer:
    place = raw.defined_at
    name = text(place.instruction_name) or names.get(place.instruction_id, "")
    return _Buffer(max(raw.size, 0), name, tuple(place.shape_index))


def _kind(allocation: Any) -> str:
    if allocation.is_entry_computation_parameter:
        return ARGUMENTS
    if allocation.is_thread_local:
        return THREAD_LOCAL
    if allocation.is_constant:
        return CONSTANTS
    return RESULTS if allocation.maybe_live_out else TEMPORARIES


def _largest(allocation: Any, buffers: Mapping[int, _Buffer]) -> tuple[str, tuple[int, ...]]:
    """Return the place of the largest buffer of an allocation, the first of several."""
    assigned = [decode("AssignedBuffer", x) for x in allocation.assigned]
    known = [x for x in assigned if x.buffer_id in buffers]
    first = max(known, key=lambda x: x.size, default=None)
    return ("", ()) if first is None else (buffers[first.buffer_id].name, buffers[first.buffer_id].path)


def _peak(events: Sequence[bytes], buffers: Mapping[int, _Buffer]) -> tuple[list[int], list[Moment]]:
    """Return the buffers alive when most bytes are, and the bytes after each event.

    Buffers that share the memory of another one count once.
    """
    # By buffer: the buffer whose memory it takes, and by that one how many take it.
    owner: dict[int, int] = {}
    users: dict[int, int] = {}
    now = most = 0
    at_peak: list[int] = []
    moments: list[Moment] = []
    for event in (decode("HeapEvent", x) for x in events):
        buffer: int = event.buffer_id
        if buffer not in buffers:
            raise malformed(f"The heap trace names the buffer {buffer}, which the assignment does not have")
        if event.kind == _FREE:
            if buffer not in owner:
                raise malformed(f"The heap trace frees the buffer {buffer}, which is not allocated")
            taken: int = owner.pop(buffer)
            users[taken] -= 1
            if not users[taken]:
                del users[taken]
                now -= buffers[taken].size
        else:
            # A buffer may take the memory of one that was freed just before.
            shared: int = event.shared_with
            taken = owner.get(shared, shared) if event.kind == _SHARE else buffer
            if taken not in buffers:
                raise malformed(f"The heap trace lets {buffer} share {taken}, which the assignment does not have")
            owner[buffer] = taken
            now += 0 if taken in users else buffers[taken].size
            users[taken] = users.get(taken, 0) + 1
        moments.append(Moment(text(event.instruction_name), now))
        if now > most:
            most, at_peak = now, list(users)
    return at_peak, moments


class Finder:
    """Finds the instructions of a module by name, with the shape of a part of their result."""

    def __init__(self, module: Module) -> None:
        """Take the module."""
        self._places: dict[str, tuple[Computation, Instruction]] = {
            x.name: (c, x) for c in module.computations.values() for x in c.instructions
        }

    def live(self, nbytes: int, kind: str, name: str, path: Sequence[int] = ()) -> LiveBuffer:
        """Return a buffer that holds a part of the result of an instruction. path: the part of a tuple."""
        computation, instruction = self._places.get(name, (None, None))
        shape = "" if instruction is None else str(_part(instruction.shape, path))
        return LiveBuffer(nbytes, kind, name, shape, instruction, computation, tuple(path))


def _part(shape: Shape, path: Sequence[int]) -> Shape:
    for index in path:
        if not 0 <= index < len(shape.parts):
            break
        shape = shape.parts[index]
    return shape
