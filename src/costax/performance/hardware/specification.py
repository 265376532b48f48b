"""Device: peaks, memory, links and power of one chip. Every figure has a source and a mark if it is unverified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from costax.core import dtypes


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


@dataclass(frozen=True)
class Device:
    """One chip. All figures are for the whole chip.

    peaks: dense FLOP/s (OP/s for integers) by unit: fp64, fp64_tensor, fp32, tf32, bf16, fp16, fp8, int8, int4.
    bandwidth: bytes per second of the memory. capacity, usable: bytes of the memory, and those that a program can use.
    power: watts, such as "tdp" and "idle". clock: hertz. efficiency: the share of a peak that was measured. rates:
    measured rates by size of the work; only calibrated devices have them. calibrated: the date of the calibration.
    jax_devices: how many devices jax sees in one chip.
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
    compile_for: str = ""
    units: str = ""
    rates: Mapping[str, Any] = field(default_factory=dict[str, Any])
    calibrated: str = ""

    @property
    def family(self) -> str:
        """The kind of device: "cpu", "tpu" or "gpu"."""
        return "tpu" if self.vendor == "Google" else "cpu" if self.calibrated or self.vendor == "x86" else "gpu"

    def matmul_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) for contractions of a dtype at jax's default precision; None if unknown.

        dtype: the dtype of a contraction in costax, such as `bf16` or `i8*i8->i32`. float32 runs as tf32 on GPUs that
        have it, and in one bfloat16 pass on TPUs.
        """
        for unit in _MATMUL.get(self.family, {}).get(operand_class(dtype), ()):
            if unit in self.peaks:
                return unit, self.peaks[unit]
        return None

    def vector_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) for elementwise arithmetic in a dtype; None if unknown."""
        for unit in ("fp64",) if operand_class(dtype) == "fp64" else ("fp32",):
            if unit in self.peaks:
                return unit, self.peaks[unit]
        return None

    def figures(self) -> dict[str, Figure]:
        """Return every figure by name, such as `peak.bf16` or `memory.bandwidth`."""
        figures = {f"peak.{name}": figure for name, figure in self.peaks.items()}
        named = {
            "memory.bandwidth": self.bandwidth,
            "memory.capacity": self.capacity,
            "memory.usable": self.usable,
            "link.send": self.link.send if self.link else None,
            "clock": self.clock,
        }
        figures |= {name: figure for name, figure in named.items() if figure is not None}
        tables = (("on_chip", self.on_chip), ("power", self.power), ("efficiency", self.efficiency))
        return figures | {f"{key}.{name}": figure for key, table in tables for name, figure in table.items()}

    @property
    def unverified(self) -> list[str]:
        """The names of the unverified figures."""
        return [name for name, figure in self.figures().items() if figure.unverified]


# Family -> class of the operands -> units that such contractions run on, the preferred unit first.
_MATMUL: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "gpu": {
        "fp64": ("fp64_tensor", "fp64_matrix", "fp64"),
        "fp32": ("tf32", "fp32_matrix", "fp32"),
        "bf16": ("bf16", "fp16", "fp32"),
        "fp16": ("fp16", "bf16", "fp32"),
        "fp8": ("fp8", "bf16", "fp16"),
        "int8": ("int8", "fp16"),
        "int4": ("int4", "int8"),
        "fp4": ("fp4", "fp8"),
    },
    "tpu": {
        "fp32": ("bf16",),
        "bf16": ("bf16",),
        "fp16": ("bf16",),
        "fp8": ("fp8", "bf16"),
        "int8": ("int8", "bf16"),
        "int4": ("int4", "int8", "bf16"),
    },
    "cpu": {
        "fp64": ("fp64",),
        "fp32": ("fp32",),
        "bf16": ("bf16", "fp32"),
        "fp16": ("fp16", "fp32"),
        "fp8": ("fp32",),
        "int8": ("int8", "fp32"),
        "int4": ("int8", "fp32"),
    },
}


def operand_class(dtype: str) -> str:
    """Return the precision class of a dtype, such as "bf16"; for a contraction that of its widest operand.

    >>> operand_class("f32"), operand_class("bf16*bf16->f32"), operand_class("i8*i8->i32"), operand_class("c64")
    ('fp32', 'bf16', 'int8', 'fp32')
    """
    operands = dtype.partition("->")[0].split("*")
    widest = max(operands, key=dtypes.bits)
    bits = dtypes.bits(widest) // (2 if dtypes.is_complex(widest) else 1)
    if not dtypes.is_floating(widest):
        return "int4" if bits <= 4 else "int8" if bits <= 8 else "fp32" if bits <= 32 else "fp64"
    return {4: "fp4", 8: "fp8", 16: "bf16" if widest == "bf16" else "fp16", 64: "fp64"}.get(bits, "fp32")
