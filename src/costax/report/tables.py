"""Tables as values: columns and lines of text, the same for a terminal, Markdown or a notebook.

A parent's line equals the sum of its children's lines: the work of a scope outside of its child scopes has its own
line, `(own)`. Only lines whose cells are all 0 are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.analysis.module_tree import called_modules, module_tree
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core import units
from costax.core.cost import MAC, Cost, Count
from costax.core.display import Displayed
from costax.core.polynomial import magnitude
from costax.core.size import Size
from costax.errors import InputError
from costax.program.tree import DIRECTIONS, Scope

BY: Final = ("scope", "module", "primitive", "source", "dtype", "direction")
MOST_LINES: Final = 150
"""The default depth is the largest depth whose table has at most this many scopes."""
# The sort keys of a table; "order" is the order of the program.
SORTS: Final[Mapping[str, Callable[[Cost], Count]]] = {
    "order": lambda cost: 0,
    "macs": lambda cost: cost.macs,
    "flops": lambda cost: cost.flops,
    "transcendentals": lambda cost: cost.transcendentals,
    "ops": lambda cost: cost.ops,
    "bytes": lambda cost: cost.bytes_unfused,
}
SORT_KEYS: Final = (*SORTS, "params", "name")
COLUMNS: Final = ("type", "output")
_MEANING: Final[Mapping[str, str]] = {
    "by": "what each line of the table stands for",
    "sort": "the key by which the lines are sorted",
    "direction": "the part of a training step that the table shows",
    "columns": "what stands beside each layer: the class of its module, and the shape of its output",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its level of indentation, its label, and one text per column.

    cost, params: what the cells show, in exact numbers; None for a table of something else than costs.
    """

    depth: int
    label: str
    cells: tuple[str, ...]
    cost: Cost | None = field(default=None, compare=False, repr=False)
    params: Size | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Table(Displayed):
    """A table: the heading of the labels, the headings of the columns, the lines, their total.

    depth, full_depth: the number of levels of scopes that the table shows, and that the program has.
    merged: equal layers share one line. direction: the only direction in the table, or None for all.
    """

    heading: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Line
    depth: int = 0
    full_depth: int = 0
    merged: bool = False
    direction: str | None = None


def table(
    analysis: Analysis,
    by: str = "scope",
    depth: int | None = None,
    sort: str | None = None,
    *,
    merge: bool = True,
    top: int | None = None,
    direction: str | None = None,
    columns: Sequence[str] = (),
    most_lines: int = MOST_LINES,
) -> Table:
    """Return the table of an analysis by scope, module, primitive, source, dtype or direction.

    A line of a module has its class, its output shape, its parameters and its counts; equal modules are not merged.
    depth: the number of levels of scopes or modules, by default as many as fit in `most_lines`. sort: one of
    `SORT_KEYS`; by default scopes stay in program order, and other lines are sorted by FLOPs. merge: equal layers share
    one line, which is their sum. top: the number of lines per level, the costliest; the other lines are summed in one.
    direction: leave out the other directions. columns: of `COLUMNS`, beside each scope that is a module.
    Raises InputError for an unknown `by`, `sort`, `direction` or column, or for the modules of a record.
    """
    _check("by", by, BY)
    if sort is not None:
        _check("sort", sort, SORT_KEYS if by == "scope" else [key for key in SORT_KEYS if key != "params"])
    for column in columns:
        _check("columns", column, COLUMNS)
    if columns and by not in ("scope", "module"):
        raise InputError(
            f"A table by {by} has no column {columns[0]!r}.",
            why="Only a layer has a class and an output.",
            cure='Use by="scope".',
        )
    if direction is not None:
        _check("direction", direction, DIRECTIONS)
        analysis = views.selected(analysis, direction)
    if by == "module":
        return _with_shares(replace(_by_module(analysis, depth, most_lines), direction=direction))
    if by != "scope":
        return _with_shares(replace(_flat(_topmost(analysis, by, top, sort), by, sort), direction=direction))
    shown = views.merged(analysis) if merge else analysis
    described = _described(analysis, columns, merge=merge) if columns else {}
    if top is not None:
        shown = views.top(shown, top, _by_cost(sort, analysis))
    by_scope = _by_scope(shown, depth, sort or "order", most_lines, (columns, described))
    return _with_shares(replace(by_scope, merged=shown.rows is not analysis.rows, direction=direction))


def _with_shares(shown: Table) -> Table:
    """Return a table without its last column where that has no share, because all of them depend on symbols."""
    shares = {line.cells[-1] for line in shown.lines}
    if "-" not in shares or shares - {"-", "0.0"}:
        return shown
    lines = tuple(replace(line, cells=line.cells[:-1]) for line in shown.lines)
    total = replace(shown.total, cells=shown.total.cells[:-1])
    return replace(shown, columns=shown.columns[:-1], lines=lines, total=total)


