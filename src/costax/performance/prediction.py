"""Prediction: how long a program takes on a device, by scope and by kernel, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import DeviceError
from costax.performance.hardware import Device, device
from costax.performance.kernels import LINK, MEMORY
from costax.performance.protocols import Counted, Predictable
from costax.performance.roofline import KernelTime, Roofline
from costax.program.tree import RECOMPUTE

if TYPE_CHECKING:
    from costax.performance.energy import Energy


@dataclass(frozen=True)
class Prediction(Displayed):
    """What `predict` says: seconds of one call on one device of the mesh, with their range and assumptions."""

    analysis: Counted
    device: Device
    parts: Sequence[KernelTime] = field(repr=False)
    mesh: Mapping[str, int]
    fusions: str
    examples: int | None = None
    tokens: int | None = None
    allocated: Count = 0

    @property
    def seconds(self) -> float:
        """The expected seconds of one call."""
        return sum(part.seconds for part in self.parts) + self.dispatch

    @cached_property
    def dispatch(self) -> float:
        """The seconds that it takes to start the program, and to have memory for its results and temporaries."""
        rates = self.device.rates.get("dispatch", {})
        start = float(rates.get("seconds", 0.0))
        if any(part.kernel.contractions for part in self.parts):
            start += float(rates.get("threads", 0.0))
        return start + Roofline(self.device).allocation(self.allocated)

    @property
    def range(self) -> tuple[float, float, float]:
        """Seconds [best, expected, worst].

        Best: every unit at its peak, all at the same time, over the whole program. Worst: one unit after the other.
        """
        worst = sum(part.timing.worst * part.kernel.times for part in self.parts) + self.dispatch
        return min(self._best, self.seconds), self.seconds, worst

    @cached_property
    def _best(self) -> float:
        peaks = sum(part.timing.best * part.kernel.times for part in self.parts)
        return peaks

    # Sums.

    def by_scope(self, depth: int | None = None) -> dict[str, float]:
        """Return the seconds of each scope; with the dispatch they are `seconds`."""

        def scope(part: KernelTime) -> str:
            return "/".join(part.kernel.scope[:depth])

        return self._by(scope)

    def by_direction(self) -> dict[str, float]:
        """Return the seconds of the forward, backward and recomputed part and of the update."""

        def direction(part: KernelTime) -> str:
            return part.kernel.direction or "forward"

        return self._by(direction)

    def by_bound(self) -> dict[str, float]:
        """Return the seconds by what they are bound by, most first."""

        def bound(part: KernelTime) -> str:
            return part.timing.bound

        found = self._by(bound)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _by(self, key: Callable[[KernelTime], str]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for part in self.parts:
            sums[key(part)] = sums.get(key(part), 0.0) + part.seconds
        return sums

    # Roofline.

    @property
    def bound(self) -> str:
        """What most of the time is bound by."""
        return next(iter(self.by_bound()), MEMORY)

    @property
    def traffic(self) -> dict[str, Count]:
        """Bytes that are moved: without fusion, through the kernels, and at the least (inputs and outputs once)."""
        one = self.analysis.per_device
        compulsory = sum(x.nbytes for _, x in self.analysis.inputs) + self._results
        fused = sum(part.kernel.moved * part.kernel.times for part in self.parts)
        return {"unfused": one.bytes_unfused, "fused": fused, "compulsory": compulsory}

    @property
    def _results(self) -> Count:
        region = self.analysis.memory.region
        return sum(region.values[x].nbytes for x in region.outputs if x is not None)

    @property
    def flops(self) -> Count:
        """Hardware FLOPs of one device, recomputed work included."""
        return self.analysis.per_device.flops

    @property
    def model_flops(self) -> Count:
        """Model FLOPs: without what is computed again."""
        again = self.analysis.by_direction().get(RECOMPUTE)
        if again is None:
            return self.flops
        share = self.analysis.total.flops
        # Of one device its share, exactly where all devices do the same.
        return self.flops - again.flops * self.flops // share if share else self.flops

    @property
    def intensity(self) -> dict[str, float]:
        """FLOPs for each byte, under the three traffics."""
        return {name: self.flops / nbytes if nbytes else 0.0 for name, nbytes in self.traffic.items()}

    @property
    def peak(self) -> tuple[str, float] | None:
        """The peak that utilisation is a share of: (unit, FLOP/s) of the dtype that most contractions have."""
        counts: dict[str, Count] = {}
        for part in self.parts:
            for dtype, count in part.kernel.matmul.items():
                counts[dtype] = counts.get(dtype, 0) + count * part.kernel.times
        dtype = max(counts, key=lambda name: counts[name], default="f32")
        found = self.device.matmul_peak(dtype)
        return (found[0], found[1].value) if found else None

    @property
    def ridge(self) -> float | None:
        """The intensity at which memory and matmul unit take equally long, in FLOPs a byte."""
        if self.peak is None or self.device.bandwidth is None:
            return None
        return self.peak[1] / self.device.bandwidth.value

    @property
    def mfu(self) -> float | None:
        """Model FLOPs a second over the peak."""
        return self._share(self.model_flops)

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs a second over the peak."""
        return self._share(self.flops)

    def _share(self, flops: Count) -> float | None:
        return flops / self.seconds / self.peak[1] if self.peak and self.seconds else None

    @property
    def throughput(self) -> dict[str, float]:
        """Calls a second, and examples and tokens if their number was given."""
        rates = {"calls": 1 / self.seconds} if self.seconds else {}
        for name, count in (("examples", self.examples), ("tokens", self.tokens)):
            if count and self.seconds:
                rates[name] = count / self.seconds
        return rates

    @property
    def assumptions(self) -> list[str]:
        """What the figures take for granted, in words."""
        device = self.device
        said = [f"Kernels are {self.fusions}."]
        if device.rates:
            said.append(f"Rates were measured on this machine on {device.calibrated}.")
        else:
            said.append("Large work reaches the best share of the peak that was measured, or else 80 %; memory 90 %.")
            said.append("Small work takes a start of 4 us on the matmul unit and 1 us of memory, and a launch.")
        if self.peak is not None:
            said.append(f"Contractions run on {self.peak[0]} at jax's default precision.")
        if device.family == "tpu":
            said.append("The vector unit of a TPU is not published; elementwise work is bound by memory.")
        if any(LINK in part.timing.terms for part in self.parts):
            said.append("Exchanges and work do not overlap, and links reach 80 % of what they can send.")
        if device.jax_devices > 1:
            said.append(f"A chip is {device.jax_devices} devices to jax; the figures are those of the whole chip.")
        if device.unverified:
            said.append(f"Not verified: {', '.join(device.unverified)} of {device.name}.")
        if self.analysis.uncounted or not self.analysis.exact:
            said.append("The analysis is not exact: what it does not count takes no time here.")
        return said

    def energy(self, technology: str = "7nm", *, power: float | None = None, idle: float | None = None) -> Energy:
        """Return the joules of a call, as a range. See `costax.energy.energy`."""
        from costax.performance.energy import energy

        return energy(self, technology, power=power, idle=idle)


