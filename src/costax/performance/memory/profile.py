"""MemoryProfile: the peak memory of a program by two models, its timeline, and the buffers alive at the peak.

*Framework peak*: no fusion; every equation writes its result to a buffer of its own, which is freed after its last use.
*Fused estimate*: what a compiler allocates: chains of elementwise operations are fused, and the results of the program
have their buffers from the start.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Final

from costax import _jax
from costax.core.cost import Count
from costax.core.display import Printed
from costax.core.equation import Operand
from costax.core.listing import listed
from costax.core.polynomial import magnitude
from costax.performance.memory.compiler import XLA_GPU_H100, CompilerModel
from costax.performance.memory.liveness import LivenessAnalysis, LiveRanges
from costax.program.regions import Op, Region, program
from costax.program.tree import BACKWARD, RECOMPUTE, Node
from costax.rules.traits import ContractionKind

# Where on-chip memory takes more than this share of the estimate, the estimate depends on what the compiler puts there.
_DOUBTFUL: Final = 1.25
# An array of this share of the estimate matters for it.
_LARGE_SHARE: Final = 0.1
# A vector for each element of a batch has two axes, a matrix three.
_MATRIX_OF_BATCH: Final = 3


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array that is alive at the peak.

    nbytes: its size in bytes. scope, primitive: of the equation that computes it. source: the line of that equation,
    or the name of an argument. why: why it is alive: it is an argument or a result, or which equation reads it last.
    """

    nbytes: Count
    dtype: str
    shape: tuple[Count, ...]
    scope: str
    primitive: str
    source: str
    why: str

    def __str__(self) -> str:
        """Return one line: `f32[8,8] dot_general in mlp (model.py:12): add in mlp reads it last`."""
        producer = f"{self.primitive} in {self.scope}" if self.scope else self.primitive
        return f"{self.dtype}[{','.join(map(str, self.shape))}] {producer} ({self.source}): {self.why}"


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """An operation of the program and the bytes that are alive while it runs. step: its number, from 0."""

    step: int
    nbytes: Count
    scope: str
    primitive: str
    source: str


