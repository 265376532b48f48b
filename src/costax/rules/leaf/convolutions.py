"""Convolutions: sums of products over a sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.core.polynomial import Polynomial, maximum, minimum
from costax.errors import Undecided
from costax.rules.registry import cost_rule
from costax.rules.traits import ContractionKind, Traits


@cost_rule("conv_general_dilated", traits=Traits(contraction=ContractionKind.CONVOLUTION))
def conv_general_dilated(eqn: Equation) -> Cost:
    """Each output element is a sum over kernel taps and input channels.

    macs = batch * (channels per group) * (output channels) * prod(taps * min(input positions, output positions)), one
    factor for each spatial dimension. In a forward convolution that is the textbook number, edge padding included. In a
    transposed one (an input gradient) each input position is multiplied by each tap once; the holes between them are no
    work, so a convolution and its input gradient have the same MACs. A tap is multiplied by an input position for at
    most one output position, so taps * min(...) is an upper bound for every stride, dilation and padding, and
    padding_macs is never negative. padding_macs is the part of macs that touches only padding (or, in a weight
    gradient, holes): macs - padding_macs are the valid taps, the triples (output position, tap, input position) that
    are multiplied. They are the same triples, and the same number, for a convolution and both of its gradients.
    XLA: HandleConvolution counts 2 FLOPs for each valid tap, so 2 * (macs - padding_macs). On the CPU jax makes three
    real convolutions of a complex one.
    """
    lhs, rhs = eqn.inputs
    numbers = eqn.params["dimension_numbers"]
    lhs_spec: Sequence[int] = numbers.lhs_spec
    rhs_spec: Sequence[int] = numbers.rhs_spec
    dimensions = _dimensions(eqn, lhs_spec, rhs_spec, numbers.out_spec)
    # The shape of the kernel has the channels per feature group. With batch groups each output channel uses one group.
    batch = lhs.shape[lhs_spec[0]] // eqn.params["batch_group_count"]
    channels = batch * rhs.shape[rhs_spec[0]] * rhs.shape[rhs_spec[1]]
    macs = channels * prod(d.taps * minimum(d.inputs, d.outputs) for d in dimensions)
    valid = channels * prod(map(valid_taps, dimensions))
    return Cost.macs_of(dtypes.mixed(lhs.dtype, rhs.dtype, accumulator=eqn.out.dtype), macs, padding=macs - valid)


class Dimension(NamedTuple):
    """One spatial dimension: the extents of input, kernel and output, and the parameters of the window."""

    inputs: Count
    taps: Count
    outputs: Count
    stride: int = 1
    padding: int = 0
    input_dilation: int = 1
    tap_dilation: int = 1


def _dimensions(
    eqn: Equation, lhs_spec: Sequence[int], rhs_spec: Sequence[int], out_spec: Sequence[int]
) -> list[Dimension]:
    # Each specification has the axes of batch and channels first, then the spatial axes.
    lows = [low for low, _ in eqn.params["padding"]]
    axes = zip(lhs_spec[2:], rhs_spec[2:], out_spec[2:], strict=True)
    windows = zip(
        eqn.params["window_strides"], lows, eqn.params["lhs_dilation"], eqn.params["rhs_dilation"], strict=True
    )
    lhs, rhs = eqn.inputs
    return [
        Dimension(lhs.shape[i], rhs.shape[k], eqn.out.shape[o], *window)
        for (i, k, o), window in zip(axes, windows, strict=True)
    ]


def valid_taps(d: Dimension) -> Count:
    """Return the number of pairs (output position, tap) that read an input element and no padding.

    Tap t of output o reads position u = o*stride + t*tap_dilation - padding of the dilated input. That is an element
    if u is a multiple of input_dilation and 0 <= u / input_dilation < inputs. For each residue of t modulo the input
    dilation, the outputs o with that property are congruent too; so the pairs are the points of a grid below a line,
    which have a closed formula. A loop over all pairs would take long for an image of 10,000 positions.

    >>> valid_taps(Dimension(inputs=224, taps=3, outputs=224, padding=1))
    670
    """
    if any(isinstance(extent, Polynomial) for extent in d):
        return _valid_taps_of_symbols(d)
    divisor = gcd(d.stride, d.input_dilation)
    period = d.input_dilation // divisor
    inverse = pow(d.stride // divisor, -1, period) if period > 1 else 0
    highest = (d.inputs - 1) * d.input_dilation
    count = 0
    for t in range(min(d.taps, d.input_dilation)):
        offset = t * d.tap_dilation - d.padding
        if offset % divisor:
            continue
        o = -(offset // divisor) * inverse % period
        # o, o + period, ... below outputs; t, t + input_dilation, ... below taps.
        columns = -((o - d.outputs) // period)
        rows = -((t - d.taps) // d.input_dilation)
        across, up = d.stride * period, d.tap_dilation * d.input_dilation
        start = o * d.stride + offset
        count += _pairs_below(columns, rows, across, up, highest - start) - _pairs_below(
            columns, rows, across, up, -1 - start
        )
    return count


def _valid_taps_of_symbols(d: Dimension) -> Count:
    """Return the same as `valid_taps` where the input or the padding depends on symbols.

    Outputs and taps are symmetric in o*stride + t*tap_dilation, so the loop is over the one of them that is a number.
    """
    if not isinstance(d.taps, Polynomial):
        few, many, step, stride = d.taps, d.outputs, d.tap_dilation, d.stride
    elif not isinstance(d.outputs, Polynomial):
        few, many, step, stride = d.outputs, d.taps, d.stride, d.tap_dilation
    else:
        raise Undecided("costax has no formula for a window and an output that both depend on symbols")
    return sum(_elements_read(d, t * step - d.padding, many, stride) for t in range(few))


def _elements_read(d: Dimension, offset: Count, many: Count, stride: int) -> Count:
    """Return the number of x, 0 <= x < many, for which x*stride + offset is the position of an input element."""
    divisor = gcd(stride, d.input_dilation)
    period = d.input_dilation // divisor
    first: Count = 0
    if d.input_dilation > 1:
        if isinstance(offset, Polynomial):
            raise Undecided("costax has no formula for a dilated input with padding that depends on symbols")
        if offset % divisor:
            return 0
        first = -(offset // divisor) * (pow(stride // divisor, -1, period) if period > 1 else 0) % period
    low = maximum(first, -(offset // stride))
    high = minimum(many - 1, ((d.inputs - 1) * d.input_dilation - offset) // stride)
    # x = first, first + period, ... from low to high
    return maximum((high - first) // period - (low - first - 1) // period, 0)


def _pairs_below(columns: int, rows: int, across: int, up: int, bound: int) -> int:
    """Return the number of points 0 <= x < columns, 0 <= y < rows with across*x + up*y <= bound."""
    return _points_below(columns, across, up, bound) - _points_below(columns, across, up, bound - up * rows)


def _points_below(columns: int, across: int, up: int, bound: int) -> int:
    """Return the number of points 0 <= x < columns, 0 <= y with across*x + up*y <= bound."""
    if bound < 0 or columns <= 0:
        return 0
    n = min(columns, bound // across + 1)
    # Column x has (bound - across*x) // up + 1 points. Counted from the last column backwards, the numbers rise, as
    # `_floor_sum` needs them.
    return n + _floor_sum(n, up, across, bound - across * (n - 1))


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """Return the sum of (a*i + b) // m over 0 <= i < n, in the steps of Euclid's algorithm (a, b >= 0).

    Source: Graham, Knuth and Patashnik, Concrete Mathematics, section 3.5.
    """
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        n, b, m, a = top // m, top % m, a, m
    return total
