"""`costax mfu`: the utilisation of a step that took so many seconds, by every convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

_OF_MODULES = ("seconds", "name", "devices", "tokens", "peak")


class _Mfu(click.Command):
    """The command, which knows by what other names people call the time of a step."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments. No name of an option is similar to --seconds, and click would suggest --json."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in ("--seconds", "--time"):
                raise
            message = f"No such option {error.option_name!r}. Did you mean '--step'?"
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None


@click.command(cls=_Mfu, short_help="Show the MFU of a step of TARGET by every convention.")
@options.tracing
@click.option(
    "--step",
    "seconds",
    type=options.Seconds(),
    required=True,
    metavar="SECONDS",
    help="Time of one step, measured.",
)
@click.option("--device", "name", required=True, help="A device of `costax devices`, or the path of a device file.")
@click.option(
    "--devices",
    type=int,
    metavar="N",
    help="Devices, as jax counts them, that ran the whole program together; by default those of its shardings.",
)
@click.option("--tokens", type=int, metavar="N", help="Tokens of a step of all devices; adds tokens per second.")
@click.option("--peak", metavar="UNIT", help="Peak to divide by, as bf16 or fp8; by default that of most products.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@options.save_as("Utilisation")
@options.module_of_folder
@options.debug
def mfu(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    seconds: float,
    name: str,
    devices: int | None,
    tokens: int | None,
    peak: str | None,
    as_json: bool,
    save: Sequence[str],
    module: str | None,
) -> None:
    """Show the model FLOPs utilisation of a step of TARGET, by every convention, with what each of them leaves out.

    TARGET is the whole step with the batch of all devices. It is not executed: --step is the time that you measured. Of
    a compiled module (an HLO file, or a folder of dumps) the table has the FLOPs that run, HFU; model FLOPs need the
    program.

    \b
    costax mfu examples/gpt2.py:gpt2_train_step --step 0.08 --device a100-sxm-80 --tokens 8192
    costax mfu TARGET --step 5.667 --device tpu-v5p --devices 128
    costax mfu module.hlo.pb --step 0.127 --device a100-sxm-40
    """
    from costax.cli.programs import loaded
    from costax.performance.hardware import device
    from costax.report import check_file, utilisation

    chip = device(name)
    for path in save:
        check_file(path, "Utilisation")
    analysis = loaded(
        target, inputs, options.parsed_trips(trips), on_missing or "warn", module=module, applicable=_OF_MODULES
    )
    found = analysis.mfu(seconds, chip, devices=devices, tokens=tokens, peak=peak)
    for path in save:
        found.save(path)
    if as_json:
        click.echo(utilisation.as_json(found), nl=False)
    else:
        terminal.show(utilisation.render(found))
