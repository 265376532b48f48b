"""An analysis as the text of a file: JSON, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from costax.analysis import Analysis
from costax.cost import FIELDS
from costax.report import notes
from costax.report.record import to_record
from costax.report.tables import table


def as_json(analysis: Analysis) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(analysis), indent=1) + "\n"


def as_csv(analysis: Analysis) -> str:
    """Return one line for each (scope, direction, primitive, source line), with every field, exactly."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("scope", "direction", "primitive", "source", *FIELDS))
    for row, cost in analysis.rows.items():
        place = ("/".join(row.scope), row.direction, row.primitive, row.source)
        writer.writerow((*place, *(getattr(cost, name) for name in FIELDS)))
    return out.getvalue()


def as_markdown(analysis: Analysis) -> str:
    """Return the header, the table by scope and its notes as GitHub-flavoured Markdown."""
    shown = table(analysis)
    (_, _, inputs), *totals = notes.heading(analysis)
    lines = [f"# {_escaped(analysis.name)}", "", f"inputs: {_escaped(inputs)}", ""]
    lines += _grid(("total", "", "exactly"), totals, numeric_from=1)
    lines.append("")
    # Markdown drops leading spaces in a cell.
    body = [("&emsp;" * line.depth + _escaped(line.label), *line.cells) for line in shown.lines]
    total = tuple(f"**{cell}**" for cell in (shown.total.label, *shown.total.cells))
    lines += _grid((shown.heading, *shown.columns), [*body, total], numeric_from=1, escaped=True)
    lines.append("")
    lines += [f"* {_escaped(note)}" for note in notes.footing(analysis, shown)]
    return "\n".join(lines) + "\n"


def _grid(
    heading: Sequence[str], rows: Sequence[Sequence[str]], *, numeric_from: int, escaped: bool = False
) -> list[str]:
    rule = ["---"] * numeric_from + ["--:"] * (len(heading) - numeric_from)
    texts = rows if escaped else [[_escaped(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *texts)]


def _escaped(text: str) -> str:
    escaped = text
    for character in "\\|*_<>`#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