def _topmost(analysis: Analysis, by: str, top: int | None, sort: str | None) -> Analysis:
    if top is None or by not in ("primitive", "source"):
        return analysis
    keep = views.top_primitives if by == "primitive" else views.top_sources
    return replace(analysis, saved_rows=keep(analysis.rows, top, _by_cost(sort, analysis)))


def _by_cost(sort: str | None, analysis: Analysis) -> Callable[[Cost], Count]:
    """Return the count that ranks lines for `top`: the sort key, or else the count of the last column, in percent."""
    if sort in SORTS and sort != "order":
        return SORTS[sort]
    return _measures(analysis, with_params=False, with_traffic=False).share_of


@dataclass(frozen=True, slots=True)
class _Measures:
    """The columns of a table. share_of: the count of the last column, in percent of `whole`."""

    columns: tuple[tuple[str, Callable[[Cost], Count]], ...]
    with_params: bool
    share_name: str
    share_of: Callable[[Cost], Count]
    whole: Count

    @property
    def headings(self) -> tuple[str, ...]:
        params = ("params",) if self.with_params else ()
        return (*(heading for heading, _ in self.columns), *params, f"% {self.share_name}")

    def line(self, depth: int, label: str, cost: Cost, params: Size | None = None) -> Line:
        cells = [_text(heading, of(cost)) for heading, of in self.columns]
        if self.with_params:
            cells.append(units.short(params.elements if params else 0))
        cells.append(units.share(self.share_of(cost), self.whole))
        return Line(depth, label, tuple(cells), cost, params if self.with_params else None)

    def holds(self, cost: Cost, params: Size) -> bool:
        return any(of(cost) for _, of in self.columns) or (self.with_params and bool(params.elements))


def _measures(analysis: Analysis, *, with_params: bool, with_traffic: bool) -> _Measures:
    total = analysis.total
    columns: list[tuple[str, Callable[[Cost], Count]]] = [
        ("MACs", SORTS["macs"]),
        ("FLOPs", SORTS["flops"]),
        ("transc.", SORTS["transcendentals"]),
    ]
    # A product of integers (int8 weights) has MACs but no FLOPs; OPs count the work of both kinds of programs.
    quantised = any(kind == MAC and total_of_dtype.flops == 0 for total_of_dtype, kind in _kinds(total))
    if quantised or (not total.flops and total.ops):
        columns.insert(2, ("OPs", SORTS["ops"]))
    if with_traffic:
        columns.append(("traffic", SORTS["bytes"]))
    name, of = next(
        ((name, of) for name, of in (("FLOPs", SORTS["flops"]), ("OPs", SORTS["ops"])) if of(total)),
        ("traffic", SORTS["bytes"]),
    )
    if quantised:
        name, of = "OPs", SORTS["ops"]
    return _Measures(tuple(columns), with_params, name, of, of(total))


def _kinds(total: Cost) -> list[tuple[Cost, str]]:
    return [(part, kind) for part in total.by_dtype().values() for (kind, _), _ in part.items()]


# The headings of the columns beside the layers, and their texts by scope.
_Beside = tuple[Sequence[str], Mapping[Scope, tuple[str, ...]]]


def _described(analysis: Analysis, columns: Sequence[str], *, merge: bool) -> dict[Scope, tuple[str, ...]]:
    """Return the texts of the columns beside each scope that is a module; equal layers that differ in them say so."""
    modules = called_modules(analysis)
    texts: Mapping[str, Mapping[Scope, str]] = {"type": modules.kinds, "output": modules.outputs}
    names = views.merged_names(analysis) if merge else {}
    described: dict[Scope, tuple[str, ...]] = {}
    for scope in modules.kinds:
        own = tuple(texts[column].get(scope, "") for column in columns)
        name = names.get(scope, scope)
        before = described.setdefault(name, own)
        described[name] = tuple(a if a == b else "various" for a, b in zip(before, own, strict=True))
    return described


def _by_scope(analysis: Analysis, depth: int | None, sort: str, most_lines: int, beside: _Beside) -> Table:
    measures = _measures(analysis, with_params=analysis.parameters is not None, with_traffic=False)
    root = scope_tree(analysis)
    _prune(root, measures)
    _sort(root, sort)
    levels = [level for level, _ in root.walk()]
    full = max(levels)
    if depth is None:
        depth = _fitting(levels, full, most_lines)
    lines: list[Line] = []
    _lines_below(root, 0, depth, measures, lines, beside)
    total = _beside(measures.line(0, "total", root.total, root.params), beside, ())
    return Table("scope", (*beside[0], *measures.headings), tuple(lines), total, min(depth, full), full)


