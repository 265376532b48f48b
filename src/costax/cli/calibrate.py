"""`costax calibrate`: measure this machine."""

from __future__ import annotations

import sys
import time

import click

from costax.cli import options, terminal


@click.command(short_help="Measure this machine, and write its device file.")
@click.option("--file", "path", type=click.Path(dir_okay=False), help="Where to write; by default the user's folder.")
@click.option("--quick", is_flag=True, help="Fewer sizes: seconds, and less to rely on.")
@options.debug
def calibrate(path: str | None, quick: bool) -> None:
    """Measure what this machine can do, in less than two minutes, and write it as a device file called `cpu`.

    Do nothing else on the machine meanwhile: what others take is missing in the figures.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from costax.cli.devices import shown
    from costax.measure.calibration import calibrate as calibrated
    from costax.performance.hardware import user_folder

    start = time.perf_counter()
    bar = Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=terminal.errors(),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)
        found = calibrated(
            path,
            progress=lambda done, all_, what: bar.update(task, completed=done, total=all_, description=what),
            quick=quick,
        )
    terminal.show(shown(found))
    where = path or user_folder() / f"{found.id}.toml"
    click.echo(f"Measured in {time.perf_counter() - start:.0f} s; written to {where}.")
