"""Roofline: the time of a kernel on a device, and the unit that bounds it.

The time of a kernel is its launch plus the largest of five terms: the times of the matmul unit, the vector unit, the
transcendental unit, memory and links. Each unit reaches only a share of its peak, and less for small work. For a
device with a table of peaks the rate is `peak * best * x / (x + x_half)` for work x, where x_half is the work that the
unit could do during its start-up time. A calibrated CPU has a model of its own (`costax.performance.cpu`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from costax.core.cost import Count
from costax.performance.attention_time import attention_on
from costax.performance.contractions import Contraction
from costax.performance.cpu.timing import cpu_time
from costax.performance.hardware import Device
from costax.performance.kernels import (
    LINK,
    MATMUL_UNIT,
    MEMORY,
    TRANSCENDENTAL_UNIT,
    VECTOR_UNIT,
    CollectiveWork,
    Kernel,
)
from costax.performance.link_time import collective_on
from costax.performance.precision import unit_of
from costax.performance.product_time import product_on

# The share of the peak that large work reaches, for devices whose file has no measured share, and the start-up time of
# each unit in seconds. Source: Calculon's steps for the A100 (matrix 0.9, memory 0.9).
_BEST: Final[Mapping[str, float]] = {
    MATMUL_UNIT: 0.8,
    VECTOR_UNIT: 0.8,
    TRANSCENDENTAL_UNIT: 0.8,
    MEMORY: 0.9,
}
_START: Final[Mapping[str, float]] = {
    MATMUL_UNIT: 4e-6,
    VECTOR_UNIT: 0.0,
    TRANSCENDENTAL_UNIT: 0.0,
    MEMORY: 1e-6,
}
# Seconds that the kernel of a product on a TPU takes at least, its launch included, and the exponent p with which its
# arithmetic and its traffic overlap: (matmul**p + memory**p)**(1/p). Source: products of 128 to 32768 on a TPU7x
# (Google, tpu-recipes, microbenchmarks for Ironwood), which take 1.6 us to 74 ms: none is further off than 16 %.
_PRODUCT_OF_TPU: Final = 1.8e-6
_OVERLAP_OF_TPU: Final = 1.5
# A reduction on a GPU reaches less of the bandwidth than an elementwise loop, and takes longer to start: its threads
# wait for each other. Source: the kernels of XLA in a training step of a GPT on an A100 (NVIDIA/JAX-Toolbox, nsys-jax
# test data): 1,130 reductions reach 0.72 of what 1,017 loops reach, and the small ones take 3.6 us, loops 2.6 us.
_REDUCTION_SHARE: Final = 0.75
_REDUCTION_START: Final = 1e-6
# Seconds to launch a kernel. The GPU figure is that of XLA's cost model; a TPU runs a whole program without launches.
_LAUNCH: Final[Mapping[str, float]] = {"gpu": 1e-6, "tpu": 2e-7, "cpu": 3e-6, "neuron": 2e-7}
# Seconds to start a collective.
_LINK_START: Final = 5e-6
# A multiprocessor starts 16 transcendentals per clock and 128 multiply-adds, which the peak counts as 256 FLOPs.
# Source: CUDA C++ programming guide, throughput of native arithmetic instructions.
_TRANSCENDENTAL_SHARE: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of one run of a kernel.

    expected: launch plus the slowest unit, or what a model of such kernels says. best: the slowest unit at its peak,
    without launch. worst: launch plus all units one after the other. Where a model of measured tables says the time,
    nine in ten of the measured kernels took longer than best, and nine in ten less than worst. terms: expected seconds
    of each unit. sources: which tables the model's constants come from, each the end of "from ...". processor: of a
    calibrated CPU, the expected seconds of all threads together. unmeasured: what its calibration did not measure.
    waiting: its routines whose threads wait actively for each other.
    """

    expected: float
    best: float
    worst: float
    terms: Mapping[str, float]
    launch: float
    sources: tuple[str, ...] = ()
    processor: float = 0.0
    unmeasured: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """The unit that takes longest, or "launch" if the launch takes longer than every unit."""
        unit = max(self.terms, key=lambda name: self.terms[name], default=MEMORY)
        return unit if self.terms.get(unit, 0.0) >= self.launch else "launch"


