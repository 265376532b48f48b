"""The table of the difference of two modules: the counts of each layer, and the buffers that grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group

from costax.analysis.changes import Change
from costax.analysis.compiled_counts import COMPILED, counted_once
from costax.analysis.module_diff import ModuleDiff
from costax.analysis.thresholds import signed_percent
from costax.core import units
from costax.core.printable import printable
from costax.report.tables import short_place
from costax.report.text import columns, footer, one_line

SCHEMA: Final = "costax/module-diff/1"
HEADINGS: Final = {
    "executed_flops": "executed FLOPs",
    "hbm_bytes": "HBM bytes",
    "collective_bytes": "sent",
    "temp_bytes": "temporaries",
    "kernels": "kernels",
}
_LINES: Final = 40
_BUFFERS: Final = 8


def render(
    diff: ModuleDiff, *, fields: Sequence[str] = (), depth: int | None = None, only_changed: bool = False
) -> Group:
    """Return what rich prints of the difference of two modules. fields: the columns, by default all that are not 0."""
    total = diff.total
    shown = [f for f in (fields or COMPILED) if fields or total.change(f).before or total.change(f).after]
    depth = depth or _depth(diff)
    layers = [layer for layer in diff.layers(depth) if layer.changed or not only_changed]
    heading = ["scope", *(name for f in shown for name in (HEADINGS[f], "after", "change"))]
    lines = [[printable(x.scope) or "(no scope)", *_cells(shown, x.change)] for x in (*layers, total)]
    parts: list[Any] = [
        one_line(f"{diff.before.name} -> {diff.after.name}", style="bold"),
        columns(heading, lines),
    ]
    if diff.buffers:
        buffers = [
            (
                _signed(c.nbytes.delta),
                c.array,
                f"{c.count.before} -> {c.count.after}",
                printable(c.scope),
                printable(short_place(c.source) if ":" in c.source else c.source),
            )
            for c in diff.buffers[:_BUFFERS]
        ]
        parts.append(one_line("What changed of the buffers alive at the peak", style="bold"))
        parts.append(columns(("bytes", "array", "number", "scope", "source"), buffers))
    sources = {program.summary.memory_source for program in (diff.before, diff.after)}
    sentences = [*_extents(diff), f"Temporaries by {' and '.join(sorted(sources))}.", *_unknown(diff)]
    parts.append(footer(sentences))
    return Group(*parts)


def _extents(diff: ModuleDiff) -> list[str]:
    """Return sentences that say what the figures are of: of one device, or of all."""
    before, after = diff.before.summary.extent, diff.after.summary.extent
    return [f"Of {before}."] if before == after else [f"Before: of {before}.", f"After: of {after}."]


def _unknown(diff: ModuleDiff) -> list[str]:
    """Return sentences that name the loops without a known trip count."""
    sentences = [
        f"{name}: {sentence}."
        for name, program in (("Before", diff.before), ("After", diff.after))
        for sentence in counted_once(program.summary.unknown_loops)
    ]
    return [*sentences, "Set trip counts with --trips NAME=N."] if sentences else []


def to_record(diff: ModuleDiff, depth: int | None = None) -> dict[str, Any]:
    """Return the difference as a dictionary for JSON, with every field of every layer."""

    def line(layer: Any) -> dict[str, Any]:
        changes = {name: layer.change(name) for name in COMPILED}
        return {"scope": layer.scope, **{name: _record(c) for name, c in changes.items()}}

    return {
        "schema": SCHEMA,
        "before": diff.before.name,
        "after": diff.after.name,
        "total": line(diff.total),
        "layers": [line(layer) for layer in diff.layers(depth)],
        "buffers": [
            {
                "scope": c.scope,
                "source": c.source,
                "array": c.array,
                "count": _record(c.count),
                "bytes": _record(c.nbytes),
            }
            for c in diff.buffers
        ],
    }


def as_markdown(diff: ModuleDiff, failures: Sequence[Any] = ()) -> str:
    """Return a summary for a pull request: the totals, and the layers in which the first total that differs changed."""
    from costax.report.formats import escaped, grid
    from costax.report.pull_request import layers_as_markdown

    changes = {name: diff.total.change(name) for name in COMPILED}
    rows = [
        (HEADINGS[name], *(_short(name, n) for n in (c.before, c.after)), signed_percent(c))
        for name, c in changes.items()
        if c.before or c.after
    ]
    title = " to ".join(dict.fromkeys((diff.before.name, diff.after.name)))
    text = [f"### {escaped(title)}", "", *(f"* **{escaped(str(failure))}**" for failure in failures)]
    text += [""] if failures else []
    text += [*grid(("", "before", "after", "change"), rows, numeric_from=1), ""]
    field = next((name for name, c in changes.items() if c.delta), "")
    text += layers_as_markdown(diff, field, HEADINGS[field]) if field else []
    text += [*(f"* {escaped(sentence)}" for sentence in _unknown(diff))]
    return "\n".join(text).rstrip("\n") + "\n"


def _record(change: Change) -> dict[str, Any]:
    return {"before": change.before, "after": change.after, "delta": change.delta}


def _cells(fields: Sequence[str], change: Any) -> list[str]:
    return [
        cell
        for f in fields
        for c in (change(f),)
        for cell in (_short(f, c.before), _short(f, c.after), signed_percent(c))
    ]


def _short(field: str, count: int) -> str:
    return units.short_bytes(count) if "bytes" in field else units.short(count)


def _signed(nbytes: int) -> str:
    return f"{'+' if nbytes > 0 else '-'}{units.short_bytes(abs(nbytes))}"


def _depth(diff: ModuleDiff) -> int:
    """Return the largest number of levels whose layers fit on a screen."""
    full = max((layer.scope.count("/") + 1 for layer in diff.layers()), default=1)
    return max((d for d in range(1, full + 1) if len(diff.layers(d)) <= _LINES), default=1)
