"""Tables for the terminal, printed by rich; in a pipe they are plain text without colours, and never truncated."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from costax.analysis.analysis import Analysis
from costax.core.printable import printable, without_controls
from costax.report import notes
from costax.report.fitting import fitted
from costax.report.headlines import headline
from costax.report.tables import Table, table

# In characters; wider than any line, so that rich neither wraps nor truncates a line.
_UNBOUNDED: Final = 100_000


def render(analysis: Analysis, inexact: str = "", below: str = "", **choice: Any) -> Group:
    """Return what rich prints of an analysis: a header, one table, and what the numbers include.

    inexact: why the numbers of a compiled program are not exact, though those of the analysis may be. below: a sentence
    below the headline. choice: options of `costax.report.tables.table`.
    """
    shown = table(analysis, **choice)
    return Group(header(analysis, inexact, below), rich_table(shown), footer(notes.footing(analysis, shown)))


def header(analysis: Analysis, inexact: str = "", below: str = "") -> Group:
    """Return the headline, the inputs and the totals. inexact: why they are not exact, beyond the analysis.

    below: a sentence below the headline.
    """
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, justify="right")
    (_, _, inputs), *totals = notes.heading(analysis)
    if inexact:
        *totals, (label, _, reason) = totals
        totals.append((label, "no", "; ".join(filter(None, [reason, inexact]))))
    for label, short, exact in totals:
        style = "red" if short == "no" else ""
        grid.add_row(one_line(label), one_line(short, style=style or "bold"), one_line(exact, style=style))
    above = filter(None, [*headline(analysis).split("\n"), below])
    return Group(footer(above, style="bold"), one_line(f"inputs: {inputs}"), grid)


def rich_table(shown: Table) -> RichTable:
    """Return a table for rich: labels indented by depth, numbers aligned to the right, the total below a rule."""
    rendered = RichTable(box=SIMPLE_HEAD, show_footer=True, header_style="bold", footer_style="bold", pad_edge=False)
    rendered.add_column(one_line(shown.heading), one_line(shown.total.label), overflow="fold")
    for name, total in zip(shown.columns, shown.total.cells, strict=True):
        rendered.add_column(Text(name), Text(total), justify="right", no_wrap=True)
    for line in shown.lines:
        label = one_line("  " * line.depth + line.label, style="dim" if line.label.startswith("(") else "")
        cells = (Text(cell, style="dim" if cell in ("0", "0 B", "0.0") else "") for cell in line.cells)
        rendered.add_row(label, *cells)
    return rendered


def columns(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> RichTable:
    """Return a table of texts for rich: every column aligned to the left."""
    rendered = RichTable(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in headings:
        rendered.add_column(one_line(heading), overflow="fold")
    for line in lines:
        rendered.add_row(*map(one_line, line))
    return rendered


def one_line(text: str, style: str = "") -> Text:
    """Return a text with names of a program or of a file as one line for rich, which a terminal can print safely."""
    return Text(printable(text), style=style)


def footer(sentences: Iterable[str], style: str = "") -> Text:
    """Return the notes, one per line."""
    return Text("\n".join(map(printable, sentences)), style=style)


def plain(renderable: Any, width: int = _UNBOUNDED) -> str:
    """Return what rich prints as plain text: without wrapping, or with lines of at most so many characters."""
    shown = renderable if width == _UNBOUNDED else fitted(renderable, width)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(shown)
    return _safe(capture.get())


def for_output(renderable: Any) -> str:
    """Return what rich prints as text for standard output: coloured and as wide as the terminal, if it is one.

    In a pipe the width is that of the environment variable COLUMNS, or unbounded.
    """
    console = Console(width=None if _is_terminal() else _width_of_a_pipe())
    with console.capture() as capture:
        console.print(fitted(renderable, console.width))
    return _safe(capture.get())


def output_width() -> int:
    """Return the characters of a line of standard output: those of the terminal, or of COLUMNS, or unbounded."""
    return Console().width if _is_terminal() else _width_of_a_pipe()


def _safe(text: str) -> str:
    return "\n".join(line.rstrip() for line in without_controls(text).split("\n")).strip("\n")


def _is_terminal() -> bool:
    # Python has no stream where a shell closed it, and a closed stream answers nothing.
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False


def _width_of_a_pipe() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _UNBOUNDED
