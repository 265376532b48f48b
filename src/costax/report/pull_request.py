"""A diff as a summary for a pull request, in Markdown or plain text: the totals and the layers that changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from costax.analysis.budgets import text
from costax.analysis.diff import Change, Diff, fields
from costax.analysis.thresholds import Failure, described, signed_percent
from costax.analysis.views import label, templates
from costax.core.cost import Count
from costax.core.polynomial import magnitude
from costax.report.formats import escaped, grid
from costax.report.passes import difference

if TYPE_CHECKING:
    from costax.analysis.module_diff import ModuleDiff
    from costax.compare.base_comparison import BaseComparison, StageView

# The fields of the summary, most important first; a field that did not change is not shown.
_FIELDS: Final = (
    "flops",
    "macs",
    "ops",
    "transcendentals",
    "bytes_unfused",
    "collective_bytes",
    "params",
    "param_bytes",
)
_NAMES: Final = {
    "flops": "FLOPs",
    "macs": "MACs",
    "ops": "OPs",
    "bytes_unfused": "traffic, unfused",
    "collective_bytes": "sent by collectives",
    "param_bytes": "parameter bytes",
    "params": "parameters",
}
_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class ChangedLayers:
    """Layers with the same change in one field: their common name, and the sum of their changes."""

    name: str
    change: Change


class _OneLayer(Protocol):
    """A layer of a diff of programs or of compiled programs."""

    @property
    def scope(self) -> str: ...

    def change(self, field: str) -> Change: ...


def as_markdown(diff: Diff, failures: Sequence[Failure] = ()) -> str:
    """Return the summary of a diff as Markdown: the failures, the totals, the layers that changed."""
    total = diff.total
    shown = [field for field in _FIELDS if total.change(field).delta]
    lines = [f"### {escaped(_title(diff))}", ""]
    lines += [
        f"* :x: `{failure.threshold.written}`: {described(failure.threshold.field, failure.change)}"
        for failure in failures
    ]
    lines += [""] if failures else []
    if shown:
        cells = [(_NAMES.get(field, field), *_row(field, total.change(field))) for field in shown]
        lines += [*grid(("", "before", "after", "change", "%"), cells, numeric_from=1), ""]
    else:
        layers_changed = any(layer.changed for layer in diff.layers())
        lines += [
            "The totals did not change, but costs moved between layers." if layers_changed else "No cost changed.",
            "",
        ]
    field = leading_field(diff)
    lines += layers_as_markdown(diff, field, _NAMES.get(field, field))
    return "\n".join(lines)


def compiled_as_markdown(before: BaseComparison[StageView], after: BaseComparison[StageView]) -> str:
    """Return what changed of the compiled programs of two comparisons as Markdown: totals, then passes.

    A pass is listed where its change of FLOPs or transcendentals is another one than before.
    """
    first, second = before.compiled, after.compiled
    counts: Mapping[str, tuple[str, Callable[[StageView], int]]] = {
        "FLOPs that run": ("flops", lambda stage: stage.executed.flops),
        "transcendentals that run": ("transcendentals", lambda stage: stage.executed.transcendentals),
        "bytes accessed": ("bytes_unfused", lambda stage: stage.total.bytes),
        "memory of one device": ("bytes_unfused", lambda stage: stage.held),
    }
    targets = escaped(" and ".join(dict.fromkeys((before.target, after.target))))
    changes = [(name, field, Change(count(first), count(second))) for name, (field, count) in counts.items()]
    rows = [(name, *_row(field, change)) for name, field, change in changes if change.delta]
    if not rows:
        return f"Compiled for {targets}: no count of the compiled program changed.\n"
    lines = [f"Compiled for {targets}:", "", *grid(("", "before", "after", "change", "%"), rows, numeric_from=1), ""]
    passes = [
        (name, *_row("flops", Change(then.flops, now.flops))[:3])
        for name, (then, now) in difference(before, after).items()
        if then.flops != now.flops
    ]
    if passes:
        lines += ["Passes of the compiler that changed FLOPs otherwise:", ""]
        lines += [*grid(("pass", "before", "after", "difference"), passes[:_MOST], numeric_from=1), ""]
    return "\n".join(lines)


def as_text(diff: Diff) -> str:
    """Return the changes as plain text: the totals, then the layers in which the first total changed."""
    total = diff.total
    lines = [f"  {_NAMES.get(f, f)}: {described(f, total.change(f))}" for f in _FIELDS if total.change(f).delta]
    field = leading_field(diff)
    lines += [
        f"    {entry.name} {_verb(field, entry.change)}: {described(field, entry.change)}"
        for entry in places(diff, field)[:_MOST]
    ]
    return "\n".join(lines)


def _verb(field: str, change: Change) -> str:
    if change.symbolic:
        return f"changed by {text(field, change.delta)}"
    return f"{'grew' if change.delta > 0 else 'shrank'} by {text(field, abs(change.delta))}"


def leading_field(diff: Diff) -> str:
    """Return the most important field that changed in any layer; `flops` if nothing changed."""
    layers = diff.layers()
    return next((f for f in (*_FIELDS, *fields()) if any(layer.change(f).delta for layer in layers)), "flops")


def places(diff: Diff | ModuleDiff, field: str) -> list[ChangedLayers]:
    """Return the layers whose own work changed in a field, largest change first.

    Layers whose paths differ in one number and whose changes are equal share an entry, `block_0..11 x 12`.
    """
    layers: list[_OneLayer] = [layer for layer in diff.layers() if layer.change(field).delta]
    changed = [
        ChangedLayers(
            _name([layer.scope or "(no scope)" for layer in group]),
            Change(sum(x.change(field).before for x in group), sum(x.change(field).after for x in group)),
        )
        for group in _same_change(layers, field)
    ]
    return sorted(changed, key=lambda entry: -magnitude(entry.change.delta))


def _same_change(layers: Sequence[_OneLayer], field: str) -> Iterator[list[_OneLayer]]:
    """Yield groups of layers whose paths differ in one number and whose changes are equal."""
    groups: dict[Hashable, list[_OneLayer]] = {}
    for layer in layers:
        change = layer.change(field)
        for template in templates(layer.scope):
            groups.setdefault((template, change), []).append(layer)
    # A path with two numbers fits two templates, as a_0/b_1 fits a_*/b_1 and a_0/b_*: the larger group gets the layer.
    grouped: set[str] = set()
    for group in sorted(groups.values(), key=len, reverse=True):
        remaining = [layer for layer in group if layer.scope not in grouped]
        if len(remaining) > 1:
            grouped.update(layer.scope for layer in remaining)
            yield remaining
    yield from ([layer] for layer in layers if layer.scope not in grouped)


def _name(scopes: Sequence[str]) -> str:
    return scopes[0] if len(scopes) == 1 else label(scopes)


def layers_as_markdown(diff: Diff | ModuleDiff, field: str, name: str) -> list[str]:
    """Return a table of the layers whose own work changed in a field, largest change first; [] if none did."""
    changed = places(diff, field)
    if not changed:
        return []
    cells = [(entry.name, *_row(field, entry.change)) for entry in changed[:_MOST]]
    lines = [f"Where {name} changed:", "", *grid(("layer", "before", "after", "change", "%"), cells, numeric_from=1)]
    return [*lines, *([f"\n{len(changed) - _MOST} more layers changed."] if len(changed) > _MOST else []), ""]


def _row(field: str, change: Change) -> tuple[str, str, str, str]:
    return text(field, change.before), text(field, change.after), _signed(field, change), signed_percent(change)


def _signed(field: str, change: Change) -> str:
    if change.symbolic:
        return text(field, change.delta)
    return ("+" if change.delta > 0 else "-") + text(field, abs(change.delta))


def _title(diff: Diff) -> str:
    before, after = diff.before.name, diff.after.name
    names = before if before == after else f"{before} -> {after}"
    change: Change = diff.total.change("flops")
    count: Count = change.delta
    return f"{names}: FLOPs {signed_percent(change)}" if count else f"{names}: FLOPs unchanged"
