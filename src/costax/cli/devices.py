"""`costax devices`: the figures of each device, with their sources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.core.printable import without_controls

if TYPE_CHECKING:
    from costax.performance.hardware import Device


@click.command(short_help="List all devices, or show one with its sources.")
@click.argument("name", required=False)
@click.option("--file", "as_file", is_flag=True, help="Print the device file, as a template for your own.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.debug
def devices(name: str | None, as_file: bool, as_json: bool) -> None:
    """List all devices with their dense peaks, or show one device with the source of every number.

    The last line of the list names the folder for your own device files. A ? marks a number that nobody has verified.
    """
    from costax.performance.hardware import device as device_of
    from costax.performance.hardware import devices as all_devices
    from costax.performance.hardware import user_folder
    from costax.performance.hardware.library import source_text
    from costax.report.device import listed, render

    if name is None:
        if as_file:
            raise click.UsageError("--file needs the NAME of a device.")
        if as_json:
            click.echo(json.dumps({d.id: record(d) for d in all_devices().values()}, indent=1))
        else:
            terminal.show(listed(list(all_devices().values()), str(user_folder())))
        return
    device = device_of(name)
    if as_file:
        click.echo(without_controls(source_text(device)), nl=False)
    elif as_json:
        click.echo(json.dumps(record(device), indent=1))
    else:
        terminal.show(render(device))


def record(device: Device) -> dict[str, object]:
    """Return a device as a dictionary for JSON."""
    return {
        "id": device.id,
        "name": device.name,
        "vendor": device.vendor,
        "aliases": list(device.aliases),
        "device_kinds": list(device.device_kinds),
        "jax_devices": device.jax_devices,
        "compile_for": device.compile_for,
        "notes": list(device.notes),
        "figures": {
            name: {"value": f.value, "source": f.source, "url": f.url, "date": f.date, "verified": not f.unverified}
            for name, f in device.figures().items()
        },
    }
