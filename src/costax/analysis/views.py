"""Views: functions from the rows of an analysis to the rows of a table.

A view filters rows, or renames their scopes, primitives or sources and sums the rows that become equal. Renaming keeps
the total; only `only` and `without_free` remove rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from costax.analysis.counts import Counts
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core.cost import Cost, Count
from costax.core.polynomial import magnitude
from costax.core.size import Size
from costax.program.tree import Row, Scope

C = TypeVar("C", bound=Counts)

Rows = Mapping[Row, Cost]
Sizes = Mapping[tuple[Scope, str], Size]

_OTHERS: Final = re.compile(r"\(\d+ others\)")
_NUMBER: Final = re.compile(r"\d+")
# Equal layers that are not neighbours are merged only if there are at least three and each has layers inside.
_FEWEST_APART: Final = 3
_NUMBERS_LISTED: Final = 4


def only(rows: Rows, direction: str) -> dict[Row, Cost]:
    """Return the rows of one direction: forward, backward, recompute or update."""
    return {row: cost for row, cost in rows.items() if row.direction == direction}


def without_free(rows: Rows) -> dict[Row, Cost]:
    """Return the rows whose cost is not zero."""
    return {row: cost for row, cost in rows.items() if cost}


def without_sources(rows: Rows) -> dict[Row, Cost]:
    """Return the rows summed over the source lines of each (scope, direction, primitive)."""
    return _summed((row._replace(source=""), cost) for row, cost in rows.items())


def cut(rows: Rows, depth: int) -> dict[Row, Cost]:
    """Return the rows summed over scopes that share their first `depth` parts."""
    return _summed((row._replace(scope=row.scope[:depth]), cost) for row, cost in rows.items())


def renamed(rows: Rows, names: Mapping[Scope, Scope]) -> dict[Row, Cost]:
    """Return the rows with renamed scopes; `names` maps an old scope to the new one."""
    return _summed((row._replace(scope=names.get(row.scope, row.scope)), cost) for row, cost in rows.items())


def top(analysis: C, most: int, key: Callable[[Cost], Count]) -> C:
    """Return an analysis with the `most` costliest scopes below each scope; the rest becomes `(7 others)`."""
    names: dict[Scope, Scope] = {}

    def rename(node: ScopeNode, path: Scope) -> None:
        names[node.scope] = path
        ranked = sorted(node.children, key=lambda child: -magnitude(key(child.total)))
        # A line "(1 others)" would save nothing, so the last scope keeps its name.
        kept = ranked if len(ranked) <= most + 1 else ranked[:most]
        for child in node.children:
            if child in kept:
                rename(child, (*path, child.name))
            else:
                for _, below in child.walk():
                    names[below.scope] = (*path, f"({len(ranked) - most} others)")

    rename(scope_tree(analysis), ())
    cut = view(analysis, names)
    # The lines keep the order of the program, and the sum of the others stands below them.
    rows = sorted(cut.rows.items(), key=lambda item: any(_OTHERS.fullmatch(part) for part in item[0].scope))
    return replace(cut, saved_rows=dict(rows))


def top_primitives(rows: Rows, most: int, key: Callable[[Cost], Count]) -> dict[Row, Cost]:
    """Return the rows with the `most` costliest primitives; the rest becomes `(7 others)`."""
    return _top_of(rows, most, key, lambda row: row.primitive, lambda row, name: row._replace(primitive=name))


def top_sources(rows: Rows, most: int, key: Callable[[Cost], Count]) -> dict[Row, Cost]:
    """Return the rows with the `most` costliest source lines; the rest becomes `(7 others)`."""
    return _top_of(rows, most, key, lambda row: row.source, lambda row, name: row._replace(source=name))


def _top_of(
    rows: Rows,
    most: int,
    key: Callable[[Cost], Count],
    name_of: Callable[[Row], str],
    rename: Callable[[Row, str], Row],
) -> dict[Row, Cost]:
    parts: dict[str, list[Cost]] = {}
    for row, cost in rows.items():
        parts.setdefault(name_of(row), []).append(cost)
    ranked = sorted(parts, key=lambda name: -magnitude(key(Cost.sum(parts[name]))))
    if len(ranked) <= most + 1:
        return dict(rows)
    kept, others = set(ranked[:most]), f"({len(ranked) - most} others)"
    return _summed((row if name_of(row) in kept else rename(row, others), cost) for row, cost in rows.items())


def view(analysis: C, names: Mapping[Scope, Scope]) -> C:
    """Return an analysis with renamed scopes of rows and parameters."""
    sizes: dict[tuple[Scope, str], Size] | None = None
    if analysis.parameters is not None:
        sizes = {}
        for (scope, dtype), size in analysis.parameters.items():
            at = names.get(scope, scope), dtype
            sizes[at] = sizes.get(at, Size()) + size
    return replace(analysis, saved_rows=renamed(analysis.rows, names), parameters=sizes)


def selected(analysis: C, direction: str) -> C:
    """Return an analysis of one direction, without parameters: a parameter belongs to no single direction."""
    rows = only(analysis.rows, direction)
    total = Cost.sum(rows.values())
    return replace(analysis, saved_rows=rows, total=total, parameters=None)


def merged(analysis: C) -> C:
    """Return an analysis in which equal layers are merged into one, `layer_0..11 x 12`, with the sum of their costs.

    Siblings are equal if their names differ in a single number and they have the same costs, parameters and layers
    inside. Two equal neighbours are enough to merge; layers that are not neighbours must be at least three, each with
    layers inside.
    """
    names = merged_names(analysis)
    return analysis if all(old == new for old, new in names.items()) else view(analysis, names)


def merged_names(analysis: Counts) -> dict[Scope, Scope]:
    """Return the new name of each scope after equal layers are merged; see `merged`."""
    root = scope_tree(analysis)
    nodes = [node for _, node in root.walk()]
    contents = _contents(analysis)
    known: dict[Hashable, int] = {}
    # id of a node -> number of its content; equal contents have equal numbers.
    alike: dict[int, int] = {}
    labels: dict[int, str] = {}
    # `nodes` has parents before children. The reverse order handles children first, because two layers are equal only
    # if the merged names of their children are equal.
    for node in reversed(nodes):
        for members in _groups(node.children, alike):
            name = label([child.name for child in members])
            labels.update({id(child): name for child in members})
        below = frozenset((labels.get(id(child), child.name), alike[id(child)]) for child in node.children)
        content = (contents.get(node.scope, frozenset()), below)
        alike[id(node)] = known.setdefault(content, len(known))
    names: dict[Scope, Scope] = {(): ()}
    for node in nodes[1:]:
        scope = node.scope
        names[scope] = (*names[scope[:-1]], labels.get(id(node), node.name))
    return names


def merged_alike(one: C, other: C) -> tuple[C, C]:
    """Return two analyses with merged layers; only layers that are equal in both are merged.

    The scopes of the two results can then be compared by name.
    """
    names = merged_names(one), merged_names(other)
    apart = {
        (scope[:-1], renaming[scope][-1])
        for scope in names[0].keys() & names[1].keys()
        for renaming in names
        if scope and names[0][scope][-1] != names[1][scope][-1]
    }

    def shared(renaming: Mapping[Scope, Scope]) -> dict[Scope, Scope]:
        agreed: dict[Scope, Scope] = {(): ()}
        for scope in sorted(renaming, key=len)[1:]:
            label = renaming[scope][-1]
            agreed[scope] = (*agreed[scope[:-1]], scope[-1] if (scope[:-1], label) in apart else label)
        return agreed

    return view(one, shared(names[0])), view(other, shared(names[1]))


def _contents(analysis: Counts) -> dict[Scope, frozenset[Hashable]]:
    """Return the rows and parameters of each scope outside of deeper scopes, as a hashable set."""
    contents: dict[Scope, list[Hashable]] = {}
    for row, cost in without_sources(analysis.rows).items():
        contents.setdefault(row.scope, []).append((row.direction, row.primitive, cost))
    for (scope, dtype), size in (analysis.parameters or {}).items():
        contents.setdefault(scope, []).append((dtype, size))
    return {scope: frozenset(entries) for scope, entries in contents.items()}


def _groups(children: Sequence[ScopeNode], alike: Mapping[int, int]) -> list[list[ScopeNode]]:
    """Return the groups of equal layers among siblings, the largest group first; no layer is in two groups.

    A name with two numbers fits two templates: `block_0_conv_1` may join `block_*_conv_1` or `block_0_conv_*`.
    """
    groups: dict[Hashable, list[tuple[int, ScopeNode]]] = {}
    for position, child in enumerate(children):
        for template in templates(child.name):
            groups.setdefault((template, alike[id(child)]), []).append((position, child))
    taken: set[int] = set()
    chosen: list[list[ScopeNode]] = []
    for group in sorted(groups.values(), key=len, reverse=True):
        free = [(position, child) for position, child in group if position not in taken]
        for members in [free] if _worth_merging_apart(free) else _runs(free):
            if len(members) > 1:
                taken.update(position for position, _ in members)
                chosen.append([child for _, child in members])
    return chosen


def _worth_merging_apart(group: Sequence[tuple[int, ScopeNode]]) -> bool:
    return len(group) >= _FEWEST_APART and all(child.children for _, child in group)


def _runs(group: Sequence[tuple[int, ScopeNode]]) -> list[list[tuple[int, ScopeNode]]]:
    runs: list[list[tuple[int, ScopeNode]]] = []
    for position, child in group:
        if runs and runs[-1][-1][0] == position - 1:
            runs[-1].append((position, child))
        else:
            runs.append([(position, child)])
    return runs


def templates(name: str) -> list[tuple[str, str]]:
    """Return (text before, text after) each number of a name."""
    return [(name[: number.start()], name[number.end() :]) for number in _NUMBER.finditer(name)]


def label(names: Sequence[str]) -> str:
    """Return the common name of several layers: `block_0..11 x 12`, `layer_0,2,4 x 3`."""
    before, after = next(t for t in templates(names[0]) if all(t in templates(name) for name in names))
    numbers = sorted((name[len(before) : len(name) - len(after)] for name in names), key=int)
    values = [int(number) for number in numbers]
    if values == list(range(values[0], values[0] + len(values))):
        shown = f"{numbers[0]}..{numbers[-1]}"
    elif len(numbers) <= _NUMBERS_LISTED:
        shown = ",".join(numbers)
    else:
        shown = ",".join([*numbers[: _NUMBERS_LISTED - 1], "...", numbers[-1]])
    return f"{before}{shown}{after} x {len(names)}"


def _summed(rows: Iterable[tuple[Row, Cost]]) -> dict[Row, Cost]:
    parts: dict[Row, list[Cost]] = {}
    for row, cost in rows:
        parts.setdefault(row, []).append(cost)
    return {row: costs[0] if len(costs) == 1 else Cost.sum(costs) for row, costs in parts.items()}
