"""`costax predict`: the time of a program on a device, which need not be present."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.cli.delivery import lines_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_OF_MODULES = (
    *("name", "mesh", "examples", "tokens", "energy", "power", "carbon", "price", "calls", "devices", "depth", "by"),
)


@click.command(short_help="Predict the time of TARGET on a device.")
@options.tracing
@click.option("--device", "name", required=True, help="A device of `costax devices`, or the path of a device file.")
@click.option("--mesh", metavar="AXIS=N,...", default="", help="Sizes of the mesh axes, as data=8,model=4.")
@click.option(
    "--xla", is_flag=True, help="Compile for the device, or else for this CPU, and use XLA's own fusions as kernels."
)
@click.option(
    "--target",
    "compile_for",
    metavar="MACHINE",
    help="With --xla: compile for this machine, as cuda:h100:8; by default for one of --device.",
)
@options.xla_flags
@click.option("--examples", type=options.at_least_one(), help="Examples per call; adds examples per second.")
@click.option("--tokens", type=options.at_least_one(), help="Tokens per call; adds tokens per second.")
@click.option("--energy", is_flag=True, help="Also show the energy of a call in joules, as a range.")
@click.option(
    "--power", type=options.FiniteRange(positive=True), help="Watts of the device at full load; by default its TDP."
)
@click.option("--carbon", type=options.FiniteRange(), metavar="G", help="Grams of CO2 per kWh of your electricity.")
@click.option("--price", type=options.FiniteRange(), help="Price of the device per hour, in your currency.")
@click.option("--calls", type=options.FiniteRange(), default=1.0, help="Number of calls of a run.")
@click.option(
    "--devices",
    type=options.at_least_one(),
    help="Number of devices that run the calls at the same time; by default those of the program.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@options.save_as("Prediction")
@click.option(
    "--by",
    type=click.Choice(["scope", "opcode", "source", "direction"]),
    default="scope",
    help="What each line of the table sums.",
)
@options.module_of_folder
@options.debug
def predict(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    name: str,
    mesh: str,
    xla: bool,
    compile_for: str | None,
    xla_flags: Sequence[str],
    examples: int | None,
    tokens: int | None,
    energy: bool,
    power: float | None,
    carbon: float | None,
    price: float | None,
    calls: float,
    devices: int | None,
    depth: int | None,
    as_json: bool,
    save: Sequence[str],
    by: str,
    module: str | None,
) -> None:
    """Predict the time of TARGET on a device by scope and kernel, and what bounds it. The program is not executed.

    \b
    costax predict examples/resnet.py:resnet50 --device h100-sxm
    costax predict examples/gpt2.py:gpt2_train_step --device v5e --tokens 8192
    costax predict module.hlo.pb --device h100-sxm --by source    # of a compiled module, the kernels are XLA's fusions
    costax predict TARGET --device h100-sxm --xla --target cuda:h100:8 --save costs.pbtxt    # for XLA's scheduler
    """
    from costax.analysis.analysis import Analysis
    from costax.cli.loading import quieten_plugins
    from costax.cli.programs import loaded
    from costax.errors import DeviceError
    from costax.performance.hardware import device
    from costax.performance.prediction import predict as predict_time
    from costax.report import check_file, prediction
    from costax.report import save as save_as

    target_device = device(name)
    sizes = parsed_mesh(mesh)
    flags = options.parsed_flags(xla_flags)
    if not xla and (compile_for or flags):
        option = "--target" if compile_for else "--xla-flag"
        raise click.BadParameter("it needs --xla: without it nothing is compiled.", param_hint=option)
    if xla:
        quieten_plugins()
    program = loaded(
        target, inputs, options.parsed_trips(trips), on_missing or "warn", module=module, applicable=_OF_MODULES
    )
    if xla and isinstance(program, Analysis):
        from costax.compare.ahead_of_time import machine, of_size
        from costax.compare.comparison import compare_program

        compiled_for = machine(compile_for or of_size(target_device.compile_for or "cpu", program.devices))
        program = compare_program(program.program, program, compiled_for, passes=False, xla_flags=flags)
    estimate = predict_time(program, target_device, sizes, examples=examples, tokens=tokens)
    with_energy = energy or any(x is not None for x in (power, carbon, price)) or calls != 1 or devices
    unknown_energy = ""
    try:
        energy_per_call = estimate.energy(power=power) if with_energy else None
    except DeviceError as error:
        # The time is known all the same: an unknown power costs the energy line only.
        energy_per_call, unknown_energy = None, f"energy per call: not known. {error}"
    run = energy_per_call.run(calls, devices, carbon_intensity=carbon, price=price) if energy_per_call else None
    for path in save:
        form = check_file(path, type(estimate))
        save_as(estimate, path, **(lines_of({"by": by, "depth": depth}, form) if form == "csv" else {}))
    if as_json:
        click.echo(json.dumps(prediction.to_record(estimate, run), indent=1))
    else:
        terminal.show(prediction.render(estimate, depth=depth, by=by))
        if unknown_energy:
            click.echo()
            terminal.show(unknown_energy)
        if energy_per_call is not None:
            click.echo()
            terminal.show(str(energy_per_call))
        if run is not None and (calls != 1 or run.devices != 1 or carbon is not None or price is not None):
            plural = "" if run.devices == 1 else "s"
            click.echo()
            terminal.show(f"A run of {calls:g} calls on {run.devices} device{plural}:\n{run}")


def parsed_mesh(text: str) -> dict[str, int]:
    """Return the sizes in a text such as `data=8,model=4`, {"data": 8, "model": 4}. Raises click's BadParameter."""
    sizes: dict[str, int] = {}
    for part in text.split(",") if text else ():
        axis, equals, number = part.strip().partition("=")
        if not (axis and equals and number.isascii() and number.isdigit() and int(number) > 0):
            raise click.BadParameter(f"{part!r} must be AXIS=N, such as data=8.", param_hint="--mesh")
        options.add_once(sizes, axis, int(number), "--mesh")
    return sizes
