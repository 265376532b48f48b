"""Rates from measured seconds: work per second by size, without the time to start a program or a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from costax.performance.roofline import interpolated


class Point(NamedTuple):
    """A measured point of a table of rates.

    table, dtype: the table. size: the key in the table. work: operations or bytes of one step. steps: how many steps
    the program runs. seconds: of all steps.
    """

    table: str
    dtype: str
    size: float
    work: float
    steps: int
    seconds: float


class Starts(NamedTuple):
    """Start-up seconds: of a program, of the threads of its matrix products, of each kernel."""

    dispatch: float
    threads: float
    launch: float


def starts_of(points: Sequence[Point]) -> Starts:
    """Return the start-up times from the trials that measure them."""
    dispatch = next(p.seconds for p in points if p.table == "dispatch")
    launch = next(max(p.seconds - dispatch, 0) / p.steps for p in points if p.table == "launch")
    # The program with one layer and the one with eight differ by seven layers. The time of the program with one layer,
    # less a layer and the dispatch, is the time to wake the threads.
    one = next(p for p in points if p.table == "threads")
    eight = next(p for p in points if p.table == "layers" and p.size == 32)
    layer = (eight.seconds - one.seconds) / (eight.steps - one.steps)
    return Starts(dispatch, max(one.seconds - dispatch - layer, 0.0), launch)


Pairs = list[tuple[float, float]]
# Tables whose programs run a few kernels one after the other, without a loop, so that each call wakes the threads.
_THREADED: Final = ("layers", "reading", "chained_convolution")


def _step(point: Point, starts: Starts) -> float:
    """Return the seconds of one step without start-up times, which a prediction adds again.

    Noise may make the start-up longer than the whole measurement, so a twentieth of the time (half of it for the
    launch) always counts as work.
    """
    start = starts.dispatch + (starts.threads if point.table in _THREADED else 0.0)
    one = max(point.seconds - start, point.seconds / 20) / point.steps
    return max(one - starts.launch, one / 2) if point.steps > 1 else one


def rates_of(points: Sequence[Point], starts: Starts) -> dict[tuple[str, str], Pairs]:
    """Return sorted (size, work per second) pairs by table and dtype."""
    rates: dict[tuple[str, str], Pairs] = {}
    for point in points:
        if point.table not in ("dispatch", "threads", "launch"):
            pair = (point.size, point.work / _step(point, starts))
            rates.setdefault((point.table, point.dtype), []).append(pair)
    rates = {key: sorted(pairs) for key, pairs in rates.items()}
    images = rates["convolution", "fp32"]
    if packing := rates.pop(("packing", "fp32"), None):
        # A convolution of a tiny image takes longer than its operations: the filter is copied to another layout first.
        rates["packing", ""] = [(nbytes, _packing_rate(nbytes, rate, images)) for nbytes, rate in packing]
    return rates


def _packing_rate(filter_bytes: float, rate: float, images: Pairs) -> float:
    """Return the bytes of a filter that are copied per second, from a convolution of a 7 x 7 image.

    rate: FLOP/s of that convolution. images: FLOP/s of convolutions of large images, whose copy takes no time.
    """
    flops = 2 * 49 * filter_bytes / 4
    seconds = flops / rate
    return filter_bytes / max(seconds - flops / interpolated(images, flops), seconds / 5)
