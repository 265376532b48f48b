"""The table of a compiler's passes: what each did to the cost of a module, and its JSON record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.compare.causes import Pair
from costax.compare.passes import NO_SCOPE, UNNAMED
from costax.core import units
from costax.hlo.replay import Properties
from costax.report.text import footer, one_line

if TYPE_CHECKING:
    from costax.compare.base_comparison import BaseComparison, StageView
    from costax.compare.passes import InstructionChange, PassTrail

    Comparison = BaseComparison[StageView]

SCHEMA: Final = "costax/passes/1"
_HEADINGS: Final = ("FLOPs", "transc.", "bytes")
_COUNTS: Final = ("eqns", "gone", "new", "changed")


def render(
    trail: PassTrail, *, name: str | None = None, scope: str | None = None, depth: int | None = None, limit: int = 40
) -> Group:
    """Return what rich prints: the passes that changed the cost, and how.

    name: of a pass, whose scopes are shown in place of the passes. scope: only what the passes did to this scope; with
    a pass, the instructions that the pass changed there. depth: the number of levels of scopes. limit: the number of
    lines of instructions.
    """
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True, header_style="bold", footer_style="bold")
    passes = trail.by_pass(scope)
    whole = _total(passes.values()) if name is None else passes.get(name, Properties())
    if name is not None and scope is not None:
        heading, lines = "instruction", _instructions(trail.changes(name, scope), limit)
    elif name is not None:
        heading, lines = "scope", _scopes(trail, name, depth)
    else:
        heading, lines = "pass", _passes(trail, passes)
    if heading == "instruction":
        grid.add_column("", no_wrap=True)
    grid.add_column(heading, one_line("total"), overflow="fold")
    for unit, total in zip(_HEADINGS, whole, strict=True):
        grid.add_column(unit, _signed(total), justify="right", no_wrap=True)
    if heading == "pass":
        for count in _COUNTS:
            grid.add_column(count, justify="right", no_wrap=True)
    for line in lines:
        grid.add_row(*map(one_line, line))
    title = f"{trail.name}, pass by pass" if name is None else f"{trail.name}, pass {name}"
    return Group(
        one_line(title if scope is None else f"{title}, scope {scope}", style="bold"), grid, footer(_notes(trail))
    )


def to_record(trail: PassTrail, *, name: str | None = None, scope: str | None = None) -> dict[str, Any]:
    """Return the trail as a dictionary for JSON: every run of a pass, in order, with its scopes.

    name, scope: with both, also the instructions that this pass changed in this scope.
    """
    record = {
        "schema": SCHEMA,
        "name": trail.name,
        "before": trail.before._asdict(),
        "after": trail.after._asdict(),
        "attributed": trail.attributed,
        "steps": [
            {
                "pipeline": step.pipeline,
                "pass": step.name,
                "cause": step.cause,
                **step.cost._asdict(),
                "instructions": {"added": step.added, "removed": step.removed, "changed": step.changed},
                "scopes": {
                    UNNAMED if scope is None else "/".join(scope): cost._asdict() for scope, cost in step.scopes.items()
                },
            }
            for step in trail.steps
        ],
    }
    if name is not None and scope is not None:
        record["changes"] = [
            {"name": change.name, "before": change.before, "after": change.after, **change.cost._asdict()}
            for change in trail.changes(name, scope)
        ]
    return record


def difference(before: Comparison, after: Comparison) -> dict[str, tuple[Pair, Pair]]:
    """Return the FLOPs and transcendentals that each pass changed in two comparisons, where they differ."""
    first, second = before.by_pass(), after.by_pass()
    pairs = {name: (first.get(name, Pair()), second.get(name, Pair())) for name in {**first, **second}}
    return {name: (then, now) for name, (then, now) in pairs.items() if then != now}


def render_difference(before: Comparison, after: Comparison) -> Group:
    """Return a table of the passes that acted differently in two comparisons."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    grid.add_column("pass", overflow="fold")
    for side in ("before", "after", "change"):
        grid.add_column(f"FLOPs {side}", justify="right", no_wrap=True)
    grid.add_column("transc. change", justify="right")
    differing = difference(before, after)
    for name, (then, now) in sorted(differing.items(), key=lambda item: -abs(item[1][1].minus(item[1][0]).work)):
        change = now.minus(then)
        grid.add_row(one_line(name), *map(_signed, (then.flops, now.flops, change.flops, change.transcendentals)))
    flags = [" ".join(f"{name}={value}" for name, value in x.xla_flags.items()) or "none" for x in (before, after)]
    title = f"Passes that acted differently: {len(differing)}. Options of XLA: {flags[0]} before, {flags[1]} after."
    return Group(one_line(title, style="bold"), *([grid] if differing else []))


def as_json(trail: PassTrail, **_: Any) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(trail), indent=1) + "\n"


def _passes(trail: PassTrail, passes: Mapping[str, Properties]) -> list[tuple[str, ...]]:
    """Return a line for each pass: what it does, what it changed, and of how many equations and instructions."""
    lines: list[tuple[str, ...]] = []
    for name, cost in passes.items():
        found = trail[name]
        counts = (
            found.equations,
            *(sum(getattr(run, key) for run in found.runs) for key in ("removed", "added", "changed")),
        )
        words = name if found.cause == name else f"{name}: {found.cause}"
        if any(cost) or found.equations:
            lines.append((words, *map(_signed, cost), *(f"{count:,}" if count else "" for count in counts)))
    return lines


def _scopes(trail: PassTrail, name: str, depth: int | None) -> list[tuple[str, ...]]:
    scopes = sorted(trail.by_scope(name, depth).items(), key=lambda item: tuple(-abs(count) for count in item[1]))
    return [(scope or NO_SCOPE, *map(_signed, cost)) for scope, cost in scopes if any(cost)]


def _instructions(changes: Sequence[InstructionChange], limit: int) -> list[tuple[str, ...]]:
    """Return the lines of each instruction: its text before the pass after a minus, that after it after a plus."""
    lines: list[tuple[str, ...]] = []
    for change in changes[:limit]:
        if change.before and change.after and change.before != change.after:
            lines.append(("-", change.before, "", "", ""))
        sign = "" if change.before == change.after else "+" if change.after else "-"
        lines.append((sign, change.after or change.before, *map(_signed, change.cost)))
    if len(changes) > limit:
        rest = _total(change.cost for change in changes[limit:])
        lines.append(("", f"{len(changes) - limit:,} more instructions (all: --json)", *map(_signed, rest)))
    return lines


def _total(costs: Iterable[Properties]) -> Properties:
    return reduce(Properties.plus, costs, Properties())


def _signed(count: int) -> str:
    return "" if not count else f"{'+' if count > 0 else '-' if count < 0 else ''}{units.short(abs(count))}"


def _notes(trail: PassTrail) -> list[str]:
    notes = [
        f"XLA counts {units.short(trail.before.flops)} FLOPs before optimisation and {units.short(trail.after.flops)} "
        f"after; the difference is the sum of the passes. {trail.versions} modules were read.",
        f"{trail.attributed:.1%} of the changed FLOPs are of instructions with a name of jax, or follow from one.",
    ]
    others = [name for name in trail.modules if name != trail.name]
    if others:
        notes.append(f"Other modules of the folder: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}.")
    if trail.versions == 2:
        notes.append("The folder holds no modules between passes: dump them with --xla_dump_hlo_pass_re=.*")
    return notes
