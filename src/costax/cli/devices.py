"""`costax devices`: the figures of each device, with their sources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.core import units
from costax.core.printable import without_controls

if TYPE_CHECKING:
    from costax.performance.hardware import Device, Figure

_PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp8", "int8")


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
    from costax.performance.hardware.library import source_text

    if name is None:
        if as_file:
            raise click.UsageError("--file needs the NAME of a device.")
        if as_json:
            click.echo(json.dumps({d.id: record(d) for d in all_devices().values()}, indent=1))
        else:
            terminal.show(_list(list(all_devices().values())))
        return
    device = device_of(name)
    if as_file:
        click.echo(without_controls(source_text(device)), nl=False)
    elif as_json:
        click.echo(json.dumps(record(device), indent=1))
    else:
        terminal.show(shown(device))


def record(device: Device) -> dict[str, object]:
    """Return a device as a dictionary for JSON."""
    return {
        "id": device.id,
        "name": device.name,
        "vendor": device.vendor,
        "aliases": list(device.aliases),
        "jax_devices": device.jax_devices,
        "notes": list(device.notes),
        "figures": {
            name: {"value": f.value, "source": f.source, "url": f.url, "date": f.date, "verified": not f.unverified}
            for name, f in device.figures().items()
        },
    }


def _list(devices: list[Device]) -> object:
    from rich.console import Group

    from costax.performance.hardware import user_folder
    from costax.report.text import columns, footer

    headings = ("device", "name", *(f"{peak}" for peak in _PEAKS), "memory", "bandwidth", "links", "TDP")
    lines = [
        (
            d.id,
            d.name,
            *(_short(d.peaks.get(peak) or (d.peaks.get("fp16") if peak == "bf16" else None), 1e12) for peak in _PEAKS),
            _short(d.capacity, 1e9),
            _short(d.bandwidth, 1e9),
            _short(d.link.send if d.link else None, 1e9),
            _short(d.power.get("tdp"), 1),
        )
        for d in devices
    ]
    notes = [
        "Peaks are dense, in TFLOP/s (int8: TOP/s), per chip; the bf16 column shows fp16 for a device without bf16.",
        "memory: GB. bandwidth: GB/s. links: GB/s, one direction, all links of a chip. TDP: W. ?: not verified.",
        f"Folder for your own device files: {user_folder()}.",
    ]
    return Group(columns(headings, lines), footer(notes))


def _short(figure: Figure | None, unit: float) -> str:
    return "" if figure is None else f"{float(f'{figure.value / unit:.4g}'):g}{figure.mark}"


def shown(device: Device) -> object:
    """Return what rich prints of a device: every figure with its source and the date when it was read."""
    from rich.console import Group

    from costax.report.text import columns, one_line

    lines = [
        (name, _value(name, figure) + figure.mark, figure.source, figure.date)
        for name, figure in device.figures().items()
    ]
    parts: list[object] = [one_line(f"{device.name} ({device.id})", style="bold")]
    if device.aliases:
        parts.append(one_line(f"also called {', '.join(device.aliases)}"))
    parts.append(columns(("figure", "value", "source", "read on"), lines))
    if device.link:
        parts.append(one_line(f"Link: {device.link.kind}; topology: {device.link.topology}."))
    parts += [one_line(note) for note in device.notes]
    if device.unverified:
        parts.append(one_line("? marks a figure that nobody has checked against the vendor's documentation."))
    return Group(*parts)  # type: ignore[arg-type]


def _value(name: str, figure: Figure) -> str:
    if name.startswith("peak."):
        return units.rate(figure.value, "OP/s" if "int" in name else "FLOP/s")
    if name in ("memory.bandwidth", "link.send"):
        return units.rate(figure.value, "B/s")
    if name.startswith("memory.") or (name.startswith("on_chip.") and figure.value > 1024):
        return units.short_bytes(round(figure.value))
    if name == "clock":
        return units.rate(figure.value, "Hz")
    return f"{figure.value:g} W" if name.startswith("power.") else f"{figure.value:g}"
