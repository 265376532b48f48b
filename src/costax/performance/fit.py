"""Fit: does a program fit the memory of a device, by what margin, and what to change where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from costax.core import units
from costax.core.cost import Count
from costax.errors import DeviceError
from costax.performance.hardware import Device, device
from costax.performance.memory import residuals

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.compare.comparison import Comparison

# What a runtime keeps for itself of a GPU: context, kernels, fragmentation. jax takes 75 % of the memory at first and
# more on demand; XLA gives a program of a TPU all but 1.6 %.
_USABLE: Final[Mapping[str, float]] = {"gpu": 0.95, "tpu": 0.984, "cpu": 0.9}
# A change that saves less than this share of what is needed is not worth naming.
_WORTH: Final = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """Something to change, and the bytes that it is expected to save."""

    what: str
    saves: Count


@dataclass(frozen=True)
class Fit:
    """Whether a program fits: true where it does.

    needed: bytes of one device. room: what a program may use of its memory. source: where `needed` comes from.
    doubts: primitives for which a compiler may take memory that nothing in the program tells.
    """

    analysis: Analysis
    device: Device
    needed: Count
    room: Count
    source: str
    changes: Sequence[Change] = ()
    doubts: Sequence[str] = ()
    parts: Mapping[str, Count] = field(default_factory=dict[str, Count])

    def __bool__(self) -> bool:
        """Say whether it fits."""
        return self.needed <= self.room

    @property
    def margin(self) -> Count:
        """The bytes that are left; negative where they do not suffice."""
        return self.room - self.needed

    @property
    def devices(self) -> int:
        """How many devices hold the program if it is sharded over them evenly."""
        return max(1, -(-self.needed // self.room))

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from rich.text import Text

        return Text(str(self))

    def __str__(self) -> str:
        """Say yes or no, by how much, and what to change."""
        answer = "yes" if self else "no"
        needed, room = units.short_bytes(self.needed), units.short_bytes(self.room)
        left = units.short_bytes(abs(self.margin))
        share = f"{left} ({self.margin / self.room:.0%}) are left." if self else f"{left} are missing."
        parts = ", ".join(f"{name} {units.short_bytes(size)}" for name, size in self.parts.items())
        lines = [
            f"{answer}: {self.analysis.name} needs {needed} of {room} on {self.device.name}; {share}",
            f"  {parts} ({self.source})",
        ]
        if self.doubts:
            lines.append(f"  More may be needed: nothing says what memory these take: {', '.join(self.doubts)}.")
        if not self:
            lines.append("What to change:")
            lines += [f"  {change.what}: saves about {units.short_bytes(change.saves)}" for change in self.changes]
            lines.append(f"  shard it evenly over {self.devices} devices")
        return "\n".join(lines)


def fits(program: Analysis | Comparison, device_name: str | Device) -> Fit:
    """Return whether a program fits the memory of a device, by what margin, and what to change.

    program: an Analysis, whose memory the fused estimate gives, or a Comparison, whose memory XLA's buffer assignment
    gives: argument + output - alias + temp. Raises DeviceError where the device's memory is not known.
    """
    chosen = device(device_name)
    if chosen.capacity is None:
        raise DeviceError(
            f"The memory of {chosen.name} is not known.",
            why="Whether a program fits is a comparison with it.",
            cure=f"Add [memory.capacity] to a file of your own: costax devices {chosen.id} --file.",
        )
    room = chosen.usable.value if chosen.usable else chosen.capacity.value * _USABLE[chosen.family]
    room = int(room / chosen.jax_devices)
    other: Any = program
    if hasattr(program, "rows"):
        analysis: Analysis = other
        account = analysis.memory
        return Fit(
            analysis,
            chosen,
            account.fused_estimate,
            room,
            "fused estimate",
            _changes(analysis),
            account.doubts,
            account.parts,
        )
    comparison: Comparison = other
    memory = comparison.compiled.memory
    parts = {name: memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
    named = {"arguments": parts["argument"], "results": parts["output"] - parts["alias"], "temporaries": parts["temp"]}
    source = f"XLA for {comparison.target}"
    return Fit(comparison.jaxpr, chosen, comparison.compiled.held, room, source, _changes(comparison.jaxpr), (), named)


def _changes(analysis: Analysis) -> list[Change]:
    account = analysis.memory
    parts, needed = account.parts, account.fused_estimate
    kept = residuals(account.region)
    found = [
        Change("donate the arguments that a result replaces (donate_argnums)", account.could_be_given),
        Change("halve the batch", parts["temporaries"] // 2),
    ]
    if kept:
        saved = min(sum(residual.nbytes for residual in kept), parts["temporaries"])
        found.append(Change("rematerialise with jax.checkpoint what is saved for the backward pass", saved * 3 // 4))
    wide = sum(size.nbytes for (_, dtype), size in (analysis.parameters or {}).items() if dtype == "f32")
    if wide:
        found.append(Change("store the parameters in bfloat16", wide // 2))
    worth = [change for change in found if change.saves > _WORTH * needed]
    return sorted(worth, key=lambda change: -change.saves)
