"""Device: peaks, memory, links and power of one chip. Every figure has a source and a mark if it is unverified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from costax.core.display import Displayed
from costax.core.listing import listed
from costax.performance.hardware.arithmetic import Way, arithmetic_class, way


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a device with the title, the URL and the date of its source.

    unverified: the number was not compared with the manufacturer's page.
    """

    value: float
    source: str = ""
    url: str = ""
    date: str = ""
    unverified: bool = False

    def __float__(self) -> float:
        """Return the value."""
        return float(self.value)

    @property
    def mark(self) -> str:
        """The mark that a table puts behind the number: "?" if it is unverified, else ""."""
        return "?" if self.unverified else ""


@dataclass(frozen=True, slots=True)
class Link:
    """The connection of a chip to other chips.

    kind: the name, such as "NVLink 4". topology: "switch" (every pair of chips at full rate), "torus" (with `axes`
    axes), "mesh" (a link to each neighbour), "pair" (one neighbour) or "bus" (through the host). links: how many links
    a chip has. send: bytes per second that a chip sends over all of its links together.
    """

    kind: str
    topology: str
    axes: int
    links: int
    send: Figure


@dataclass(frozen=True, slots=True)
class Network:
    """The network between hosts, or on a TPU between slices.

    kind: the name, such as "InfiniBand NDR". hosts_of: how many chips the fast links join, so that a collective of more
    crosses the network. send: bytes per second that one chip sends over the network.
    """

    kind: str
    hosts_of: int
    send: Figure


@dataclass(frozen=True, slots=True)
class CompilerFacts:
    """What XLA's compiler is told of a device beside its figures.

    Of a GPU: its compute capability, the float32 units of a multiprocessor, their clock in hertz, and the name of the
    links inside a host. Of a TPU: libtpu's name of the topology, and of the configuration of a chip.
    """

    capability: tuple[int, int] = (0, 0)
    lanes: int = 0
    clock: float = 0
    link: str = ""
    topology: str = ""
    configuration: str = ""