class MemoryProfile(Printed):
    """The memory of a program. `memory_profile` computes it; `Analysis.memory` holds it."""

    internals: ClassVar[frozenset[str]] = Printed.internals | {"compiled_by", "model", "region"}

    def __init__(self, region: Region, model: CompilerModel = XLA_GPU_H100) -> None:
        """Take the region of the whole program, and the compiler of the fused estimate."""
        self._region = region
        self._model = model
        self._by_model: dict[str, MemoryProfile] = {model.name: self}

    def compiled_by(self, model: CompilerModel) -> MemoryProfile:
        """Return the profile of the same program for another compiler."""
        if model.name not in self._by_model:
            other = MemoryProfile(self._region, model)
            other._by_model = self._by_model
            self._by_model[model.name] = other
        return self._by_model[model.name]

    @property
    def model(self) -> CompilerModel:
        """The compiler of the fused estimate."""
        return self._model

    def __repr__(self) -> str:
        """Return the two peaks in bytes."""
        return f"MemoryProfile(framework_peak={self.framework_peak}, fused_estimate={self.fused_estimate})"

    @cached_property
    def _unfused(self) -> LiveRanges:
        return LivenessAnalysis(None).live_ranges(self._region, whole=True)

    @cached_property
    def _compiler(self) -> LivenessAnalysis:
        return LivenessAnalysis(self._model)

    @cached_property
    def _fused(self) -> LiveRanges:
        return self._compiler.live_ranges(self._region, whole=True)

    @property
    def framework_peak(self) -> Count:
        """Bytes at the peak without fusion: every equation writes its result to a buffer of its own."""
        return self._unfused.peak

    @property
    def fused_estimate(self) -> Count:
        """Bytes that a compiler is expected to allocate: elementwise chains fused, results allocated from the start."""
        results = len(self._region.outputs)
        return self._fused.peak + (self._model.pointer * results if results > 1 else 0)

    @property
    def _off_chip(self) -> MemoryProfile:
        """The profile where no temporary lies in on-chip memory."""
        return self.compiled_by(replace(self._model, on_chip=0, name=f"{self._model.name}, all temporaries in HBM"))

    @property
    def bounds(self) -> tuple[Count, Count]:
        """The least and the most bytes that the estimate leaves possible.

        Arguments and results are certain; the temporaries are the estimate times the bounds of the model. What the
        program does not determine (`doubts`) may take as much as each result in a buffer of its own does.
        """
        least, most = self._model.bounds
        parts = self.parts
        certain, temporaries = parts["arguments"] + parts["results"], parts["temporaries"]
        upper = certain + math.ceil(most * temporaries)
        if self._model.on_chip:
            upper = max(upper, self._off_chip.fused_estimate)
        if self.doubts:
            upper = max(upper, self.framework_peak)
        return certain + math.floor(least * temporaries), upper

    @property
    def parts(self) -> dict[str, Count]:
        """The fused estimate in three parts, in bytes: arguments, results beyond donated arguments, temporaries."""
        values, region = self._region.values, self._region
        stored = self._compiler.stored
        dropped = self._compiler.dropped(region)
        arguments = sum(stored(values[x]) for x in region.inputs if x not in dropped)
        results = sum(stored(values[x]) for x in region.outputs if x is not None)
        donated = sum(stored(values[x]) for x in region.donated)
        results = max(results - donated, 0)
        return {
            "arguments": arguments,
            "results": results,
            "temporaries": max(self.fused_estimate - arguments - results, 0),
        }

    @property
    def donatable_bytes(self) -> Count:
        """Bytes that donating arguments would save: those of arguments with the shape and dtype of a result.

        Each result can take the buffer of one argument.
        """
        values, region = self._region.values, self._region
        results = Counter(values[x].operand for x in region.outputs if x is not None and values[x].kind == "computed")
        total: Count = 0
        for x in region.inputs:
            if x not in region.donated and results[values[x].operand]:
                results[values[x].operand] -= 1
                total += values[x].nbytes
        return total

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """The primitives whose compiler workspace is not modelled, sorted; the fused estimate may be too small by it.

        "temporaries in on-chip memory": a TPU keeps some of them there, and costax does not know which. "slices of
        slices" stands for values that a compiler would have to recompute too often, as in an associative
        scan: which of them it stores instead depends on the order in which it fuses. "many gathers in one kernel": a
        compiler may store what some of them read, as in an interpolation. "layouts of stacked arrays": XLA for GPUs
        may transpose what one loop has stacked and another reads, as a copy. "interleaved axes of a product": it may
        transpose the operand of a product whose contracted axes lie between others.
        """
        names = {op.name for op in _operations(self._region) if op.traits.unmodelled or _is_dilated(op)}
        notes = ["slices of slices"] if self._fused and self._compiler.limited else []
        if self._compiler.many_lookups:
            notes.append("many gathers in one kernel")
        if self._model.kind == "gpu":
            least = magnitude(self.fused_estimate) * _LARGE_SHARE
            if any(_reads_stacked_matrices(self._region, op, least) for op in self._region.ops):
                notes.append("layouts of stacked arrays")
            if any(_interleaves_axes(op, self._region, least) for op in self._region.ops):
                notes.append("interleaved axes of a product")
        if self._model.on_chip and self._off_chip.fused_estimate > _DOUBTFUL * self.fused_estimate:
            notes.append("temporaries in on-chip memory")
        return (*sorted(names), *notes)

    @listed
    def timeline(self, *, fused: bool = False) -> list[TimelinePoint]:
        """Return the bytes alive at each operation of the outermost program; for a loop, the most that it needs."""
        live_ranges = self._fused if fused else self._unfused
        return [
            TimelinePoint(number, size, "/".join(op.scope), op.name, _jax.source(op.equation))
            for number, (size, op) in enumerate(zip(live_ranges.sizes, live_ranges.region.ops, strict=True))
        ]

    @listed
    def lifetimes(self) -> list[tuple[int, int, Buffer]]:
        """Return the arrays of the outermost program without fusion, each with the first and last step it is alive at.

        Steps are those of `timeline`; sizes may be formulas.
        """
        live_ranges = self._unfused
        region = live_ranges.region
        results, end = set(region.outputs), len(region.ops)
        kept = {x for x in region.inputs if x not in region.donated}
        return [
            (
                max(value.op, 0),
                end if number in kept or value.kind == "constant" else live_ranges.last.get(number, max(value.op, 0)),
                _buffer(live_ranges, number, (), is_result=number in results),
            )
            for number, value in enumerate(region.values)
            if value.nbytes and value.kind != "outer"
        ]

    @listed
    def live_at_peak(self, n: int | None = 10, *, fused: bool = False) -> list[Buffer]:
        """Return the n largest buffers alive at the peak, the largest first; None: all.

        If the peak is in a loop or branch, the buffers of its body are included.
        """
        live_ranges = self._fused if fused else self._unfused
        return sorted(_live_buffers(live_ranges, ()), key=lambda buffer: -buffer.nbytes)[:n]

    @property
    def region(self) -> Region:
        """The program as a region of operations."""
        return self._region


