"""Memory fit: whether a program fits the memory of a device, the margin, and changes that save memory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Final, Literal

from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import DeviceError, InputError
from costax.performance.hardware import Device, Slice, slice_of
from costax.performance.memory import MemoryProfile, compiler_model, residuals
from costax.performance.protocols import Counted, MemoryUse, Predictable, check_program

# The share of the memory that programs can use. On a GPU the runtime needs the rest for its context, the kernels and
# fragmentation; jax allocates 75 % first and more on demand. On a TPU XLA leaves all but 1.6 % to the program.
_USABLE: Final[Mapping[str, float]] = {"gpu": 0.95, "tpu": 0.984, "cpu": 0.9, "neuron": 0.95}
# A change that saves less than this share of the needed bytes is not listed.
_WORTH: Final = 0.01


@dataclass(frozen=True, slots=True)
class Saving:
    """A change of the program and the bytes that it is expected to save. what: an imperative sentence."""

    what: str
    saves: Count


@dataclass(frozen=True, repr=False)
class Fit(Displayed):
    """Whether a program fits the memory of a device; `bool()` of it is whether it is known to fit.

    answer: "yes", "no", or "unsure" where the bounds of an estimate lie on both sides of the room.
    needed: bytes that one device needs, as expected. bounds: the least and the most that the source leaves possible;
    both are `needed` where a compiler says it. room: bytes of its memory that a program can use. source: the origin of
    `needed`, such as "fused estimate". changes: changes that save memory, the largest saving first. parts: `needed` by
    kind of buffer, such as "arguments".
    unmodelled: primitives whose workspace is unknown, so that the compiled program may need more than `needed`.
    available: how many devices there are, as jax counts them; None where nobody said.
    """

    internals: ClassVar[frozenset[str]] = Displayed.internals | {"doubts"}

    analysis: Counted
    device: Device
    needed: Count
    room: Count
    source: str
    changes: Sequence[Saving] = ()
    unmodelled: Sequence[str] = ()
    parts: Mapping[str, Count] = field(default_factory=dict[str, Count])
    bounds: tuple[Count, Count] = (0, 0)
    available: int | None = None

    def __bool__(self) -> bool:
        """Return whether the program is known to fit."""
        return self.answer == "yes"

    @property
    def answer(self) -> Literal["yes", "no", "unsure"]:
        """ "yes" if the most that is possible fits, "no" if the least does not, else "unsure"."""
        least, most = self.bounds
        return "yes" if most <= self.room else "no" if least > self.room else "unsure"

    @property
    def doubts(self) -> Sequence[str]:
        """The former name of `unmodelled`, deprecated."""
        warnings.warn("`doubts` is now called `unmodelled`.", DeprecationWarning, stacklevel=2)
        return self.unmodelled

    @property
    def margin(self) -> Count:
        """The bytes that are left; negative if the program does not fit."""
        return self.room - self.needed

    @property
    def devices(self) -> int:
        """The least number of devices that hold the program if its memory is sharded evenly over them."""
        return max(1, -(-self.needed * self.analysis.devices // self.room))

    @property
    def evenly(self) -> Count | None:
        """The bytes that one device needs if the program is sharded evenly over those that there are.

        None where nobody said how many there are, or where the program is sharded over all of them already.
        """
        if self.available is None or self.available <= self.analysis.devices:
            return None
        return -(-self.needed * self.analysis.devices // self.available)


def fits(program: Predictable, device: str | Device, *, devices: int | None = None) -> Fit:
    """Return whether a program fits the memory of a device, with the margin and changes that save memory.

    The answer is for the program as it is: each device holds its share by the shardings of the program, and one that
    is not sharded runs on one device, however many there are.

    Args:
        program: An Analysis, whose needed bytes are those of the model of the device's compiler, a Comparison, whose
            needed bytes come from XLA's buffer assignment (argument + output - alias + temp), or the analysis of a
            module.
        device: A name that `costax devices` lists, the path of a device file, or a Device; several of them as
            "v5e-8", "tpu:v5e:2x4" or "h100:8".
        devices: How many there are, as jax counts them, where the name does not say it.

    Raises DeviceError if the device or the size of its memory is not known, or if the program is sharded over more
    devices than there are; InputError for no such program.
    """
    check_program(program, "fits")
    found = slice_of(device)
    available = _available(found, devices, program.analysis.devices)
    chosen = found.device.one_of_jax()
    if chosen.capacity is None:
        raise DeviceError(
            f"The device file of {chosen.name} has no memory capacity.",
            why="costax compares the needed bytes with the capacity.",
            cure=f"Copy the output of `costax devices {chosen.id} --file` to a file and add [memory.capacity] to it.",
        )
    room = int(chosen.usable.value if chosen.usable else chosen.capacity.value * _USABLE[chosen.family])
    use, analysis = program.memory_use(chosen), program.analysis
    bounds = use.bounds or (use.needed, use.needed)
    changes = _changes(analysis, use, chosen)
    return Fit(analysis, chosen, use.needed, room, use.source, changes, use.unmodelled, use.parts, bounds, available)


def _available(found: Slice, devices: int | None, used: int) -> int | None:
    """Return how many devices there are. used: how many the program is sharded over."""
    if devices is not None and (type(devices) is not int or devices < 1):
        raise InputError(
            f"devices is {devices!r}.",
            why="It is the number of devices that there are, 1 or more.",
            cure="Give a number such as 8.",
        )
    if None not in (devices, found.devices) and devices != found.devices:
        raise InputError(
            f"devices is {devices}, and the name of the device says {found.devices}.",
            why="Both are the number of devices that there are, as jax counts them.",
            cure="Give one of them.",
        )
    available = devices or found.devices
    if available is not None and used > available:
        raise DeviceError(
            f"The program is sharded over {used} devices, and there are {available}.",
            why="Each device of its mesh holds a share of its arrays.",
            cure=f"Give {used} devices or more, or trace the program with a mesh of {available}.",
        )
    return available


def _changes(analysis: Counted, use: MemoryUse, device: Device) -> list[Saving]:
    account = analysis.memory
    if account is None:
        # A module does not say which arguments are parameters, nor which arrays are saved for the backward pass.
        return []
    parts, needed = use.parts, use.needed
    saved_arrays = residuals(account.region)
    changes = [
        Saving("donate arguments that a result can overwrite (donate_argnums)", account.donatable_bytes),
        Saving("halve the batch", int(parts["temporaries"] * _batch_share(analysis, account, device) / 2)),
    ]
    if saved_arrays:
        saved = min(sum(residual.nbytes for residual in saved_arrays), parts["temporaries"])
        # An estimate: the inputs of the checkpointed functions stay saved.
        changes.append(Saving("recompute saved activations with jax.checkpoint", saved * 3 // 4))
    wide = sum(size.nbytes for (_, dtype), size in (analysis.parameters or {}).items() if dtype == "f32")
    whole = sum(x.nbytes for _, x in analysis.inputs)
    if wide and whole:
        # One device holds its share of the arguments, and about the same share of the parameters.
        wide = wide * parts["arguments"] // whole if analysis.devices > 1 else wide
        changes.append(Saving("store the parameters in bfloat16", wide // 2))
    worthwhile = [change for change in changes if change.saves > _WORTH * needed]
    return sorted(worthwhile, key=lambda change: -change.saves)


def _batch_share(analysis: Counted, account: MemoryProfile, device: Device) -> float:
    """Return the share of the temporaries at the peak that grow with the batch; 0 where the batch is not known.

    It is the leading extent of all arguments that are neither parameters nor of the shape of one, as the state of an
    optimiser is. An array grows with it if one of its axes is the batch, or the batch times the axes behind it, and it
    has no parameter's shape.
    """
    weights = {x.shape for (_, x), known in zip(analysis.inputs, analysis.is_parameter(), strict=True) if known}
    data = [x.shape for _, x in analysis.inputs if x.shape and x.shape not in weights]
    if not weights or len({shape[0] for shape in data}) != 1:
        return 0.0
    extents = {prod(shape[:axes]) for shape in data for axes in range(1, len(shape) + 1)}
    model = compiler_model(device)
    alive = (account.compiled_by(model) if model else account).live_at_peak(None, fused=model is not None)
    arrays = [x for x in alive if x.primitive != "argument"]
    grow = [x.nbytes for x in arrays if x.shape not in weights and not extents.isdisjoint(x.shape)]
    return sum(grow) / (sum(x.nbytes for x in arrays) or 1)
