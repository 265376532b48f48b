"""`costax show`: a saved record in any format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from costax.cli import options
from costax.cli.delivery import check_files, check_table, deliver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@click.command(short_help="Show a saved RECORD, or convert it to another format.")
@click.argument("record", type=click.Path())
@options.formats
@options.table_or_modules
@options.view
@options.output
@options.debug
def show(
    record: str,
    form: str | None,
    by: str,
    depth: int | None,
    sort: str | None,
    view: Mapping[str, Any],
    as_json: bool,
    save: Sequence[str],
    strict: bool,
) -> None:
    """Show a saved RECORD, or convert it to another format. This works without jax. RECORD may be an HLO file, too.

    \b
    costax show gpt2.json --top 5
    costax show gpt2.json --format markdown --by primitive > gpt2.md
    costax show gpt2.json --save gpt2.speedscope.json --save gpt2.html
    """
    from costax.cli import hlo_files, programs
    from costax.report import load_any, load_module

    if programs.is_module(record):
        hlo_files.check_options(hlo_files.OF_FILES | {"record", "form"})
        module = programs.of_file(record, {})
        hlo_files.deliver(
            module, {"by": by, "depth": depth, "sort": sort}, as_json=as_json, save=save, strict=strict, form=form
        )
        return
    saved = load_module(record)
    if saved is not None:
        hlo_files.check_options(hlo_files.OF_FILES | {"record", "form"})
        table = {"by": by, "depth": depth, "sort": sort}
        hlo_files.deliver(saved, table, as_json=as_json, save=save, strict=strict, form=form)
        return
    check_table(by, sort)
    check_files(save)
    choice = {"by": by, "depth": depth, "sort": sort, **view}
    deliver(load_any(record), choice, form=form or ("json" if as_json else None), save=save, strict=strict)
