"""Fusing: which arrays get a buffer of their own once elementwise work is fused, in words and as a set.

The rule, calibrated against XLA's buffer assignment for an H100 (benchmarks/memory.py):

* Elementwise operations, casts, broadcasts, iotas, transposes, pads, slices and gathers are worked out where they are
  used, if everything that uses them can take them in: more of the same, reductions, updates of a part.
* Contractions, sorts, scatters, cumulative sums, library calls, loops and branches read and write buffers.
* What several fusions need is worked out again in each, as long as that reads no more bytes than a buffer holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from costax.performance.memory import dot_kind
from costax.performance.memory.recomputation import Copies, along_rows, spread
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind

_MOST_ROOTS: Final = 64
# What a kernel's launch is worth, in bytes that could be read meanwhile: XLA's 1 us at the 3.35 TB/s of an H100.
LAUNCH: Final = 3_352_320


@dataclass(slots=True)
class Fusion:
    """What fusing does to a region.

    buffers: the values that have one. reads: by op, the buffers that it reads, through all that is fused into it.
    matching: those of them that it reads element by element as it writes, so that it may write over them. limited:
    whether XLA's limit on copies decided what has a buffer, where its own order of fusing matters.
    """

    buffers: set[int]
    reads: list[tuple[int, ...]]
    matching: list[frozenset[int]]
    limited: bool = False


def unfused(region: Region) -> Fusion:
    """Return the fusion that fuses nothing: every result has a buffer."""
    reads = [tuple(x for x in op.inputs if x is not None) for op in region.ops]
    return Fusion(set(range(len(region.values))), reads, [frozenset(found) for found in reads])


def fused(region: Region) -> Fusion:
    """Return which values keep a buffer when elementwise work is fused."""
    kept = _kept(region)
    kept |= spread(region, kept, LAUNCH)
    crowded = Copies(region, kept).too_many()
    kept |= crowded
    for _ in range(2):
        sinks = _sinks(region, kept)
        roots = _roots(region, kept, sinks)
        buffers = {number for number in range(len(region.values)) if roots[number] == (number,)}
        if buffers <= kept:
            break
        kept |= buffers
    roots = _roots(region, kept, [set() for _ in region.values])
    buffers = {number for number in range(len(region.values)) if roots[number] == (number,)}
    reads = [tuple(dict.fromkeys(r for x in s.inputs if x is not None for r in roots[x])) for s in region.ops]
    return Fusion(buffers, reads, _matching(region, roots, reads), limited=bool(crowded))


def _matching(region: Region, roots: list[tuple[int, ...]], reads: list[tuple[int, ...]]) -> list[frozenset[int]]:
    """Return for each op the buffers that it reads only at the place that it writes. XLA: FusionCanShareBufferHint.

    What is moved, broadcast or reduced on the way is read at other places.
    """
    elsewhere: list[frozenset[int]] = [frozenset() for _ in region.values]
    found: list[frozenset[int]] = []
    in_other_order, results = _channels_last(region, roots), set(region.outputs)
    for op, read in zip(region.ops, reads, strict=True):
        if op.traits.elementwise or op.traits.in_place or op.traits.overwrites:
            moved = frozenset[int]().union(*(elsewhere[x] for x in op.inputs if x is not None))
            if op.traits.in_place:
                moved |= {r for x in op.inputs[1:] if x is not None for r in roots[x]}
        else:
            moved = frozenset(read)
        if any(x in results for x in op.outputs):
            moved |= in_other_order.intersection(read)
        for x in op.outputs:
            if roots[x] != (x,):
                elsewhere[x] = moved
        found.append(frozenset(read) - moved)
    return found


def _channels_last(region: Region, roots: list[tuple[int, ...]]) -> set[int]:
    """Return the buffers that cuDNN leaves with the channels last although the program has them elsewhere.

    What follows from them element by element keeps their order; a result of the program has its own.
    """
    found: set[int] = set()
    for op in region.ops:
        if op.traits.contraction is ContractionKind.CONVOLUTION:
            order = op.equation.params["dimension_numbers"].out_spec
            if order[1] != len(order) - 1:
                found.update(op.outputs)
        elif op.traits.elementwise and any(r in found for x in op.inputs if x is not None for r in roots[x]):
            found.update(x for x in op.outputs if roots[x] == (x,))
    return found


def _kept(region: Region) -> set[int]:
    """Return the values that have a buffer whatever reads them, or because of what reads them."""
    kept = {x for x in region.outputs if x is not None}
    for number, value in enumerate(region.values):
        if value.kind in ("argument", "carry", "outer"):
            kept.add(number)
    for op in region.ops:
        product = dot_kind.kind(op) if op.traits.contraction is ContractionKind.PRODUCT else ""
        if not op.traits.computed_where_used and product != "small" and not along_rows(op):
            kept.update(op.outputs)
        if not _absorbs(op) and not product:
            kept.update(x for x in _whole(op) if x is not None and not _prologue(region, op, x))
        elif op.traits.in_place and op.inputs[0] is not None:
            kept.add(op.inputs[0])
    # A slice of what a loop goes through is read where it lies; a scalar constant stands in the code.
    return {x for x in kept if region.values[x].kind != "constant" or region.values[x].nbytes > _SCALAR}


_SCALAR: Final = 16


def _absorbs(op: Op) -> bool:
    """Say whether a op can compute its operands itself: it reads each where it needs it."""
    return op.traits.computed_where_used or op.traits.reduction or op.traits.in_place


def _prologue(region: Region, op: Op, x: int) -> bool:
    """Say whether a product works an operand out as it reads it: what makes it reads no more than it writes.

    Source: XLA, gemm_fusion.cc, IsInputWorthFusing; the scope is Triton's, which has no complex and no 64-bit numbers.
    """
    value = region.values[x]
    if (
        op.traits.contraction is not ContractionKind.PRODUCT
        or value.kind != "made"
        or value.operand.dtype not in _TRITON
    ):
        return False
    maker = region.ops[value.op]
    read = sum(region.values[y].nbytes for y in dict.fromkeys(maker.inputs) if y is not None)
    # Transposes and broadcasts are read through; a slice, which leaves elements out, is not.
    spreads = maker.traits.moves and not maker.traits.partial and value.nbytes >= read
    return (maker.traits.elementwise or spreads) and read - value.nbytes <= _TOLERANCE


_TRITON: Final = frozenset({"f32", "bf16", "f16", "i8"})
_TOLERANCE: Final = 1024


def _whole(op: Op) -> tuple[int | None, ...]:
    """Return the inputs that a op reads as buffers; what a loop starts from is written into its own."""
    return tuple(x for position, x in enumerate(op.inputs) if position not in op.carried)


def _dear(sinks: int, read: int, size: int) -> bool:
    """Say whether a value is better written once than worked out in each of several fusions.

    Worked out: each fusion reads what it comes from. Written: that is read once, the value is written once and read by
    each, and a kernel more is launched.
    """
    return sinks * read > read + (1 + sinks) * size + LAUNCH


def _sinks(region: Region, kept: set[int]) -> list[set[int]]:
    """Return for each value the steps with buffers into which it is fused."""
    sinks: list[set[int]] = [set() for _ in region.values]
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        ends = {number} if any(x in kept for x in op.outputs) else set[int]().union(*(sinks[x] for x in op.outputs))
        for x in op.inputs:
            if x is not None and x not in kept:
                sinks[x] |= ends
    return sinks


def _roots(region: Region, kept: set[int], sinks: list[set[int]]) -> list[tuple[int, ...]]:
    """Return for each value the buffers that working it out reads: itself where it has one."""
    roots: list[tuple[int, ...]] = [(number,) if number in kept else () for number in range(len(region.values))]
    for op in region.ops:
        for made in op.outputs:
            if made in kept:
                continue
            found = tuple(dict.fromkeys(r for x in op.inputs if x is not None for r in roots[x]))
            again = _dear(len(sinks[made]), sum(region.values[r].nbytes for r in found), region.values[made].nbytes)
            roots[made] = (made,) if again or len(found) > _MOST_ROOTS else found
    return roots
