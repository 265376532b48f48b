"""Kernels: the pieces of a program that the device runs one at a time, with their work and the bytes that they move.

The kernels of a Comparison are XLA's own fusions (`costax.compare.kernels`). The kernels of an Analysis come from the
producer-consumer rule of `costax.performance.memory`: an elementwise operation is fused into its consumer, and an
operation whose result needs a buffer ends a kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

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
from costax.performance.memory import dot_kind
from costax.performance.memory.fusion import Fusion, fused
from costax.program.regions import Op, Region
from costax.program.tree import Scope
from costax.rules.traits import ContractionKind

if TYPE_CHECKING:
    from costax.program.trace import Parameter

MATMUL_UNIT, VECTOR_UNIT, TRANSCENDENTAL_UNIT, MEMORY, LINK = (
    "matmul unit",
    "vector unit",
    "transcendental unit",
    "memory",
    "link",
)


@dataclass(frozen=True, slots=True)
class CollectiveWork:
    """A collective in a kernel: what it is, the bytes of the whole array that it gathers or reduces, and who with."""

    name: str
    nbytes: Count
    members: int
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contraction:
    """A product or a convolution: its FLOPs each time, and the sizes that its speed depends on.

    kind: "matmul", "convolution", "depthwise", or "plain convolution" for one that XLA leaves to a loop of its own.
    rows: the smaller free extent of a product. filter_bytes: bytes of the filter of a
    convolution.
    """

    kind: str
    dtype: str
    flops: Count
    rows: Count = 0
    filter_bytes: Count = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """The work and the bytes of one kernel, each time that the kernel runs.

    contractions: dot products and convolutions. vector, transcendental: operations by dtype. read, written: bytes.
    times: how often the kernel runs. transposes: whether the kernel writes its elements in another order than it reads
    them. uncached_bytes: the part of `read` that belongs to arguments of the program; the last use of an argument was
    a whole call ago. weights: the part of `read` that belongs to parameters, whose elements are weight_width bytes
    wide. width: bytes of one element of the result, 0 where the result is not floating. reuse_distance: for a kernel
    in a loop, the bytes that one iteration moves before uncached_bytes are read again; 0 outside of loops, where the
    distance is the whole program.
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

    @property
    def matmul(self) -> dict[str, Count]:
        """FLOPs of the contractions by dtype, a multiply-accumulate as two."""
        found: dict[str, Count] = {}
        for contraction in self.contractions:
            found[contraction.dtype] = found.get(contraction.dtype, 0) + contraction.flops
        return found

    @property
    def flops(self) -> Count:
        """Operations each time: those of the matmul unit and of the vector unit."""
        return sum(self.matmul.values()) + sum(self.vector.values())

    @property
    def moved(self) -> Count:
        """Bytes each time."""
        return self.read + self.written


def of_program(region: Region, parameters: Sequence[Parameter]) -> list[Kernel]:
    """Return the kernels of a program by the producer-consumer rule, those in loops with how often they run."""
    values = frozenset(region.inputs[parameter.position] for parameter in parameters)
    return list(_KernelBuilder().kernels(region, (), "", 1, values))


class _KernelBuilder:
    def __init__(self) -> None:
        self._fusions: dict[int, Fusion] = {}

    def kernels(
        self, region: Region, scope: Scope, direction: str, times: Count, parameters: frozenset[int]
    ) -> Iterator[Kernel]:
        if id(region) not in self._fusions:
            self._fusions[id(region)] = fused(region)
        fusion = self._fusions[id(region)]
        members = _members(region, fusion)
        parameters = _followed(region, parameters)
        for number, op in enumerate(region.ops):
            place, way = scope + op.scope, op.direction or direction
            if op.regions:
                yield from self._inside(op, place, way, times, parameters)
            elif number in members:
                made = _kernel(region, fusion, members[number], number, place, way, times)
                yield _with_weights(made, region, fusion.reads[number], parameters)

    def _inside(
        self, op: Op, scope: Scope, direction: str, times: Count, parameters: frozenset[int]
    ) -> Iterator[Kernel]:
        # Of the branches of a choice that one runs which the analysis charges.
        for region, node in zip(op.regions, op.nodes, strict=True):
            if node.times:
                within = _passed(op, region, parameters)
                yield from self.kernels(region, scope, direction, times * node.times, within)


def _followed(region: Region, parameters: frozenset[int]) -> frozenset[int]:
    """Return the values that are parameters, moved or cast."""
    found = set(parameters)
    for op in region.ops:
        # What only moves or casts a parameter leaves it a parameter.
        if op.traits.preserves and op.inputs and op.inputs[0] in found:
            found.update(op.outputs)
    return frozenset(found)


def _passed(op: Op, region: Region, parameters: frozenset[int]) -> frozenset[int]:
    """Return the inputs of a loop's body, or of a branch, that are parameters outside."""
    pairs = zip(region.sources, region.inputs, strict=True)
    return frozenset(inner for source, inner in pairs if source is not None and op.inputs[source] in parameters)


