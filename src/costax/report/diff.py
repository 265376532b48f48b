"""The table of a diff: for each layer the counts before and after, and their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.analysis.diff import SIZES, Change, Diff, Layer
from costax.core import units
from costax.core.cost import FIELDS
from costax.report.headlines import near_one
from costax.report.record import written
from costax.report.text import footer, one_line

HEADINGS: Final = {
    "macs": "MACs",
    "flops": "FLOPs",
    "ops": "OPs",
    "bytes_unfused": "traffic",
    "bytes_read": "read",
    "bytes_written": "written",
    "collective_bytes": "sent",
    "param_bytes": "param bytes",
    "padding_macs": "padding",
}
DEFAULT: Final = ("macs", "params", "bytes_unfused")


def render(
    diff: Diff, *, fields: Sequence[str] = DEFAULT, depth: int | None = None, only_changed: bool = False
) -> Group:
    """Return what rich prints of a diff.

    fields: the columns, by default `DEFAULT`. depth: the number of levels of scopes, by default all.
    only_changed: leave out the layers that are the same in both programs.
    """
    layers = [
        layer for layer in diff.layers(depth) if any(layer.change(f).before or layer.change(f).after for f in fields)
    ]
    table = Table(box=SIMPLE_HEAD, show_footer=True, header_style="bold", footer_style="bold", pad_edge=False)
    total = diff.total
    table.add_column("scope", "total", overflow="fold")
    for field in fields:
        change = total.change(field)
        headings = (HEADINGS.get(field, field), "after", "ratio")
        for heading, total_text in zip(headings, _cells(field, change), strict=True):
            table.add_column(heading, total_text, justify="right", no_wrap=True)
    shown = [layer for layer in layers if layer.changed or not only_changed]
    for layer in shown:
        table.add_row(one_line(layer.scope or "(no scope)"), *_line(layer, fields))
    same = len(layers) - len(shown)
    ratio = "ratio = after / before, or the change in percent"
    notes = [f"Each count: before ({diff.before.name}), after ({diff.after.name}), {ratio}."]
    notes += [f"{same} layers are the same in both programs."] if same else []
    return Group(one_line(f"{diff.before.name} -> {diff.after.name}", style="bold"), table, footer(notes))


def to_record(diff: Diff, depth: int | None = None) -> dict[str, Any]:
    """Return the diff as a dictionary for JSON, with every field of every layer; formulas are strings."""
    names = (*FIELDS, *SIZES)

    def line(layer: Layer) -> dict[str, Any]:
        changes = {name: layer.change(name) for name in names}
        return {
            "scope": layer.scope,
            **{name: {"before": c.before, "after": c.after, "delta": c.delta} for name, c in changes.items()},
        }

    return written(
        {
            "schema": "costax/diff/1",
            "before": diff.before.name,
            "after": diff.after.name,
            "total": line(diff.total),
            "layers": [line(layer) for layer in diff.layers(depth)],
        }
    )


def _line(layer: Layer, fields: Sequence[str]) -> list[str]:
    return [cell for field in fields for cell in _cells(field, layer.change(field))]


def _cells(field: str, change: Change) -> tuple[str, str, str]:
    short = units.short_bytes if "bytes" in field else units.short
    return short(change.before), short(change.after), _ratio(change)


def _ratio(change: Change) -> str:
    if change.ratio is None:
        return "new" if change.after and not change.before else ""
    return near_one(change) or (f"{change.ratio:.3g}" if change.after else "gone")
