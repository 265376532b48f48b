"""From seconds to rates: work a second by size, beyond what it takes to start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from costax.performance.roofline import interpolated


class Point(NamedTuple):
    """A measured point: the table that it belongs to, by which size it stands there, and the seconds of all its steps.

    work: what one step does, in operations or bytes.
    """

    table: str
    dtype: str
    size: float
    work: float
    steps: int
    seconds: float


class Starts(NamedTuple):
    """Seconds before work: to start a program, to wake the threads of its products, to start a kernel in it."""

    dispatch: float
    threads: float
    launch: float


def starts_of(points: Sequence[Point]) -> Starts:
    """Return what starting takes."""
    dispatch = next(p.seconds for p in points if p.table == "dispatch")
    launch = next(max(p.seconds - dispatch, 0) / p.steps for p in points if p.table == "launch")
    # Of one layer and of eight, what is no layer is the start.
    one = next(p for p in points if p.table == "threads")
    eight = next(p for p in points if p.table == "layers" and p.size == 32)
    layer = (eight.seconds - one.seconds) / (eight.steps - one.steps)
    return Starts(dispatch, max(one.seconds - dispatch - layer, 0.0), launch)


Pairs = list[tuple[float, float]]
# Programs of some kernels one after the other, in no loop.
_THREADED: Final = ("layers", "reading", "chained_convolution")


def _step(point: Point, starts: Starts) -> float:
    """Return the seconds of one step beyond what starting takes, which counts apart."""
    start = starts.dispatch + (starts.threads if point.table in _THREADED else 0.0)
    one = max(point.seconds - start, point.seconds / 20) / point.steps
    return max(one - starts.launch, one / 2) if point.steps > 1 else one


def rates_of(points: Sequence[Point], starts: Starts) -> dict[tuple[str, str], Pairs]:
    """Return (size, work a second) pairs by table and dtype."""
    rates: dict[tuple[str, str], Pairs] = {}
    for point in points:
        if point.table not in ("dispatch", "threads", "launch"):
            pair = (point.size, point.work / _step(point, starts))
            rates.setdefault((point.table, point.dtype), []).append(pair)
    rates = {key: sorted(pairs) for key, pairs in rates.items()}
    images = rates["convolution", "fp32"]
    if packing := rates.pop(("packing", "fp32"), None):
        # What a convolution of a tiny image takes beyond its operations goes into laying out the kernel.
        rates["packing", ""] = [(kernel, _beyond(kernel, rate, images)) for kernel, rate in packing]
    return rates


def _beyond(kernel: float, rate: float, images: Pairs) -> float:
    """Return the bytes of a kernel that are laid out a second, of convolutions of an image of 7 x 7."""
    flops = 2 * 49 * kernel / 4
    whole = flops / rate
    return kernel / max(whole - flops / interpolated(images, flops), whole / 5)
