"""Roofline: how long a kernel takes on a device, and what it is bound by.

Seconds are the largest of five terms, plus a launch: work on the matmul, the vector and the transcendental unit, bytes
through memory, bytes over links. Each unit reaches only a share of its peak, less for small work: a device that is
tabulated by `best * x / (x + x_half)`, where x_half is what the unit could do while it starts up; a device that is
calibrated by what was measured for work of that size.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import Any, Final, cast

from costax.core.cost import Count
from costax.performance import collective_time
from costax.performance.hardware import Device
from costax.performance.hardware.device import operand_class
from costax.performance.kernels import (
    LINK,
    MATMUL_UNIT,
    MEMORY,
    TRANSCENDENTAL_UNIT,
    VECTOR_UNIT,
    CollectiveWork,
    Contraction,
    Kernel,
)

# Shares of the peak that large work reaches where the device file says nothing of it, and how long a unit takes to
# start up. Source: Calculon's steps for the A100 (matrix 0.9, memory 0.9); NCCL reaches 0.8 of a link.
_BEST: Final[Mapping[str, float]] = {
    MATMUL_UNIT: 0.8,
    VECTOR_UNIT: 0.8,
    TRANSCENDENTAL_UNIT: 0.8,
    MEMORY: 0.9,
    LINK: 0.8,
}
_START: Final[Mapping[str, float]] = {
    MATMUL_UNIT: 4e-6,
    VECTOR_UNIT: 0.0,
    TRANSCENDENTAL_UNIT: 0.0,
    MEMORY: 1e-6,
    LINK: 0.0,
}
# XLA's own figure for a kernel on a GPU; a TPU runs a whole program without launches.
_LAUNCH: Final[Mapping[str, float]] = {"gpu": 1e-6, "tpu": 2e-7, "cpu": 3e-6}
_LINK_START: Final = 5e-6
_HOP: Final = 1e-6
# A transcendental is worked out at a quarter of the rate of an addition: 16 a clock and multiprocessor against 128
# multiply-adds. Source: CUDA C++ programming guide, throughput of native arithmetic instructions.
_SPECIAL_SHARE: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of a kernel each time that it runs: expected, by unit, at the peak of each unit, and one by one."""

    expected: float
    best: float
    worst: float
    terms: Mapping[str, float]
    launch: float

    @property
    def bound(self) -> str:
        """The unit that takes longest; "launch" where starting takes longer than all."""
        unit = max(self.terms, key=lambda name: self.terms[name], default=MEMORY)
        return unit if self.terms.get(unit, 0.0) >= self.launch else "launch"


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel and its timing."""

    kernel: Kernel
    timing: Timing

    @property
    def group(self) -> Kernel:
        """The old name of `kernel`."""
        warnings.warn("`group` is now called `kernel`.", DeprecationWarning, stacklevel=2)
        return self.kernel

    @property
    def seconds(self) -> float:
        """All its runs together."""
        return self.timing.expected * self.kernel.times


class Roofline:
    """A device's seconds for kernels; `mesh` are the sizes of named mesh axes, the fastest last."""

    def __init__(self, device: Device, mesh: Mapping[str, int] | None = None, footprint: Count = 0) -> None:
        """Take the device and how many of it there are along each axis.

        footprint: bytes that a call goes through; what was used a call ago comes from where so much has its place.
        """
        self.device = device
        self.mesh: dict[str, int] = dict(mesh or {})
        self.footprint = footprint

    def timing(self, kernel: Kernel) -> Timing:
        """Return how long a kernel takes each time."""
        peaks, reached = self._terms(kernel, at_peak=True), self._terms(kernel, at_peak=False)
        launch = self.launch(kernel)
        expected = max(reached.values(), default=0.0) + launch
        return Timing(expected, max(peaks.values(), default=0.0), sum(reached.values()) + launch, reached, launch)

    def launch(self, kernel: Kernel) -> float:
        """Return the seconds that it takes to start a kernel."""
        rates = self.device.rates.get("launch", {})
        found = float(rates.get("seconds", _LAUNCH[self.device.family]))
        return found + (_LINK_START if kernel.collective is not None else 0.0)

    def _terms(self, kernel: Kernel, *, at_peak: bool) -> dict[str, float]:
        terms = {
            MATMUL_UNIT: self._matmul(kernel, at_peak),
            VECTOR_UNIT: sum(self._vector(dtype, count, at_peak) for dtype, count in kernel.vector.items()),
            TRANSCENDENTAL_UNIT: sum(
                self._special(dtype, count, at_peak) for dtype, count in kernel.transcendental.items()
            ),
            MEMORY: self._memory(kernel, at_peak),
            LINK: self.collective(kernel.collective, at_peak=at_peak) if kernel.collective else 0.0,
        }
        return {unit: seconds for unit, seconds in terms.items() if seconds}

    def _matmul(self, kernel: Kernel, at_peak: bool) -> float:
        chained = sum(x.kind == "convolution" for x in kernel.contractions) > 1
        if self.device.rates and not at_peak:
            return sum(self._measured(x, chained=chained) for x in kernel.contractions)
        return sum(self._tabulated(dtype, flops, at_peak) for dtype, flops in kernel.matmul.items())

    def _tabulated(self, dtype: str, flops: Count, at_peak: bool) -> float:
        found = self.device.matmul_peak(dtype)
        if found is None:
            return 0.0
        unit, peak = found
        best = self.device.efficiency.get(f"{unit}_matmul") or self.device.efficiency.get("bf16_matmul")
        return _reached(
            float(flops), peak.value, best.value if best else _BEST[MATMUL_UNIT], _START[MATMUL_UNIT], at_peak
        )

    def _measured(self, found: Contraction, *, chained: bool) -> float:
        """Return the seconds of a contraction on a calibrated device. chained: other convolutions are fused with it."""
        flops, filter_bytes = float(found.flops), float(found.filter_bytes)
        table = self._table(found.kind, found.dtype) or self._table("matmul", found.dtype)
        plain, chain = self._table("plain_convolution", ""), self._table("chained_convolution", "")
        if found.kind == "plain convolution" and plain:
            return filter_bytes / interpolated(plain, filter_bytes)
        if not table:
            return self._tabulated(found.dtype, found.flops, at_peak=False)
        seconds = flops / interpolated(table, flops)
        layers, packing = self._table("layers", ""), self._table("packing", "")
        if found.kind == "matmul" and found.rows and layers:
            # Few rows leave much of the unit idle, however large the product is.
            seconds = max(seconds, flops / interpolated(layers, float(found.rows)))
        if found.kind == "convolution" and filter_bytes and packing:
            seconds += filter_bytes / interpolated(packing, filter_bytes)
        if chained and found.kind == "convolution" and filter_bytes and chain:
            seconds = max(seconds, flops / interpolated(chain, filter_bytes))
        return seconds

    def _vector(self, dtype: str, count: Count, at_peak: bool) -> float:
        table = self._table("vector", dtype)
        if table and not at_peak:
            return float(count) / interpolated(table, float(count))
        found = self.device.vector_peak(dtype)
        # A peak counts a multiply-add as two; an elementwise operation is one.
        return _reached(float(count), found[1].value / 2, _BEST[VECTOR_UNIT], 0.0, at_peak) if found else 0.0

    def _special(self, dtype: str, count: Count, at_peak: bool) -> float:
        table = self._table("transcendental", dtype)
        if table and not at_peak:
            return float(count) / interpolated(table, float(count))
        found = self.device.vector_peak(dtype)
        return (
            _reached(float(count), found[1].value * _SPECIAL_SHARE, _BEST[TRANSCENDENTAL_UNIT], 0.0, at_peak)
            if found
            else 0.0
        )

    def _memory(self, kernel: Kernel, at_peak: bool) -> float:
        moved = float(kernel.moved)
        table, far = self._table("bandwidth", ""), self._table("reading", "")
        if table and not at_peak:
            around = float(kernel.reuse_distance or self.footprint)
            cold = float(min(kernel.uncached_bytes, kernel.moved)) if around > moved and far else 0.0
            if kernel.transposes and (order := self._table("transpose", "")):
                return moved / interpolated(order, moved)
            # The table goes by the size of an array that is changed in place, so that twice as much moves.
            near = (moved - cold) / interpolated(table, moved / 2) if moved > cold else 0.0
            return near + (cold / interpolated(far, around) if cold else 0.0)
        if self.device.bandwidth is None:
            return 0.0
        best = self.device.efficiency.get("bandwidth")
        return _reached(
            moved, self.device.bandwidth.value, best.value if best else _BEST[MEMORY], _START[MEMORY], at_peak
        )

    def allocation(self, nbytes: Count) -> float:
        """Return the seconds that it takes to have so many bytes of new memory, where a calibration says so."""
        table = self._table("allocation", "")
        return float(nbytes) / interpolated(table, float(nbytes)) if table and nbytes else 0.0

    def collective(self, found: CollectiveWork, *, at_peak: bool = False) -> float:
        """Return the seconds of a collective along the axes of the mesh."""
        link = self.device.link
        members = found.members
        if link is None or members <= 1:
            return 0.0
        share = 1.0 if at_peak else _BEST[LINK]
        topology, axes, bandwidth = ring_of(self.device, found, self.mesh)
        hop = 0.0 if at_peak else _HOP
        return collective_time.seconds(
            found.name, found.nbytes, members, bandwidth * share, topology=topology, axes=axes, latency=hop
        )

    def _table(self, name: str, dtype: str) -> Sequence[Sequence[float]]:
        found: Any = self.device.rates.get(name)
        if not found:
            return ()
        if not isinstance(found, dict):
            return found
        by_class = cast("Mapping[str, Sequence[Sequence[float]]]", found)
        return by_class.get(operand_class(dtype)) or by_class.get("fp32", ())


