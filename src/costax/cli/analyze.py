"""`costax analyze`: count the work of a program by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from costax.cli import dumps, options, programs, terminal
from costax.cli import hlo_files as hlo
from costax.cli.delivery import check_files, check_table, deliver
from costax.cli.loading import analysed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@click.command(short_help="Count the work of TARGET by layer.")
@options.tracing
@options.branching
@options.table_or_modules
@options.view
@options.convention
@options.output
@options.module_of_folder
@options.debug
def analyze(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    branches: Sequence[str],
    by: str,
    depth: int | None,
    sort: str | None,
    view: Mapping[str, Any],
    tool: str | None,
    as_json: bool,
    save: Sequence[str],
    strict: bool,
    module: str | None,
) -> None:
    """Count the MACs, FLOPs, transcendentals and parameters of TARGET by layer. The program is not executed.

    \b
    costax analyze examples/resnet.py:resnet18
    costax analyze jax.numpy:matmul --input 'f32[4,8]' --input 'f32[8,3]' --by primitive
    costax analyze module.hlo.pb --by opcode
    costax analyze examples/resnet.py:resnet18 --as thop
    """
    if hlo.is_module(target) or dumps.is_dump(target):
        hlo.check_options(hlo.OF_FILES | {"module"})
        path = programs.path_of(target, module)
        analysed_module = hlo.analysed(path, options.parsed_trips(trips), save, as_json=as_json)
        hlo.deliver(
            analysed_module, {"by": by, "depth": depth, "sort": sort}, as_json=as_json, save=save, strict=strict
        )
        return
    dumps.check_target(module)
    check_table(by, sort)
    check_files(save)
    missing = on_missing or ("warn" if strict else "raise")
    analysis = analysed(
        target, inputs, options.parsed_trips(trips), missing, branches=options.parsed_branches(branches)
    )
    if tool is not None:
        answer = analysis.explain_vs(tool)
        if as_json:
            terminal.write(answer.to_json())
        else:
            terminal.show(answer)
        return
    choice = {"by": by, "depth": depth, "sort": sort, **view}
    deliver(analysis, choice, form="json" if as_json else None, save=save, strict=strict)