def _with_weights(kernel: Kernel, region: Region, reads: Sequence[int], parameters: frozenset[int]) -> Kernel:
    weights = [x for x in reads if x in parameters]
    if not weights:
        return kernel
    nbytes = sum(region.values[x].nbytes for x in weights)
    width = max(dtypes.bits(region.values[x].operand.dtype) // 8 for x in weights)
    return replace(kernel, weights=min(nbytes, kernel.read), weight_width=max(width, 1))


def _members(region: Region, fusion: Fusion) -> dict[int, list[Op]]:
    """Return by the op that ends a kernel the ops in it; work that several kernels need is done in the first."""
    ends: dict[int, list[Op]] = {}
    home: dict[int, int] = {}
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        if (not op.traits.computed_where_used and not _is_fused(op, fusion)) or any(
            x in fusion.buffers for x in op.outputs
        ):
            own = number
        else:
            own = min((home[x] for x in op.outputs if x in home), default=-1)
        if own < 0:
            continue
        ends.setdefault(own, []).append(op)
        for x in op.inputs:
            if x is not None and x not in fusion.buffers:
                home[x] = min(own, home.get(x, own))
    return ends


def _is_fused(op: Op, fusion: Fusion) -> bool:
    return not op.regions and not any(x in fusion.buffers for x in op.outputs)


def _kernel(
    region: Region, fusion: Fusion, ops: list[Op], end: int, scope: Scope, direction: str, times: Count
) -> Kernel:
    cost = Cost.sum(op.node.own for op in ops)
    last = region.ops[end]
    written = sum(region.values[x].nbytes for x in last.outputs if x in fusion.buffers)
    whole = sum(region.values[x].nbytes for x in fusion.reads[end])
    if last.traits.partial or any(op.traits.partial for op in ops):
        # Only a part of some operand is touched; the rules say which.
        parts = Cost.sum(op.node.own for op in ops if op.traits.partial)
        whole = min(whole, parts.of_kind(BYTES_READ) + sum(_small(region, x, written) for x in fusion.reads[end]))
        written = min(written, parts.of_kind(BYTES_WRITTEN)) if last.traits.partial else written
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
        read=whole,
        written=written,
        collective=_collective(last),
        times=times,
        transposes=last.traits.permutes,
        width=_width(region, last),
        uncached_bytes=min(whole, sum(region.values[x].nbytes for x in fusion.reads[end] if _is_argument(region, x))),
    )


def _width(region: Region, op: Op) -> Count:
    names = [region.values[x].operand.dtype for x in op.outputs]
    return next((dtypes.bits(name) // 8 for name in names if dtypes.is_floating(name)), 0)


def _is_argument(region: Region, x: int) -> bool:
    return region.values[x].kind == "argument"


def _contractions(op: Op) -> Iterator[Contraction]:
    """Yield the multiply-accumulates of a op, by dtype, with what decides their speed."""
    kind, rows, filter_bytes = "matmul", 0, 0
    if op.traits.contraction is ContractionKind.CONVOLUTION:
        kind = "convolution" if op.equation.params["feature_group_count"] == 1 else "depthwise"
        filter_bytes = _jax.operand(op.equation.invars[1].aval).nbytes
    elif op.traits.contraction is ContractionKind.PRODUCT:
        rows = min(dot_kind.free_extents(op))
    for (unit, dtype), count in op.node.own.items():
        if unit == MAC:
            yield Contraction(kind, dtype, 2 * count, rows, filter_bytes)


def _small(region: Region, x: int, written: Count) -> Count:
    return min(region.values[x].nbytes, written)


def _work(cost: Cost) -> tuple[dict[str, Count], dict[str, Count]]:
    vector: dict[str, Count] = defaultdict(int)
    transcendental: dict[str, Count] = defaultdict(int)
    for (kind, dtype), count in cost.items():
        if kind == TRANSCENDENTAL:
            transcendental[dtype] += count
        elif kind in _VECTOR:
            vector[dtype] += count
    return dict(vector), dict(transcendental)


_VECTOR: Final = (ARITHMETIC, INTEGER, COMPARE, SELECT, CONVERT)


def _collective(op: Op) -> CollectiveWork | None:
    name = op.traits.collective
    if not name:
        return None
    params = op.equation.params
    named: Any = params.get("axes", params.get("axis_name", ()))
    several: Sequence[Any] = cast("Sequence[Any]", named) if isinstance(named, tuple | list) else (named,)
    axes = tuple(map(str, several))
    sizes = op.axis_sizes
    members = 1
    for axis in axes:
        members *= sizes.get(axis, 1)
    arrays = op.equation.outvars if name == "all-gather" else op.equation.invars
    nbytes = sum(_jax.operand(v.aval).nbytes for v in arrays)
    return CollectiveWork(name, nbytes, members, axes)
