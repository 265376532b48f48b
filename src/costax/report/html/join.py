"""The HTML page of a join: an icicle by measured time, coloured by the share of the roofline, and its tables."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from costax.core import units
from costax.measure.join.result import BY, Join, Sum
from costax.report import join as report
from costax.report.html.page import filled, save_buttons
from costax.report.join_tree import JoinNode, join_tree

# The longest instructions have a box of their own; the others of a layer share one.
_BOXES: Final = 600
_LINES: Final = 300


def as_html(join: Join, **_: Any) -> str:
    """Return the page of a join."""
    return filled(f"{join.name} - costax join", _body(join), _data(join), "join.js")


def _data(join: Join) -> dict[str, Any]:
    by_roofline = join.device is not None
    ordered = sorted((row for row in join.rows if row.seconds), key=lambda row: -row.seconds)
    boxed = {row.name for row in ordered[:_BOXES]}
    boxes: list[dict[str, Any]] = []
    _add(boxes, join_tree(join.rows), "", boxed, by_roofline)
    return {
        "boxes": boxes,
        "colour": "share of the roofline" if by_roofline else "FLOP/s",
        "share": by_roofline,
        "tables": {by: _table(join, by) for by in BY},
    }


def _add(boxes: list[dict[str, Any]], node: JoinNode, parent: str, boxed: set[str], by_roofline: bool) -> None:
    if not node.total.seconds:
        return
    number = str(len(boxes))
    boxes.append(_box(number, parent, node.name or "one run", "/".join(node.path), node.total, by_roofline))
    for child in node.children:
        _add(boxes, child, number, boxed, by_roofline)
    rest = Sum()
    for row in node.rows:
        own = Sum().plus(row)
        if row.name in boxed:
            scope = "/".join(row.place.scope)
            label = f"{scope}\n{row.opcode} {row.source}".strip()
            boxes.append(_box(str(len(boxes)), number, row.name, label, own, by_roofline))
        else:
            rest = rest.joined(own)
    if rest.seconds:
        others = f"({rest.instructions} instructions)"
        boxes.append(_box(str(len(boxes)), number, others, "/".join(node.path), rest, by_roofline))


def _box(number: str, parent: str, name: str, path: str, part: Sum, by_roofline: bool) -> dict[str, Any]:
    rates = [("FLOP/s", part.flops_per_second), ("B/s", part.bytes_per_second)]
    text = [units.seconds(part.seconds), *(units.rate(rate, unit) for unit, rate in rates if rate)]
    if part.roofline is not None:
        text.append(f"{part.roofline:.0%} of the roofline")
    colour = part.roofline if by_roofline else part.flops_per_second
    return {
        "id": number,
        "parent": parent,
        "name": name,
        "path": path or name,
        "seconds": part.seconds,
        "colour": colour,
        "text": ", ".join(text),
    }


def _table(join: Join, by: str) -> dict[str, Any]:
    shown = report.table(join, by, top=None if by == "scope" else _LINES)
    return {
        "heading": shown.heading,
        "columns": shown.columns,
        "lines": [[line.depth, line.label, *line.cells] for line in (*shown.lines, shown.total)],
    }


def _body(join: Join) -> str:
    shown = report.table(join)
    cards = "".join(
        f"<div class='card'><div class='label'>{escape(name)}</div><div class='value'>{escape(value)}</div>"
        f"<div class='exact'>{escape(more.strip(' ,;'))}</div></div>"
        for name, value, more in report.heading(join)
    )
    note_lines = "".join(f"<p class='note'>{escape(note)}</p>" for note in report.notes(join, shown))
    options = "".join(f"<option value='{by}'>{by}</option>" for by in BY)
    versions = ", ".join(f"{name} {version}" for name, version in join.analysis.versions.items())
    return _BODY.format(
        name=escape(join.name),
        origin=escape(report.origin(join)),
        versions=escape(versions),
        cards=cards,
        notes=note_lines,
        options=options,
        save=save_buttons("icicle"),
    )


_BODY: Final = """<header class='top'><h1>{name}</h1><button id='theme' type='button'>Dark</button></header>
<p class='dim'>{origin}</p><p class='dim'>{versions}</p>
<main><div id='cards' class='cards'>{cards}</div>
<p id='status' class='hidden' role='status' aria-live='polite'></p>
<section id='time-section' aria-label='Measured time'><div class='bar'><h2>Measured time</h2>
<button id='out' type='button'>Zoom out</button>{save}</div>
<div id='icicle'></div><div id='icicle-key' class='legend'></div></section>
<section id='table-section' aria-label='Table'><div class='bar'><h2>Table</h2>
<label>by <select id='by'>{options}</select></label></div>
<div class='scroll' tabindex='0' role='region' aria-label='table of measured time'>
<table id='table'><thead></thead><tbody></tbody></table></div></section>
<section id='notes-section' aria-label='Notes'>{notes}</section></main>"""