def ring_of(device: Device, found: CollectiveWork, mesh: Mapping[str, int]) -> tuple[str, int, float]:
    """Return the topology over which a collective runs, its axes, and the bandwidth of one of its links."""
    link = device.link
    assert link is not None
    if link.topology != "torus":
        return "switch", 1, link.send.value
    one = link.send.value / link.links
    # A mesh axis lies along an axis of the torus; more of them use more axes at once. An axis is a ring only where it
    # goes all the way round: 16 chips of v5e and v6e, multiples of 4 of the others.
    axes = max(1, min(len(found.axes), link.axes))
    whole = 16 if link.axes == 2 else 4
    sizes = [mesh.get(axis, found.members) for axis in found.axes] or [found.members]
    if all(size % whole == 0 for size in sizes):
        return ("bidirectional ring" if axes == 1 else "torus"), axes, one
    # Without the wrap the ring is folded: twice the time.
    return ("bidirectional ring" if axes == 1 else "torus"), axes, one / 2


def _reached(count: float, peak: float, best: float, start: float, at_peak: bool) -> float:
    """Return seconds: at the peak, or at the share of it that work of this size reaches."""
    if not count:
        return 0.0
    return count / peak if at_peak else count / (peak * best) + start


def interpolated(table: Sequence[Sequence[float]], size: float) -> float:
    """Return the rate at a size from measured (size, rate) pairs, straight between them on logarithmic axes.

    >>> interpolated([[1, 10], [100, 1000]], 10), interpolated([[1, 10], [100, 1000.0]], 1e6)
    (100.0, 1000.0)
    """
    if size <= table[0][0]:
        # Below the smallest the time stays what it was: the rate falls with the size.
        return table[0][1] * max(size, 1.0) / table[0][0]
    for (x, a), (y, b) in pairwise(table):
        if size <= y:
            share = (log(size) - log(x)) / (log(y) - log(x))
            return round(exp(log(a) + share * (log(b) - log(a))), 9)
    return table[-1][1]
