"""Dots and convolutions: two FLOPs for each multiply-accumulate."""

from __future__ import annotations

from math import gcd

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.errors import malformed
from costax.hlo.records import DotDimensions, Instruction, WindowDimension
from costax.hlo.shapes import Shape, count


def dot_flops(lhs: Shape, elements: int, dims: DotDimensions) -> int:
    """Return 2 FLOPs for each product that is summed into an output element; `elements` is the size of the output."""
    return 2 * elements * count([lhs.extent(d) for d in dims.lhs_contracting])


@opcode("dot")
def dot(ins: Instruction, model: CostModel) -> Work:
    """Each output element is a sum of k products: flops = 2 |out| k, the same for every dtype.

    XLA: HandleDot.
    """
    return Work(
        flops=dot_flops(ins.operand(0).shape, ins.shape.elements, ins.dot_dimensions), bytes=model.default_bytes(ins)
    )


@opcode("scaled-dot")
def scaled_dot(ins: Instruction, model: CostModel) -> Work:
    """As `dot`; the scales are not counted.

    XLA: HandleScaledDot.
    """
    return dot(ins, model)


@opcode("ragged-dot")
def ragged_dot(ins: Instruction, model: CostModel) -> Work:
    """As `dot`, on an output without its first dimension: XLA intends to drop the group dimension, but drops m.

    For each i below the number of group dimensions, dimension i of the remaining output dimensions is deleted.
    XLA: HandleRaggedDot.
    """
    dims = ins.ragged_dimensions
    extents = list(ins.shape.dims)
    for i in range(len(dims.rhs_group)):
        if i >= len(extents):
            raise malformed(f"{ins.shape} has no dimension {i} to delete", where=ins.name)
        del extents[i]
    return Work(flops=dot_flops(ins.operand(0).shape, count(extents), dims.dot), bytes=model.default_bytes(ins))


@opcode("convolution")
def convolution(ins: Instruction, model: CostModel) -> Work:
    """Only taps on input elements count; taps on padding or on the holes of an input dilation do not.

    flops = 2 * (channels in / feature groups) * channels out * (batch / batch groups) * prod(valid taps of each
    spatial dimension). XLA: HandleConvolution, GetConvolutionFlops.
    """
    lhs, rhs = ins.operand(0).shape, ins.operand(1).shape
    return Work(flops=convolution_flops(ins, lhs, rhs, ins.shape, model), bytes=model.default_bytes(ins))


def convolution_flops(ins: Instruction, lhs: Shape, rhs: Shape, out: Shape, model: CostModel) -> int:
    """Return the FLOPs of a convolution of these shapes, with the window and dimension numbers of an instruction."""
    dims = ins.convolution_dimensions
    window = ins.window
    places = (dims.kernel_spatial, dims.output_spatial, dims.input_spatial)
    if ins.feature_group_count < 1 or ins.batch_group_count < 1 or any(len(p) < len(window) for p in places):
        raise malformed("The groups or the spatial dimensions of a convolution do not fit its window", where=ins.name)
    valid = [
        _valid_taps(model, w, rhs.extent(kernel), out.extent(output), lhs.extent(source))
        for w, kernel, output, source in zip(window, *places, strict=False)
    ]
    channels_in = lhs.extent(dims.input_feature) // ins.feature_group_count
    batch = lhs.extent(dims.input_batch) // ins.batch_group_count
    return 2 * channels_in * out.extent(dims.output_feature) * batch * count(valid)


def _valid_taps(model: CostModel, w: WindowDimension, kernel: int, output: int, source: int) -> int:
    """Count the pairs (k, o) with o * stride - padding + k * window_dilation = base_dilation * i for an input index i.

    k is a kernel position and o an output position. For each k, the positions of all o form an arithmetic progression,
    whose valid terms a formula counts. If there are fewer o than k, the two change roles.
    """
    if min(w.stride, w.window_dilation, w.base_dilation) < 1:
        raise malformed(f"A window has a stride or dilation below 1: {w}")
    short, short_step, long, long_step = kernel, w.window_dilation, output, w.stride
    if output < kernel:
        short, short_step, long, long_step = output, w.stride, kernel, w.window_dilation

    def walk() -> int:
        offsets = (i * short_step - w.padding_low for i in range(short))
        return sum(_meeting(long_step, long, offset, w.base_dilation, source) for offset in offsets)

    return model.cached_taps((w, kernel, output, source), short, walk)


def _meeting(step: int, steps: int, offset: int, dilation: int, source: int) -> int:
    """Count the j in [0, steps) with offset + j * step = dilation * i for an i in [0, source)."""
    if step == dilation == 1:
        return max(0, min(steps, source - offset) - max(0, -offset))
    common = gcd(step, dilation)
    if offset % common:
        return 0
    # offset + j * step is divisible by the dilation if and only if j = first (mod period).
    period = dilation // common
    first = (-offset // common * pow(step // common, -1, period)) % period if period > 1 else 0
    low = max(0, -(offset // step))
    high = min(steps - 1, (dilation * (source - 1) - offset) // step)
    if source < 1 or high < low:
        return 0
    return (high - first) // period - (low - 1 - first) // period
