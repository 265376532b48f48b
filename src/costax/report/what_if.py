"""The table of a what-if: each figure before and after the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from costax.report.text import columns, footer, one_line

if TYPE_CHECKING:
    from costax.analysis.what_if import WhatIf
    from costax.performance.hardware import Device


def render(change: WhatIf, device: str | Device | None = None) -> Group:
    """Return what rich prints. device: adds the time and the energy of a call on this device."""
    table = columns(("", "before", "after", "ratio"), change.rows(device))
    return Group(one_line(change.analysis.name, style="bold"), table, footer(change.assumptions))
