"""The text of a fit: whether a program fits the memory of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from costax.core import units
from costax.report.text import footer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.core.cost import Count
    from costax.performance.fit import Fit


def render(fit: Fit) -> Text:
    """Return what rich prints: yes, no or too close to say, the margin, and what to change."""
    room, name = units.short_bytes(fit.room), fit.analysis.name
    margin = units.short_bytes(abs(fit.margin))
    parts = ", ".join(f"{part} {units.short_bytes(size)}" for part, size in fit.parts.items())
    if fit.answer == "unsure":
        least, most = map(units.short_bytes, fit.bounds)
        lines = [f"too close to say: {name} needs between {least} and {most}, {fit.device.name} has {room}."]
        lines.append(f"  expected {units.short_bytes(fit.needed)}: {parts} ({fit.source})")
    else:
        verdict = f"{margin} ({fit.margin / fit.room:.0%}) remain free." if fit else f"{margin} are missing."
        needed = units.short_bytes(fit.needed)
        lines = [f"{fit.answer}: {name} needs {needed}, {fit.device.name} has {room}; {verdict}"]
        lines.append(f"  {parts} ({fit.source})")
    lines += _of_several(fit)
    if fit.device.of_chip > 1:
        lines.append(f"  jax sees one chip as {fit.device.of_chip} devices; the memory is that of one of them.")
    if fit.unmodelled:
        lines.append(f"  {unmodelled(fit.unmodelled, fit.needed, fit.bounds[1])}")
    if fit.answer == "unsure":
        lines.append(
            "Ask the compiler: costax fits TARGET --device NAME --xla."
            if fit.device.compile_for
            else "Try it: costax has no ahead-of-time compiler for the device."
        )
    if not fit and fit.changes:
        lines.append("What to change:" if fit.answer == "no" else "What would save memory:")
        lines += [f"  {change.what}: saves about {units.short_bytes(change.saves)}" for change in fit.changes]
    if fit.answer == "no" and (fit.available is None or fit.available >= fit.devices):
        lines.append(f"  shard the program evenly over {fit.devices:,} devices or more")
    return footer(lines)


def unmodelled(doubts: Sequence[str], needed: Count, most: Count) -> str:
    """Return the sentence about memory that is not modelled. most: bytes that the program may need with it."""
    limit = f", at most {units.short_bytes(most)} in all by the bounds of the estimate" if most > needed else ""
    return f"More may be needed{limit}; the memory of these is not modelled: {', '.join(doubts)}."


def _of_several(fit: Fit) -> list[str]:
    """Say what several devices change."""
    used, available = fit.analysis.devices, fit.available
    if available is None or available == 1:
        return [f"  This is the share of one of the {used} devices that the program is sharded over."] * (used > 1)
    if used > 1:
        unused = f"; {available - used} have nothing to do" if used < available else ""
        return [f"  This is the share of one device. The program is sharded over {used} of {available}{unused}."]
    lines = [f"  The program is not sharded: it runs on one of the {available} devices."]
    if fit.evenly is not None and not fit:
        each = units.short_bytes(fit.evenly)
        enough = "fits" if fit.evenly <= fit.room else f"does not fit: that takes {fit.devices:,} devices"
        lines.append(f"  Sharded evenly over all of them each would need {each} or more, which {enough}.")
    return lines
