"""The table of a what-if: each figure before and after the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from costax.report.text import columns

if TYPE_CHECKING:
    from costax.analysis.what_if import WhatIf
    from costax.performance.hardware import Device


def render(change: WhatIf, device: str | Device | None = None) -> Group:
    """Return what rich prints. device: adds the time and the energy of a call on this device."""
    table = columns(("", "before", "after", "ratio"), change.rows(device))
    return Group(Text(change.analysis.name, style="bold"), table, Text("\n".join(change.assumptions)))
