"""`costax compare`: the count of costax, the count of XLA, and the reasons why they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from costax.cli import dumps, options, terminal
from costax.cli import hlo_files as hlo
from costax.cli.delivery import check_files, check_table, deliver
from costax.cli.loading import analysed, quieten_plugins
from costax.core.progress import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@click.command(short_help="Explain why XLA's count of TARGET differs from costax's.")
@options.tracing
@options.compile_target
@options.table_or_modules
@options.view
@click.option("--passes", is_flag=True, help="Show every pass of the compiler that changed a cost, bytes too.")
@click.option("--no-passes", is_flag=True, help="Do not read the passes, which takes as long as to compile.")
@click.option("--pass", "name", metavar="NAME", help="Show the scopes that this pass of the compiler changed.")
@click.option(
    "--scope", metavar="PATH", help="Show what passes did to this scope; with --pass, instruction by instruction."
)
@click.option("--module", metavar="NAME", help="For a folder: read the module with this in its name, not the largest.")
@options.xla_flags
@options.output
@options.debug
def compare(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    compile_for: str,
    timeout: float,
    by: str,
    depth: int | None,
    sort: str | None,
    view: Mapping[str, Any],
    passes: bool,
    no_passes: bool,
    name: str | None,
    scope: str | None,
    module: str | None,
    xla_flags: Sequence[str],
    as_json: bool,
    save: Sequence[str],
    strict: bool,
) -> None:
    """Count the work of TARGET, and explain every difference from XLA's cost analysis.

    The program is lowered and compiled, for this machine's CPU or ahead of time for the device of --target. It is not
    executed.

    \b
    costax compare examples/resnet.py:resnet18
    costax compare examples/gpt2.py:gpt2_train_step --target tpu:v5e
    costax compare module.hlo.pb
    costax compare DIR --pass algsimp    # a folder of XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.*"
    costax compare DIR --pass algsimp --scope decoder/layer_3
    """
    if dumps.is_dump(target):
        hlo.check_options(dumps.OF_FOLDERS, "a folder of dumped modules")
        dumps.compare_dump(
            target, name=name, scope=scope, module=module, depth=depth, as_json=as_json, save=save, strict=strict
        )
        return
    if hlo.is_module(target):
        dumps.check_target(module)
        hlo.check_options(hlo.OF_FILES)
        analysis = hlo.analysed(target, options.parsed_trips(trips), save, as_json=as_json, compare=True)
        hlo.deliver(analysis, {"by": by, "depth": depth, "sort": sort}, as_json=as_json, save=save, strict=strict)
        return
    dumps.check_target(module)
    passes = passes or name is not None or scope is not None
    if passes and no_passes:
        raise click.BadParameter("leave it out where --passes, --pass or --scope is given.", param_hint="--no-passes")
    from costax.compare.dumping import written_flags

    flags = options.parsed_flags(xla_flags)
    # The layers are printed before the compiler is asked; a wrong option must not come after them.
    written_flags(flags)
    if compile_for != "cpu":
        quieten_plugins()
    from costax.compare.ahead_of_time import machine
    from costax.compare.comparison import compare_program
    from costax.report import passes as passes_report
    from costax.report import waterfall

    check_table(by, sort)
    check_files(save)
    compiled_for = machine(compile_for)
    missing = on_missing or ("warn" if strict else "raise")
    # A loop of unknown length counts once here, not as a symbol: XLA counts the body of every loop once.
    analysis = analysed(target, inputs, options.parsed_trips(trips), missing, loops_once=True)
    choice: dict[str, Any] = {"by": by, "depth": depth, "sort": sort, **view}
    # The layers are known before the compiler starts, which may take minutes; --pass and --scope may still be wrong.
    early = not (as_json or name or scope)
    if early:
        terminal.show(waterfall.layers(analysis, **choice))
        click.echo()
    with shown():
        comparison = compare_program(
            analysis.program, analysis, compiled_for, timeout, passes=not no_passes, xla_flags=flags
        )
    # Rendered first: an unknown pass or scope ends the command before anything is printed or saved.
    trail = comparison.passes
    rendered = passes_report.render(trail, name=name, scope=scope, depth=depth) if passes and trail else None
    account = waterfall.account(comparison) if early else None
    deliver(comparison, choice, form="json" if as_json else None, save=save, strict=strict, shown=account)
    if rendered is not None and not as_json:
        terminal.show(rendered)
