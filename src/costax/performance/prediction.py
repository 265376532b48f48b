"""Prediction: the expected time of a program on a device, by scope and by kernel, with a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from costax.core import units
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.core.listing import listed, shown
from costax.core.open_symbols import check_numbers
from costax.errors import DeviceError
from costax.performance import unfused_attention
from costax.performance.cpu.rates import check_format
from costax.performance.cpu.timing import allocation, uses_threads, waiting
from costax.performance.efficiency.tables import program_spread
from costax.performance.hardware import Device
from costax.performance.hardware import device as device_of
from costax.performance.joined_kernels import joined
from costax.performance.kernels import LINK, MEMORY, CollectiveWork, Kernel
from costax.performance.memory.compiler import compiler_model
from costax.performance.numbers import check_arithmetic, unusual_products
from costax.performance.overlap import between, hidden_seconds
from costax.performance.precision import Unit, unit_of
from costax.performance.protocols import Counted, Predictable, check_program
from costax.performance.roofline import KernelTime, Roofline
from costax.performance.sources import efficiencies
from costax.program.tree import RECOMPUTE

if TYPE_CHECKING:
    from costax.performance.energy import Energy


# Seconds in which the host launches a kernel of a GPU. Source: CUDA launch latency, 2 to 5 us with a driver of XLA.
_HOST_LAUNCH: Final = 5e-6
_MACHINES: Final = {"cpu": "the CPU", "gpu": "a GPU", "tpu": "a TPU", "neuron": "a Trainium"}


@dataclass(frozen=True, slots=True)
class CollectiveTime:
    """The predicted time of a collective on one device, for all of its runs in one call.

    part: its kernel. between: predicted seconds of the computation that XLA's schedule has between its start and its
    end, for one run; 0 for a collective that is one instruction.
    """

    part: KernelTime
    between: float

    @property
    def kernel(self) -> Kernel:
        """The kernel of the collective."""
        return self.part.kernel

    @property
    def work(self) -> CollectiveWork:
        """What the collective sends."""
        assert self.part.kernel.collective is not None
        return self.part.kernel.collective

    @property
    def asynchronous(self) -> bool:
        """Whether other kernels may run between its start and its end."""
        places = self.kernel.places
        return bool(places) and places[-1].done > places[-1].start

    @property
    def seconds(self) -> float:
        """Predicted seconds if nothing overlaps."""
        return self.part.timing.expected * self.kernel.times

    @property
    def exposed(self) -> float:
        """Predicted seconds that the device waits for the collective."""
        return self.part.seconds


@dataclass(frozen=True, repr=False)
class Prediction(Displayed):
    """The predicted time of one call on one device of the mesh, with its range and assumptions.

    parts: the kernels with their times. mesh: sizes of the mesh axes by name. fusions: the origin of the kernels, as
    the end of a sentence "The kernels are ...". examples, tokens: how many one call of all devices processes.
    allocated: bytes of the results and temporaries of one call. interface: bytes of its arguments and results.
    executed_flops: FLOPs that one of several devices executes, where the kernels are those of a compiled program.
    compiled_for: the kind of machine that XLA compiled the kernels for, "" if not known, None if XLA did not choose
    them.
    Everything is of one device, except `throughput`, which is of all devices.
    """

    analysis: Counted
    device: Device
    parts: Sequence[KernelTime] = field(repr=False)
    mesh: Mapping[str, int]
    fusions: str
    examples: int | None = None
    tokens: int | None = None
    allocated: Count = 0
    interface: Count | None = None
    executed_flops: Count | None = None
    compiled_for: str | None = None

    @property
    def devices(self) -> int:
        """How many devices run the program, each for the predicted time."""
        return self.analysis.devices

    @property
    def seconds(self) -> float:
        """The expected seconds of one call."""
        return sum(part.seconds for part in self.parts) + self.dispatch

    @cached_property
    def dispatch(self) -> float:
        """The seconds to start the program and to allocate memory for its results and temporaries."""
        rates = self.device.rates.get("dispatch", {})
        start = float(rates.get("seconds", 0.0))
        start += float(rates.get("argument", 0.0)) * max(len(self.analysis.inputs) - 1, 0)
        if "threads" in rates and any(uses_threads(part.kernel) for part in self.parts):
            start += float(rates["threads"])
        return start + allocation(self.device, self.allocated)

    @property
    def processor_seconds(self) -> float | None:
        """Expected processor seconds of all threads together in one call; None for a device that is not calibrated.

        On a machine with other work a call takes at least this long for each processor that it gets.
        """
        if not self.device.rates:
            return None
        return sum(part.timing.processor * part.kernel.times for part in self.parts) + self.dispatch + self.waiting

    @cached_property
    def waiting(self) -> float:
        """Processor seconds in which other threads wait actively for their next part, while one thread works alone."""
        rates = self.device.rates.get("dispatch", {})
        if "waiting" not in rates:
            return 0.0
        kernels = [(part.kernel, part.timing.processor, part.timing.expected) for part in self.parts]
        return waiting(kernels, float(rates["waiting"]), float(rates["processors"]))

    @property
    def range(self) -> tuple[float, float, float]:
        """The (best, expected, worst) seconds of one call.

        Nine in ten measured kernels and published runs took longer than best, and nine in ten less than worst. A kernel
        without measurements takes at best the time of its slowest unit at the peak, without a start, and at worst the
        time of all units one after the other. Worst also launches every kernel from the host.
        """
        worst = sum(part.timing.worst * part.kernel.times for part in self.parts) + self.dispatch + self.waiting
        # A calibrated CPU starts a program in half of the typical time at best.
        best = min(self._best + (self.dispatch / 2 if self.device.rates else 0.0), self.seconds)
        low, high = self._spread
        worst = max(worst, self.seconds * high) + self._host
        return min(best, self.seconds * low), self.seconds, worst

    @property
    def _spread(self) -> tuple[float, float]:
        """Published over expected seconds of whole programs, as quantiles; 1 for a single kernel, or on a CPU."""
        return program_spread(self.device.family) if len(self.parts) > 1 and not self.device.rates else (1.0, 1.0)

    @property
    def _host(self) -> float:
        """Seconds in which the host launches the kernels, if nothing hides it; 0 for a single kernel."""
        if self.device.family != "gpu" or len(self.parts) < 2:
            return 0.0
        return _HOST_LAUNCH * sum(part.kernel.times for part in self.parts if part.timing.expected > 0)

    @cached_property
    def _best(self) -> float:
        return sum(max(part.timing.best - part.hidden, 0.0) * part.kernel.times for part in self.parts)

    @property
    @listed
    def collectives(self) -> list[CollectiveTime]:
        """The time of each collective, and how much of it the computation between its start and its end hides."""
        return [
            CollectiveTime(part, between(self.parts, position))
            for position, part in enumerate(self.parts)
            if part.kernel.collective is not None
        ]

    # Sums.

    @listed
    def by_scope(self, depth: int | None = None) -> dict[str, float]:
        """Return the seconds of each scope path of at most `depth` parts; with `dispatch` they sum to `seconds`.

        Args:
            depth: Levels of scopes; by default all.
        """

        def scope(part: KernelTime) -> str:
            return "/".join(part.kernel.scope[:depth])

        return self._by(scope)

    @listed
    def by_direction(self) -> dict[str, float]:
        """Return the seconds of each direction: forward, backward, recompute and update."""

        def direction(part: KernelTime) -> str:
            return part.kernel.direction or "forward"

        return self._by(direction)

    @listed
    def by_opcode(self) -> dict[str, float]:
        """Return the seconds of each HLO opcode; "" for kernels of a program that is not compiled."""

        def opcode(part: KernelTime) -> str:
            return part.kernel.opcode

        return self._by(opcode)

    @listed
    def by_source(self) -> dict[str, float]:
        """Return the seconds of each source line, `file:line`; "" where it is not known."""

        def source(part: KernelTime) -> str:
            return part.kernel.source

        return self._by(source)

    @listed
    def by_bound(self) -> dict[str, float]:
        """Return the seconds of the kernels that each unit bounds, the largest first; a unit may be "launch"."""

        def bound(part: KernelTime) -> str:
            return part.timing.bound

        sums = self._by(bound)
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def _by(self, key: Callable[[KernelTime], str]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for part in self.parts:
            sums[key(part)] = sums.get(key(part), 0.0) + part.seconds
        return sums

    # Roofline.

    @property
    def bound(self) -> str:
        """The unit that bounds most of the time."""
        return next(iter(self.by_bound()), MEMORY)

    @property
    def traffic(self) -> dict[str, Count]:
        """Bytes read and written: "unfused" (by every equation; not of a module), "fused" (by kernels), "compulsory".

        Compulsory traffic reads each input and writes each output of the program once.
        """
        fused = sum(part.kernel.moved * part.kernel.times for part in self.parts)
        others = self.analysis.traffic
        unfused = {"unfused": others["unfused"]} if "unfused" in others else {}
        compulsory = others["compulsory"] if self.interface is None else self.interface
        return {**unfused, "fused": fused, "compulsory": compulsory}

    @property
    def flops(self) -> Count:
        """Hardware FLOPs of one device, which include recomputed work, and work that several devices repeat."""
        return self.analysis.hardware_flops if self.executed_flops is None else self.executed_flops

    @property
    def model_flops(self) -> Count:
        """Model FLOPs of one device: its share of the program's FLOPs, without recomputed work."""
        share = self.analysis.per_device.flops
        recomputed = self.analysis.by_direction().get(RECOMPUTE)
        if recomputed is None:
            return share
        total = self.analysis.total.flops
        # `recomputed` is the sum over all devices. The share of one device is exact if all devices do the same work.
        return share - recomputed.flops * share // total if total else share

    @property
    def intensity(self) -> dict[str, float]:
        """FLOPs per byte of each kind of traffic."""
        return {name: self.flops / nbytes if nbytes else 0.0 for name, nbytes in self.traffic.items()}

    @property
    def peak(self) -> tuple[str, float] | None:
        """(unit, FLOP/s) that MFU and HFU divide by: the peak of the unit with the most contraction FLOPs."""
        flops = self._flops_by_unit
        if not flops:
            found = self.device.matmul_peak("f32")
            return (found[0], found[1].value) if found else None
        unit = max(flops, key=lambda unit: flops[unit])
        return unit.name, unit.peak

    @property
    def _flops_by_unit(self) -> dict[Unit, Count]:
        flops: dict[Unit, Count] = {}
        for part in self.parts:
            for contraction in part.kernel.contractions:
                unit = unit_of(self.device, contraction)
                if unit is not None:
                    flops[unit] = flops.get(unit, 0) + contraction.flops * part.kernel.times
        return flops

    @property
    def ridge(self) -> float | None:
        """The ridge point in FLOPs per byte: the intensity at which memory and matmul unit take the same time."""
        if self.peak is None or self.device.bandwidth is None:
            return None
        return self.peak[1] / self.device.bandwidth.value

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: model FLOPs per second divided by the peak; None if the peak is not known."""
        return self._share(self.model_flops)

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs utilisation: hardware FLOPs per second divided by the peak; None if the peak is not known."""
        return self._share(self.flops)

    def _share(self, flops: Count) -> float | None:
        return flops / self.seconds / self.peak[1] if self.peak and self.seconds else None

    @property
    def throughput(self) -> dict[str, float]:
        """Calls per second, and examples and tokens per second if their number per call is known, by all devices."""
        rates = {"calls": 1 / self.seconds} if self.seconds else {}
        for name, count in (("examples", self.examples), ("tokens", self.tokens)):
            if count and self.seconds:
                rates[name] = count / self.seconds
        return rates

    @property
    def throughput_per_device(self) -> dict[str, float]:
        """Examples and tokens per second divided by the number of devices. A call needs all devices."""
        return {name: rate / self.devices for name, rate in self.throughput.items() if name != "calls"}

    @property
    @listed
    def assumptions(self) -> list[str]:
        """The assumptions behind the numbers, one sentence each."""
        device = self.device
        assumptions = [*filter(None, [self.unused_mesh, self.warning]), f"The kernels are {self.fusions}."]
        assumptions += filter(None, [self._other_rules])
        if device.rates:
            assumptions += self._calibration
        else:
            assumptions += efficiencies(self.parts, self._spread)
            assumptions += filter(None, [unfused_attention.sentence(device, self.parts)])
        units_used = [str(unit) for unit in sorted(self._flops_by_unit, key=lambda x: -self._flops_by_unit[x])]
        if units_used:
            assumptions.append(f"Contractions run on {', '.join(units_used)}, by their dtype and precision.")
        if device.family == "tpu":
            assumptions.append("The rate of a TPU's vector unit is not published; elementwise work is bound by memory.")
        if self.devices > 1:
            assumptions.append(f"Time, FLOPs, bytes and MFU are of one of {self.devices} devices.")
        if self.devices > 1 and self.analysis.even_share and self.executed_flops is None:
            assumptions.append(
                "XLA has not partitioned the program: one device does an even share, at least, and the collectives "
                "that XLA adds are missing."
            )
        if any(LINK in part.timing.terms for part in self.parts):
            assumptions += self._communication()
        assumptions += unusual_products(device, [dtype for part in self.parts for dtype in part.kernel.matmul])
        if device.of_chip > 1:
            assumptions.append(
                f"jax sees one chip as {device.of_chip} devices; time, peak, memory and power are of one of them."
            )
        if device.unverified:
            assumptions.append(f"Not verified for {device.name}: {', '.join(device.unverified)}.")
        if self.analysis.uncounted:
            assumptions.append(
                "The analysis is not exact; work that it does not count takes no time in this prediction."
            )
        elif not self.analysis.exact:
            assumptions.append("The analysis is not exact; its bounds and estimates are taken for the work that runs.")
        return assumptions

    @property
    def _calibration(self) -> list[str]:
        """Return where the times on a calibrated CPU come from, and what they leave open."""
        sentences = [
            f"The rates were measured on {self.device.calibrated} by costax calibrate. All threads together take "
            f"{units.seconds(self.processor_seconds or 0.0)}; the expected time is that of an idle machine."
        ]
        names = dict.fromkeys(name for part in self.parts for name in part.timing.unmeasured)
        if names:
            sentences.append(f"Not measured by the calibration, so that the range is wide: {', '.join(names)}.")
        waiting = dict.fromkeys(name for part in self.parts for name in part.timing.waiting)
        if waiting:
            sentences.append(
                f"The threads of LAPACK wait actively for each other in {', '.join(waiting)}: where other processes "
                "run, these take up to 20 times as long, which the range includes."
            )
        return sentences

    @property
    def warning(self) -> str:
        """That XLA compiled the kernels for another kind of machine than the device, or perhaps did; else ""."""
        family, made_for = self.device.family, self.compiled_for
        if made_for is None or made_for == family:
            return ""
        device, name = _MACHINES[family], self.device.name
        if not made_for:
            return (
                f"It is not known for which machine the module was compiled: unless it was {device}, XLA makes other "
                f"fusions and other dtypes for {name}."
            )
        example = " (XLA for the CPU may compute bf16 products in f32)" if made_for == "cpu" else ""
        return (
            f"The module was compiled for {_MACHINES[made_for]}; XLA for {device} makes other fusions and other "
            f"dtypes{example}: the program takes another time on {name}. Compile it for {device}, or predict the "
            "program itself."
        )

    @property
    def _other_rules(self) -> str:
        """That the compiler of the device chooses kernels by other rules than the prediction; else ""."""
        device = self.device
        if self.compiled_for is not None or device.vendor in ("NVIDIA", "AMD"):
            return ""
        if compiler_model(device) is None:
            return f"costax has no model of the compiler for {device.name}: its kernels may be others."
        target = f'target="{device.compile_for}"' if device.compile_for else ""
        compared = f"costax.compare(fn{', ' if target else ''}{target})"
        return (
            f"XLA for {_MACHINES[device.family]} fuses by other rules, which change the bytes and the number of the "
            f"kernels; `{compared}` has the kernels that it makes."
        )

    @property
    def unused_mesh(self) -> str:
        """That axes of the mesh change nothing, because no collective of the program runs over them; else ""."""
        axes = {axis for part in self.parts if part.kernel.collective for axis in part.kernel.collective.axes}
        unused = [f"{name}={size}" for name, size in self.mesh.items() if name not in axes]
        if not unused:
            return ""
        over = f"its collectives run over {', '.join(sorted(axes))}" if axes else "it has no collective"
        return (
            f"The mesh {', '.join(unused)} changes nothing in this prediction: {over}. A mesh gives the sizes of axes "
            "that collectives name; to divide the work, shard the arguments of the program over a mesh of jax."
        )

    def _communication(self) -> list[str]:
        """Return what the times of collectives assume."""
        collectives = self.collectives
        sentences: list[str] = []
        if any(collective.asynchronous for collective in collectives):
            whole = sum(collective.seconds for collective in collectives)
            exposed = sum(collective.exposed for collective in collectives)
            sentences.append(
                f"Collectives overlap with the kernels that XLA schedules between their start and their end, one "
                f"collective after the other: {units.seconds(exposed)} of {units.seconds(whole)} are exposed."
            )
        elif all(collective.kernel.places for collective in collectives):
            sentences.append("XLA schedules no asynchronous collective, so nothing overlaps.")
        else:
            sentences.append("Collectives do not overlap with computation.")
        return sentences

    def energy(self, technology: str = "7nm", *, power: float | None = None, idle: float | None = None) -> Energy:
        """Return the energy of one call in joules, as a range.

        Args:
            technology: The process node, such as "7nm".
            power: Watts at full load, instead of those of the device file.
            idle: Watts at rest, likewise.

        Raises DeviceError if the power of the device or the technology is not known.
        """
        from costax.performance.energy import energy

        return energy(self, technology, power=power, idle=idle)


