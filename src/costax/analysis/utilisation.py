"""Utilisation: the MFU of a step that took so many seconds, by every convention.

MFU = FLOPs of a step / devices / seconds / peak of one device. Published MFUs differ in the first factor: what counts
as a FLOP of the model. Here each convention stands with what it counts more or less than the program does.

Example: a step of 6e15 FLOPs on 4 devices of 459 TFLOP/s that takes 5 s: 6e15 / 4 / 5 / 459e12 = 65.4 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final

from costax.analysis.counts import Counts
from costax.analysis.other_tools.conventions import CONVENTIONS, Reason, answer
from costax.analysis.other_tools.model_flops import FORMULAS
from costax.analysis.other_tools.transformer_reader import read_transformer
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.core.dtypes import bits, short_name
from costax.core.listing import shown
from costax.core.open_symbols import check_numbers
from costax.errors import DeviceError, InputError
from costax.performance.hardware import Device
from costax.performance.hardware import device as load_device
from costax.performance.protocols import Counted
from costax.program.tree import BACKWARD, RECOMPUTE

MODEL: Final = "model"
HARDWARE: Final = "hardware"
# Another name of a convention that is there already.
_ALIASES: Final = frozenset({"palm-mfu"})


@dataclass(frozen=True, slots=True)
class ConventionCount:
    """The FLOPs of a step by one convention, of the whole program: all devices together.

    source: where the convention stands. reasons: `hardware FLOPs + sum(r.count for r in reasons) == flops`.
    """

    convention: str
    flops: int
    source: str
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True, repr=False)
class Utilisation(Displayed):
    """The share of the peak that a step reached, by every convention.

    name: of the program. seconds: of one step. device: its figures are for a chip. devices: how many of jax's devices
    ran the step together. unit, peak: the unit of the device whose peak divides, and the FLOP/s of one of jax's
    devices. tokens: that all devices together processed in the step; None if not known. counts: of the conventions.
    omitted: the conventions that give no number for this program, with the reason. notes: what the numbers assume.
    unfitting: those of the counts whose formula is of a transformer, which this program is not; no table shows them.
    """

    name: str
    seconds: float
    device: Device
    devices: int
    unit: str
    peak: float
    tokens: int | None
    counts: Sequence[ConventionCount]
    omitted: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Sequence[str] = ()
    unfitting: Sequence[str] = ()

    def count(self, convention: str) -> ConventionCount:
        """Return the count of a convention.

        Args:
            convention: The name of a convention; see `counts`.

        Raises InputError for one that gives no number for this program.
        """
        found = next((count for count in self.counts if count.convention == convention), None)
        if found is None:
            raise InputError(
                f"The convention {convention!r} gives no number for `{self.name}`.",
                why=self.omitted.get(convention, "costax does not know it."),
                cure=f"Use one of {', '.join(count.convention for count in self.counts)}.",
            )
        return found

    def flops(self, convention: str = MODEL) -> int:
        """Return the FLOPs of a step, all devices together.

        Args:
            convention: The name of a convention; see `counts`.
        """
        return self.count(convention).flops

    def flops_per_second(self, convention: str = MODEL) -> float:
        """Return the FLOP/s of all devices together.

        Args:
            convention: The name of a convention; see `counts`.
        """
        return self.flops(convention) / self.seconds

    def flops_per_second_per_device(self, convention: str = MODEL) -> float:
        """Return the FLOP/s of one device.

        Args:
            convention: The name of a convention; see `counts`.
        """
        return self.flops_per_second(convention) / self.devices

    def mfu(self, convention: str = MODEL) -> float:
        """Return the share of the peak, 1.0 for all of it: the same of one device and of all of them.

        Args:
            convention: The name of a convention; see `counts`.
        """
        return self.flops_per_second_per_device(convention) / self.peak

    @property
    def hfu(self) -> float:
        """The share of the peak of all FLOPs of the program, with recomputed work."""
        return self.mfu(HARDWARE)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of all devices together; None if their number is not known."""
        return None if self.tokens is None else self.tokens / self.seconds

    @property
    def tokens_per_second_per_device(self) -> float | None:
        """Tokens per second divided by the number of devices; None if their number is not known."""
        return None if self.tokens is None else self.tokens / self.seconds / self.devices


