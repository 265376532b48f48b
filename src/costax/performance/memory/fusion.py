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
from costax.program.regions import Region, Step

_ELEMENTWISE: Final = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "cbrt",
        "ceil",
        "clamp",
        "clz",
        "complex",
        "conj",
        "convert_element_type",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "eq_to",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "le_to",
        "lgamma",
        "log",
        "log1p",
        "log2",
        "logistic",
        "lt",
        "lt_to",
        "max",
        "min",
        "mul",
        "mulhi",
        "ne",
        "neg",
        "nextafter",
        "not",
        "one_minus_square",
        "or",
        "polygamma",
        "polynomial",
        "population_count",
        "pow",
        "real",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "threefry2x32",
        "xor",
        "zeta",
    ]
)
_MOVES: Final = frozenset(
    [
        "broadcast_in_dim",
        "broadcast_to",
        "concatenate",
        "copy",
        "create_linear",
        "dynamic_slice",
        "empty",
        "empty2",
        "gather",
        "iota",
        "iota_2x32_shape",
        "pad",
        "random_bits",
        "random_fold_in",
        "random_seed",
        "random_split",
        "repeat",
        "rev",
        "roll",
        "slice",
        "split",
        "stack",
        "tile",
        "transpose",
        "unstack",
        "axis_index",
        "platform_index",
        "partition_id",
    ]
)
FUSED: Final = _ELEMENTWISE | _MOVES
"""What is worked out where it is used."""

_REDUCTIONS: Final = frozenset(
    [
        "argmax",
        "argmin",
        "reduce",
        "reduce_and",
        "reduce_max",
        "reduce_min",
        "reduce_or",
        "reduce_prod",
        "reduce_sum",
        "reduce_xor",
        "reduce_window",
        "reduce_window_max",
        "reduce_window_min",
        "reduce_window_sum",
    ]
)
IN_PLACE: Final = frozenset(
    [
        "dynamic_update_slice",
        "scatter",
        "scatter-add",
        "scatter-sub",
        "scatter-mul",
        "scatter-min",
        "scatter-max",
        "scatter_add",
        "scatter_mul",
        "addupdate",
        "swap",
        "masked_swap",
    ]
)
"""What changes a part of its first operand, and writes into it where that one dies."""

_OVERWRITING: Final = frozenset(["sort", "cholesky", "lu", "qr", "geqrf"])
"""Libraries that leave their result where their operand was, if nothing needs it any more."""

_ABSORBING: Final = FUSED | _REDUCTIONS | IN_PLACE
_MOST_ROOTS: Final = 64
# What a kernel's launch is worth, in bytes that could be read meanwhile: XLA's 1 us at the 3.35 TB/s of an H100.
LAUNCH: Final = 3_352_320


@dataclass(slots=True)
class Fusion:
    """What fusing does to a region.

    buffers: the values that have one. reads: by step, the buffers that it reads, through all that is fused into it.
    matching: those of them that it reads element by element as it writes, so that it may write over them. limited:
    whether XLA's limit on copies decided what has a buffer, where its own order of fusing matters.
    """

    buffers: set[int]
    reads: list[tuple[int, ...]]
    matching: list[frozenset[int]]
    limited: bool = False


def unfused(region: Region) -> Fusion:
    """Return the fusion that fuses nothing: every result has a buffer."""
    reads = [tuple(x for x in step.inputs if x is not None) for step in region.steps]
    return Fusion(set(range(len(region.values))), reads, [frozenset(found) for found in reads])


def fused(region: Region) -> Fusion:
    """Return which values keep a buffer when elementwise work is fused."""
    kept = _kept(region)
    kept |= spread(region, kept, LAUNCH)
    crowded = Copies(region, kept, _ELEMENTWISE).too_many()
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
    reads = [tuple(dict.fromkeys(r for x in s.inputs if x is not None for r in roots[x])) for s in region.steps]
    return Fusion(buffers, reads, _matching(region, roots, reads), limited=bool(crowded))


def _matching(region: Region, roots: list[tuple[int, ...]], reads: list[tuple[int, ...]]) -> list[frozenset[int]]:
    """Return for each step the buffers that it reads only at the place that it writes. XLA: FusionCanShareBufferHint.

    What is moved, broadcast or reduced on the way is read at other places.
    """
    elsewhere: list[frozenset[int]] = [frozenset() for _ in region.values]
    found: list[frozenset[int]] = []
    in_other_order, results = _channels_last(region, roots), set(region.outputs)
    for step, read in zip(region.steps, reads, strict=True):
        if step.name in _ELEMENTWISE or step.name in IN_PLACE or step.name in _OVERWRITING:
            moved = frozenset[int]().union(*(elsewhere[x] for x in step.inputs if x is not None))
            if step.name in IN_PLACE:
                moved |= {r for x in step.inputs[1:] if x is not None for r in roots[x]}
        else:
            moved = frozenset(read)
        if any(x in results for x in step.outputs):
            moved |= in_other_order.intersection(read)
        for x in step.outputs:
            if roots[x] != (x,):
                elsewhere[x] = moved
        found.append(frozenset(read) - moved)
    return found


