"""`costax diff` of two HLO files or folders."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from costax.cli import terminal
from costax.errors import BudgetError, InputError


def show(
    before: str,
    after: str,
    *,
    depth: int | None,
    fields: Sequence[str],
    only_changed: bool,
    fail_on: Sequence[str],
    form: str,
) -> None:
    """Print how two modules differ. form: "json", "markdown", or "" for tables. Raises BudgetError for a threshold."""
    from costax.analysis import thresholds
    from costax.analysis.compiled_counts import COMPILED
    from costax.analysis.module_diff import ModuleDiff
    from costax.cli.programs import is_module, of_file
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
    compared = ModuleDiff(of_file(before, {}), of_file(after, {}))
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
