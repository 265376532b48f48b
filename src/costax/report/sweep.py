"""The table of a sweep: one line per point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group

from costax.core import units
from costax.report.text import columns, footer

if TYPE_CHECKING:
    from costax.sweep.results import Sweep

_COLUMNS: Final = (("macs", "MACs"), ("flops", "FLOPs"), ("params", "params"), ("bytes_unfused", "traffic"))
_SHOWN: Final = 40


def render(sweep: Sweep) -> Group:
    """Return what rich prints: one line per point, with the error of a point that failed."""
    names = list(dict.fromkeys(name for result in sweep.results for name in result["point"]))
    shown = [(field, heading) for field, heading in _COLUMNS if any(row.get(field) is not None for row in sweep.rows)]
    lines = [
        [
            *(str(row.get(name, "")) for name in names),
            *(_cell(field, row.get(field)) for field, _ in shown),
            _failed(row),
        ]
        for row in sweep.rows[:_SHOWN]
    ]
    headings = [*names, *(heading for _, heading in shown), "error"]
    if not sweep.errors:
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    return Group(columns(headings, lines), footer(notes(sweep)))


def _cell(field: str, value: Any) -> str:
    if value is None:
        return ""
    return units.short_bytes(value) if field == "bytes_unfused" else units.short(value)


def _failed(row: dict[str, Any]) -> str:
    return (row["error"] or "").partition("\n")[0]


def notes(sweep: Sweep) -> list[str]:
    """Return how many points and programs a sweep has, how many failed, and how many the table shows."""
    failed = len(sweep.errors)
    points = f"{len(sweep)} point{'s' if len(sweep) != 1 else ''}"
    programs = f"{sweep.programs} different program{'s' if sweep.programs != 1 else ''}"
    lines = [f"{points}, {programs}" + (f", {failed} failed." if failed else ".")]
    if len(sweep) > _SHOWN:
        lines.append(f"The table shows the first {_SHOWN} points.")
    return lines
