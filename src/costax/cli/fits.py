"""`costax fits`: whether a program fits the memory of a device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.performance.fit import Fit

# 2 is wrong usage.
_EXIT_CODES: Final = {"yes": 0, "no": 1, "unsure": 3}


@click.command(short_help="Check whether TARGET fits the memory of a device.")
@options.tracing
@click.option(
    "--device",
    "name",
    required=True,
    help="A device of `costax devices`, or the path of a device file; several as v5e-8, tpu:v5e:2x4 or h100:8.",
)
@click.option("--devices", type=int, metavar="N", help="How many devices there are, where --device does not say it.")
@click.option(
    "--xla",
    is_flag=True,
    help="Compile ahead of time for the device and use XLA's memory analysis; needs costax[tpu] or [cuda].",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.module_of_folder
@options.debug
@click.pass_context
def fits(
    context: click.Context,
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    name: str,
    devices: int | None,
    xla: bool,
    as_json: bool,
    module: str | None,
) -> None:
    """Check whether TARGET fits the memory of a device; show the margin and what to change.

    Exit code 0: it fits; 1: it does not; 3: too close to say without the compiler, which --xla asks.

    \b
    costax fits examples/gpt2.py:gpt2_train_step --device v5e
    costax fits examples/gpt2.py:gpt2_train_step --device v5e-8
    costax fits examples/llama.py:llama2_7b --device h100-sxm --xla
    costax fits module.hlo.pb --device h100-sxm    # a compiled module, by XLA's buffer assignment
    """
    from costax.analysis.analysis import Analysis
    from costax.cli.loading import quieten_plugins
    from costax.cli.programs import loaded
    from costax.errors import DeviceError, DeviceMemoryError
    from costax.performance.fit import fits as fit_of
    from costax.performance.hardware import slice_of

    target_device = slice_of(name).device
    if xla:
        quieten_plugins()
    analysis = loaded(
        target, inputs, options.parsed_trips(trips), on_missing or "warn", module=module, applicable=("name",)
    )
    fit = fit_of(analysis, name, devices=devices)
    refused = ""
    if xla and isinstance(analysis, Analysis):
        from costax.compare.ahead_of_time import machine, of_size
        from costax.compare.comparison import compare_program

        if not target_device.compile_for:
            raise DeviceError(
                f"costax has no ahead-of-time compiler for {target_device.name}.",
                why="XLA compiles ahead of time only for TPUs and for some GPUs.",
                cure="Leave out --xla: the fused estimate needs no compiler.",
            )
        try:
            fit = fit_of(
                compare_program(
                    analysis.program,
                    analysis,
                    machine(of_size(target_device.compile_for, analysis.devices)),
                    passes=False,
                ),
                name,
                devices=devices,
            )
        except DeviceMemoryError as error:
            refused = str(error)
    if as_json:
        click.echo(json.dumps({**_record(fit), "refused": refused or None}, indent=1))
    elif refused:
        terminal.show(f"no: the compiler rejects the program.\n{refused}\n\nThe fused estimate:\n{fit}")
    else:
        terminal.show(str(fit))
    context.exit(1 if refused else _EXIT_CODES[fit.answer])


def _record(fit: Fit) -> dict[str, object]:
    return {
        "schema": "costax/fit/1",
        "name": fit.analysis.name,
        "device": fit.device.id,
        "fits": bool(fit),
        "answer": fit.answer,
        "least_bytes": fit.bounds[0],
        "most_bytes": fit.bounds[1],
        "needed_bytes": fit.needed,
        "room_bytes": fit.room,
        "margin_bytes": fit.margin,
        "source": fit.source,
        "parts": dict(fit.parts),
        "framework_peak_bytes": fit.analysis.peak_bytes,
        "doubts": list(fit.unmodelled),
        "changes": [{"what": change.what, "saves_bytes": change.saves} for change in fit.changes],
        "devices": fit.devices,
        "available": fit.available,
        "evenly_bytes": fit.evenly,
    }