def predict(
    program: Predictable,
    device: str | Device,
    mesh: Mapping[str, int] | None = None,
    *,
    examples: int | None = None,
    tokens: int | None = None,
) -> Prediction:
    """Return the expected time of a program on a device, the unit that bounds it, and a range.

    Args:
        program: An Analysis, whose kernels follow from a producer-consumer rule, a Comparison, whose kernels are
            XLA's fusions, or a WhatIf.
        device: A name that `costax devices` lists, the path of a device file, or a Device.
        mesh: Sizes of named mesh axes.
        examples, tokens: How many one call processes, for the throughput.

    Raises DeviceError if the device is unknown or has no peaks, SymbolError if counts depend on symbols, InputError for
    no such program.
    """
    check_program(program, "predict")
    check_numbers(program.analysis, "A predicted time is a number.")
    chosen = device_of(device).one_of_jax()
    check_format(chosen)
    if not chosen.peaks and not chosen.rates:
        raise DeviceError(
            f"The device file of {chosen.name} has no peak and no measured rate.",
            why="A prediction needs them. For a CPU they depend on the whole machine, so costax has no table of them.",
            cure="Run `costax calibrate` on that machine, and pass the device file that it writes.",
        )
    use = program.memory_use(chosen)
    allocated = use.allocated
    # The arguments of one device; those of the whole program where it runs on one.
    arguments = sum(x.nbytes for _, x in program.analysis.inputs)
    if program.analysis.devices > 1:
        arguments = use.parts.get("arguments", arguments)
    working_set = allocated + arguments
    roofline = Roofline(chosen, mesh, working_set)
    kernels = program.kernels()
    if chosen.family == "gpu":
        kernels = joined(kernels)
    check_arithmetic(chosen, kernels, program.analysis.name)
    parts = [KernelTime(kernel, roofline.timing(kernel)) for kernel in kernels]
    parts = [replace(part, hidden=seconds) for part, seconds in zip(parts, hidden_seconds(parts), strict=True)]
    return Prediction(
        program.analysis,
        chosen,
        shown(parts),
        dict(mesh or {}),
        program.kernel_source,
        examples,
        tokens,
        allocated,
        use.interface,
        program.executed_flops,
        program.compiled_for,
    )