def utilisation(
    analysis: Counts,
    seconds: float,
    device: str | Device,
    *,
    devices: int | None = None,
    tokens: int | None = None,
    peak: str | None = None,
) -> Utilisation:
    """Return the utilisation of a step that took so many seconds; see `Analysis.mfu`."""
    check_step(seconds, tokens)
    check_numbers(analysis, "MFU is a number of one step.")
    count = device_count(analysis, devices)
    chip = load_device(device)
    unit, per_device = peak_of(analysis, chip, peak)
    counts, omitted = _counts(analysis)
    check_possible(analysis, chip, seconds, count)
    notes = notes_on(analysis, chip, count, unit)
    if not {BACKWARD, RECOMPUTE} & set(analysis.by_direction()):
        notes.append(
            "No backward pass (jax.grad) is in the program: its MFU is that of a forward pass, not of a training step."
        )
    found = Utilisation(analysis.name, seconds, chip, count, unit, per_device, tokens, shown(counts), omitted, notes)
    return found if tokens is not None else replace(found, unfitting=_unfitting(analysis, counts))


def check_step(seconds: float, tokens: int | None) -> None:
    """Raise InputError for a time or a number of tokens that no step has."""
    if not (isfinite(seconds) and seconds > 0):
        raise InputError(
            f"A step takes a positive number of seconds, got {seconds!r}.",
            why="MFU divides the FLOPs of a step by its time.",
            cure="Pass the time of one step in seconds, such as 5.667.",
        )
    if tokens is not None and tokens < 1:
        raise InputError(
            f"tokens must be at least 1, got {tokens}.",
            why="They are the tokens that all devices together process in one step.",
            cure="Pass batch x length, or leave `tokens` out.",
        )


def device_count(analysis: Counts, devices: int | None) -> int:
    """Return on how many devices a program runs. Raises InputError if its mesh has another number."""
    if devices is None:
        return analysis.devices
    if devices < 1:
        raise InputError(
            f"devices must be at least 1, got {devices}.",
            why="The FLOPs of the whole program are divided by the number of devices that run it.",
            cure="Pass the number of devices as jax counts them: jax.device_count().",
        )
    if analysis.devices not in (1, devices):
        raise InputError(
            f"`{analysis.name}` is sharded over {analysis.devices} devices, not over {devices}.",
            why="FLOPs per device are those of the whole program divided by the devices that run it.",
            cure="Leave the number out, or analyse the program with shardings over as many devices as ran it.",
        )
    return devices


def peak_of(analysis: Counted, device: Device, peak: str | None = None) -> tuple[str, float]:
    """Return (unit, FLOP/s of one of jax's devices) that MFU divides by.

    peak: a unit of the device or a dtype; by default the dtype with most products. Raises DeviceError if it has none.
    """
    macs = {dtype: cost.macs for dtype, cost in analysis.total.by_dtype().items() if cost.macs}
    dtype = short_name(peak) if peak else max(macs, key=lambda name: macs[name], default="f32")
    is_unit = peak in device.peaks
    found = (peak, device.peaks[peak]) if peak and is_unit else device.matmul_peak(dtype) if bits(dtype) else None
    if found is None:
        raise DeviceError(
            f"The peak of {device.name} for {peak or dtype} is not known.",
            why="MFU is a share of the peak.",
            cure=f"Name one of its peaks: {', '.join(device.peaks)}."
            if device.peaks
            else "Measure it with `costax calibrate`, or name another device: `costax devices` lists them.",
        )
    return found[0], found[1].value / device.jax_devices


def model_flops(analysis: Counts) -> Count:
    """Return the FLOPs of a program without recomputed work, all devices together."""
    recomputed = analysis.by_direction().get(RECOMPUTE)
    return analysis.total.flops - (recomputed.flops if recomputed is not None else 0)


def convention_flops(analysis: Counts, convention: str) -> Count:
    """Return the FLOPs of a step by one convention, all devices together. Raises InputError for an unknown one."""
    if convention == HARDWARE:
        return analysis.total.flops
    if convention == MODEL:
        return model_flops(analysis)
    if convention not in CONVENTIONS:
        raise InputError(
            f"costax does not know the convention {convention!r}.",
            why="Frameworks count the FLOPs of a model in different ways.",
            cure=f"Use one of {', '.join((MODEL, HARDWARE, *CONVENTIONS))}.",
        )
    found = answer(analysis, convention)
    if found.unit != "FLOPs":
        raise InputError(
            f"{convention!r} counts {found.unit}, not FLOPs.",
            why="MFU is a share of a peak in FLOP/s.",
            cure=f"Use one of {', '.join((MODEL, HARDWARE, *CONVENTIONS))} that counts FLOPs, such as 'maxtext'.",
        )
    return found.count


