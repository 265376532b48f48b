"""Fusion: which values of a region get a buffer in memory, and which are recomputed inside the kernels that use them.

The rule follows XLA and is calibrated against its buffer assignment for an H100 (benchmarks/memory.py):

* Elementwise operations, casts, broadcasts, iotas, transposes, pads, slices and gathers are fused into their users,
  if every user can be fused with its operands: an operation of the same kinds, a reduction, an update of a part.
* Contractions, sorts, scatters, cumulative sums, library calls, loops and branches read and write buffers.
* A value that several kernels use is computed again in each of them, as long as that moves fewer bytes than writing
  the value once and reading it in each kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from costax.core.dtypes import bits
from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.merged_products import reads_parts_in_place
from costax.performance.memory.recomputation import CodeDuplication, costly_to_recompute, reduces_last_axis
from costax.performance.memory.softmax import softmax_results
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind


@dataclass(slots=True)
class Fusion:
    """What fusion does to a region.

    buffers: the values that have a buffer. reads: by op, the buffers that it reads, through everything that is fused
    into it. overwritable: by op, those of `reads` that it reads at the same index as it writes its result, so that the
    result may overwrite them. limited: whether XLA's limit on code duplication decided about some buffer; then the
    buffers depend on the order in which XLA fuses, which costax does not replay. many_lookups: whether one kernel would
    gather from more arrays of computed indices than XLA is seen to put into one.
    """

    buffers: set[int]
    reads: list[tuple[int, ...]]
    overwritable: list[frozenset[int]]
    limited: bool = False
    many_lookups: bool = False


# The most bits of a number that Triton's product reads.
_WIDEST = 32
# A bilinear interpolation gathers four times; XLA for an H100 stores what `map_coordinates` under vmap gathers.
_MOST_LOOKUPS = 3


def unfused(region: Region) -> Fusion:
    """Return the fusion of nothing: every result has a buffer, every op reads its operands from buffers."""
    reads = [tuple(x for x in op.inputs if x is not None) for op in region.ops]
    return Fusion(set(range(len(region.values))), reads, [frozenset(read) for read in reads])


def fused(region: Region, model: CompilerModel) -> Fusion:
    """Return which values have a buffer after elementwise work is fused into its users.

    The steps go from what is certain to what is weighed: an op that cannot be fused writes a buffer in any case; a
    value that is too much arithmetic, or too much code, to recompute gets one next; only then are the bytes of
    recomputing compared with those of a buffer, because the comparison needs to know where the kernels end.
    """
    kept = _unfusible(region, model)
    if model.kind == "gpu":
        kept |= softmax_results(region, kept)
    kept |= costly_to_recompute(region, kept, model)
    duplicated = CodeDuplication(region, kept, model).values_to_keep()
    kept |= duplicated
    # A new buffer ends a kernel, which changes how many kernels use the values before it; so the bytes are compared a
    # second time, with the buffers of the first.
    for _ in range(2):
        kernels = _consuming_kernels(region, kept)
        sources = _source_buffers(region, kept, kernels, model)
        buffers = {x for x in range(len(region.values)) if sources[x] == (x,)}
        if buffers <= kept:
            break
        kept |= buffers
    sources = _source_buffers(region, kept, [set() for _ in region.values], model)
    buffers = {x for x in range(len(region.values)) if sources[x] == (x,)}
    reads = [tuple(dict.fromkeys(s for x in op.inputs if x is not None for s in sources[x])) for op in region.ops]
    return Fusion(
        buffers,
        reads,
        _overwritable(region, sources, reads),
        limited=bool(duplicated),
        many_lookups=_most_lookups(region, _consuming_kernels(region, buffers)) > _MOST_LOOKUPS,
    )


def _most_lookups(region: Region, kernels: list[set[int]]) -> int:
    """Return how many gathers with indices that are computed the kernel has that has most."""
    counts: dict[int, int] = {}
    for op in region.ops:
        inputs = [x for x in op.inputs if x is not None]
        gathers = op.traits.partial and op.traits.computed_where_used and len(inputs) > 1 and not op.inserted
        if gathers and kernels[inputs[1]]:
            for kernel in kernels[op.outputs[0]]:
                counts[kernel] = counts.get(kernel, 0) + 1
    return max(counts.values(), default=0)


def _overwritable(region: Region, sources: list[tuple[int, ...]], reads: list[tuple[int, ...]]) -> list[frozenset[int]]:
    """Return for each op the buffers that it reads only at the index that it writes.

    `y = x + 1` reads x[i] to write y[i], so y may overwrite x. `y = x + x.T` reads x[j, i] too, which may be
    overwritten already; so a buffer that is transposed, broadcast or reduced on the way is left out.
    Source: XLA, FusionCanShareBufferHint.
    """
    # By fused value: the buffers that its computation reads at other indices.
    at_other_indices: list[frozenset[int]] = [frozenset() for _ in region.values]
    overwritable: list[frozenset[int]] = []
    in_other_layout, results = _channels_last(region, sources), set(region.outputs)
    for op, read in zip(region.ops, reads, strict=True):
        if op.traits.elementwise or op.traits.in_place or op.traits.overwrites:
            moved = frozenset[int]().union(*(at_other_indices[x] for x in op.inputs if x is not None))
            if op.traits.in_place:
                # An update writes a part of its first operand; the indices of its other operands are other ones.
                moved |= {s for x in op.inputs[1:] if x is not None for s in sources[x]}
        else:
            moved = frozenset(read)
        if any(x in results for x in op.outputs):
            moved |= in_other_layout.intersection(read)
        for x in op.outputs:
            if sources[x] != (x,):
                at_other_indices[x] = moved
        overwritable.append(frozenset(read) - moved)
    return overwritable


def _channels_last(region: Region, sources: list[tuple[int, ...]]) -> set[int]:
    """Return the buffers that cuDNN leaves with the channels last although the program has them elsewhere.

    Elementwise results of them keep that layout. A result of the program has the program's layout, so it cannot
    overwrite such a buffer.
    """
    buffers: set[int] = set()
    for op in region.ops:
        if op.traits.contraction is ContractionKind.CONVOLUTION:
            order = op.equation.params["dimension_numbers"].out_spec
            if order[1] != len(order) - 1:
                buffers.update(op.outputs)
        elif op.traits.elementwise and any(s in buffers for x in op.inputs if x is not None for s in sources[x]):
            buffers.update(x for x in op.outputs if sources[x] == (x,))
    return buffers


def _unfusible(region: Region, model: CompilerModel) -> set[int]:
    """Return the values that need a buffer because of the op that computes them, or of an op that reads them."""
    kept = {x for x in region.outputs if x is not None}
    for number, value in enumerate(region.values):
        if value.kind in ("argument", "carry", "outer"):
            kept.add(number)
    for op in region.ops:
        # A barrier reads arrays.
        kept.update(op.after)
        product = dot_kind.kind(op, model) if op.traits.contraction is ContractionKind.PRODUCT else ""
        if not op.traits.computed_where_used and product != "small" and not reduces_last_axis(op):
            kept.update(op.outputs)
        if not _fuses_operands(op) and not product:
            kept.update(x for x in _buffer_operands(op) if x is not None and not _fuses_into_dot(region, op, x, model))
        elif op.traits.in_place and op.inputs[0] is not None:
            kept.add(op.inputs[0])
        elif reads_parts_in_place(op):
            kept.update(x for x in op.inputs if x is not None)
    # The slice of an array that a scan goes through ("slice") is read from that array; a scalar is part of the code.
    return {x for x in kept if region.values[x].kind != "constant" or region.values[x].nbytes > model.inline_bytes}


def _fuses_operands(op: Op) -> bool:
    """Say whether an op can be in one kernel with the ops that compute its operands."""
    return op.traits.computed_where_used or op.traits.reduction or op.traits.in_place


def _fuses_into_dot(region: Region, op: Op, x: int, model: CompilerModel) -> bool:
    """Say whether a product computes an operand itself: if that reads at most as many bytes as the operand has.

    A cast from bf16 to f32 is fused (reads half as much), the sum of two arrays is not (reads twice as much).
    Source: XLA, gemm_fusion.cc, IsInputWorthFusing.
    """
    value = region.values[x]
    if (
        op.traits.contraction is not ContractionKind.PRODUCT
        or value.kind != "computed"
        or value.operand.dtype not in model.product_dtypes
    ):
        return False
    producer = region.ops[value.op]
    if reads_parts_in_place(producer):
        return True
    if _reads_wide_numbers(region, producer):
        return False
    read = sum(region.values[y].nbytes for y in dict.fromkeys(producer.inputs) if y is not None)
    # A transpose or broadcast is fused; a slice is not, because it reads a larger array than the operand.
    moves_all = producer.traits.moves and not producer.traits.partial and value.nbytes >= read
    return (producer.traits.elementwise or moves_all) and read - value.nbytes <= model.product_tolerance


def _reads_wide_numbers(region: Region, op: Op) -> bool:
    """Say whether an op, or a cast whose result it only moves, reads numbers of more bits than a product of Triton."""
    while True:
        inputs = [region.values[y] for y in op.inputs if y is not None]
        if any(bits(value.operand.dtype) > _WIDEST for value in inputs):
            return True
        if not op.traits.moves or op.traits.partial or not inputs or inputs[0].op < 0:
            return False
        op = region.ops[inputs[0].op]


def _buffer_operands(op: Op) -> tuple[int | None, ...]:
    """Return the operands that an op reads from buffers: all but the first carry of a loop.

    The first carry is computed straight into the buffer of the loop.
    """
    return tuple(x for position, x in enumerate(op.inputs) if position not in op.carried)


def _buffer_is_cheaper(kernels: int, read: int, size: int, launch_bytes: int) -> bool:
    """Say whether one buffer moves fewer bytes than recomputing a value in each kernel that uses it.

    kernels: how many use it. read: bytes that computing it reads. size: bytes of the value. launch_bytes: the launch of
    a kernel, in bytes.
    Recomputing reads kernels * read bytes. A buffer reads them once, is written once and read in each kernel, and
    launches one more kernel: read + (1 + kernels) * size + launch_bytes.
    Example: the sum (4 MB) of two arrays (8 MB together). For 2 kernels 16 MB against 8 + 12 + 3.35 MB: recompute.
    For 5 kernels 40 MB against 8 + 24 + 3.35 MB: a buffer.
    """
    return kernels * read > read + (1 + kernels) * size + launch_bytes


def _consuming_kernels(region: Region, kept: set[int]) -> list[set[int]]:
    """Return for each value the kernels into which it is fused, each as the number of its last op.

    The ops are visited backwards, so that the kernels of an op's results are known when its operands are reached.
    """
    kernels: list[set[int]] = [set() for _ in region.values]
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        ends_kernel = any(x in kept for x in op.outputs)
        own = {number} if ends_kernel else set[int]().union(*(kernels[x] for x in op.outputs))
        for x in op.inputs:
            if x is not None and x not in kept:
                kernels[x] |= own
    return kernels


def _source_buffers(
    region: Region, kept: set[int], kernels: list[set[int]], model: CompilerModel
) -> list[tuple[int, ...]]:
    """Return for each value the buffers that a kernel reads to compute it: the value itself where it has a buffer."""
    sources: list[tuple[int, ...]] = [(x,) if x in kept else () for x in range(len(region.values))]
    for op in region.ops:
        for result in op.outputs:
            if result in kept:
                continue
            read = tuple(dict.fromkeys(s for x in op.inputs if x is not None for s in sources[x]))
            nbytes = sum(region.values[s].nbytes for s in read)
            own_buffer = _buffer_is_cheaper(
                len(kernels[result]), nbytes, region.values[result].nbytes, model.launch_bytes
            )
            sources[result] = (result,) if own_buffer or len(read) > model.most_sources else read
    return sources
