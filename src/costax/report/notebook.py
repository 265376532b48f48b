"""An analysis or a comparison in a notebook: its tables as HTML, without scripts."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Console

from costax.analysis.analysis import Analysis
from costax.core.printable import without_controls
from costax.report import notes
from costax.report.headlines import headline
from costax.report.shown import analysis_of
from costax.report.tables import Line, table

if TYPE_CHECKING:
    from costax.report.shown import Shown

# Width in characters, for values whose tables are made for terminals.
_WIDTH = 100
# Colours come from the notebook's theme; the class `costax` limits the rules to the tables of costax.
_STYLE = """<style>
.costax {font-variant-numeric: tabular-nums; font-size: 0.9em}
.costax table {border-collapse: collapse; margin: 0.5em 0}
.costax td, .costax th {padding: 0.15em 0.8em; text-align: right; border: 0; background: none}
.costax td:first-child, .costax th:first-child {text-align: left; white-space: pre}
.costax thead th {border-bottom: 1px solid currentcolor}
.costax tfoot th {border-top: 1px solid currentcolor}
.costax p {margin: 0.2em 0; opacity: 0.8}
</style>"""


def as_html(account: Shown, **choice: Any) -> str:
    """Return a fragment of HTML: the totals, a table and its notes, and the waterfall of a comparison."""
    analysis = analysis_of(account)
    shown = table(analysis, **choice)
    (_, _, inputs), *totals = notes.heading(analysis)
    parts = [
        f"<div class='costax'>{_STYLE}<b>{escape(headline(account))}</b><p>inputs: {escape(inputs)}</p>",
        *_grid((), totals),
        *_grid((shown.heading, *shown.columns), map(_cells, shown.lines), _cells(shown.total)),
        *(f"<p>{escape(note)}</p>" for note in notes.footing(analysis, shown)),
    ]
    if not isinstance(account, Analysis):
        from costax.report.waterfall import waterfall_rows

        lines = [(row.label if row.is_sum else f"    {row.label}", *row.cells()) for row in waterfall_rows(account)]
        title = f"From this program to XLA's cost analysis ({account.target})"
        parts += [f"<b>{escape(title)}</b>", *_grid(("", "FLOPs", "transcendentals", "equations"), lines)]
    return without_controls("\n".join([*parts, "</div>"]))


def from_rich(renderable: Any) -> str:
    """Return what rich prints as a fragment of HTML with inline styles."""
    console = Console(record=True, file=io.StringIO(), width=_WIDTH)
    console.print(renderable)
    contents = console.export_html(inline_styles=True, code_format="<pre class='costax'>{code}</pre>")
    return without_controls(contents)


def _cells(line: Line) -> tuple[str, ...]:
    return ("    " * line.depth + line.label, *line.cells)


def _grid(heading: Sequence[str], rows: Any, total: Sequence[str] = ()) -> Iterator[str]:
    yield "<table>"
    if heading:
        yield f"<thead><tr>{''.join(f'<th scope=col>{escape(cell)}</th>' for cell in heading)}</tr></thead>"
    yield "<tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody>"
    if total:
        yield f"<tfoot><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in total)}</tr></tfoot>"
    yield "</table>"
