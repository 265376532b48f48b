"""Convolutions: sums of products over a sliding window."""

from __future__ import annotations

from math import gcd, prod
from typing import NamedTuple

from costax import dtypes
from costax.cost import Cost, Count
from costax.equation import Equation
from costax.registry import cost_rule


@cost_rule("conv_general_dilated")
def conv_general_dilated(eqn: Equation) -> Cost:
    """Each output element is a sum over kernel taps and input channels.

    macs = batch * (channels per group) * (output channels) * prod(taps * min(input positions, output positions)), one
    factor for each spatial dimension: the textbook number for a forward convolution, edge padding included; in a
    transposed one each input position meets each tap once, for the holes between are not work.
    padding_macs is the part of it that touches only padding: valid taps are the (output, tap) pairs that meet an input
    element, and are the same number for a convolution and both of its gradients.
    XLA: HandleConvolution counts 2 FLOPs for each valid tap, so 2 * (macs - padding_macs).
    """
    lhs, rhs = eqn.inputs
    batch_axis, _, *lhs_spatial = eqn.params["dimension_numbers"].lhs_spec
    out_channel_axis, in_channel_axis, *rhs_spatial = eqn.params["dimension_numbers"].rhs_spec
    _, _, *out_spatial = eqn.params["dimension_numbers"].out_spec
    dimensions = [
        Dimension(lhs.shape[i], rhs.shape[k], eqn.out.shape[o], *window)
        for i, k, o, *window in zip(
            lhs_spatial,
            rhs_spatial,
            out_spatial,
            eqn.params["window_strides"],
            (low for low, _ in eqn.params["padding"]),
            eqn.params["lhs_dilation"],
            eqn.params["rhs_dilation"],
            strict=True,
        )
    ]
    # The kernel holds channels per feature group already. With batch groups each output channel sees one group.
    batch = lhs.shape[batch_axis] // eqn.params["batch_group_count"]
    channels = batch * rhs.shape[in_channel_axis] * rhs.shape[out_channel_axis]
    macs = channels * prod(d.taps * min(d.inputs, d.outputs) for d in dimensions)
    valid = channels * prod(map(valid_taps, dimensions))
    return Cost.macs_of(dtypes.mixed(lhs.dtype, rhs.dtype, accumulator=eqn.out.dtype), macs, padding=macs - valid)


class Dimension(NamedTuple):
    """One spatial dimension: extents of input, kernel and output, then the window."""

    inputs: Count
    taps: Count
    outputs: Count
    stride: int
    padding: int
    input_dilation: int
    tap_dilation: int


def valid_taps(d: Dimension) -> Count:
    """Count the pairs of output position o and tap t that meet an input element, without going through the outputs.

    Tap t of output o lies at u = o*stride + t*tap_dilation - padding of the dilated input, and meets an element where
    u is a multiple of input_dilation, 0 <= u / input_dilation < inputs.
    """
    return sum(_outputs_that_meet(d, t * d.tap_dilation - d.padding) for t in range(d.taps)) if d.inputs else 0


def _outputs_that_meet(d: Dimension, offset: int) -> int:
    # o*stride + offset = i*input_dilation for some 0 <= i < inputs, 0 <= o < outputs.
    divisor = gcd(d.stride, d.input_dilation)
    if offset % divisor:
        return 0
    period = d.input_dilation // divisor
    # All solutions are congruent to `first` modulo the period.
    first = -(offset // divisor) * pow(d.stride // divisor, -1, period) % period if period > 1 else 0
    low = max(0, -(offset // d.stride))
    high = min(d.outputs - 1, ((d.inputs - 1) * d.input_dilation - offset) // d.stride)
    low += (first - low) % period
    return max(0, (high - low) // period + 1)
