"""`costax measure`: how long a program takes here."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Run TARGET and say how long it takes here.")
@options.tracing
@click.option("--device", "name", default="auto", show_default=True, help="Whose peak utilisation is a share of.")
@click.option("--iterations", type=click.IntRange(min=1), help="Timed runs; by default until the error is 2 %.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="Limit.")
@click.option("--profile", is_flag=True, help="Also profile some runs: time by scope, predicted beside measured.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes of the profile.")
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
    """Run TARGET on jax's default device and say how long it takes. This is the only command that runs a program.

    \b
    costax measure examples/resnet.py:resnet18
    costax measure examples/mlp_train.py:mlp_train_step --profile
    """
    import sys

    from costax.cli.loading import analysed
    from costax.measure.measurement import arguments, measured
    from costax.report import measurement

    analysis = analysed(target, inputs, options.parsed_trips(trips), on_missing or "warn")
    with redirect_stdout(sys.stderr):
        values, made_up = arguments(analysis.program, (), {})
        found = measured(analysis, values, made_up, iterations, name, seconds)
        profiled = measurement.profiled(found, values, depth) if profile else None
    if as_json:
        click.echo(
            json.dumps({**measurement.to_record(found), "profile": profiled and measurement.rows(profiled)}, indent=1)
        )
    else:
        terminal.show(measurement.render(found))
        if profiled is not None:
            terminal.show(measurement.table(profiled))
