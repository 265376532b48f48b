"""Device: peaks, memory, links and power of one chip, every figure with its source and whether it was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from costax.core import dtypes


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a device: its value, where it comes from, and the day on which that was read.

    unverified: it was recalled or derived, and nobody has compared it with the maker's page.
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
        """The sign that a table puts behind an unverified number."""
        return "?" if self.unverified else ""


@dataclass(frozen=True, slots=True)
class Link:
    """How a chip is connected: bytes a second that it sends over all its links together.

    topology: "switch" (everyone reaches everyone at full rate), "torus" (with so many axes), "mesh" (a link to each
    neighbour), "pair" (one neighbour), "bus" (through the host).
    """

    kind: str
    topology: str
    axes: int
    links: int
    send: Figure


@dataclass(frozen=True)
class Device:
    """One chip.

    peaks: dense FLOP/s (OP/s for integers) by unit: fp64, fp64_tensor, fp32, tf32, bf16, fp16, fp8, int8, int4.
    rates: how fast it was measured to be, by size; only calibrated devices have them. jax_devices: how many devices a
    chip is to jax; the figures are those of the whole chip, and `per_jax_device` divides them.
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
        """The kind of machine: "cpu", "tpu" or "gpu"."""
        return "tpu" if self.vendor == "Google" else "cpu" if self.calibrated or self.vendor == "x86" else "gpu"

    def matmul_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) at which contractions of a dtype run with jax's default precision; None if unknown.

        dtype: as costax files contractions, `bf16` or `i8*i8->i32`. float32 takes tf32 on GPUs that have it, and one
        bfloat16 pass on TPUs.
        """
        for unit in _MATMUL.get(self.family, {}).get(operand_class(dtype), ()):
            if unit in self.peaks:
                return unit, self.peaks[unit]
        return None

    def vector_peak(self, dtype: str) -> tuple[str, Figure] | None:
        """Return (unit, FLOP/s) of elementwise arithmetic; None if unknown."""
        for unit in ("fp64",) if operand_class(dtype) == "fp64" else ("fp32",):
            if unit in self.peaks:
                return unit, self.peaks[unit]
        return None

    def figures(self) -> dict[str, Figure]:
        """Return every figure by name: `peak.bf16`, `memory.bandwidth` ..."""
        found = {f"peak.{name}": figure for name, figure in self.peaks.items()}
        named = {
            "memory.bandwidth": self.bandwidth,
            "memory.capacity": self.capacity,
            "memory.usable": self.usable,
            "link.send": self.link.send if self.link else None,
            "clock": self.clock,
        }
        found |= {name: figure for name, figure in named.items() if figure is not None}
        groups = (("on_chip", self.on_chip), ("power", self.power), ("efficiency", self.efficiency))
        return found | {f"{group}.{name}": figure for group, of in groups for name, figure in of.items()}

    @property
    def unverified(self) -> list[str]:
        """The names of the figures that nobody has checked."""
        return [name for name, figure in self.figures().items() if figure.unverified]


# The units that contractions of an operand dtype run on, best first, by family.
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
    """Return the class of a dtype, the widest of a contraction's operands.

    >>> operand_class("f32"), operand_class("bf16*bf16->f32"), operand_class("i8*i8->i32"), operand_class("c64")
    ('fp32', 'bf16', 'int8', 'fp32')
    """
    operands = dtype.partition("->")[0].split("*")
    widest = max(operands, key=dtypes.bits)
    bits = dtypes.bits(widest) // (2 if dtypes.is_complex(widest) else 1)
    if not dtypes.is_floating(widest):
        return "int4" if bits <= 4 else "int8" if bits <= 8 else "fp32" if bits <= 32 else "fp64"
    return {4: "fp4", 8: "fp8", 16: "bf16" if widest == "bf16" else "fp16", 64: "fp64"}.get(bits, "fp32")
