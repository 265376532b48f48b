"""The time of a collective among the GPUs of one host, from measured tables.

`collectives.csv` has the microseconds by device, kind, members and bytes of the whole array, as `collective_time`
counts them. Between two sizes the time is linear in the bytes, between two numbers of members in their logarithm. The
tables hold what no formula of the links alone does: the start, the change of protocol with the size, and reduction
inside the switch. A permute is measured as the all-to-all of two GPUs.

A device without a table gets that of the measured device whose links are nearest in bandwidth, for an array that takes
its links as long.
"""

from __future__ import annotations

import csv
from functools import cache
from itertools import pairwise
from math import log, log2
from pathlib import Path
from typing import Final, NamedTuple

from costax.performance.hardware import Device

# By how much each doubling of the members beyond the measured ones lengthens the start. Source: from 2 to 4 to 8 GPUs
# it grows by 1.4 to 1.6 in the tables.
_START_GROWTH: Final = 1.5

Curve = tuple[tuple[float, float], ...]
"""(bytes, seconds), sorted by bytes."""


class MeasuredCollective(NamedTuple):
    """The time of a collective. low, high: measured over expected, as quantiles. source: end of "from ..."."""

    seconds: float
    low: float
    high: float
    source: str


# Measured over expected of which nine in ten sizes that are not in the table are above and below; of a device that was
# left out. Source: benchmarks/accuracy.py.
SPREAD: Final = (0.93, 1.08)
SPREAD_OF_OTHERS: Final = (0.6, 1.5)


@cache
def tables() -> dict[str, dict[str, dict[int, Curve]]]:
    """Return the measured curves by device, kind and members."""
    found: dict[str, dict[str, dict[int, Curve]]] = {}
    with (Path(__file__).parent / "collectives.csv").open(encoding="utf-8", newline="") as text:
        header, *lines = csv.reader(line for line in text if not line.startswith("#"))
        sizes = [float(size) for size in header[3:]]
        for device, kind, members, *times in lines:
            curve = tuple((size, float(time) * 1e-6) for size, time in zip(sizes, times, strict=True))
            found.setdefault(device, {}).setdefault(kind, {})[int(members)] = curve
    return found


def interpolated(curve: Curve, nbytes: float) -> float:
    """Return the seconds of a curve, linear between sizes, constant below them and proportional above.

    >>> interpolated(((100, 1.0), (200, 2.0)), 150), interpolated(((100, 1.0), (200, 2.0)), 400)
    (1.5, 4.0)
    """
    if nbytes <= curve[0][0]:
        return curve[0][1]
    for (x, a), (y, b) in pairwise(curve):
        if nbytes <= y:
            return a + (b - a) * (nbytes - x) / (y - x)
    return curve[-1][1] * nbytes / curve[-1][0]


def seconds(device: Device, kind: str, nbytes: float, members: int, *, without: str = "") -> MeasuredCollective | None:
    """Return the time of a collective inside one host; None for a device whose links are not like a measured one's.

    kind, nbytes, members: those of `collective_time.seconds`. without: a device whose table is left aside.
    """
    if device.family != "gpu" or device.link is None or members < 2:
        return None
    known = {name: table for name, table in tables().items() if name != without}
    if device.id in known:
        name, scale, (low, high) = device.id, 1.0, SPREAD
    else:
        name = _nearest(device, known)
        scale, (low, high) = _link(name) / device.link.send.value, SPREAD_OF_OTHERS
    if kind == "permute":
        # Each GPU of an all-to-all of two sends half of its array.
        kind, nbytes, members = "all-to-all", 2 * nbytes, 2
    time = _among(known[name][kind], nbytes * scale, members)
    source = f"the measured table of {name}" + ("" if scale == 1 and name == device.id else ", scaled by the links")
    return MeasuredCollective(time, low, high, source)


def _among(curves: dict[int, Curve], nbytes: float, members: int) -> float:
    """Return the seconds among a number of members: between the measured numbers, or beyond them."""
    counts = sorted(curves)
    if members in curves:
        return interpolated(curves[members], nbytes)
    for fewer, more in pairwise(counts):
        if members < more:
            share = (log(members) - log(fewer)) / (log(more) - log(fewer))
            return interpolated(curves[fewer], nbytes) * (1 - share) + interpolated(curves[more], nbytes) * share
    most = counts[-1]
    start = curves[most][0][1]
    moving = max(interpolated(curves[most], nbytes) - start, 0.0) * (1 - 1 / members) / (1 - 1 / most)
    return start * _START_GROWTH ** log2(members / most) + moving


def _nearest(device: Device, known: dict[str, dict[str, dict[int, Curve]]]) -> str:
    assert device.link is not None
    rate = device.link.send.value
    return min(known, key=lambda name: abs(log(_link(name) / rate)))


def _link(name: str) -> float:
    from costax.performance.hardware import device

    link = device(name).link
    assert link is not None
    return link.send.value
