"""What is particular to sharded programs: the work that several devices repeat, by layer and equation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from costax.core import units
from costax.report.tables import short_place
from costax.report.text import footer, one_line

if TYPE_CHECKING:
    from costax.compare.base_comparison import BaseComparison, Communication, StageView
    from costax.compare.replication import Repeated, Replication

_MOST: Final = 8
_EQUATIONS_SHOWN: Final = 3


def render(found: Replication | None, most: int = _MOST) -> list[Table | Text]:
    """Return what rich prints of the replication of a program; [] for a program on one device."""
    if found is None:
        return []
    sentence = (
        f"All {found.devices} devices together execute {units.short(found.executed, 'FLOP')}, "
        f"{found.ratio:.2f} times those of the program; {found.compared:.1%} of its work was compared by equation."
    )
    layers = [layer for layer in found.layers if layer.repeated]
    if not layers:
        return [footer([f"{sentence} No layer is computed more than once.", ""])]
    by_layer: dict[str, list[Repeated]] = defaultdict(list)
    for equation in found.equations:
        by_layer[equation.scope].append(equation)
    table = Table(
        title=f"Work that several devices repeat, {min(most, len(layers))} of {len(layers)} layers",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("layer", overflow="fold")
    for name in ("program", "all devices"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("", "equations computed more than once"):
        table.add_column(name, overflow="fold")
    for layer in layers[:most]:
        table.add_row(
            one_line(layer.scope or "(no scope)"),
            units.short(layer.program),
            units.short(layer.executed),
            one_line(str(layer)),
            one_line(_equations(by_layer[layer.scope])),
        )
    return [table, footer([sentence, ""])]


def _equations(equations: Sequence[Repeated]) -> str:
    shown = [f"{x.equation} {x.factor:.3g}x ({short_place(x.source)})" for x in equations[:_EQUATIONS_SHOWN]]
    hidden = len(equations) - _EQUATIONS_SHOWN
    return ", ".join(shown if hidden <= 0 else [*shown, f"{hidden} more"])


def communication(comparison: BaseComparison[StageView], most: int = _MOST) -> list[Table]:
    """Return the table of what one device sends, by layer, direction, mesh axes and link; [] without collectives."""
    found = comparison.communication()
    if not found:
        return []
    return [sent_by_one(found[:most], f"Sent by one device, {min(most, len(found))} of {len(found)}")]


def sent_by_one(found: Sequence[Communication], title: str | None = None) -> Table:
    """Return the table of what one device sends, with a line for each of these entries."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "direction", "collective", "mesh axes", "link"):
        table.add_column(name, overflow="fold")
    for name in ("in the program", "runs", "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        texts = (each.scope or "(no scope)", each.direction or "-", each.opcode, ", ".join(each.axes) or "-")
        numbers = (str(each.count), str(each.runs), units.short_bytes(each.sent))
        table.add_row(*map(one_line, (*texts, each.link or "-")), *numbers)
    return table


def to_record(found: Replication | None) -> dict[str, Any] | None:
    """Return the replication as a dictionary for JSON; None for a program on one device."""
    if found is None:
        return None
    return {
        "devices": found.devices,
        "program": found.program,
        "executed": found.executed,
        "ratio": found.ratio,
        "compared": found.compared,
        "layers": [_repeated(layer) for layer in found.layers],
        "equations": [_repeated(equation) for equation in found.equations],
    }


def _repeated(x: Repeated) -> dict[str, Any]:
    return {**asdict(x), "axes": list(x.axes), "sizes": list(x.sizes), "factor": x.factor}
