"""The table of a compiler's passes: what each did to the cost of a module, and its JSON record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from costax.compare.passes import UNNAMED
from costax.core import units

if TYPE_CHECKING:
    from costax.compare.passes import PassTrail
    from costax.hlo.replay import Properties

SCHEMA: Final = "costax/passes/1"
_HEADINGS: Final = ("FLOPs", "transc.", "bytes")


def render(trail: PassTrail, *, name: str | None = None, depth: int | None = None) -> Group:
    """Return what rich prints: the passes that changed the cost, or the scopes that one of them changed.

    name: of the pass whose scopes are shown. depth: the number of levels of scopes.
    """
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True, header_style="bold", footer_style="bold")
    lines = _passes(trail) if name is None else _scopes(trail, name, depth)
    whole = _difference(trail) if name is None else trail.by_pass()[name]
    grid.add_column("pass" if name is None else "scope", Text("total"), overflow="fold")
    for heading, total in zip(_HEADINGS, whole, strict=True):
        grid.add_column(heading, _signed(total), justify="right", no_wrap=True)
    if name is None:
        grid.add_column("what it does", overflow="fold")
    for line in lines:
        grid.add_row(*map(Text, line))
    title = f"{trail.name}, pass by pass" if name is None else f"{trail.name}, pass {name}"
    return Group(Text(title, style="bold"), grid, Text("\n".join(_notes(trail))))


def to_record(trail: PassTrail) -> dict[str, Any]:
    """Return the trail as a dictionary for JSON: every run of a pass, in order, with its scopes."""
    return {
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


def as_json(trail: PassTrail, **_: Any) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(trail), indent=1) + "\n"


def _passes(trail: PassTrail) -> list[tuple[str, ...]]:
    causes = {step.name: step.cause for step in trail.steps}
    return [
        (name, *map(_signed, cost), "" if causes[name] == name else causes[name])
        for name, cost in trail.by_pass().items()
        if any(cost)
    ]


def _scopes(trail: PassTrail, name: str, depth: int | None) -> list[tuple[str, ...]]:
    scopes = sorted(trail.by_scope(name, depth).items(), key=lambda item: tuple(-abs(count) for count in item[1]))
    return [(scope or "(no scope)", *map(_signed, cost)) for scope, cost in scopes if any(cost)]


def _difference(trail: PassTrail) -> Properties:
    return type(trail.after)(*[after - before for after, before in zip(trail.after, trail.before, strict=True)])


def _signed(count: int) -> str:
    return f"{'+' if count > 0 else '-' if count < 0 else ''}{units.short(abs(count))}"


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