@dataclass(frozen=True, repr=False)
class Device(Displayed):
    """One chip. All figures are for the whole chip, or of one of jax's devices where `of_chip` says so.

    peaks: dense FLOP/s (OP/s for integers) by unit: fp64, fp64_tensor, fp32, tf32, bf16, fp16, fp8, int8, int4.
    bandwidth: bytes per second of the memory. capacity, usable: bytes of the memory, and those that a program can use.
    power: watts, such as "tdp" and "idle". clock: hertz. efficiency: the share of a peak that was measured. rates:
    measured rates by size of the work; only calibrated devices have them. calibrated: the date of the calibration.
    jax_devices: how many devices jax sees in one chip. cores: of a chip, where the names of slices count cores, else 1.
    of_chip: 1 for the figures of a whole chip, n for those of one of the n devices that jax sees in it. device_kinds:
    the names that jax gives it. network: between hosts. compiler: what XLA is told to compile for `compile_for`.
    """

    id: str
    name: str
    vendor: str
    aliases: Sequence[str] = ()
    peaks: Mapping[str, Figure] = field(default_factory=dict[str, Figure])
    bandwidth: Figure | None = None
    capacity: Figure | None = None
    usable: Figure | None = None
    on_chip: Mapping[str, Figure] = field(default_factory=dict[str, Figure])
    link: Link | None = None
    power: Mapping[str, Figure] = field(default_factory=dict[str, Figure])
    clock: Figure | None = None
    efficiency: Mapping[str, Figure] = field(default_factory=dict[str, Figure])
    notes: Sequence[str] = ()
    jax_devices: int = 1
    cores: int = 1
    compile_for: str = ""
    units: str = ""
    rates: Mapping[str, Any] = field(default_factory=dict[str, Any])
    calibrated: str = ""
    kind: str = ""
    device_kinds: Sequence[str] = ()
    network: Network | None = None
    compiler: CompilerFacts | None = None
    of_chip: int = 1

    def __repr__(self) -> str:
        """Return the name and the main figures, in at most four lines; `print` shows all of them with their sources."""
        peaks = ", ".join(f"{name} {_digits(figure, 1e12)}" for name, figure in self.peaks.items())
        memory = [f"{_digits(x, unit)} {name}" for x, unit, name in self._memory_figures() if x is not None]
        if "tdp" in self.power:
            memory.append(f"{_digits(self.power['tdp'])} W")
        whose = f", one of {self.of_chip} devices of a chip" if self.of_chip > 1 else ""
        lines = [f"<costax.Device {self.id!r}: {self.name}{whose}"]
        lines += [f"peaks, TFLOP/s: {peaks}"] if peaks else []
        lines += [f"memory: {', '.join(memory)}"] if memory else []
        return "\n  ".join(lines) + ">"

    def _memory_figures(self) -> Sequence[tuple[Figure | None, float, str]]:
        send = self.link.send if self.link else None
        return (self.capacity, 2**30, "GiB"), (self.bandwidth, 1e9, "GB/s"), (send, 1e9, "GB/s of links")

    @property
    def family(self) -> str:
        """The kind of device: "cpu", "tpu", "gpu" or "neuron"."""
        if self.kind:
            return self.kind
        return "tpu" if self.vendor == "Google" else "cpu" if self.calibrated or self.vendor == "x86" else "gpu"

    def way(self, dtype: str) -> Way | None:
        """Return how the device computes products of a dtype; None if it cannot, or if the file lacks the rate.

        Args:
            dtype: The dtype of a contraction, such as `bf16` or `i8*i8->i32`.
        """
        return way(self.family, self.vendor, self.peaks, dtype)

    def matmul_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) for contractions of a dtype at jax's default precision; None if unknown.

        Args:
            dtype: The dtype of a contraction in costax, such as `bf16` or `i8*i8->i32`. float32 runs as tf32 on GPUs
                that have it, and in one bfloat16 pass on TPUs. A dtype without a unit gets the rate of what is computed
                instead.
        """
        found = self.way(dtype)
        if found is None:
            return None
        peak = self.peaks[found.unit]
        return found.unit, peak if found.passes == 1 else replace(peak, value=peak.value / found.passes)

    def one_of_jax(self) -> Device:
        """Return the device as jax sees it: the share of one of its devices where a chip is several.

        The units, the memory, its bandwidth, the links and the power of the chip are shared evenly.
        """
        parts = self.jax_devices
        if parts == 1:
            return self

        def share(figure: Figure | None) -> Figure | None:
            return None if figure is None else replace(figure, value=figure.value / parts)

        def each(figures: Mapping[str, Figure], names: Sequence[str] | None = None) -> dict[str, Figure]:
            return {
                name: replace(x, value=x.value / parts) if names is None or name in names else x
                for name, x in figures.items()
            }

        return replace(
            self,
            peaks=each(self.peaks),
            bandwidth=share(self.bandwidth),
            capacity=share(self.capacity),
            usable=share(self.usable),
            on_chip=each(self.on_chip, _SHARED_ON_CHIP),
            link=replace(self.link, send=share(self.link.send)) if self.link else None,
            network=replace(self.network, hosts_of=self.network.hosts_of * parts, send=share(self.network.send))
            if self.network
            else None,
            power=each(self.power),
            jax_devices=1,
            of_chip=parts,
        )

    def vector_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) for elementwise arithmetic in a dtype; None if unknown.

        Args:
            dtype: Such as "f32".
        """
        for unit in ("fp64",) if operand_class(dtype) == "fp64" else ("fp32",):
            if unit in self.peaks:
                return unit, self.peaks[unit]
        return None

    @listed
    def figures(self) -> dict[str, Figure]:
        """Return every figure by name, such as `peak.bf16` or `memory.bandwidth`."""
        figures = {f"peak.{name}": figure for name, figure in self.peaks.items()}
        named = {
            "memory.bandwidth": self.bandwidth,
            "memory.capacity": self.capacity,
            "memory.usable": self.usable,
            "link.send": self.link.send if self.link else None,
            "network.send": self.network.send if self.network else None,
            "clock": self.clock,
        }
        figures |= {name: figure for name, figure in named.items() if figure is not None}
        tables = (("on_chip", self.on_chip), ("power", self.power), ("efficiency", self.efficiency))
        return figures | {f"{key}.{name}": figure for key, table in tables for name, figure in table.items()}

    @property
    def unverified(self) -> list[str]:
        """The names of the unverified figures."""
        return [name for name, figure in self.figures().items() if figure.unverified]


def _digits(figure: Figure, unit: float = 1) -> str:
    return f"{float(f'{figure.value / unit:.4g}'):g}{figure.mark}"


# What lies on a chip once for each of its parts; the rest is given for one multiprocessor or core.
_SHARED_ON_CHIP: Final = ("sms", "cus", "l2", "infinity_cache", "sbuf")


def operand_class(dtype: str) -> str:
    """Return the precision class of a dtype, such as "bf16"; for a contraction that of its widest operand.

    >>> operand_class("f32"), operand_class("bf16*bf16->f32"), operand_class("i8*i8->i32"), operand_class("c64")
    ('fp32', 'bf16', 'int8', 'fp32')
    """
    kind = arithmetic_class(dtype)
    return {"complex64": "fp32", "complex128": "fp64", "int32": "fp32", "int64": "fp64"}.get(kind, kind)
