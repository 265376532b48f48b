"""HLO files as targets of the command line."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from costax.cli import terminal
from costax.cli.delivery import lines_of
from costax.errors import CheckError, InputError

if TYPE_CHECKING:
    from costax.hlo.module_analysis import ModuleAnalysis
    from costax.report.module_record import SavedModule

_SUFFIXES: Final = (".pb", ".hlo", ".txt", ".binpb")


def is_module(target: str) -> bool:
    """Return whether a target is an HLO file: its suffix is one of XLA's, or it exists and is no Python file."""
    path = Path(target)
    try:
        exists = path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False
    return path.suffix in _SUFFIXES or (exists and path.suffix != ".py")


OF_FILES: Final = frozenset({"target", "trips", "by", "depth", "sort", "as_json", "save", "strict"})
"""The options that apply to an HLO file, by the name of their parameter."""
_OF_PASSES: Final = ("passes", "no_passes", "name", "scope")


def check_options(applicable: Collection[str], what: str = "an HLO file") -> None:
    """Raise InputError for an option of the current command that was given and does not apply to a kind of target."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        # --params is kept in the context, and the command gets no value of it.
        if name in applicable or (not parameter.expose_value and name != "params"):
            continue
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        option = next((opt for opt in parameter.opts if opt.startswith("--")), name)
        if name in _OF_PASSES:
            raise InputError(
                f"{option} does not apply to {what}, which is one module: it does not say what each pass did.",
                why="A pass is read from the module before it and the module after it.",
                cure=f"Leave out {option}, or name the folder that XLA dumped all modules into.",
            )
        raise InputError(
            f"{option} does not apply to {what}.",
            why="Its program is lowered already: shapes, branches, rules and the target of the compiler are fixed. "
            "The option would do nothing.",
            cure=f"Leave out {option}, or pass the program itself: path/to/file.py:name.",
        )
    by = context.params.get("by")
    if by not in (None, "scope") and context.params.get("depth") is not None and "by" in applicable:
        raise InputError(
            f"--depth does not apply to --by {by}.",
            why="Only scopes have levels.",
            cure="Leave out --depth, or pass --by scope.",
        )


def analysed(
    target: str, trips: Mapping[str, int], save: Sequence[str], *, as_json: bool = False, compare: bool = False
) -> ModuleAnalysis:
    """Return the analysis of an HLO file. as_json: for its record. compare: also run XLA's cost analysis of it."""
    # These modules do not import jax, which takes most of a second: a damaged file is reported before.
    from costax.hlo.module_analysis import analyze_module, with_xla
    from costax.report import check_file

    for path in save:
        check_file(path, "ModuleAnalysis")
    analysis = analyze_module(target, trips)
    if save or as_json:
        # Reports have predictions and memory, too, and records the kernels and temporaries of each layer.
        from costax.analysis.compiled_module import analyze_file

        analysis = analyze_file(target, trips)
    return with_xla(analysis, target) if compare else analysis


def deliver(
    module: ModuleAnalysis | SavedModule,
    table: Mapping[str, Any],
    *,
    as_json: bool,
    save: Sequence[str],
    strict: bool,
    form: str | None = None,
) -> None:
    """Save, print and check the analysis of a module. Raises CheckError if `strict` and a number is not exact."""
    from costax import report
    from costax.report import as_format, check_file, format_names, hlo_module

    if form is not None and form not in format_names(type(module)):
        raise InputError(
            f"--format {form} does not apply to an HLO file.",
            why="It shows the equations of a program.",
            cure=f"Use one of {', '.join(format_names(type(module)))}.",
        )
    forms = {path: check_file(path, type(module)) for path in save}
    rendered = hlo_module.render(module, **table)

    def choice(form: str) -> Mapping[str, Any]:
        return lines_of(table, form) if form in ("csv", "markdown") else {}

    for path, name in forms.items():
        report.save(module, path, **choice(name))
    if form is not None:
        terminal.write(as_format(form, type(module))(module, **choice(form)))
    elif as_json:
        click.echo(json.dumps(hlo_module.to_record(module), indent=1))
    else:
        terminal.show(rendered)
    gaps = hlo_module.gaps(module) if strict else []
    if gaps:
        raise CheckError(
            f"Some numbers of `{module.name}` are not exact or not known.",
            why="\n".join(gaps[:20]),
            cure="Set trip counts with --trips, or leave out --strict.",
        )
