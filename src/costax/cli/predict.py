"""`costax predict`: how long a program takes on a device that need not be here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Predict how long TARGET takes on a device.")
@options.tracing
@click.option("--device", "name", required=True, help="A device of `costax devices`, or the path of a device file.")
@click.option("--mesh", metavar="AXIS=N,...", default="", help="Sizes of the axes of the mesh, as data=8,model=4.")
@click.option("--xla", is_flag=True, help="Compile for the device, or for this CPU, and take XLA's own fusions.")
@click.option("--examples", type=click.IntRange(min=1), help="Examples in one call, for the throughput.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens in one call, for the throughput.")
@click.option("--energy", is_flag=True, help="Also say the joules of a call, as a range.")
@click.option("--power", type=click.FloatRange(min=0, min_open=True), help="Watts at full load, where you know better.")
@click.option("--carbon", type=click.FloatRange(min=0), metavar="G", help="Grams of CO2 a kWh, of your own grid.")
@click.option("--price", type=click.FloatRange(min=0), help="Of the device for an hour, in your own money.")
@click.option("--calls", type=click.FloatRange(min=0), default=1.0, help="How many calls a run has.")
@click.option("--devices", type=click.IntRange(min=1), default=1, help="How many devices run them at once.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@click.option(
    "--save",
    multiple=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write to a file; its suffix names the format: .json, .speedscope.json or .perfetto.json.",
)
@options.debug
def predict(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    name: str,
    mesh: str,
    xla: bool,
    examples: int | None,
    tokens: int | None,
    energy: bool,
    power: float | None,
    carbon: float | None,
    price: float | None,
    calls: float,
    devices: int,
    depth: int | None,
    as_json: bool,
    save: Sequence[str],
) -> None:
    """Predict how long TARGET takes on a device, by scope and by kernel, and what each is bound by. Nothing is run.

    \b
    costax predict examples/resnet.py:resnet50 --device h100-sxm
    costax predict examples/gpt2.py:gpt2_train_step --device v5e --tokens 8192
    """
    from costax.cli.loading import analysed
    from costax.performance.hardware import device
    from costax.performance.prediction import predict as predicted
    from costax.report import prediction

    chosen = device(name)
    sizes = parsed_mesh(mesh)
    analysis = analysed(target, inputs, options.parsed_trips(trips), on_missing or "warn")
    program = analysis
    if xla:
        from costax.compare.ahead_of_time import machine
        from costax.compare.comparison import compare_program

        program = compare_program(analysis.program, analysis, machine(chosen.compile_for or "cpu"))
    found = predicted(program, chosen, sizes, examples=examples, tokens=tokens)
    wanted = energy or any(x is not None for x in (power, carbon, price)) or calls != 1 or devices != 1
    joules = found.energy(power=power) if wanted else None
    run = joules.run(calls, devices, carbon_intensity=carbon, price=price) if joules else None
    for path in save:
        found.save(path)
    if as_json:
        click.echo(json.dumps(prediction.to_record(found, run), indent=1))
    else:
        terminal.show(prediction.render(found, depth=depth))
        if joules is not None:
            click.echo(f"\n{joules}")
        if run is not None and (calls != 1 or devices != 1 or carbon is not None or price is not None):
            click.echo(f"\nA run of {calls:g} calls on {devices} devices:\n{run}")


def parsed_mesh(text: str) -> dict[str, int]:
    """Return the sizes that a text such as `data=8,model=4` names. Raises click's BadParameter where it names none."""
    sizes: dict[str, int] = {}
    for part in text.split(",") if text else ():
        axis, equals, number = part.strip().partition("=")
        if not (axis and equals and number.isascii() and number.isdigit() and int(number) > 0):
            raise click.BadParameter(f"{part!r} is no AXIS=N.", param_hint="--mesh")
        sizes[axis] = int(number)
    return sizes