def _channels_last(region: Region, roots: list[tuple[int, ...]]) -> set[int]:
    """Return the buffers that cuDNN leaves with the channels last although the program has them elsewhere.

    What follows from them element by element keeps their order; a result of the program has its own.
    """
    found: set[int] = set()
    for step in region.steps:
        if step.name == "conv_general_dilated":
            order = step.equation.params["dimension_numbers"].out_spec
            if order[1] != len(order) - 1:
                found.update(step.outputs)
        elif step.name in _ELEMENTWISE and any(r in found for x in step.inputs if x is not None for r in roots[x]):
            found.update(x for x in step.outputs if roots[x] == (x,))
    return found


def _kept(region: Region) -> set[int]:
    """Return the values that have a buffer whatever reads them, or because of what reads them."""
    kept = {x for x in region.outputs if x is not None}
    for number, value in enumerate(region.values):
        if value.kind in ("argument", "carry", "outer"):
            kept.add(number)
    for step in region.steps:
        product = dot_kind.kind(step) if step.name == "dot_general" else ""
        if step.name not in FUSED and product != "small" and not along_rows(step):
            kept.update(step.outputs)
        if step.name not in _ABSORBING and not product:
            kept.update(x for x in _whole(step) if x is not None and not _prologue(region, step, x))
        elif step.name in IN_PLACE and step.inputs[0] is not None:
            kept.add(step.inputs[0])
    # A slice of what a loop goes through is read where it lies; a scalar constant stands in the code.
    return {x for x in kept if region.values[x].kind != "constant" or region.values[x].nbytes > _SCALAR}


_SCALAR: Final = 16


def _prologue(region: Region, step: Step, x: int) -> bool:
    """Say whether a product works an operand out as it reads it: what makes it reads no more than it writes.

    Source: XLA, gemm_fusion.cc, IsInputWorthFusing; the scope is Triton's, which has no complex and no 64-bit numbers.
    """
    value = region.values[x]
    if step.name != "dot_general" or value.kind != "made" or value.operand.dtype not in _TRITON:
        return False
    maker = region.steps[value.step]
    read = sum(region.values[y].nbytes for y in dict.fromkeys(maker.inputs) if y is not None)
    return maker.name in _PROLOGUE and read - value.nbytes <= _TOLERANCE


_TRITON: Final = frozenset({"f32", "bf16", "f16", "i8"})
_PROLOGUE: Final = _ELEMENTWISE | {"transpose", "broadcast_in_dim"}
_TOLERANCE: Final = 1024


def _whole(step: Step) -> tuple[int | None, ...]:
    """Return the inputs that a step reads as buffers; what a loop starts from is written into its own."""
    if step.name == "scan" and step.regions:
        carried = sum(x is not None for x in step.regions[0].carries)
        fixed = sum(step.regions[0].values[x].kind == "outer" for x in step.regions[0].inputs)
        return (*step.inputs[:fixed], *step.inputs[fixed + carried :])
    if step.name == "while":
        return step.inputs[: len(step.inputs) - len(step.outputs)]
    return step.inputs


def _dear(sinks: int, read: int, size: int) -> bool:
    """Say whether a value is better written once than worked out in each of several fusions.

    Worked out: each fusion reads what it comes from. Written: that is read once, the value is written once and read by
    each, and a kernel more is launched.
    """
    return sinks * read > read + (1 + sinks) * size + LAUNCH


def _sinks(region: Region, kept: set[int]) -> list[set[int]]:
    """Return for each value the steps with buffers into which it is fused."""
    sinks: list[set[int]] = [set() for _ in region.values]
    for number in range(len(region.steps) - 1, -1, -1):
        step = region.steps[number]
        ends = {number} if any(x in kept for x in step.outputs) else set[int]().union(*(sinks[x] for x in step.outputs))
        for x in step.inputs:
            if x is not None and x not in kept:
                sinks[x] |= ends
    return sinks


def _roots(region: Region, kept: set[int], sinks: list[set[int]]) -> list[tuple[int, ...]]:
    """Return for each value the buffers that working it out reads: itself where it has one."""
    roots: list[tuple[int, ...]] = [(number,) if number in kept else () for number in range(len(region.values))]
    for step in region.steps:
        for made in step.outputs:
            if made in kept:
                continue
            found = tuple(dict.fromkeys(r for x in step.inputs if x is not None for r in roots[x]))
            again = _dear(len(sinks[made]), sum(region.values[r].nbytes for r in found), region.values[made].nbytes)
            roots[made] = (made,) if again or len(found) > _MOST_ROOTS else found
    return roots
