"""Workspace: the bytes that a compiler allocates for one op beside its operands and results, as XLA does on GPUs.

* A product with few output tiles and a long contraction is split along the contraction ("split-K"), so that all
  multiprocessors have work. The partial sums lie in memory, in float32, until they are added. XLA chooses the split by
  a cost model, which is replayed here.
* cuDNN wants the channels last, in images and in kernels; arrays of another layout are copied.
* The result of a library call is a tuple, whose table of pointers is a buffer.
"""

from __future__ import annotations

from math import prod
from typing import Any

from costax.core import dtypes
from costax.core.cost import Count
from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.rewrites import CIPHER_LOOP
from costax.performance.memory.simplifications import is_scatter
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Implementation


def workspace_bytes(op: Op, region: Region, model: CompilerModel) -> Count:
    """Return the bytes that an op needs while it runs, beside its operands and results."""
    contraction, library, pointer_table = op.traits.contraction, op.traits.implementation, model.alignment
    if contraction is ContractionKind.PRODUCT:
        if model.kind != "gpu":
            # The transposes are ops of their own, and no product is split.
            return 0
        return _cublas_workspace(op, model) + _transposed_operands(op, region, model) + _partial_sums(op, model)
    if contraction is ContractionKind.RAGGED:
        return _ragged_partial_sums(op, model) if model.kind == "gpu" else 0
    if contraction is ContractionKind.CONVOLUTION:
        if model.kind != "gpu":
            return 0
        return pointer_table + _layout_copies(op, region, model)
    if model.kind == "cpu" and op.traits.in_place and is_scatter(op):
        return _batched_scatter(op, region, model)
    if library is Implementation.SORT and "k" in op.equation.params:
        return _sorted_rows(op, model) if model.kind == "gpu" else 0
    results = sum(_aligned(region.values[x].nbytes, model) for x in op.outputs)
    if op.inserted is CIPHER_LOOP:
        return op.traits.series_arrays * results
    match library:
        case Implementation.WINDOW_SCATTER:
            # The position of the maximum of each window is found first: an array of 4-byte integers for each axis.
            source = op.equation.invars[0].aval.shape
            return len(source) * _aligned(4 * prod(source), model)
        case Implementation.SERIES:
            return op.traits.series_arrays * results
        case Implementation.SORT:
            return pointer_table
        case Implementation.FACTORIZATION:
            # cuSOLVER overwrites its operand, so it works on a copy, and writes a status word. There is no copy where
            # the op may overwrite its operand and has no other result.
            return pointer_table if op.traits.overwrites and len(op.outputs) == 1 else results + pointer_table
        case None:
            return 0