class Modelled(NamedTuple):
    """Seconds by a model of kernels. low, high: measured over expected, as quantiles. source: end of "from ..."."""

    seconds: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel and the time of one run. hidden: the seconds of one run that overlap with other kernels."""

    kernel: Kernel
    timing: Timing
    hidden: float = 0.0

    def __repr__(self) -> str:
        """Return the name and the layer of the kernel, its seconds and what bounds it."""
        kernel = self.kernel
        where = "/".join(kernel.scope)
        return f"KernelTime({kernel.name!r}, scope={where!r}, seconds={self.seconds:.3g}, bound={self.timing.bound!r})"

    @property
    def group(self) -> Kernel:
        """The former name of `kernel`, deprecated."""
        warnings.warn("`group` is now called `kernel`.", DeprecationWarning, stacklevel=2)
        return self.kernel

    @property
    def seconds(self) -> float:
        """The expected seconds of all runs of the kernel in one call, without those that other kernels hide."""
        return (self.timing.expected - self.hidden) * self.kernel.times


class Roofline:
    """The times of kernels on one device."""

    def __init__(
        self,
        device: Device,
        mesh: Mapping[str, int] | None = None,
        working_set: Count = 0,
    ) -> None:
        """Prepare a roofline.

        mesh: the sizes of the mesh axes by name, for collectives. working_set: the bytes that one call touches. An
        argument was used a whole call ago, so it comes from the cache level (or memory) that holds this many bytes.
        """
        self.device = device
        self.mesh: dict[str, int] = dict(mesh or {})
        self.working_set = working_set

    def timing(self, kernel: Kernel) -> Timing:
        """Return the seconds of one run of a kernel."""
        if self.device.rates:
            return self._calibrated(kernel)
        peaks, reached = self._terms(kernel, at_peak=True), self._terms(kernel, at_peak=False)
        launch = self.launch(kernel)
        best, expected = max(peaks.values(), default=0.0), max(reached.values(), default=0.0) + launch
        worst = sum(reached.values()) + launch
        if kernel.contractions and self.device.family == "tpu":
            launch = _PRODUCT_OF_TPU
            memory = max(reached.get(MEMORY, 0.0) - _START[MEMORY], 0.0)
            both = (reached.get(MATMUL_UNIT, 0.0), memory)
            whole = sum(seconds**_OVERLAP_OF_TPU for seconds in both) ** (1 / _OVERLAP_OF_TPU)
            expected = max(*(seconds for unit, seconds in reached.items() if unit != MEMORY), whole) + launch
            worst = sum(reached.values()) + launch
        modelled = self._modelled(kernel)
        if modelled:
            # A model of the kernel holds its start, and how far its arithmetic and its traffic overlap.
            whole = sum(part.seconds for part in modelled)
            expected = whole if kernel.attention is not None else max(expected, whole)
            best = max(0.0 if kernel.attention else best, sum(part.seconds * part.low for part in modelled))
            worst = max(0.0 if kernel.attention else worst, sum(part.seconds * part.high for part in modelled))
        sources = tuple(dict.fromkeys(part.source for part in modelled))
        return Timing(expected, min(best, expected), worst, reached, launch, sources)

    def _calibrated(self, kernel: Kernel) -> Timing:
        """Return the time on a CPU by its measured rates; the threads of the machine share some of the steps."""
        time = cpu_time(self.device, kernel, self.working_set)
        terms = {unit: seconds / time.share for unit, seconds in time.terms.items()}
        if kernel.collective is not None:
            terms[LINK] = self.collective(kernel.collective)
        link = terms.get(LINK, 0.0)
        expected = sum(terms.values()) + time.launch
        best = min(time.best / time.share + link, expected)
        processor = time.seconds + link
        found = time.unmeasured, time.waiting
        return Timing(expected, best, time.worst + link, terms, time.launch, (), processor, *found)

    def _modelled(self, kernel: Kernel) -> list[Modelled]:
        """Return the times of the kernel's contractions, attention or collective by models of measured tables."""
        if kernel.collective is not None:
            return [Modelled(*collective_on(self.device, kernel.collective, self.mesh))]
        if kernel.attention is not None:
            attention = attention_on(self.device, kernel.attention, next(iter(kernel.matmul), "bf16"))
            return [Modelled(*attention)] if attention else []
        products = [product_on(self.device, x, float(kernel.moved)) for x in kernel.contractions]
        return [Modelled(x.time.total, x.low, x.high, x.source) for x in products if x] if all(products) else []

    def launch(self, kernel: Kernel) -> float:
        """Return the seconds to launch a kernel; a collective also starts its links."""
        seconds = _LAUNCH[self.device.family]
        # The measured tables of collectives on GPUs hold the start.
        starts = kernel.collective is not None and self.device.family != "gpu"
        return seconds + (_LINK_START if starts else 0.0)

    def _terms(self, kernel: Kernel, *, at_peak: bool) -> dict[str, float]:
        terms = {
            MATMUL_UNIT: self._matmul(kernel, at_peak),
            VECTOR_UNIT: sum(self._vector(dtype, count, at_peak) for dtype, count in kernel.vector.items()),
            TRANSCENDENTAL_UNIT: sum(
                self._transcendental(dtype, count, at_peak) for dtype, count in kernel.transcendental.items()
            ),
            MEMORY: self._memory(kernel, at_peak),
            LINK: self.collective(kernel.collective, at_peak=at_peak) if kernel.collective else 0.0,
        }
        return {unit: seconds for unit, seconds in terms.items() if seconds}

    def _matmul(self, kernel: Kernel, at_peak: bool) -> float:
        return sum(self._tabulated(contraction, at_peak, float(kernel.moved)) for contraction in kernel.contractions)

    def _tabulated(self, contraction: Contraction, at_peak: bool, moved: float | None = None) -> float:
        unit = unit_of(self.device, contraction)
        if unit is None:
            return 0.0
        product = None if at_peak else product_on(self.device, contraction, moved)
        if product is not None:
            return product.time.compute
        best = self.device.efficiency.get(f"{unit.name}_matmul") or self.device.efficiency.get("bf16_matmul")
        flops, share = float(contraction.flops) * unit.passes, best.value if best else _BEST[MATMUL_UNIT]
        # The start of a product on a TPU is that of its kernel.
        start = 0.0 if self.device.family == "tpu" else _START[MATMUL_UNIT]
        return _reached(flops, unit.peak, share, start, at_peak)

    def _vector(self, dtype: str, count: Count, at_peak: bool) -> float:
        peak = self.device.vector_peak(dtype)
        # The peak counts a multiply-add as two FLOPs, but the unit starts only one elementwise operation in its place.
        return _reached(float(count), peak[1].value / 2, _BEST[VECTOR_UNIT], 0.0, at_peak) if peak else 0.0

    def _transcendental(self, dtype: str, count: Count, at_peak: bool) -> float:
        peak = self.device.vector_peak(dtype)
        return (
            _reached(float(count), peak[1].value * _TRANSCENDENTAL_SHARE, _BEST[TRANSCENDENTAL_UNIT], 0.0, at_peak)
            if peak
            else 0.0
        )

    def _memory(self, kernel: Kernel, at_peak: bool) -> float:
        moved = float(kernel.moved)
        if self.device.bandwidth is None:
            return 0.0
        best = self.device.efficiency.get("bandwidth")
        share, start = best.value if best else _BEST[MEMORY], _START[MEMORY]
        if kernel.reduces and self.device.family == "gpu":
            share, start = share * _REDUCTION_SHARE, start + _REDUCTION_START
        return _reached(moved, self.device.bandwidth.value, share, start, at_peak)

    def collective(self, work: CollectiveWork, *, at_peak: bool = False) -> float:
        """Return the seconds of a collective along the axes of the mesh."""
        return collective_on(self.device, work, self.mesh, at_peak=at_peak).seconds


def _reached(count: float, peak: float, best: float, start: float, at_peak: bool) -> float:
    """Return the seconds of an amount of work at the peak rate, or at a share of the peak plus a start-up time."""
    if not count:
        return 0.0
    return count / peak if at_peak else count / (peak * best) + start
