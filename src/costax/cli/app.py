"""The command line: analyze, compare, show, explain, rules."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

# Nothing here imports jax before a command needs it: help and saved records come at once.
from costax.cli import hlo_files as hlo
from costax.cli import options, terminal
from costax.cli.commands import COMMANDS
from costax.cli.sweep import sweep
from costax.core.progress import shown
from costax.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.analysis.analysis import Analysis
    from costax.report import Shown


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="costax", message="%(package)s %(version)s")
@options.debug
def main() -> None:
    """Say where the arithmetic and the bytes of a JAX program go, to the last operation.

    TARGET is package.module:name or path/to/file.py:name. The name is a callable or a module, or a factory without
    arguments that returns (fn, args), (fn, args, kwargs) or costax.Target(...). analyze and compare also take a file
    of HLO, as XLA_FLAGS=--xla_dump_to=DIR writes it: module.pb, module.txt.

    Exit codes: 0 fine, 1 a check failed, 2 wrong usage.
    """


@main.command(short_help="Count the work of TARGET by layer.")
@options.tracing
@options.branching
@options.table_or_modules
@options.view
@options.convention
@options.output
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
) -> None:
    """Count the work of TARGET: MACs, FLOPs, transcendentals, parameters, by layer. Nothing is executed.

    \b
    costax analyze examples/resnet.py:resnet18
    costax analyze jax.numpy:matmul --input 'f32[4,8]' --input 'f32[8,3]' --by primitive
    costax analyze module.hlo.pb --by opcode
    costax analyze examples/resnet.py:resnet18 --as thop
    """
    if hlo.is_module(target):
        hlo.check_options(inputs=inputs, on_missing=on_missing)
        found = hlo.analysed(target, options.parsed_trips(trips), save)
        hlo.deliver(found, {"by": by, "depth": depth, "sort": sort}, as_json=as_json, save=save, strict=strict)
        return
    _check_table(by, sort)
    _check_files(save)
    missing = on_missing or ("warn" if strict else "raise")
    chosen = options.parsed_branches(branches)
    analysis = analysed(target, inputs, options.parsed_trips(trips), missing, branches=chosen)
    if tool is not None:
        answer = analysis.explain_vs(tool)
        if as_json:
            terminal.write(answer.to_json())
        else:
            terminal.show(answer)
        return
    choice = {"by": by, "depth": depth, "sort": sort, **view}
    deliver(analysis, choice, form="json" if as_json else None, save=save, strict=strict)


@main.command(short_help="Count the work of TARGET beside what XLA counts.")
@options.tracing
@options.machine
@options.table_or_modules
@options.view
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
    as_json: bool,
    save: Sequence[str],
    strict: bool,
) -> None:
    """Count the work of TARGET, and say why XLA's cost analysis of it is what it is.

    The program is lowered and compiled, for this machine's CPU or ahead of time for the one that --target names, and
    not run.

    \b
    costax compare examples/resnet.py:resnet18
    costax compare examples/gpt2.py:gpt2_train_step --target tpu:v5e
    costax compare module.hlo.pb
    """
    if hlo.is_module(target):
        hlo.check_options(inputs=inputs, on_missing=on_missing, compile_for=compile_for)
        found = hlo.analysed(target, options.parsed_trips(trips), save, compare=True)
        hlo.deliver(found, {"by": by, "depth": depth, "sort": sort}, as_json=as_json, save=save, strict=strict)
        return
    if compile_for != "cpu":
        quieten_plugins()
    from costax.compare.ahead_of_time import machine
    from costax.compare.comparison import compare_program

    _check_table(by, sort)
    _check_files(save)
    compiled_for = machine(compile_for)
    missing = on_missing or ("warn" if strict else "raise")
    # XLA counts the body of a loop once.
    analysis = analysed(target, inputs, options.parsed_trips(trips), missing, loops_once=True)
    with shown():
        comparison = compare_program(analysis.program, analysis, compiled_for, timeout)
    choice = {"by": by, "depth": depth, "sort": sort, **view}
    deliver(comparison, choice, form="json" if as_json else None, save=save, strict=strict)


@main.command()
@click.argument("record", type=click.Path())
@options.formats
@options.table
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
    """Show a saved RECORD, print it in another format, or save it in one. Imports no jax.

    \b
    costax show gpt2.json --top 5
    costax show gpt2.json --format markdown --by primitive > gpt2.md
    costax show gpt2.json --save gpt2.speedscope.json --save gpt2.html
    """
    from costax.report import load_any

    _check_table(by, sort)
    _check_files(save)
    choice = {"by": by, "depth": depth, "sort": sort, **view}
    deliver(load_any(record), choice, form=form or ("json" if as_json else None), save=save, strict=strict)


@main.command(short_help="Say what a PRIMITIVE costs, with worked examples.")
@click.argument("primitive")
@options.debug
def explain(primitive: str) -> None:
    """Say what a PRIMITIVE costs: its rule, the law in words, and worked examples beside XLA's count."""
    from costax.analysis.explain import explain as explained

    click.echo(str(explained(primitive)))


