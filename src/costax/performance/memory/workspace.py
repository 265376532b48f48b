"""Scratch: what a compiler takes for a single op beside its operands and results, as XLA does for an H100.

* A product of few output tiles and a long contraction is split along it, so that all multiprocessors work: the partial
  sums lie in memory, in float32, until they are added. Which split XLA takes follows from its own cost model.
* cuDNN wants the channels last, in images and in kernels; other layouts are copied.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

from costax.core import dtypes
from costax.core.cost import Count
from costax.performance.memory import dot_kind
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Implementation

# Source: XLA, xla/backends/gpu/transforms/splitk_rewriter.cc, the weights for Hopper: compute, memory, memory of the
# sum of the parts, and the launch of that sum.
_COMPUTE, _MEMORY, _SUM, _SUM_LAUNCH = 100.0, 0.194136, 193.1384, 4.36e7
_TILE: Final = 128
_MULTIPROCESSORS: Final = 132
_SPLITS: Final = tuple(2**power for power in range(12))
# Operands of a split contraction are padded to whole vectors of so many bytes.
_VECTOR: Final = 16


def workspace_bytes(op: Op, region: Region) -> Count:
    """Return the bytes that a op needs for itself while it runs."""
    contraction, library = op.traits.contraction, op.traits.implementation
    if contraction is ContractionKind.PRODUCT:
        return _workspace(op) + _transposed(op, region) + _partial_sums(op)
    if contraction is ContractionKind.CONVOLUTION:
        return _TABLE + _copies(op, region)
    if contraction is ContractionKind.RAGGED:
        return _expanded(op)
    results = sum(_aligned(region.values[x].nbytes) for x in op.outputs)
    match library:
        case Implementation.WINDOW_SCATTER:
            # Where in each window the greatest lies is found with the forward pass: a number for each axis.
            source = op.equation.invars[0].aval.shape
            return len(source) * _aligned(4 * prod(source))
        case Implementation.SERIES:
            return op.traits.series_arrays * results
        case Implementation.SORT:
            return _TABLE
        case Implementation.FACTORIZATION:
            # It works in place on a copy, and says in a word more whether it succeeded. Where it may overwrite its
            # operand and all of the result is that operand's, there is no copy.
            return _TABLE if op.traits.overwrites and len(op.outputs) == 1 else results + _TABLE
        case None:
            return 0


def _aligned(nbytes: Count) -> Count:
    return -(-nbytes // _TABLE) * _TABLE


# A library's result is a tuple, whose table of pointers is a buffer like any other, 256 bytes with its alignment.
_TABLE: Final = 256
# Source: XLA, GemmRewriter, for Hopper without autotuning.
_CUBLAS_WORKSPACE: Final = 4 << 20


def _workspace(op: Op) -> Count:
    """Return the workspace of cuBLAS, which does the products that Triton does not.

    Those are of complex numbers, and of 16-bit numbers into 32 bits whose extents are no multiples of 8.
    """
    (left, right), out = op.equation.invars, op.equation.outvars[0]
    if dtypes.is_complex(_dtype(left)):
        return _CUBLAS_WORKSPACE
    odd = len(left.aval.shape) == 2 and any(extent % 8 for extent in (*left.aval.shape, *right.aval.shape))
    return _CUBLAS_WORKSPACE if _width(left) == 2 and _width(out) == 4 and odd else 0


def _transposed(op: Op, region: Region) -> Count:
    """Return the bytes of the operands whose batch axes do not come first, in any order: they are transposed."""
    _, batched = op.equation.params["dimension_numbers"]
    copied: Count = 0
    if dot_kind.kind(op):
        return copied
    for x, axes in zip(op.inputs, batched, strict=True):
        if x is not None and sorted(axes) != list(range(len(axes))):
            copied += _aligned(region.values[x].nbytes)
    return copied


def _expanded(op: Op) -> Count:
    """Return the bytes of a ragged product's rows, written out once for each group."""
    rows, groups = op.equation.invars[0].aval.shape, op.equation.invars[1].aval.shape[0]
    return prod(rows) * _width(op.equation.invars[0]) * groups


def _partial_sums(op: Op) -> Count:
    contracted, batched = op.equation.params["dimension_numbers"]
    left, right = (var.aval.shape for var in op.equation.invars)
    if len(contracted[0]) != 1 or not all(isinstance(n, int) for n in (*left, *right)):
        return 0
    width, out = _width(op.equation.invars[0]), _width(op.equation.outvars[0])
    if not dtypes.is_floating(_dtype(op.equation.invars[0])) or width > 4:
        return 0
    b = prod(left[axis] for axis in batched[0])
    m = prod(n for axis, n in enumerate(left) if axis not in (*contracted[0], *batched[0]))
    n = prod(n for axis, n in enumerate(right) if axis not in (*contracted[1], *batched[1]))
    k = left[contracted[0][0]]
    if 1 in (m, n) or not (b and k):
        return 0
    split = min(_SPLITS, key=lambda parts: _cost(b, m, n, k, width, out, parts))
    if split == 1:
        return 0
    # A contraction that does not divide is padded, in copies of the operands.
    whole = split * max(_VECTOR // width, 1)
    padded = -(-k // whole) * whole
    copies = 0 if padded == k else b * (m + n) * padded * width
    return b * split * m * n * 4 + copies


def _cost(b: int, m: int, n: int, k: int, width: int, out: int, parts: int) -> float:
    """Return XLA's cost of a product (b, m, k) x (b, k, n) that is split into parts along k."""
    rows, columns = min(m, _TILE), min(n, _TILE)
    tiles = b * parts * -(-m // _TILE) * -(-n // _TILE)
    waves = max(1.0, tiles * rows * columns / (_MULTIPROCESSORS * _TILE**2))
    compute = 2 * rows * columns * -(-k // parts) * waves * _COMPUTE
    written = b * parts * m * n * (4 if parts > 1 else out)
    product = max(compute, (b * k * (m + n) * width + written) * _MEMORY)
    if parts == 1:
        return product
    return product + _SUM_LAUNCH + b * m * n * (4 * parts + out) * _SUM


def _copies(op: Op, region: Region) -> Count:
    numbers = op.equation.params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    image, kernel = op.inputs[:2]
    copied: Count = 0
    if image is not None and any(low != high for low, high in op.equation.params["padding"]):
        # cuDNN pads both sides alike; the rest is padded before, in a copy.
        copied += _aligned(region.values[image].nbytes)
    if kernel is not None and tuple(numbers.rhs_spec[:2]) != (0, rank - 1):
        copied += region.values[kernel].nbytes
    # Between layers the layout is kept; at the borders of the program it is changed.
    if image is not None and numbers.lhs_spec[1] != rank - 1 and region.values[image].kind == "argument":
        copied += region.values[image].nbytes
    if numbers.out_spec[1] != rank - 1 and op.outputs[0] in region.outputs:
        copied += region.values[op.outputs[0]].nbytes
    return copied


def _dtype(var: Any) -> str:
    return dtypes.short_name(str(var.aval.dtype))


def _width(var: Any) -> int:
    return max(dtypes.bits(_dtype(var)) // 8, 1)
