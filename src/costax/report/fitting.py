"""Tables that fit a terminal: names keep a width that one can read, numbers never break, columns go before that.

A table that is too wide first folds its texts, then leaves out its least important columns and says so. Where a single
number, such as a formula, leaves no room for the name beside it, each line of the table becomes a paragraph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from costax.core.display import Printed
from costax.report.folding import folded

# Characters that a name keeps: in the first column of a table, and in the others.
_NAME: Final = 24
_OTHER_NAME: Final = 16
# Headings of the columns that go first, in this order; after them, the columns go from the right.
_FIRST_TO_GO: Final = (
    *("transc.", "OPs", "kernels", "eqns", "per run", "runs", "link", "FLOPs/B", "FLOP/s a device", "output"),
    *("traffic", "bytes"),
)
# The first of them go also where a name would fold otherwise.
_MINOR: Final = ("per run", "runs", "FLOPs/B", "kernels", "eqns", "link")
# A column in percent ranks the lines, and the scope of a kernel says where it is: they stay as long as the first count.
_STAYS: Final = ("%", "MFU", "scope")
# Columns of a diff belong together in threes: before, after, ratio.
_OF_A_DIFF: Final = ("after", "ratio")


def fitted(renderable: RenderableType, width: int) -> RenderableType:
    """Return what rich prints with every table at most so many characters wide."""
    if isinstance(renderable, Printed):
        renderable = renderable.__rich__()
    if isinstance(renderable, Group):
        return Group(*(fitted(part, width) for part in renderable.renderables))
    if isinstance(renderable, str):
        return fitted(Text(renderable), width)
    if isinstance(renderable, Text):
        return folded(renderable, width)
    if not isinstance(renderable, Table):
        return renderable
    if renderable.title:
        # rich would fold the title to the width of the table.
        title = folded(Text(str(renderable.title), style=renderable.title_style or ""), width)
        return Group(title, fitted(_untitled(renderable), width))
    if _natural(renderable) <= width:
        return renderable
    return _table(renderable, width) if renderable.box is not None else folded(_paragraph(renderable), width)


def _untitled(table: Table) -> Table:
    untitled = copy.copy(table)
    untitled.title = None
    return untitled


def _natural(table: Table) -> int:
    console = Console(width=100_000, color_system=None)
    return table.__rich_measure__(console, console.options).maximum


def _table(table: Table, width: int) -> RenderableType:
    columns = list(table.columns)
    widths = {id(column): _width(column) for column in columns}
    overhead = _natural(table) - sum(widths.values())
    spacing = overhead // max(1, len(columns)) + 1

    def least(kept: Sequence[Column]) -> int:
        texts = [c for c in kept if not _is_number(c)]
        needed = sum(widths[id(c)] for c in kept if _is_number(c)) + spacing * len(kept)
        return needed + sum(min(widths[id(c)], _NAME if c is columns[0] else _OTHER_NAME) for c in texts)

    # A column that few people need goes before a name folds.
    kept = _without_minor(columns, lambda kept: sum(widths[id(c)] for c in kept) + spacing * len(kept) <= width)
    while least(kept) > width and len(kept) > 2:
        gone = _next_to_go(kept)
        kept = [column for column in kept if all(column is not c for c in gone)]
    if least(kept) > width:
        return _vertical(table, width)
    room = width - spacing * len(kept) - sum(widths[id(c)] for c in kept if _is_number(c))
    shown = _copy(table, kept, _shares(kept, widths, room, columns[0]))
    left_out = [_heading(c) for c in columns if all(c is not k for k in kept)]
    return shown if not left_out else Group(shown, folded(Text(_left_out(left_out), style="dim"), width))


def _without_minor(columns: Sequence[Column], fits: Callable[[Sequence[Column]], bool]) -> Sequence[Column]:
    """Return the columns without so many minor ones as make the others fit; all of them if that is not enough."""
    kept = columns
    for name in _MINOR:
        if fits(kept):
            return kept
        kept = [column for column in kept if _heading(column) != name]
    return kept if fits(kept) else columns


def _next_to_go(kept: Sequence[Column]) -> Sequence[Column]:
    headings = [_heading(column) for column in kept]
    if all(name in headings for name in _OF_A_DIFF) and len(kept) > 4:
        return kept[-3:]
    for name in _FIRST_TO_GO:
        if name in headings[1:]:
            return [kept[headings.index(name)]]
    going = [c for c, name in zip(kept[1:], headings[1:], strict=True) if not name.startswith(_STAYS)]
    return going[-1:] if len(going) > 1 else kept[-1:]


def _shares(kept: Sequence[Column], widths: dict[int, int], room: int, first: Column) -> dict[int, int]:
    """Return the width of each column of text: as wide as it is, or else a share of the room."""
    texts = sorted((c for c in kept if not _is_number(c)), key=lambda c: widths[id(c)])
    shares: dict[int, int] = {}
    for position, column in enumerate(texts):
        # Narrow columns first: what they do not need is left for the wide ones.
        share = room // (len(texts) - position)
        shares[id(column)] = min(widths[id(column)], max(share, _NAME if column is first else _OTHER_NAME))
        room -= shares[id(column)]
    return shares


def _copy(table: Table, kept: Sequence[Column], shares: dict[int, int]) -> Table:
    copied = Table(
        box=table.box,
        show_footer=table.show_footer,
        show_header=table.show_header,
        header_style=table.header_style,
        footer_style=table.footer_style,
        pad_edge=table.pad_edge,
    )
    for column in kept:
        share = shares.get(id(column))
        copied.add_column(
            column.header,
            column.footer,
            justify=column.justify,
            no_wrap=share is None,
            overflow="fold",
            width=share,
            style=column.style,
        )
    for row, cells in zip(table.rows, _rows(kept), strict=True):
        shown = (_cell(cell, shares.get(id(column))) for column, cell in zip(kept, cells, strict=True))
        copied.add_row(*shown, style=row.style)
    return copied


def _cell(cell: Any, share: int | None) -> Any:
    """Return a cell of a table, folded to the width of its column if that is one of text."""
    return cell if share is None else folded(cell if isinstance(cell, Text) else Text(_plain(cell)), share)


def _vertical(table: Table, width: int) -> RenderableType:
    """Return each line of a table as a paragraph: its name, and below it a line for each number that is not 0."""
    columns = list(table.columns)
    parts: list[RenderableType] = []
    lines = list(_rows(columns))
    if table.show_footer:
        lines.append([column.footer for column in columns])
    for name, *cells in lines:
        parts.append(folded(Text(_plain(name), style="bold"), width))
        for column, cell in zip(columns[1:], cells, strict=True):
            if _plain(cell) not in ("", "0", "0 B", "0.0", "-"):
                parts.append(folded(Text(f"    {_heading(column)}  {_plain(cell)}"), width))
    return Group(Text(), *parts, Text())


def _paragraph(grid: Table) -> Text:
    """Return each row of a grid as a line of text, which folds."""
    return Text("\n".join("  ".join(filter(None, map(_plain, row))) for row in _rows(list(grid.columns))))


def _rows(columns: Sequence[Column]) -> Iterator[list[Any]]:
    return (list(cells) for cells in zip(*(list(column.cells) for column in columns), strict=True))


def _is_number(column: Column) -> bool:
    return column.justify == "right"


def _heading(column: Column) -> str:
    return _plain(column.header)


def _width(column: Column) -> int:
    return max(len(_plain(cell)) for cell in (column.header, column.footer, *column.cells))


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell or "")


def _left_out(headings: Sequence[str]) -> str:
    names = ", ".join(dict.fromkeys(filter(None, headings)))
    # "transc." ends the sentence too.
    return f"Not shown, because the terminal is narrow: {names.removesuffix('.')}."
