"""`costax calibrate`: measure this machine."""

from __future__ import annotations

import sys
import time

import click

from costax.cli import options, terminal


@click.command(short_help="Measure this machine and write its device file.")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False),
    help="Path of the device file; by default in your folder of device files.",
)
@click.option("--quick", is_flag=True, help="Measure fewer sizes: takes a third of the time, and is less accurate.")
@options.debug
def calibrate(path: str | None, quick: bool) -> None:
    """Measure the speed of this CPU and write it to a device file called `cpu`. This takes about a minute.

    Processor time is measured, so that other programs may run meanwhile; they still share caches and memory, and make
    the figures somewhat too low.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from costax.measure.calibration import calibrate as measure_device
    from costax.performance.hardware import user_folder
    from costax.report.device import render

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
        device = measure_device(
            path,
            progress=lambda done, total, step: bar.update(task, completed=done, total=total, description=step),
            quick=quick,
        )
    terminal.show(render(device))
    file = path or user_folder() / f"{device.id}.toml"
    terminal.show(f"Measured in {time.perf_counter() - start:.0f} s; the device file is {file}.")
