"""The utilisation of a step of a compiled module: its hardware FLOPs over the peak, by what the module executes."""

from __future__ import annotations

from typing import Any, Final

from costax.analysis.other_tools.conventions import CONVENTIONS, Reason
from costax.analysis.utilisation import (
    HARDWARE,
    MODEL,
    ConventionCount,
    Utilisation,
    check_possible,
    check_step,
    notes_on,
    peak_of,
)
from costax.errors import InputError
from costax.hlo.metadata import RECOMPUTE
from costax.performance.hardware import Device
from costax.performance.hardware import device as load_device

_PROGRAM: Final = "costax mfu path/to/file.py:name gives the number"
_OMITTED: Final = {
    MODEL: "a module has what the compiler made of the program, with recomputed work, padding and what several devices "
    f"compute alike; {_PROGRAM}.",
    **dict.fromkeys(
        (name for name in CONVENTIONS if name not in ("xla", "palm-mfu")),
        f"it counts the layers of a program, which a module does not have; {_PROGRAM}.",
    ),
}


def module_utilisation(
    module: Any,
    seconds: float,
    device: str | Device,
    *,
    devices: int | None = None,
    tokens: int | None = None,
    peak: str | None = None,
) -> Utilisation:
    """Return the utilisation of a step that took so many seconds. module: a CompiledModule; see its method `mfu`."""
    check_step(seconds, tokens)
    counts, chip = module.analysis, load_device(device)
    copies = _device_count(module, devices)
    unit, per_device = peak_of(counts, chip, peak)
    # The figures of a module that XLA has not split are of all devices together.
    factor = 1 if module.unsplit else copies
    hardware, counted = module.executed.flops * factor, module.total.flops * factor
    loops = Reason(
        "repeated loop bodies and library calls",
        counted - hardware,
        "XLA's cost analysis counts a loop body once and a library call as -1",
    )
    found = [
        ConventionCount(HARDWARE, hardware, "XLA's count of each instruction that runs, loops by trip count"),
        ConventionCount("xla", counted, "XLA's cost analysis", [loops] if loops.count else []),
    ]
    check_possible(counts, chip, seconds, copies if module.unsplit else counts.devices)
    notes = [*_notes(module, chip), *notes_on(counts, chip, copies, unit)]
    return Utilisation(module.name, seconds, chip, copies, unit, per_device, tokens, found, _OMITTED, notes)


def _device_count(module: Any, devices: int | None) -> int:
    """Return how many devices run a module. Raises InputError for another number than the module states."""
    stated = module.replay.module.run_on.count
    if devices is None:
        return stated or 1
    if devices < 1:
        raise InputError(
            f"devices must be at least 1, got {devices}.",
            why="The FLOPs of all devices are those of the module times their number.",
            cure="Pass the number of devices as jax counts them: jax.device_count().",
        )
    if stated not in (None, devices):
        raise InputError(
            f"`{module.name}` is compiled for {stated} device{'' if stated == 1 else 's'}, not for {devices}.",
            why="The FLOPs of a module are those of one of the devices that it was compiled for.",
            cure="Leave the number out, or pass the module that ran on as many devices.",
        )
    return devices


def _notes(module: Any, device: Device) -> list[str]:
    notes = [
        f"The FLOPs are those that run, work on integers included, of {module.extent}: their share of the peak is HFU."
    ]
    recomputed = sum(x.once.flops * x.runs for x in module.executed_instructions if x.direction == RECOMPUTE)
    if recomputed:
        share = recomputed / module.executed.flops
        notes.append(f"By the names of its instructions, {share:.2%} of them are recomputed.")
    if not module.is_optimized:
        notes.append("The module is not optimised: XLA may still remove or repeat work.")
    elif module.compiled_for and module.compiled_for != device.family:
        notes.append(
            f"The module was compiled for a {module.compiled_for.upper()}, and a module for {device.name} does other "
            "work."
        )
    return notes
