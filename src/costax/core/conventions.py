"""Conventions: the numbers that another tool would report for the same cost.

A convention is a projection of a Cost, so that two conventions differ by a subtraction.
"""

from __future__ import annotations

from typing import NamedTuple

from costax.core.cost import (
    ARITHMETIC,
    COMPARE,
    CONVERT,
    INTEGER,
    MAC,
    PADDING_MAC,
    SELECT,
    TRANSCENDENTAL,
    Cost,
    Count,
)

# XLA counts every elementary operation of any dtype as a FLOP, and does not count taps on padding.
_XLA_WEIGHTS = {MAC: 2, PADDING_MAC: -2, ARITHMETIC: 1, INTEGER: 1, COMPARE: 1, SELECT: 1, CONVERT: 1}


class XlaCounts(NamedTuple):
    """The two counts of XLA's cost analysis."""

    flops: Count
    transcendentals: Count


def as_xla(cost: Cost) -> XlaCounts:
    """Return the FLOPs and transcendentals that XLA would report for a cost. Source: XLA HloCostAnalysis.

    >>> as_xla(Cost.macs_of("i8", 10, padding=2) + Cost.compare("f32", 3) + Cost.transcendental("f32", 4))
    XlaCounts(flops=19, transcendentals=4)
    """
    flops = transcendentals = 0
    for (kind, _), count in cost.items():
        flops += _XLA_WEIGHTS.get(kind, 0) * count
        transcendentals += count if kind == TRANSCENDENTAL else 0
    return XlaCounts(flops, transcendentals)
