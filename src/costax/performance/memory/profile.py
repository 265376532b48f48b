"""MemoryProfile: the memory of a program in two named numbers, its course, and what is alive at the peak.

*Framework peak*: every equation has its result in a buffer of its own, as if each were run by itself; a buffer is
freed after its last use. *Fused estimate*: as a compiler gives out memory: elementwise chains are fused, the results
of the program have their place from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from costax import _jax
from costax.core.cost import Count
from costax.errors import InputError
from costax.performance.memory.fusion import fused, unfused
from costax.performance.memory.liveness import LivenessAnalysis, LiveRanges
from costax.program.regions import Op, Region, program
from costax.program.tree import BACKWARD, RECOMPUTE, Node
from costax.rules.traits import ContractionKind

# XLA's for a GPU: every temporary starts at a multiple of this.
_ALIGNMENT: Final = 256
# A pointer for each result of a program that has several.
_POINTER: Final = 8


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array that is alive at the peak.

    why: what keeps it: an argument, a result, or the equation that reads it last. source: the line that made it.
    """

    nbytes: Count
    dtype: str
    shape: tuple[Count, ...]
    scope: str
    primitive: str
    source: str
    why: str

    def __str__(self) -> str:
        """Show in a line."""
        made = f"{self.primitive} in {self.scope}" if self.scope else self.primitive
        return f"{self.dtype}[{','.join(map(str, self.shape))}] {made} ({self.source}): {self.why}"


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """An operation of the program and the bytes that are alive while it runs."""

    step: int
    nbytes: Count
    scope: str
    primitive: str
    source: str


class MemoryProfile:
    """The memory of a program; `account` makes it."""

    def __init__(self, region: Region) -> None:
        """Take the whole program as a region."""
        self._region = region

    @cached_property
    def _unfused(self) -> LiveRanges:
        return LivenessAnalysis(unfused, compiled=False).live_ranges(self._region, whole=True)

    @cached_property
    def _compiler(self) -> LivenessAnalysis:
        return LivenessAnalysis(fused, compiled=True, alignment=_ALIGNMENT)

    @cached_property
    def _fused(self) -> LiveRanges:
        return self._compiler.live_ranges(self._region, whole=True)

    @property
    def framework_peak(self) -> Count:
        """Bytes at the peak, without fusion: every equation has its result in a buffer of its own."""
        return self._unfused.peak

    @property
    def fused_estimate(self) -> Count:
        """Bytes that a compiler is expected to take: elementwise chains fused, results placed from the start."""
        results = len(self._region.outputs)
        return self._fused.peak + (_POINTER * results if results > 1 else 0)

    @property
    def parts(self) -> dict[str, Count]:
        """The fused estimate in three parts: arguments, results beyond donated arguments, temporaries."""
        values, region = self._region.values, self._region
        arguments = sum(values[x].nbytes for x in region.inputs)
        results = sum(values[x].nbytes for x in region.outputs if x is not None)
        given = sum(values[x].nbytes for x in region.donated)
        results = max(results - given, 0)
        return {
            "arguments": arguments,
            "results": results,
            "temporaries": max(self.fused_estimate - arguments - results, 0),
        }

    @property
    def donatable_bytes(self) -> Count:
        """Bytes of arguments that are not donated, although a result has their shape and dtype."""
        values, region = self._region.values, self._region
        open_to = [values[x].operand for x in region.outputs if x is not None and values[x].kind == "made"]
        found: Count = 0
        for x in region.inputs:
            if x not in region.donated and values[x].operand in open_to:
                open_to.remove(values[x].operand)
                found += values[x].nbytes
        return found

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """What a compiler may take memory for that nothing in the program tells: primitives, sorted.

        "slices of slices" stands for what it would have to work out too often, as in an associative scan: which of the
        values it keeps instead depends on the order in which it fuses.
        """
        names = {op.name for op in _operations(self._region) if op.traits.unmodelled or _is_dilated(op)}
        return (*sorted(names), *(["slices of slices"] if self._fused and self._compiler.limited else []))

    def timeline(self, *, fused: bool = False) -> list[TimelinePoint]:
        """Return the bytes alive at each operation of the outermost program; a loop counts with the most it needs."""
        live_ranges = self._fused if fused else self._unfused
        return [
            TimelinePoint(number, size, "/".join(op.scope), op.name, _jax.source(op.equation))
            for number, (size, op) in enumerate(zip(live_ranges.sizes, self._region.ops, strict=True))
        ]

    def live_at_peak(self, n: int | None = 10, *, fused: bool = False) -> list[Buffer]:
        """Return the largest buffers that are alive at the peak, those inside the loop that runs then included."""
        found = sorted(_alive(self._fused if fused else self._unfused, ()), key=lambda buffer: -buffer.nbytes)
        return found[:n]

    @property
    def region(self) -> Region:
        """The program as steps."""
        return self._region


def memory_profile(jaxpr: Any, tree: Node, names: list[str], donated: tuple[bool, ...]) -> MemoryProfile:
    """Return the memory of a traced program. Raises InputError where a size is a symbol."""
    region = program(jaxpr, tree, names, donated)
    for value in region.values:
        nbytes: Any = value.nbytes
        if not isinstance(nbytes, int):
            raise InputError(
                f"The size of {value.operand} is no number.",
                why="Which arrays are alive at the peak depends on their sizes.",
                cure="Give the symbols values first.",
            )
    return MemoryProfile(region)


def _is_dilated(op: Op) -> bool:
    """Say whether a convolution has holes, as gradients of strided ones have: a library may fill them in a copy."""
    if op.traits.contraction is not ContractionKind.CONVOLUTION:
        return False
    params = op.equation.params
    return any(n != 1 for n in (*params["lhs_dilation"], *params["rhs_dilation"], params["batch_group_count"]))


def _operations(region: Region) -> Iterator[Op]:
    for op in region.ops:
        yield op
        for inside in op.regions:
            yield from _operations(inside)


def _alive(live_ranges: LiveRanges, scope: tuple[str, ...]) -> Iterator[Buffer]:
    region = live_ranges.region
    for number in live_ranges.alive:
        value = region.values[number]
        if not value.nbytes or value.kind == "outer" or (scope and value.kind == "carry"):
            continue
        maker = region.ops[value.op] if value.op >= 0 else None
        place = "/".join(scope + maker.scope) if maker else ""
        name = maker.name if maker else value.kind
        source = _jax.source(maker.equation) if maker else value.name
        yield Buffer(
            value.nbytes,
            value.operand.dtype,
            value.operand.shape,
            place,
            name,
            source,
            _why(live_ranges, number, scope),
        )
    if live_ranges.moment in live_ranges.inner:
        yield from _alive(live_ranges.inner[live_ranges.moment], scope + region.ops[live_ranges.moment].scope)


def _why(live_ranges: LiveRanges, number: int, scope: tuple[str, ...]) -> str:
    region, last = live_ranges.region, live_ranges.last.get(number, -1)
    value = region.values[number]
    if number in region.outputs:
        return "a result" if not scope else "carried to the next step, or stacked"
    if value.kind == "argument" and number not in region.donated:
        return "an argument that is not donated"
    if not 0 <= last < len(region.ops):
        return "nothing reads it"
    reader = region.ops[last]
    where = "/".join(scope + reader.scope)
    maker = region.ops[value.op] if value.op >= 0 else None
    saved = (
        reader.direction in (BACKWARD, RECOMPUTE) and maker is not None and maker.direction not in (BACKWARD, RECOMPUTE)
    )
    head = "saved for the backward pass: " if saved else ""
    return f"{head}{reader.name}{f' in {where}' if where else ''} reads it last"
