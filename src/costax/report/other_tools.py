"""The table of another tool's number: costax's number, each difference with its reason, and the other tool's number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.report.headlines import ours_as
from costax.report.text import one_line

if TYPE_CHECKING:
    from costax.analysis.other_tools.conventions import Answer


def render(answer: Answer) -> Group:
    """Return what rich prints. Red lines are defects of the other tool."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", answer.unit):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_row(f"costax, {ours_as(answer)}", f"{answer.ours:,}", "", style="bold")
    for reason in answer.reasons:
        note = f"{reason.why} (a defect)" if reason.defect else reason.why
        table.add_row(f"  {reason.what}", f"{reason.count:+,}", one_line(note), style="red" if reason.defect else "")
    table.add_row(f"= {answer.tool}", f"{answer.count:,}", answer.version, style="bold")
    notes = [one_line(note) for note in answer.notes]
    return Group(table, *notes)