def _lines_below(
    node: ScopeNode, level: int, depth: int, measures: _Measures, lines: list[Line], beside: _Beside
) -> None:
    if measures.holds(node.own, node.own_params):
        own = measures.line(level, "(own)" if level else "(no scope)", node.own, node.own_params)
        lines.append(_beside(own, beside, None))
    for child in node.children:
        lines.append(_beside(measures.line(level, child.name, child.total, child.params), beside, child.scope))
        if level + 1 < depth and child.children:
            _lines_below(child, level + 1, depth, measures, lines, beside)


def _beside(line: Line, beside: _Beside, scope: Scope | None) -> Line:
    """Return a line with the columns beside its layer; None for a line that is not a layer."""
    columns, described = beside
    texts = None if scope is None else described.get(scope)
    return replace(line, cells=(*(texts or ("",) * len(columns)), *line.cells))


def _by_module(analysis: Analysis, depth: int | None, most_lines: int) -> Table:
    measures = _measures(analysis, with_params=analysis.parameters is not None, with_traffic=False)
    root = module_tree(analysis)
    levels = [level for level, _ in root.walk()]
    full = max(levels)
    depth = depth or _fitting(levels, full, most_lines)

    # A program that calls no modules has no column for their classes.
    headings = ("type", "output") if full else ()

    def described(line: Line, kind: str = "", output: str = "") -> Line:
        return replace(line, cells=(*(kind, output)[: len(headings)], *line.cells))

    lines: list[Line] = []
    for level, node in root.walk():
        if 0 < level <= depth:
            line = measures.line(level - 1, node.name, node.total, node.params)
            lines.append(described(line, node.kind, node.output))
        divided = level < depth and node.children
        if (divided or not level) and measures.holds(node.own, node.own_params):
            name = "(own)" if level else "(no module)"
            lines.append(described(measures.line(level, name, node.own, node.own_params)))
    total = described(measures.line(0, "total", root.total, root.params), root.kind, root.output)
    return Table("module", (*headings, *measures.headings), tuple(lines), total, min(depth, full), full)


def _fitting(levels: Sequence[int], full: int, most_lines: int) -> int:
    """Return the largest depth whose table has at most this many lines, besides at most as many `(own)` lines."""
    return max((d for d in range(1, full + 1) if sum(level <= d for level in levels) <= most_lines), default=1)


def _prune(node: ScopeNode, measures: _Measures) -> None:
    """Remove the scopes whose cells would all be 0."""
    for _, scope in node.walk():
        scope.children = [child for child in scope.children if measures.holds(child.total, child.params)]


def _sort(node: ScopeNode, key: str) -> None:
    for _, scope in node.walk():
        if key == "name":
            scope.children.sort(key=lambda child: child.name)
        elif key == "params":
            scope.children.sort(key=lambda child: -magnitude(child.params.elements))
        elif key != "order":
            scope.children.sort(key=lambda child: -magnitude(SORTS[key](child.total)))


def _flat(analysis: Analysis, by: str, sort: str | None) -> Table:
    measures = _measures(analysis, with_params=False, with_traffic=True)
    tables: Mapping[str, Callable[[], Mapping[str, Cost]]] = {
        "primitive": analysis.by_primitive,
        "source": analysis.by_source,
        "dtype": analysis.by_dtype,
        "direction": analysis.by_direction,
    }
    entries = [(label, cost) for label, cost in tables[by]().items() if measures.holds(cost, Size())]
    if sort == "name":
        entries.sort(key=lambda entry: entry[0])
    elif sort is not None:
        entries.sort(key=lambda entry: -magnitude(SORTS[sort](entry[1])))
    elif by != "direction":
        entries.sort(
            key=lambda entry: tuple(-magnitude(n) for n in (entry[1].flops, entry[1].ops, entry[1].bytes_unfused))
        )
    name = short_place if by == "source" else str
    lines = tuple(measures.line(0, name(label) or f"(no {by})", cost) for label, cost in entries)
    return Table(by, measures.headings, lines, measures.line(0, "total", analysis.total))


def short_place(source: str) -> str:
    """Return `file:line` with a short path: relative to the current directory, or to site-packages."""
    path, _, line = source.rpartition(":")
    # The working directory must be the start of the path; site-packages may stand anywhere in it.
    for root in (os.getcwd() + os.sep, f"{os.sep}site-packages{os.sep}"):
        _, separator, rest = path.partition(root)
        if separator and (not root.startswith(os.getcwd()) or path.startswith(root)):
            return f"{rest}:{line}"
    return source


def _text(heading: str, count: Count) -> str:
    return units.short_bytes(count) if heading == "traffic" else units.short(count)


def _check(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(
            f"{option} must be one of {', '.join(choices)}, got {value!r}.",
            why=f"{option} is {_MEANING[option]}.",
            cure=f'Pass for example {option}="{choices[1]}".',
        )