def memory_profile(
    jaxpr: Any,
    tree: Node,
    names: list[str],
    donated: tuple[bool, ...],
    model: CompilerModel = XLA_GPU_H100,
    devices: int = 1,
    shards: Sequence[Operand | None] = (),
    result_shards: Sequence[Operand | None] = (),
) -> MemoryProfile:
    """Return the memory profile of a traced program on one device.

    tree: the costs of the same jaxpr. names, donated: of the inputs. model: the compiler of the fused estimate.
    devices, shards, result_shards: how many devices share the program, and what one of them holds of each input and
    result; see `costax.program.regions.program`.
    The sizes must be numbers.
    """
    region = program(jaxpr, tree, names, donated, devices, shards, result_shards)
    return MemoryProfile(region, model)


def _reads_stacked_matrices(region: Region, op: Op, least: float) -> bool:
    """Say whether a loop goes through a large array of matrices, or more axes, that another loop has stacked."""
    if not op.loop or op.has_condition:
        return False
    body = op.regions[0]
    for number, source in zip(body.inputs, body.sources, strict=False):
        x = None if source is None or body.values[number].kind != "slice" else op.inputs[source]
        value = None if x is None else region.values[x]
        if value is None or value.op < 0 or not region.ops[value.op].loop or magnitude(value.nbytes) < least:
            continue
        if sum(extent != 1 for extent in body.values[number].operand.shape) >= _MATRIX_OF_BATCH:
            return True
    return False


def _interleaves_axes(op: Op, region: Region, least: float) -> bool:
    """Say whether the contracted axes of a large operand of a product lie between its other axes."""
    if op.traits.contraction is not ContractionKind.PRODUCT:
        return False
    contracted, batched = op.equation.params["dimension_numbers"]
    for x, var, ours, shared in zip(op.inputs, op.equation.invars, contracted, batched, strict=True):
        if x is None or region.values[x].kind != "computed" or magnitude(region.values[x].nbytes) < least:
            continue
        shape = var.aval.shape
        summed = [axis in ours for axis in range(len(shape)) if axis not in shared and shape[axis] != 1]
        if sum(a != b for a, b in pairwise(summed)) > 1:
            return True
    return False


def _is_dilated(op: Op) -> bool:
    """Say whether a convolution is dilated, as gradients of strided ones are: a library may dilate a copy first."""
    if op.traits.contraction is not ContractionKind.CONVOLUTION:
        return False
    params = op.equation.params
    return any(n != 1 for n in (*params["lhs_dilation"], *params["rhs_dilation"], params["batch_group_count"]))


def _operations(region: Region) -> Iterator[Op]:
    """Yield the operations of a region and of the regions in it, those of a shared region once."""
    visited, pending = {id(region)}, [region]
    while pending:
        for op in pending.pop().ops:
            yield op
            for inside in op.regions:
                if id(inside) not in visited:
                    visited.add(id(inside))
                    pending.append(inside)


def _live_buffers(live_ranges: LiveRanges, scope: tuple[str, ...]) -> Iterator[Buffer]:
    """Yield the buffers alive at the peak of a region. scope: of the op that runs the region."""
    region, results = live_ranges.region, set(live_ranges.region.outputs)
    for number in live_ranges.alive:
        value = region.values[number]
        # What is alive around a loop, its carry included, is listed with the program outside.
        if not value.nbytes or value.kind == "outer" or (scope and value.kind == "carry"):
            continue
        yield _buffer(live_ranges, number, scope, is_result=number in results)
    if live_ranges.moment in live_ranges.inner:
        yield from _live_buffers(live_ranges.inner[live_ranges.moment], scope + region.ops[live_ranges.moment].scope)


def _buffer(live_ranges: LiveRanges, number: int, scope: tuple[str, ...], *, is_result: bool) -> Buffer:
    region = live_ranges.region
    value = region.values[number]
    producer = region.ops[value.op] if value.op >= 0 else None
    return Buffer(
        value.nbytes,
        value.operand.dtype,
        value.operand.shape,
        "/".join(scope + producer.scope) if producer else "",
        producer.name if producer else value.kind,
        _jax.source(producer.equation) if producer else value.name,
        _why_alive(live_ranges, number, scope, is_result=is_result),
    )


def _why_alive(live_ranges: LiveRanges, number: int, scope: tuple[str, ...], *, is_result: bool) -> str:
    region, last = live_ranges.region, live_ranges.last.get(number, -1)
    value = region.values[number]
    if is_result:
        return "a result" if not scope else "carried to the next iteration, or stacked"
    if value.kind == "argument" and number not in region.donated:
        return "an argument that is not donated"
    if not 0 <= last < len(region.ops):
        return "nothing reads it"
    reader = region.ops[last]
    where = "/".join(scope + reader.scope)
    producer = region.ops[value.op] if value.op >= 0 else None
    backward = (BACKWARD, RECOMPUTE)
    saved = reader.direction in backward and producer is not None and producer.direction not in backward
    head = "saved for the backward pass: " if saved else ""
    return f"{head}{reader.name}{f' in {where}' if where else ''} reads it last"
