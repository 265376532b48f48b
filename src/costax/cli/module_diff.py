"""`costax diff` of two compiled programs: HLO files, folders, and records of modules and of comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from costax.cli import terminal
from costax.errors import BudgetError, InputError, TripsError

if TYPE_CHECKING:
    from costax.analysis.compiled_summary import CompiledSummary
    from costax.analysis.thresholds import Failure
    from costax.report.comparison_record import SavedComparison
    from costax.report.module_record import SavedModule


def of_record(text: str) -> SavedModule | SavedComparison | None:
    """Return the compiled program in a record; None for a target that is none. Raises RecordError."""
    if not text.endswith(".json"):
        return None
    from costax.analysis.analysis import Analysis
    from costax.report import load_any, load_module

    module = load_module(text)
    saved = load_any(text) if module is None else module
    return None if isinstance(saved, Analysis) else saved


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
    """Print how two compiled programs differ. form: "json", "markdown", or "" for tables.

    Raises BudgetError for a crossed threshold, InputError for a program that is not compiled.
    """
    from costax.analysis import thresholds
    from costax.analysis.compiled_counts import COMPILED, check_known
    from costax.analysis.module_diff import ModuleDiff
    from costax.report import module_diff

    for name in fields:
        if name not in COMPILED:
            raise click.BadParameter(
                f"{name!r} must be one of {', '.join(COMPILED)}, the fields of compiled programs.", param_hint="--field"
            )
    asked = [thresholds.parse(text, tuple(COMPILED)) for text in fail_on]
    compared = ModuleDiff(*_programs((before, after), trips))
    for program in (compared.before.summary, compared.after.summary):
        check_known(program, [threshold.field for threshold in asked])
    failures = thresholds.failures(compared, asked)
    if form == "json":
        click.echo(json.dumps(module_diff.to_record(compared, depth), indent=1))
    elif form == "markdown":
        click.echo(module_diff.as_markdown(compared, failures), nl=False)
    else:
        # By default the table has all counts.
        shown = tuple(dict.fromkeys((*(threshold.field for threshold in asked), *fields))) if fields else ()
        terminal.show(module_diff.render(compared, fields=shown, depth=depth, only_changed=only_changed))
    check(compared.after.name, failures)


def failures_of(texts: Sequence[str], fail_on: Sequence[str]) -> list[Failure]:
    """Return the thresholds that the compiled programs of two comparisons cross."""
    from costax.analysis import thresholds
    from costax.analysis.compiled_counts import COMPILED, check_known
    from costax.analysis.module_diff import ModuleDiff

    asked = [thresholds.parse(text, tuple(COMPILED)) for text in fail_on]
    compared = ModuleDiff(*_programs(texts, {}))
    for program in (compared.before.summary, compared.after.summary):
        check_known(program, [threshold.field for threshold in asked])
    return thresholds.failures(compared, asked)


def check(name: str, failures: Sequence[Failure]) -> None:
    """Raise BudgetError for crossed thresholds."""
    if failures:
        raise BudgetError(
            f"`{name}` fails the thresholds of --fail-on.",
            why="\n".join(f"  {failure}" for failure in failures),
            cure="Reduce the costs, or change the thresholds of --fail-on.",
        )


def _programs(targets: Sequence[str], trips: Mapping[str, int]) -> list[CompiledSummary]:
    """Return the compiled programs. trips: a pattern is for those that have a loop of unknown length which it fits."""
    from costax.cli.programs import is_module, of_file

    records = {target: None if is_module(target) else of_record(target) for target in targets}
    for target, record in records.items():
        if record is None and not is_module(target):
            raise not_compiled(target)
    programs = [record.summary if (record := records[target]) else of_file(target, {}).summary for target in targets]
    used: set[str] = set()
    for i, target in enumerate(targets):
        fits = [p for p in trips if any(loop.fits(p) for loop in programs[i].unknown_loops)]
        used.update(fits)
        if fits and records[target] is not None:
            raise InputError(
                f"--trips {fits[0]}={trips[fits[0]]} does not apply to {target!r}, which is a record.",
                why="A record has the counts of a module, and not the module: its loops count as they were saved.",
                cure=f"Set it where the record is made: costax analyze FILE --trips {fits[0]}=N --save FILE.json.",
            )
        if fits:
            programs[i] = of_file(target, {p: trips[p] for p in fits}).summary
    if unused := [p for p in trips if p not in used]:
        names = [loop.name for program in programs for loop in program.unknown_loops]
        raise TripsError(
            f"No loop of unknown length is called {', '.join(map(repr, unused))}.",
            where=f"loops of unknown length: {', '.join(dict.fromkeys(names)) or 'none'}",
            why="The trip count would have no effect.",
            cure="Pass the name of a loop of that list, its scope, or a pattern such as '*'.",
        )
    return programs


def not_compiled(target: str, asked: str = "") -> InputError:
    """Return the error for a program that is not compiled beside one that is. asked: a field of compiled programs."""
    is_record = target.endswith(".json")
    what = "the record of a program that is not compiled" if is_record else "no HLO file and no record of one"
    return InputError(
        f"{target!r} is {what}, and {f'{asked!r} is for compiled programs' if asked else 'the other one is compiled'}.",
        why="A program has the work that it asks for, and a module what the compiler made of it.",
        cure=f"Compile it and pass that record: costax compare {'TARGET' if is_record else target} --save FILE.json. "
        "Or pass two programs.",
    )