def _counts(analysis: Counts) -> tuple[list[ConventionCount], dict[str, str]]:
    """Return the counts of all conventions, and why others give none."""
    whole = int(analysis.total.flops)
    recomputed = int(model_flops(analysis)) - whole
    without = [Reason("recomputed work", recomputed, "does not count as work of the model")] if recomputed else []
    counts = [
        ConventionCount(HARDWARE, whole, "costax, every FLOP of the program"),
        ConventionCount(MODEL, whole + recomputed, "costax", without),
    ]
    omitted: dict[str, str] = {}
    # The formulas of frameworks first, then tools that count a program.
    for convention in sorted(CONVENTIONS, key=lambda name: name not in FORMULAS):
        if convention in _ALIASES:
            continue
        if convention == "xla" and analysis.devices > 1:
            omitted[convention] = "XLA counts one device of a sharded program, after it has partitioned it."
            continue
        try:
            found = answer(analysis, convention)
        except InputError as error:
            omitted[convention] = error.what
            continue
        if found.unit != "FLOPs":
            omitted[convention] = f"{convention} counts {found.unit}, not FLOPs."
        else:
            # Tools begin with the products alone.
            elementwise = Reason("elementwise work", int(found.ours) - whole, "only matrix products count")
            reasons = (elementwise, *found.reasons) if elementwise.count else found.reasons
            counts.append(ConventionCount(convention, int(found.count), found.version, reasons))
    return counts, omitted


def _unfitting(analysis: Counts, counts: Sequence[ConventionCount]) -> tuple[str, ...]:
    """Return the formulas of transformers, if the program neither attends nor looks up tokens in a table."""
    formulas = tuple(count.convention for count in counts if count.convention in FORMULAS)
    parts = read_transformer(analysis).parts if formulas else None
    return () if parts is None or parts.attentions or parts.tables else formulas


def check_possible(analysis: Counted, device: Device, seconds: float, devices: int) -> None:
    """Raise InputError if the products of the program alone take longer at the peaks of the devices."""
    recomputed = analysis.by_direction().get(RECOMPUTE)
    needed = 0.0
    for dtype, cost in analysis.total.by_dtype().items():
        again = recomputed.by_dtype().get(dtype) if recomputed is not None else None
        macs = cost.macs - cost.padding_macs - (again.macs - again.padding_macs if again is not None else 0)
        found = device.matmul_peak(dtype) if macs > 0 else None
        needed += 2 * macs / found[1].value * device.jax_devices / devices if found is not None else 0.0
    if needed <= seconds or not analysis.exact:
        return
    chips = f", and jax sees one chip as {device.jax_devices} devices" if device.jax_devices > 1 else ""
    raise InputError(
        f"A step of `{analysis.name}` in {seconds:g} s is impossible on {devices} x {device.name}: "
        f"{needed / seconds:.0%} of the peak.",
        why=f"At their peak its products alone take {needed:.3g} s, recomputed ones and padding left out.",
        cure="Check that the step is in seconds and waited for its results, that the program has the batch of all "
        f"devices, and the device and number of devices ({devices}{chips}).",
    )


def notes_on(analysis: Counted, device: Device, devices: int, unit: str) -> list[str]:
    """Return sentences that say what the numbers assume."""
    notes: list[str] = []
    if devices > 1:
        notes.append(f"FLOPs are of the whole program; FLOP/s and MFU are of one of {devices} devices that share it.")
    if device.jax_devices > 1:
        notes.append(f"jax sees one chip as {device.jax_devices} devices; the peak is that of one of them.")
    if device.peaks[unit].unverified:
        notes.append(f"Not verified for {device.name}: the peak of {unit}.")
    if not analysis.exact:
        notes.append("The analysis is not exact, so the FLOPs are not either; `costax analyze` lists why.")
    return notes
