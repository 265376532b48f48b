"""What TARGET is: a program that is traced, an HLO file, or a folder that XLA dumped into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from costax.cli import dumps
from costax.cli import hlo_files as hlo
from costax.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from costax.analysis.analysis import Analysis
    from costax.analysis.compiled_module import CompiledModule

_OF_MODULES: Final = frozenset({"target", "trips", "as_json", "save", "module"})
"""The options of every command that apply to a module, by the name of their parameter."""


def is_module(target: str) -> bool:
    """Say whether a target is an HLO file or a folder; a .json file is a record."""
    return dumps.is_dump(target) or (hlo.is_module(target) and not target.endswith(".json"))


def loaded(
    target: str,
    inputs: Sequence[str],
    trips: Mapping[str, int],
    on_missing: str,
    *,
    module: str | None = None,
    applicable: Collection[str] = (),
) -> Analysis | CompiledModule:
    """Return the analysis of a target: of a program, or of the module in a file or folder.

    module: the name of a module of a folder. applicable: the options of the command that apply to a module. Raises
    InputError for an option that does not apply, HloError for a file or folder without a module.
    """
    if is_module(target):
        hlo.check_options(_OF_MODULES | {*applicable})
        return of_file(target, trips, module)
    dumps.check_target(module)
    from costax.cli.loading import analysed

    return analysed(target, inputs, trips, on_missing)


def of_file(target: str, trips: Mapping[str, int], module: str | None = None) -> CompiledModule:
    """Return the analysis of the module in a file or folder; says on standard error which one of a folder it is."""
    from costax.analysis.compiled_module import analyze_file

    return analyze_file(path_of(target, module), trips)


def path_of(target: str, module: str | None = None) -> str:
    """Return the path of the HLO file that a target is, or of one in a folder."""
    from costax.hlo.dump_folder import module_in

    if not dumps.is_dump(target):
        dumps.check_target(module)
        return target
    found = module_in(target, module)
    if module is None and len(found.names) > 1:
        click.echo(
            f"{printable(found.name)}: the largest of {len(found.names)} modules; --module NAME names another.",
            err=True,
        )
    return str(found.path)
