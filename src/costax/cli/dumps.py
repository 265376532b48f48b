"""Folders that XLA dumped into as targets of the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from costax.cli import terminal
from costax.errors import CheckError, InputError

if TYPE_CHECKING:
    from costax.compare.passes import PassTrail


OF_FOLDERS: Final = frozenset({"target", "passes", "name", "scope", "module", "depth", "as_json", "save", "strict"})
"""The options that apply to a folder, by the name of their parameter."""


def is_dump(target: str) -> bool:
    """Return whether a target is a folder."""
    try:
        return bool(target) and Path(target).is_dir()
    except (OSError, ValueError):
        return False


def check_target(module: str | None) -> None:
    """Raise InputError for an option that applies to dumped folders only."""
    if module is not None:
        raise InputError(
            "--module applies to a folder of dumped modules only.",
            why="The passes of a compiler are read from the modules that XLA dumps.",
            cure='Dump them: XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto".',
        )


def compare_dump(
    folder: str,
    *,
    name: str | None,
    scope: str | None,
    module: str | None,
    depth: int | None,
    as_json: bool,
    save: Sequence[str],
    strict: bool,
) -> None:
    """Print what each pass did, and save it. Raises CheckError if `strict` and the origin of a part is not known."""
    from costax.compare.passes import read_passes
    from costax.report import check_file, passes

    for path in save:
        check_file(path, "PassTrail")
    trail: PassTrail = read_passes(folder, module)
    shown = passes.render(trail, name=name, scope=scope, depth=depth)
    for path in save:
        trail.save(path)
    if as_json:
        click.echo(json.dumps(passes.to_record(trail, name=name, scope=scope), indent=1))
    else:
        terminal.show(shown)
    if strict and trail.attributed < 1:
        raise CheckError(
            f"{1 - trail.attributed:.3%} of the FLOPs that passes of `{trail.name}` changed belong to no scope.",
            why="Their instructions have no name of jax, and replace none that has one.",
            cure="Leave out --strict.",
        )
