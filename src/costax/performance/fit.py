"""Fit: does a program fit the memory of a device, by what margin, and what to change where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import DeviceError
from costax.performance.hardware import Device, device
from costax.performance.memory import residuals
from costax.performance.protocols import Counted, Predictable

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
class Fit(Displayed):
    """Whether a program fits: true where it does.

    needed: bytes of one device. room: what a program may use of its memory. source: where `needed` comes from.
    doubts: primitives for which a compiler may take memory that nothing in the program tells.
    """

    analysis: Counted
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


def fits(program: Predictable, device_name: str | Device) -> Fit:
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
    use, analysis = program.memory_use(), program.analysis
    return Fit(analysis, chosen, use.needed, room, use.source, _changes(analysis), use.doubts, use.parts)


def _changes(analysis: Counted) -> list[Change]:
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
