"""Convolutions: sums of products over a sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import gcd, prod
from typing import NamedTuple

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.core.polynomial import Polynomial, at_least, maximum, minimum
from costax.errors import Undecided
from costax.rules.registry import cost_rule
from costax.rules.traits import ContractionKind, Traits


@cost_rule("conv_general_dilated", traits=Traits(contraction=ContractionKind.CONVOLUTION))
def conv_general_dilated(eqn: Equation) -> Cost:
    """Each output element is a sum over kernel taps and input channels.

    macs = batch * (channels per group) * (output channels) * prod(taps * min(input positions, output positions)), one
    factor for each spatial dimension. In a forward convolution that is the textbook number, edge padding included, also
    where the kernel is larger than the input. In a transposed one (an input gradient) each input position is multiplied
    by each tap once; the holes between them are no work, so a convolution and its input gradient have the same MACs.
    An input position and an output position meet in at most one tap. So a factor is at most input positions * output
    positions where the input has holes, and in a weight gradient, whose taps are the output positions of the
    convolution: a transposed convolution, its input gradient and its weight gradient have the same MACs too. A forward
    convolution or an input gradient is one whose batch is the first axis of input and output; jax swaps batch and
    channels in a weight gradient and in its derivatives.
    padding_macs is the part of macs that touches only padding (or, in a weight gradient, holes): macs - padding_macs
    are the valid taps, the triples (output position, tap, input position) that are multiplied. They are the same
    triples, and the same number, for a convolution and both of its gradients.
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
    forward = lhs_spec[0] == numbers.out_spec[0] == 0
    macs = channels * prod(_pairs(d, forward=forward) for d in dimensions)
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


def _pairs(d: Dimension, *, forward: bool) -> Count:
    """Return the multiplications of one dimension; `conv_general_dilated` has the definition.

    A tap meets an input position in at most one output position, and so do the other pairs of the three. So the product
    of any two extents is an upper bound of `valid_taps`, for every stride, dilation and padding.
    """
    # A single position has no holes, whatever its dilation.
    holes = d.input_dilation > 1 and d.inputs != 1
    return d.taps * minimum(d.inputs, d.outputs) if forward and not holes else _two_smallest(d)


def _two_smallest(d: Dimension) -> Count:
    """Return the product of the two smallest extents: min(taps * min(inputs, outputs), inputs * outputs)."""
    for small, large, other in permutations((d.taps, d.inputs, d.outputs)):
        if at_least(large - small, 0):
            return small * minimum(large, other)
    return minimum(d.taps * minimum(d.inputs, d.outputs), d.inputs * d.outputs)


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
    """Return the same as `valid_taps` where extents or the padding depend on symbols.

    The triples (output o, tap t, input i) with o*stride + t*tap_dilation = i*input_dilation + padding are counted by a
    loop over the smallest extent that is a number. For each of its positions the other two lie on a line.
    """
    numbers = [extent for extent in (d.taps, d.outputs, d.inputs) if not isinstance(extent, Polynomial)]
    if not numbers:
        raise Undecided("costax has no formula for a convolution whose input, window and output all depend on symbols")
    few = min(numbers)
    outputs, taps, inputs = (d.outputs, d.stride), (d.taps, d.tap_dilation), (d.inputs, d.input_dilation)
    if few == d.taps:
        return sum(_points_on_line(outputs, inputs, t * d.tap_dilation - d.padding) for t in range(few))
    if few == d.outputs:
        return sum(_points_on_line(taps, inputs, o * d.stride - d.padding) for o in range(few))
    # Counted from the last tap backwards, the taps lie on a line that rises, as `_points_on_line` needs it.
    last = (d.taps - 1) * d.tap_dilation - d.padding
    return sum(_points_on_line(outputs, taps, last - i * d.input_dilation) for i in range(few))


def _points_on_line(x_axis: tuple[Count, int], y_axis: tuple[Count, int], offset: Count) -> Count:
    """Return the number of points 0 <= x < columns, 0 <= y < rows with x*across + offset = y*up.

    x_axis: (columns, across). y_axis: (rows, up).
    """
    if x_axis[1] == 1 and y_axis[1] > 1:
        # Every y has an x, but not every x has a y.
        return _points_on_line(y_axis, x_axis, -offset)
    (columns, across), (rows, up) = x_axis, y_axis
    divisor = gcd(across, up)
    # x is congruent to `first` modulo the period, and offset a multiple of divisor. If period is 1, every x has a y.
    period = up // divisor
    inverse = pow(across // divisor, -1, period) if period > 1 else 0
    first = -(offset // divisor) * inverse % period
    divisible = 1 - minimum(offset % divisor, 1)
    if not isinstance(divisible, Polynomial) and not divisible:
        return 0
    low = maximum(first, -(offset // across))
    high = minimum(columns - 1, ((rows - 1) * up - offset) // across)
    # x = first, first + period, ... from low to high
    return divisible * maximum((high - first) // period - (low - first - 1) // period, 0)


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