def _aligned(nbytes: Count, model: CompilerModel) -> Count:
    return -(-nbytes // model.alignment) * model.alignment


def _cublas_workspace(op: Op, model: CompilerModel) -> Count:
    """Return the workspace of cuBLAS, which computes the products that Triton does not.

    Those are products of complex numbers, and products of 16-bit numbers into 32 bits with extents that are no
    multiples of 8.
    """
    (left, right), out = op.equation.invars, op.equation.outvars[0]
    if dtypes.is_complex(_dtype(left)):
        return model.library_workspace
    odd = len(left.aval.shape) == 2 and any(extent % 8 for extent in (*left.aval.shape, *right.aval.shape))
    return model.library_workspace if _width(left) == 2 and _width(out) == 4 and odd else 0


def _transposed_operands(op: Op, region: Region, model: CompilerModel) -> Count:
    """Return the bytes of the operands that are transposed because their batch axes are not the first ones.

    The order of the batch axes among each other does not matter: batch axes (1, 0) of (b, h, m, k) are no copy.
    """
    _, batched = op.equation.params["dimension_numbers"]
    copied: Count = 0
    if dot_kind.kind(op, model) == "small":
        return copied
    for x, axes in zip(op.inputs, batched, strict=True):
        if x is None or sorted(axes) == list(range(len(axes))):
            continue
        producer = region.values[x].op
        # A kernel of elementwise work writes its result in the order that the product wants (layout_assignment.cc).
        if producer < 0 or not region.ops[producer].traits.elementwise:
            copied += _aligned(region.values[x].nbytes, model)
    return copied


# XLA has a kernel for so few results of rows that are not shorter, if they are no larger share of the row. Source:
# topk_specializer.cc, SmallBufferOptimization.
_TOP_K_OF_KERNEL, _LEAST_ROW, _TOP_K_SHARE, _TOP_K_DTYPES = 16, 1024, 0.85, ("f32", "bf16")


def _sorted_rows(op: Op, model: CompilerModel) -> Count:
    """Return the bytes of the values and their indices that are sorted for the k largest of each row.

    Source: XLA, topk_decomposer.cc: whole rows are sorted, both arrays. topk_splitter.cc makes several rows of a single
    long one, which are sorted together and take the same memory.
    Example: 100 of each row of f32[256,400000] take 256 * 400000 * (4 + 4) bytes.
    """
    aval = op.equation.invars[0].aval
    k, length = op.equation.params["k"], aval.shape[op.equation.params.get("axis", -1)]
    short = k <= _TOP_K_OF_KERNEL and length >= _LEAST_ROW and k < _TOP_K_SHARE * length
    if short and _dtype(op.equation.invars[0]) in _TOP_K_DTYPES:
        return 0
    elements = prod(aval.shape)
    return _aligned(elements * aval.dtype.itemsize, model) + _aligned(elements * 4, model)


def _batched_scatter(op: Op, region: Region, model: CompilerModel) -> Count:
    """Return the bytes of the indices of a scatter under `vmap`, to which the index of the batch is added.

    Source: XLA, batched_gather_scatter_normalizer.cc, which concatenates an iota for each batch axis; GPUs compute
    it in the kernel of the scatter. XLA for CPUs copies the updates too, into one row for each index.
    """
    numbers = op.equation.params.get("dimension_numbers")
    batched = getattr(numbers, "operand_batching_dims", ())
    if not batched:
        return 0
    indices = op.equation.invars[1].aval
    rows, columns = prod(indices.shape[:-1]), indices.shape[-1]
    copied = _aligned(rows * (columns + len(batched)) * indices.dtype.itemsize, model)
    updates = op.inputs[2]
    if updates is not None:
        copied += _aligned(region.values[updates].nbytes, model)
    return copied


def _partial_sums(op: Op, model: CompilerModel) -> Count:
    """Return the bytes of the partial sums of a product that XLA splits along the contraction, and of padded operands.

    Example: (128, 65536) x (65536, 128) in f32 is one output tile, so 131 of 132 multiprocessors would be idle.
    XLA splits k into 128 parts of 512: 128 * 128 * 128 * 4 bytes = 8 MiB of partial sums.
    """
    contracted, batched = op.equation.params["dimension_numbers"]
    left, right = (var.aval.shape for var in op.equation.invars)
    if not contracted[0] or not all(isinstance(n, int) for n in (*left, *right)):
        return 0
    width, out = _width(op.equation.invars[0]), _width(op.equation.outvars[0])
    if not dtypes.is_floating(_dtype(op.equation.invars[0])) or width > 4:
        return 0
    # (b, m, k) x (b, k, n) -> (b, m, n)
    b = prod(left[axis] for axis in batched[0])
    m = prod(n for axis, n in enumerate(left) if axis not in (*contracted[0], *batched[0]))
    n = prod(n for axis, n in enumerate(right) if axis not in (*contracted[1], *batched[1]))
    # Several contracted axes are one after dot_decomposer.cc.
    k = prod(left[axis] for axis in contracted[0])
    return _partial_sums_of(b, m, n, k, width, out, model)


def _ragged_partial_sums(op: Op, model: CompilerModel) -> Count:
    """Return the bytes of the partial sums of a ragged product, which jax lowers to one over groups.

    Where the rows are contracted (the gradient of the weights) the groups are a batch axis; where the groups are one of
    the axes of the weights, they are contracted together with the inner axis. Source: jax, _src/lax/lax.py,
    _ragged_dot_general_impl.
    Example: f32[1024,256] x f32[1024,512] in 4 groups is split into 4 parts: 4 * 4 * 256 * 512 * 4 bytes.
    """
    left, right, sizes = (var.aval.shape for var in op.equation.invars)
    numbers = op.equation.params["ragged_dot_dimension_numbers"]
    contracted, batched = numbers.dot_dimension_numbers
    rows, groups = numbers.lhs_ragged_dimensions[0], sizes[-1]
    grouped = tuple(numbers.rhs_group_dimensions)
    width, out = _width(op.equation.invars[0]), _width(op.equation.outvars[0])
    if not dtypes.is_floating(_dtype(op.equation.invars[0])) or width > 4 or rows in batched[0]:
        return 0
    b = prod(left[axis] for axis in batched[0])
    m = prod(n for axis, n in enumerate(left) if axis not in (*contracted[0], *batched[0]))
    n = prod(n for axis, n in enumerate(right) if axis not in (*contracted[1], *batched[1], *grouped))
    k = prod(left[axis] for axis in contracted[0])
    by_group = rows in contracted[0]
    return _partial_sums_of(b * groups if by_group else b, m, n, k if by_group else k * groups, width, out, model)


def _partial_sums_of(b: int, m: int, n: int, k: int, width: int, out: int, model: CompilerModel) -> Count:
    """Return the bytes of the partial sums of (b, m, k) x (b, k, n), and of the padded operands.

    width, out: bytes of an element of the operands and of the result.
    """
    if 1 in (m, n) or not (b and k):
        return 0
    splits = (2**power for power in range(model.most_parts.bit_length()))
    split = min(splits, key=lambda parts: _split_cost(b, m, n, k, width, out, parts, model))
    if split == 1:
        return 0
    # Each part has a whole number of vectors. A contraction that does not divide is padded, in copies of the operands:
    # k = 1000 in f32, split into 16 parts of whole vectors of 4 elements, becomes 1024.
    unit = split * max(model.vector_bytes // width, 1)
    padded = -(-k // unit) * unit
    copies = 0 if padded == k else b * (m + n) * padded * width
    return b * split * m * n * 4 + copies


def _split_cost(b: int, m: int, n: int, k: int, width: int, out: int, parts: int, model: CompilerModel) -> float:
    """Return XLA's cost of a product (b, m, k) x (b, k, n) that is split into parts along k.

    width, out: bytes of an element of the operands and of the result.
    """
    tile = model.tile
    rows, columns = min(m, tile), min(n, tile)
    tiles = b * parts * -(-m // tile) * -(-n // tile)
    # How often all multiprocessors are busy with a tile; at least once, however few tiles there are.
    waves = max(1.0, tiles * rows * columns / (model.multiprocessors * tile**2))
    compute = 2 * rows * columns * -(-k // parts) * waves * model.compute_weight
    written = b * parts * m * n * (4 if parts > 1 else out)
    product = max(compute, (b * k * (m + n) * width + written) * model.memory_weight)
    if parts == 1:
        return product
    return product + model.sum_launch + b * m * n * (4 * parts + out) * model.sum_weight


def _layout_copies(op: Op, region: Region, model: CompilerModel) -> Count:
    """Return the bytes of the copies that give cuDNN the layout and the padding that it needs."""
    numbers = op.equation.params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    image, kernel = op.inputs[:2]
    copied: Count = 0
    if image is not None and _writes_holes(op, region):
        copied += _aligned(_with_holes(op) * _width(op.equation.invars[0]), model)
    elif image is not None and any(low != high for low, high in op.equation.params["padding"]):
        # cuDNN pads both sides by the same amount; where they differ, a copy of the image is padded first.
        copied += _aligned(region.values[image].nbytes, model)
    if kernel is not None and tuple(numbers.rhs_spec[:2]) != (0, rank - 1):
        copied += region.values[kernel].nbytes
    # Between layers XLA keeps cuDNN's layout. It changes the layout of arguments and results of the program.
    if image is not None and numbers.lhs_spec[1] != rank - 1 and region.values[image].kind == "argument":
        copied += region.values[image].nbytes
    if numbers.out_spec[1] != rank - 1 and op.outputs[0] in region.outputs:
        copied += region.values[op.outputs[0]].nbytes
    return copied


def _writes_holes(op: Op, region: Region) -> bool:
    """Say whether the image of a transposed convolution is copied with its holes.

    cuDNN computes it without them only as the gradient of a convolution, which XLA recognises by the reversed kernel.
    Source: XLA, conv_rewriter.cc, MatchBackwardInput, and conv_padding_legalization.cc.
    """
    kernel = op.inputs[1]
    producer = -1 if kernel is None else region.values[kernel].op
    reversed_kernel = producer >= 0 and set(region.ops[producer].equation.params) == {"dimensions"}
    return any(n != 1 for n in op.equation.params["lhs_dilation"]) and not reversed_kernel


def _with_holes(op: Op) -> int:
    """Return the elements of the image of a convolution with holes and padding."""
    params = op.equation.params
    shape = list(op.equation.invars[0].aval.shape)
    spatial = params["dimension_numbers"].lhs_spec[2:]
    for axis, dilation, (low, high) in zip(spatial, params["lhs_dilation"], params["padding"], strict=True):
        shape[axis] = max((shape[axis] - 1) * dilation + 1 + low + high, 0)
    return prod(shape)


def _dtype(var: Any) -> str:
    return dtypes.short_name(str(var.aval.dtype))


def _width(var: Any) -> int:
    return max(dtypes.bits(_dtype(var)) // 8, 1)
