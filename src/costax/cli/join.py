"""`costax join`: the measured time of a profile beside the work of the program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from costax.cli import options, terminal
from costax.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Join the measured time of a profile with the work of PROGRAM.")
@click.argument("program", required=False)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    required=True,
    metavar="TRACE",
    help="A profile: xplane.pb, the folder of jax.profiler.trace, .trace.json.gz, a zip or folder of nsys-jax, or a "
    "CSV of instruction,nanoseconds. Repeat for the processes of one program.",
)
@click.option("--module", metavar="NAME", help="A module of the trace or folder; by default that with the most time.")
@click.option("--device", "name", help="A device of `costax devices`: its peaks give MFU, HFU and the roofline.")
@click.option(
    "--step", type=options.FiniteSeconds(positive=True), metavar="SECONDS", help="Time of a run, measured otherwise."
)
@click.option("--input", "inputs", multiple=True, metavar="SPEC", help="Dtype and shape of an argument of a function.")
@click.option("--trips", multiple=True, metavar="PLACE=N", help="Trip count of a loop that depends on data.")
@click.option(
    "--by",
    type=click.Choice(["scope", "direction", "primitive", "source", "opcode", "instruction"]),
    default="scope",
    show_default=True,
    help="What each line of the table sums.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show the N longest lines of each level.")
@click.option("--direction", type=click.Choice(["forward", "backward", "recompute"]), help="Show only this part.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@options.save_as("Join")
@click.option("--strict", is_flag=True, help="Exit with 1 if time or an instruction of the entry is not joined.")
@options.debug
def join(
    program: str | None,
    traces: Sequence[str],
    module: str | None,
    name: str | None,
    step: float | None,
    inputs: Sequence[str],
    trips: Sequence[str],
    by: str,
    depth: int | None,
    top: int | None,
    direction: str | None,
    as_json: bool,
    save: Sequence[str],
    strict: bool,
) -> None:
    """Show where the time of a profiled program went: by layer, with the FLOP/s and the share of the roofline.

    PROGRAM is the module that ran: an HLO file or a folder of XLA_FLAGS=--xla_dump_to=DIR, or a function as for the
    other commands, which is compiled here. Without it the module that the trace embeds is taken.

    \b
    costax join --trace profile.xplane.pb --device h100-sxm
    costax join module_0040.jit_step.after_optimizations.hlo.pb --trace profile_folder
    """
    from costax.measure.join.join import join as join_trace
    from costax.report import check_file
    from costax.report import join as report

    for path in save:
        check_file(path, "Join")
    counts = options.parsed_trips(trips)
    loaded = _program(program, inputs)
    joined = join_trace(loaded, traces, module=module, device=name, step=step, trips=counts)
    rendered = report.render(joined, by=by, depth=depth, top=top, direction=direction)
    for path in save:
        joined.save(path)
    if as_json:
        click.echo(json.dumps(report.to_record(joined), indent=1))
    else:
        terminal.show(rendered)
    if strict and (joined.untimed or joined.unjoined):
        raise CheckError(
            f"{len(joined.untimed)} instructions of `{joined.name}` have no time, and {len(joined.unjoined)} kernels "
            "of the trace have no instruction.",
            why="The sums leave them out.",
            cure="The last lines of the table name them; leave out --strict to accept them.",
        )


def _program(program: str | None, inputs: Sequence[str]) -> Any:
    """Return what the join takes as a program: a path, or the analysis of a function."""
    from costax.cli import hlo_files, loading
    from costax.cli.dumps import is_dump

    if program is None or is_dump(program) or hlo_files.is_module(program):
        return program
    return loading.analysed(program, inputs, {}, "warn")
