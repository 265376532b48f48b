"""HLO files as targets of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from costax.cli import terminal
from costax.errors import CheckError, InputError

if TYPE_CHECKING:
    from costax.hlo.module_analysis import ModuleAnalysis

_SUFFIXES: Final = (".pb", ".hlo", ".txt", ".binpb")


def is_module(target: str) -> bool:
    """Return whether a target is an HLO file: its suffix is one of XLA's, or it exists and is no Python file."""
    path = Path(target)
    try:
        exists = path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False
    return path.suffix in _SUFFIXES or (exists and path.suffix != ".py")


def check_options(
    *, inputs: Sequence[str], on_missing: str | None, compile_for: str = "cpu", passes: bool = False
) -> None:
    """Raise InputError for options that apply to programs, but not to HLO modules."""
    values = {"--input": inputs, "--on-missing": on_missing, "--target": compile_for if compile_for != "cpu" else None}
    for option, value in values.items():
        if value:
            raise InputError(
                f"{option} does not apply to an HLO file.",
                why="An HLO file is a program that is lowered already: its shapes and its target are fixed.",
                cure=f"Leave out {option}, or pass the program itself: path/to/file.py:name.",
            )
    if passes:
        raise InputError(
            "An HLO file is one module: it does not say what each pass did.",
            why="A pass is read from the module before it and the module after it.",
            cure="Leave out --passes, --pass and --scope, or name the folder that XLA dumped all modules into.",
        )


def analysed(target: str, trips: Mapping[str, int], save: Sequence[str], *, compare: bool = False) -> ModuleAnalysis:
    """Return the analysis of an HLO file. compare: also run XLA's cost analysis of it."""
    # These modules do not import jax, which takes most of a second: a damaged file is reported before.
    from costax.hlo.module_analysis import analyze_module, compare_module
    from costax.report import check_file

    for path in save:
        check_file(path, "ModuleAnalysis")
    return (compare_module if compare else analyze_module)(target, trips)


def deliver(
    module: ModuleAnalysis, table: Mapping[str, Any], *, as_json: bool, save: Sequence[str], strict: bool
) -> None:
    """Save, print and check the analysis of a module. Raises CheckError if `strict` and a number is not exact."""
    from costax.report import hlo_module

    rendered = hlo_module.render(module, **table)
    for path in save:
        module.save(path)
    if as_json:
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