@main.command(short_help="List every primitive that has a rule.")
@options.debug
def rules() -> None:
    """List every primitive that has a rule: its family, and what kind of rule it is."""
    from costax.analysis.analyze import rules as every_rule
    from costax.analysis.explain import family, kind
    from costax.report.text import columns

    lines = [(rule.name, family(rule), kind(rule), rule.free) for rule in every_rule().values()]
    terminal.show(columns(("primitive", "family", "kind", "why it is free"), lines))


for _command in COMMANDS:
    main.add_command(_command)
main.add_command(sweep)


def analysed(target: str, inputs: Sequence[str], trips: Mapping[str, int], on_missing: str, **options: Any) -> Analysis:
    """Load and analyse a target; what it prints while it is imported and traced goes to standard error."""
    from costax.analysis.analyze import UncountedWarning
    from costax.analysis.analyze import analyze as analyze_function
    from costax.program.targets import load_target

    with shown(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        # The tables and the record say it themselves.
        warnings.simplefilter("ignore", UncountedWarning)
        found = load_target(target, inputs)
        analysis = analyze_function(found, trips=trips, on_missing=on_missing, **options)()  # type: ignore[arg-type]
    # `resnet18` says more than the name of the class or function that the factory returned.
    return replace(analysis, name=target.rpartition(":")[2])


def deliver(account: Shown, table: Mapping[str, Any], *, form: str | None, save: Sequence[str], strict: bool) -> None:
    """Save, print and check an account as the options say. Raises CheckError if it is to be exact and is not.

    form: the format that is printed, one of `report.FORMATS`, or None for the terminal's.
    """
    from costax import report

    for path in save:
        report.save(account, path, **table)
    if form is not None:
        terminal.write(report.as_format(form)(account, **table))
    else:
        from costax.report.text import rendered

        terminal.show(rendered(account, **table))
    if strict:
        check_exact(report.analysis_of(account))


def quieten_plugins() -> None:
    """Have jax start the CPU alone: plugins of machines that are not here would only complain that they are not."""
    quiet = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def check_exact(analysis: Analysis) -> None:
    """Raise CheckError unless every number is exact."""
    from costax.report.notes import gaps, open_loops

    if analysis.exact and not open_loops(analysis):
        return
    raise CheckError(
        f"Not every number of `{analysis.name}` is exact.",
        why="\n".join([*gaps(analysis), *open_loops(analysis)]),
        cure="Answer the loops with --trips and give the primitives a rule, or leave --strict out.",
    )


def _check_table(by: str, sort: str | None) -> None:
    if by in ("opcode", "computation"):
        raise click.BadParameter(f"a jaxpr has primitives; {by}s are those of an HLO module.", param_hint="--by")
    if sort == "params" and by != "scope":
        raise click.BadParameter(f"parameters belong to scopes; --by {by} has none.", param_hint="--sort")


def _check_files(paths: Sequence[str]) -> None:
    """Refuse a file that could not be written before the work is done."""
    if paths:
        from costax.report import writer

        for path in paths:
            writer(path)


if __name__ == "__main__":
    main()
