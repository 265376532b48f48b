"""`costax measure`: the time of a program on this machine."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Run TARGET and measure its time on this machine.")
@options.tracing
@click.option("--device", "name", default="auto", show_default=True, help="Device whose peak defines MFU and HFU.")
@click.option(
    "--iterations", type=click.IntRange(min=1), help="Timed runs; by default until the standard error is 2 %."
)
@click.option(
    "--seconds", type=options.FiniteSeconds(positive=True), default=5.0, show_default=True, help="Time limit."
)
@click.option("--profile", is_flag=True, help="Also profile some runs: measured and predicted time by scope.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes in the profile.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@options.debug
def measure(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    name: str,
    iterations: int | None,
    seconds: float,
    profile: bool,
    depth: int | None,
    as_json: bool,
) -> None:
    """Run TARGET on jax's default device and measure its time. No other command runs a program.

    \b
    costax measure examples/resnet.py:resnet18
    costax measure examples/mlp_train.py:mlp_train_step --profile
    """
    import sys

    from costax.cli.loading import analysed
    from costax.core.open_symbols import check_numbers
    from costax.measure.measurement import arguments, measured
    from costax.report import measurement

    analysis = analysed(target, inputs, options.parsed_trips(trips), on_missing or "warn")
    check_numbers(analysis, "A program runs with arrays, whose sizes are numbers.", only_sizes=True)
    with redirect_stdout(sys.stderr):
        values, invented = arguments(analysis.program, (), {})
        result = measured(analysis, values, invented, iterations, name, seconds)
        profiled = measurement.profiled(result, values, depth) if profile else None
    if as_json:
        click.echo(
            json.dumps({**measurement.to_record(result), "profile": profiled and measurement.rows(profiled)}, indent=1)
        )
    else:
        terminal.show(measurement.render(result))
        if profiled is not None:
            terminal.show(measurement.table(profiled))