def predict(
    program: Predictable,
    device_name: str | Device,
    mesh: Mapping[str, int] | None = None,
    *,
    examples: int | None = None,
    tokens: int | None = None,
) -> Prediction:
    """Return how long a program is expected to take on a device, what bounds it, and how sure that is.

    program: an Analysis, whose kernels follow from a producer-consumer rule, a Comparison, whose kernels are XLA's
    fusions, or a WhatIf. device_name: a name that `costax devices` lists, the path of a device file, or a Device. mesh:
    sizes of named mesh axes. examples, tokens: in one call, for the throughput. Raises DeviceError where the device is unknown.
    """
    chosen = device(device_name)
    if not chosen.peaks and not chosen.rates:
        raise DeviceError(
            f"{chosen.name} has no peaks to predict by.",
            why="A processor is calibrated, never tabulated: its speed depends on the machine around it.",
            cure="Run `costax calibrate` there, and name the device file that it writes.",
        )
    allocated = program.memory_use().allocated
    footprint = allocated + sum(x.nbytes for _, x in program.analysis.inputs)
    roofline = Roofline(chosen, mesh, footprint)
    parts = [KernelTime(kernel, roofline.timing(kernel)) for kernel in program.kernels()]
    how = program.kernel_source
    return Prediction(program.analysis, chosen, parts, dict(mesh or {}), how, examples, tokens, allocated)
