"""`costax diff` of two HLO files or folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from costax.cli import terminal
from costax.errors import BudgetError, InputError

if TYPE_CHECKING:
    from costax.analysis.compiled_module import CompiledModule


def show(
    before: str,
    after: str,
    *,
    depth: int | None,
    fields: Sequence[str],
    only_changed: bool,
    fail_on: Sequence[str],
    trips: Mapping[str, int],
    form: str,
) -> None:
    """Print how two modules differ. form: "json", "markdown", or "" for tables. Raises BudgetError for a threshold."""
    from costax.analysis import thresholds
    from costax.analysis.compiled_counts import COMPILED, check_known
    from costax.analysis.module_diff import ModuleDiff
    from costax.cli.programs import is_module
    from costax.report import module_diff

    for target in (before, after):
        if not is_module(target):
            raise InputError(
                f"{target!r} is no HLO file, and the other one is.",
                why="A program has the work that it asks for, and a module what the compiler made of it.",
                cure="Pass two HLO files, two folders of dumps, or two programs.",
            )
    for name in fields:
        if name not in COMPILED:
            raise click.BadParameter(
                f"{name!r} must be one of {', '.join(COMPILED)}, the fields of HLO files.", param_hint="--field"
            )
    asked = [thresholds.parse(text, tuple(COMPILED)) for text in fail_on]
    compared = ModuleDiff(*_modules((before, after), trips))
    for module in (compared.before, compared.after):
        check_known(module, [threshold.field for threshold in asked])
    failures = thresholds.failures(compared, asked)
    if form == "json":
        click.echo(json.dumps(module_diff.to_record(compared, depth), indent=1))
    elif form == "markdown":
        click.echo(module_diff.as_markdown(compared, failures), nl=False)
    else:
        terminal.show(module_diff.render(compared, fields=fields, depth=depth, only_changed=only_changed))
    if failures:
        raise BudgetError(
            f"`{compared.after.name}` fails the thresholds of --fail-on.",
            why="\n".join(f"  {failure}" for failure in failures),
            cure="Reduce the costs, or change the thresholds of --fail-on.",
        )


def _modules(targets: Sequence[str], trips: Mapping[str, int]) -> list[CompiledModule]:
    """Return the modules. trips: a pattern is for the modules that have a loop of unknown length which it fits."""
    from costax.cli.programs import of_file

    modules = [of_file(target, {}) for target in targets]
    fitting = [[p for p in trips if any(loop.fits(p) for loop in module.unknown_loops)] for module in modules]
    unused = {p: n for p, n in trips.items() if not any(p in fits for fits in fitting)}
    if unused:
        of_file(targets[1], unused)  # raises TripsError
    return [
        of_file(target, {p: trips[p] for p in fits}) if fits else module
        for target, module, fits in zip(targets, modules, fitting, strict=True)
    ]
