"""Files of HLO as targets of the command line."""

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
    """Say whether a target names a file of HLO: one that is there and no Python, or that is called as XLA's are."""
    path = Path(target)
    try:
        there = path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False
    return path.suffix in _SUFFIXES or (there and path.suffix != ".py")


def check_options(*, inputs: Sequence[str], on_missing: str | None, compile_for: str = "cpu") -> None:
    """Raise InputError for options that say something of a program, and nothing of a module."""
    given = {"--input": inputs, "--on-missing": on_missing, "--target": compile_for if compile_for != "cpu" else None}
    for option, value in given.items():
        if value:
            raise InputError(
                f"A file of HLO takes no {option}.",
                why="It is what a compiler made of a program: its shapes and its machine are fixed.",
                cure=f"Leave {option} out, or name the program: path/to/file.py:name.",
            )


def analysed(target: str, trips: Mapping[str, int], save: Sequence[str], *, compare: bool = False) -> ModuleAnalysis:
    """Return the analysis of a file of HLO, with XLA's own dictionary if the two are to be compared."""
    # These import no jax, which takes most of a second: a damaged file is told of before it.
    from costax.hlo.module_analysis import analyze_module, compare_module
    from costax.report import check_file

    for path in save:
        check_file(path, "ModuleAnalysis")
    return (compare_module if compare else analyze_module)(target, trips)


def deliver(
    found: ModuleAnalysis, table: Mapping[str, Any], *, as_json: bool, save: Sequence[str], strict: bool
) -> None:
    """Save, print and check the analysis of a module. Raises CheckError if it is to be exact and is not."""
    from costax.report import hlo_module

    rendered = hlo_module.render(found, **table)
    for path in save:
        found.save(path)
    if as_json:
        click.echo(json.dumps(hlo_module.to_record(found), indent=1))
    else:
        terminal.show(rendered)
    gaps = hlo_module.gaps(found) if strict else []
    if gaps:
        raise CheckError(
            f"Not every number of `{found.name}` is exact.",
            why="\n".join(gaps[:20]),
            cure="Answer the loops with --trips, or leave --strict out.",
        )
