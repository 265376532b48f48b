"""Kernels: the parts of a program that a device runs one after the other, with the operations and bytes of each.

The kernels of a Comparison or of a module are XLA's own fusions (`costax.performance.compiled_kernels`). The kernels of
an Analysis come from the producer-consumer rule of `costax.performance.memory`: an elementwise operation is fused into
its consumer, and an operation whose result needs a buffer ends a kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from costax import _jax
from costax.core import dtypes
from costax.core.cost import (
    ARITHMETIC,
    BYTES_READ,
    BYTES_WRITTEN,
    COMPARE,
    CONVERT,
    INTEGER,
    MAC,
    SELECT,
    TRANSCENDENTAL,
    Cost,
    Count,
)
from costax.core.polynomial import Polynomial
from costax.performance.attention_sizes import FusedAttention, fused_attention
from costax.performance.contractions import Contraction, precision, sizes_of
from costax.performance.joints import Joint, joints
from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import XLA_GPU_H100
from costax.performance.memory.fusion import Fusion, fused
from costax.program.regions import Op, Region
from costax.program.tree import Scope, joined_direction
from costax.rules.traits import ContractionKind

if TYPE_CHECKING:
    from costax.hlo.records import Instruction
    from costax.program.trace import Parameter

MATMUL_UNIT, VECTOR_UNIT, TRANSCENDENTAL_UNIT, MEMORY, LINK, LIBRARY = (
    "matmul unit",
    "vector unit",
    "transcendental unit",
    "memory",
    "link",
    "library call",
)
# A program with more kernels has those of a region that runs at several places once.
_MOST_KERNELS: Final = 100_000
# The kinds of operations that the vector unit executes.
_VECTOR_KINDS: Final = (ARITHMETIC, INTEGER, COMPARE, SELECT, CONVERT)


@dataclass(frozen=True, slots=True)
class CollectiveWork:
    """A collective in a kernel.

    name: XLA's, such as "all-reduce". nbytes: bytes of the whole array that is gathered or reduced. members: devices
    that take part. axes: names of the mesh axes. sent: bytes that one device sends. link: over which link, "" if that
    is not known.
    """

    name: str
    nbytes: Count
    members: int
    axes: tuple[str, ...] = ()
    sent: Count | None = None
    link: str = ""


class SchedulePlace(NamedTuple):
    """Where a kernel, or a loop around it, stands in a schedule.

    computation: which sequence of instructions. start: the number in it. done: the number of the instruction that waits
    for it, `start` if it is not asynchronous. runs: how often the sequence runs.
    """

    computation: int
    start: int
    done: int
    runs: Count


@dataclass(frozen=True, slots=True)
class Kernel:
    """The operations and the bytes of one run of a kernel.

    contractions: dot products and convolutions. vector, transcendental: operations by dtype. read, written: bytes.
    times: how often the kernel runs. transposes: whether the kernel writes its elements in another order than it reads
    them. uncached_bytes: the part of `read` that belongs to arguments of the program; the last use of an argument was
    a whole call ago. weights: the part of `read` that belongs to parameters, whose elements are weight_width bytes
    wide. width: bytes of one element of the result, 0 where the result is not floating. reuse_distance: for a kernel
    in a loop, the bytes that one iteration moves before uncached_bytes are read again; 0 outside of loops, where the
    distance is the whole program. instruction: XLA's name of the instruction that starts the kernel; "" where the
    kernel is not XLA's, or where the instruction only waits for one that was started before. opcode, source: of HLO,
    and its line as `file:line`; "" where they are not known. places: where XLA's
    schedule has the kernel and the loops around it, outermost first; () without a schedule. attention: the sizes of a
    fused attention; None for any other kernel. reduces: whether it reduces elements to fewer, apart from contractions.
    origin: the fused ops, or XLA's instruction. is_library: a library of XLA computes the fusion. inlined: it is a part
    of a function of XLA:CPU that has many kernels, so that it is not launched. joint: how it is a part of a kernel that
    XLA joins on a GPU; None for one that stays alone.
    """

    name: str
    scope: Scope
    direction: str
    contractions: tuple[Contraction, ...] = ()
    vector: Mapping[str, Count] = field(default_factory=dict[str, Count])
    transcendental: Mapping[str, Count] = field(default_factory=dict[str, Count])
    read: Count = 0
    written: Count = 0
    collective: CollectiveWork | None = None
    times: Count = 1
    transposes: bool = False
    uncached_bytes: Count = 0
    weights: Count = 0
    weight_width: Count = 4
    width: Count = 0
    reuse_distance: Count = 0
    instruction: str = ""
    opcode: str = ""
    source: str = ""
    places: tuple[SchedulePlace, ...] = ()
    attention: FusedAttention | None = None
    reduces: bool = False
    origin: tuple[Op, ...] | Instruction | None = field(default=None, repr=False, compare=False)
    is_library: bool = False
    inlined: bool = False
    joint: Joint | None = field(default=None, repr=False, compare=False)

    @property
    def matmul(self) -> dict[str, Count]:
        """FLOPs of the contractions by dtype; a multiply-accumulate is two FLOPs."""
        flops: dict[str, Count] = {}
        for contraction in self.contractions:
            flops[contraction.dtype] = flops.get(contraction.dtype, 0) + contraction.flops
        return flops

    @property
    def flops(self) -> Count:
        """Operations of one run, on the matmul unit and on the vector unit."""
        return sum(self.matmul.values()) + sum(self.vector.values())

    @property
    def moved(self) -> Count:
        """Bytes read and written by one run."""
        return self.read + self.written


def of_program(region: Region, parameters: Sequence[Parameter]) -> list[Kernel]:
    """Return the kernels of a program by the producer-consumer rule; `times` of a kernel in a loop is its iterations.

    parameters: of the program; the bytes of a kernel that belong to them are its `weights`.
    """
    values = frozenset(region.inputs[parameter.position] for parameter in parameters)
    return list(_KernelBuilder().kernels(region, _Place(times=1, parameters=values)))


class _Place(NamedTuple):
    """Where a region runs: the scope and direction around it, how often, and which of its values are parameters."""

    scope: Scope = ()
    direction: str = ""
    times: Count = 0
    parameters: frozenset[int] = frozenset()

    def joined(self, other: _Place) -> _Place:
        """Return one place for two: what they have in common, and the sum of the runs."""
        pairs = enumerate(zip(self.scope, other.scope, strict=False))
        length = next((i for i, (a, b) in pairs if a != b), min(len(self.scope), len(other.scope)))
        direction = self.direction if self.direction == other.direction else ""
        return _Place(self.scope[:length], direction, self.times + other.times, self.parameters & other.parameters)


class _KernelBuilder:
    """Builds the kernels of regions; the fusion of a region that several loops share is computed once."""

    def __init__(self) -> None:
        self._fusions: dict[int, Fusion] = {}
        self._joints: dict[int, dict[int, tuple[int, float, float]]] = {}
        self._numbers: dict[int, int] = {}

    def kernels(self, region: Region, place: _Place) -> Iterator[Kernel]:
        """Yield the kernels of a region and of the regions in it.

        Each region has its kernels at each place where it runs. If that makes too many kernels, a region that runs at
        several places has its kernels once, with the sum of the runs and the scope that all places have in common.
        """
        if self._number(region) <= _MOST_KERNELS:
            yield from self._at_each_place(region, place)
            return
        places = {id(region): place}
        # A region without a place is a branch that is not counted.
        for inside in (inside for inside in _callers_first(region) if id(inside) in places):
            for part in self._own(inside, places[id(inside)]):
                if isinstance(part, Kernel):
                    yield part
                else:
                    inner, at = part
                    places[id(inner)] = places[id(inner)].joined(at) if id(inner) in places else at

    def _at_each_place(self, region: Region, place: _Place) -> Iterator[Kernel]:
        for part in self._own(region, place):
            if isinstance(part, Kernel):
                yield part
            else:
                yield from self._at_each_place(*part)

    def _number(self, region: Region) -> int:
        """Return how many kernels, at most, a region has if each region inside has its own at each place."""
        if id(region) not in self._numbers:
            inner = sum(self._number(inside) for op in region.ops for inside in op.regions)
            self._numbers[id(region)] = len(region.ops) + inner
        return self._numbers[id(region)]

    def _own(self, region: Region, place: _Place) -> Iterator[Kernel | tuple[Region, _Place]]:
        """Yield the kernels of a region, and the regions that its loops, branches and calls run, with their places."""
        if id(region) not in self._fusions:
            self._fusions[id(region)] = fused(region, XLA_GPU_H100)
        fusion = self._fusions[id(region)]
        kernel_ops = _ops_by_kernel(region, fusion)
        if id(region) not in self._joints:
            self._joints[id(region)] = joints(region, fusion, kernel_ops)
        joined, here = self._joints[id(region)], object()
        parameters = _with_casts(region, place.parameters)
        for number, op in enumerate(region.ops):
            scope, direction = place.scope + op.scope, joined_direction(place.direction, op.direction)
            if op.regions:
                yield from _inner_places(op, _Place(scope, direction, place.times, parameters))
            elif number in kernel_ops:
                kernel = _kernel(region, fusion, kernel_ops[number], number, scope, direction, place.times)
                if number in joined:
                    first, read, written = joined[number]
                    kernel = replace(kernel, joint=Joint((here, first), read, written))
                yield _with_weights(kernel, region, fusion.reads[number], parameters)


def _inner_places(op: Op, place: _Place) -> Iterator[tuple[Region, _Place]]:
    """Yield the regions that an op runs. place: of the op."""
    for region, node in zip(op.regions, op.nodes, strict=True):
        # A branch that the analysis does not count runs 0 times.
        if node.times:
            repeats: Any = place.times * node.times
            # Of three branches of which the mean is counted, each runs a third of a time.
            is_share = isinstance(repeats, Polynomial) and not repeats.symbols
            runs: Any = repeats.terms[()] if is_share else repeats
            yield region, place._replace(times=runs, parameters=_parameter_inputs(op, region, place.parameters))


def _callers_first(region: Region) -> list[Region]:
    """Return a region and all regions in it, each once and after the regions that run it."""
    ordered: list[Region] = []
    visited = {id(region)}

    def visit(outer: Region) -> None:
        for op in reversed(outer.ops):
            for inside in reversed(op.regions):
                if id(inside) not in visited:
                    visited.add(id(inside))
                    visit(inside)
        ordered.append(outer)

    visit(region)
    return ordered[::-1]


def _with_casts(region: Region, parameters: frozenset[int]) -> frozenset[int]:
    """Return the parameters, and the values that are a parameter transposed, reshaped or cast."""
    values = set(parameters)
    for op in region.ops:
        if op.traits.preserves and op.inputs and op.inputs[0] in values:
            values.update(op.outputs)
    return frozenset(values)


def _parameter_inputs(op: Op, region: Region, parameters: frozenset[int]) -> frozenset[int]:
    """Return the inputs of the body of a loop or branch that are parameters of the region around it."""
    pairs = zip(region.sources, region.inputs, strict=True)
    return frozenset(inner for source, inner in pairs if source is not None and op.inputs[source] in parameters)


def _with_weights(kernel: Kernel, region: Region, reads: Sequence[int], parameters: frozenset[int]) -> Kernel:
    """Return the kernel with the bytes that it reads of parameters. reads: the buffers that it reads."""
    weights = [x for x in reads if x in parameters]
    if not weights:
        return kernel
    nbytes = sum(region.values[x].nbytes for x in weights)
    width = max(dtypes.bits(region.values[x].operand.dtype) // 8 for x in weights)
    return replace(kernel, weights=min(nbytes, kernel.read), weight_width=max(width, 1))


def _ops_by_kernel(region: Region, fusion: Fusion) -> dict[int, list[Op]]:
    """Return the ops of each kernel, by the number of its last op.

    An op that several kernels recompute is counted in the first of them alone: the total work stays that of the
    program, and the bytes of the others are in `fusion.reads` anyway.
    """
    ops: dict[int, list[Op]] = {}
    # By fused value: the first kernel that uses it, as the number of the kernel's last op.
    kernel_of: dict[int, int] = {}
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        if (not op.traits.computed_where_used and not _is_fused(op, fusion)) or any(
            x in fusion.buffers for x in op.outputs
        ):
            kernel = number
        else:
            kernel = min((kernel_of[x] for x in op.outputs if x in kernel_of), default=-1)
        if kernel < 0:
            # No kernel uses the result.
            continue
        ops.setdefault(kernel, []).append(op)
        for x in op.inputs:
            if x is not None and x not in fusion.buffers:
                kernel_of[x] = min(kernel, kernel_of.get(x, kernel))
    return ops


def _is_fused(op: Op, fusion: Fusion) -> bool:
    return not op.regions and not any(x in fusion.buffers for x in op.outputs)


def _kernel(
    region: Region, fusion: Fusion, ops: list[Op], end: int, scope: Scope, direction: str, times: Count
) -> Kernel:
    """Return the kernel of some fused ops. end: the number of the last of them, whose result it writes."""
    cost = Cost.sum(op.node.own.divided(op.parts) for op in ops)
    last = region.ops[end]
    written = sum(region.values[x].nbytes for x in last.outputs if x in fusion.buffers)
    read = sum(region.values[x].nbytes for x in fusion.reads[end])
    if last.traits.partial or any(op.traits.partial for op in ops):
        # A slice, gather or update touches only a part of an operand; its rule says how many bytes. No buffer is taken
        # to be read for more bytes than the kernel writes: a lookup of 8 rows of 4 KB in a table of 100 MB counts 32 KB
        # by its rule, at most 32 KB for the table and the bytes of the indices, not 100 MB.
        partial = Cost.sum(op.node.own.divided(op.parts) for op in ops if op.traits.partial)
        read = min(read, partial.of_kind(BYTES_READ) + sum(_at_most(region, x, written) for x in fusion.reads[end]))
        written = min(written, partial.of_kind(BYTES_WRITTEN)) if last.traits.partial else written
    names = list(dict.fromkeys(op.name for op in reversed(ops)))
    label = last.name if len(names) == 1 else f"{last.name} + {len(ops) - 1}"
    vector, transcendental = _work(cost)
    return Kernel(
        label,
        scope,
        direction,
        tuple(contraction for op in ops for contraction in _contractions(op)),
        vector,
        transcendental,
        read=read,
        written=written,
        collective=_collective(last),
        times=times,
        transposes=last.traits.permutes,
        attention=fused_attention(last),
        reduces=any(op.traits.reduction or op.traits.windowed for op in ops),
        width=_width(region, last),
        uncached_bytes=min(read, sum(region.values[x].nbytes for x in fusion.reads[end] if _is_argument(region, x))),
        origin=tuple(ops),
    )


def _width(region: Region, op: Op) -> Count:
    """Return the bytes of one element of the first floating result; 0 where no result is floating."""
    names = [region.values[x].operand.dtype for x in op.outputs]
    return next((dtypes.bits(name) // 8 for name in names if dtypes.is_floating(name)), 0)


def _is_argument(region: Region, x: int) -> bool:
    return region.values[x].kind == "argument"


def _contractions(op: Op) -> Iterator[Contraction]:
    """Yield the multiply-accumulates of an op, by dtype, with the sizes that their speed depends on."""
    kind, rows, filter_bytes = "matmul", 0, 0
    if op.traits.contraction is ContractionKind.CONVOLUTION:
        kind = "convolution" if op.equation.params["feature_group_count"] == 1 else "depthwise"
        filter_bytes = _jax.operand(op.equation.invars[1].aval).nbytes
    elif op.traits.contraction is ContractionKind.PRODUCT:
        rows = min(dot_kind.free_extents(op))
    for (unit, dtype), count in op.node.own.items():
        if unit == MAC:
            flops = 2 * -(-count // op.parts) if op.parts > 1 else 2 * count
            wanted = precision(op.equation.params.get("precision"))
            yield Contraction(kind, dtype, flops, rows, filter_bytes, sizes_of(op), wanted)


def _at_most(region: Region, x: int, limit: Count) -> Count:
    return min(region.values[x].nbytes, limit)


def _work(cost: Cost) -> tuple[dict[str, Count], dict[str, Count]]:
    """Return the operations of the vector unit and the transcendental operations, each by dtype."""
    vector: dict[str, Count] = defaultdict(int)
    transcendental: dict[str, Count] = defaultdict(int)
    for (kind, dtype), count in cost.items():
        if kind == TRANSCENDENTAL:
            transcendental[dtype] += count
        elif kind in _VECTOR_KINDS:
            vector[dtype] += count
    return dict(vector), dict(transcendental)


def _collective(op: Op) -> CollectiveWork | None:
    name = op.traits.collective
    if not name:
        return None
    params = op.equation.params
    # One name, or a sequence of names.
    parameter: Any = params.get("axes", params.get("axis_name", ()))
    names: Sequence[Any] = cast("Sequence[Any]", parameter) if isinstance(parameter, tuple | list) else (parameter,)
    axes = tuple(map(str, names))
    sizes = op.axis_sizes
    members = 1
    for axis in axes:
        members *= sizes.get(axis, 1)
    arrays = op.equation.outvars if name == "all-gather" else op.equation.invars
    nbytes = sum(_jax.operand(v.aval).nbytes for v in arrays)
    return CollectiveWork(name, nbytes, members, axes)
