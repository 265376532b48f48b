"""An analysis or a comparison as the contents of a file: JSON, Markdown, CSV, flame graphs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from costax.analysis.analysis import Analysis
from costax.core.cost import FIELDS
from costax.core.printable import printable
from costax.report import flamegraph, notes
from costax.report.record import to_record
from costax.report.shown import analysis_of
from costax.report.tables import COLUMNS, Table, table

if TYPE_CHECKING:
    from costax.report.shown import Shown


def as_json(account: Shown, **_: Any) -> str:
    """Return the record as JSON text."""
    if isinstance(account, Analysis):
        return json.dumps(to_record(account), indent=1) + "\n"
    from costax.report.waterfall import to_record as comparison_record

    return json.dumps(comparison_record(account), indent=1) + "\n"


def as_csv(account: Shown, **choice: Any) -> str:
    """Return one line for each (scope, direction, primitive, source line), with the exact number of every field.

    choice: options of `costax.report.tables.table`; with any of them, return one line for each line of the table.
    """
    analysis = analysis_of(account)
    if choice:
        return written_csv(*_lines_of_table(table(analysis, **choice)))
    return written_csv(HEADINGS, lines(analysis))


def written_csv(headings: Sequence[str], cells: Iterable[Sequence[Any]]) -> str:
    """Return the text of a CSV whose cells a spreadsheet does not run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(map(spreadsheet_safe, line) for line in cells)
    return out.getvalue()


def _lines_of_table(shown: Table) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the headings and the lines of a table without its total, with the exact number of every field.

    In a table with levels, a line has its level from 0 and the path of its labels; it is the sum of the lines below it.
    """
    has_levels = shown.heading in ("scope", "module")
    texts = [number for number, column in enumerate(shown.columns) if column in COLUMNS]
    with_params = any(line.params is not None for line in shown.lines)
    headings = (
        *((shown.heading, "level") if has_levels else (shown.heading,)),
        *(shown.columns[number] for number in texts),
        *(("params",) if with_params else ()),
        *FIELDS,
    )
    path: list[str] = []
    cells: list[tuple[Any, ...]] = []
    for line in shown.lines:
        path[line.depth :] = [line.label]
        names = ("/".join(path), line.depth) if has_levels else (line.label,)
        params = (line.params.elements if line.params else 0,) if with_params else ()
        counts = (getattr(line.cost, name) for name in FIELDS)
        cells.append((*names, *(line.cells[number] for number in texts), *params, *counts))
    return headings, cells


HEADINGS = ("scope", "direction", "primitive", "source", *FIELDS)
"""The columns of the CSV, and of the data frame."""


def lines(analysis: Analysis) -> list[tuple[Any, ...]]:
    """Return one tuple for each (scope, direction, primitive, source line), with the fields of `HEADINGS`."""
    return [
        ("/".join(row.scope), row.direction, row.primitive, row.source, *(getattr(cost, name) for name in FIELDS))
        for row, cost in analysis.rows.items()
    ]


def as_speedscope(account: Shown, **_: Any) -> str:
    """Return a flame graph in speedscope's JSON format."""
    return flamegraph.as_speedscope(analysis_of(account))


def as_pprof(account: Shown, **_: Any) -> bytes:
    """Return a flame graph in pprof's format: a gzipped protocol buffer."""
    return flamegraph.as_pprof(analysis_of(account))


def as_markdown(account: Shown, **choice: Any) -> str:
    """Return the header, a table and its notes as GitHub-flavoured Markdown, and the waterfall of a comparison.

    choice: options of `costax.report.tables.table`.
    """
    analysis = analysis_of(account)
    shown = table(analysis, **choice)
    (_, _, inputs), *totals = notes.heading(analysis)
    text = [f"# {escaped(analysis.name)}", "", f"inputs: {escaped(inputs)}", ""]
    text += grid(("total", "", "exact"), totals, numeric_from=1)
    text.append("")
    # Markdown removes leading spaces in a cell.
    body = [("&emsp;" * line.depth + escaped(line.label), *line.cells) for line in shown.lines]
    total = tuple(f"**{cell}**" for cell in (shown.total.label, *shown.total.cells))
    text += grid((shown.heading, *shown.columns), [*body, total], numeric_from=1, raw=True)
    text.append("")
    text += [f"* {escaped(note)}" for note in notes.footing(analysis, shown)]
    if not isinstance(account, Analysis):
        from costax.report.waterfall import waterfall_rows

        title = f"## From this program to XLA's cost analysis ({escaped(account.target)})"
        heading = ("", "FLOPs", "transcendentals", "equations")
        body = [
            (f"**{escaped(row.label)}**" if row.is_sum else f"&emsp;{escaped(row.label)}", *row.cells())
            for row in waterfall_rows(account)
        ]
        text += ["", title, "", *grid(heading, body, numeric_from=1, raw=True)]
    return "\n".join(text) + "\n"


def grid(heading: Sequence[str], rows: Sequence[Sequence[str]], *, numeric_from: int, raw: bool = False) -> list[str]:
    """Return the lines of a Markdown table.

    numeric_from: the index of the first column that is aligned to the right. raw: the cells are escaped already.
    """
    rule = ["---"] * numeric_from + ["--:"] * (len(heading) - numeric_from)
    texts = rows if raw else [[escaped(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *texts)]


def escaped(text: str) -> str:
    """Return the text as one line with Markdown's special characters escaped; no link, image or tag is left."""
    text = printable(text)
    for character in "\\|*_<>`#":
        text = text.replace(character, f"\\{character}")
    return text.replace("](", "]\\(")


def spreadsheet_safe(cell: Any) -> Any:
    """Return a cell of a CSV: a text that a spreadsheet would run as a formula follows an apostrophe; numbers stay.

    >>> spreadsheet_safe("=cmd()"), spreadsheet_safe("layer"), spreadsheet_safe(-3)
    ("'=cmd()", 'layer', -3)
    """
    if isinstance(cell, int | float):
        return cell
    text = printable(str(cell))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\ufffd")) else text
