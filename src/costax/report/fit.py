"""The text of a fit: whether a program fits the memory of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from costax.core import units
from costax.report.text import footer

if TYPE_CHECKING:
    from costax.performance.fit import Fit


def render(fit: Fit) -> Text:
    """Return what rich prints: yes or no, the margin, and what to change."""
    needed, room = units.short_bytes(fit.needed), units.short_bytes(fit.room)
    margin = units.short_bytes(abs(fit.margin))
    verdict = f"{margin} ({fit.margin / fit.room:.0%}) remain free." if fit else f"{margin} are missing."
    parts = ", ".join(f"{name} {units.short_bytes(size)}" for name, size in fit.parts.items())
    lines = [
        f"{'yes' if fit else 'no'}: {fit.analysis.name} needs {needed}, {fit.device.name} has {room}; {verdict}",
        f"  {parts} ({fit.source})",
    ]
    if fit.unmodelled:
        lines.append(f"  More may be needed: the workspace of these calls is unknown: {', '.join(fit.unmodelled)}.")
    if not fit:
        lines.append("What to change:")
        lines += [f"  {change.what}: saves about {units.short_bytes(change.saves)}" for change in fit.changes]
        lines.append(f"  shard the program evenly over {fit.devices} devices")
    return footer(lines)
