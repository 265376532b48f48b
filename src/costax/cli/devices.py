"""`costax devices`: what costax knows of hardware, and where it comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.core import units

if TYPE_CHECKING:
    from costax.performance.hardware import Device, Figure

_PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp8", "int8")


@click.command(short_help="List the devices that costax knows, or show one with its sources.")
@click.argument("name", required=False)
@click.option("--file", "as_file", is_flag=True, help="Print the device's file, as a pattern for one of your own.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.debug
def devices(name: str | None, as_file: bool, as_json: bool) -> None:
    """List the devices that costax knows, with their dense peaks; or show one, every number with its source.

    A file of your own goes into the folder that the last line names. A ? marks what nobody has verified.
    """
    from costax.performance.hardware import device
    from costax.performance.hardware import devices as known
    from costax.performance.hardware.library import source_text

    if name is None:
        if as_file:
            raise click.UsageError("--file needs the name of a device.")
        if as_json:
            click.echo(json.dumps({d.id: record(d) for d in known().values()}, indent=1))
        else:
            terminal.show(_list(list(known().values())))
        return
    found = device(name)
    if as_file:
        click.echo(source_text(found), nl=False)
    elif as_json:
        click.echo(json.dumps(record(found), indent=1))
    else:
        terminal.show(shown(found))


def record(found: Device) -> dict[str, object]:
    """Return a device as a dictionary for JSON."""
    return {
        "id": found.id,
        "name": found.name,
        "vendor": found.vendor,
        "aliases": list(found.aliases),
        "jax_devices": found.jax_devices,
        "notes": list(found.notes),
        "figures": {
            name: {"value": f.value, "source": f.source, "url": f.url, "date": f.date, "verified": not f.unverified}
            for name, f in found.figures().items()
        },
    }


def _list(found: list[Device]) -> object:
    from rich.console import Group
    from rich.text import Text

    from costax.performance.hardware import user_folder
    from costax.report.text import columns

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
        for d in found
    ]
    notes = [
        "Peaks are dense, in TFLOP/s (int8: TOP/s), of one chip; bf16 is fp16 where there is no bf16.",
        "memory in GB, bandwidth and links (one direction, all of a chip) in GB/s, TDP in W. ? was not verified.",
        f"Your own device files go to {user_folder()}.",
    ]
    return Group(columns(headings, lines), Text("\n".join(notes)))


def _short(figure: Figure | None, unit: float) -> str:
    return "" if figure is None else f"{float(f'{figure.value / unit:.4g}'):g}{figure.mark}"


def shown(found: Device) -> object:
    """Return what rich prints of a device: every figure with its source."""
    from rich.console import Group
    from rich.text import Text

    from costax.report.text import columns

    lines = [
        (name, _value(name, figure) + figure.mark, figure.source, figure.date)
        for name, figure in found.figures().items()
    ]
    parts: list[object] = [Text(f"{found.name} ({found.id})", style="bold")]
    if found.aliases:
        parts.append(Text(f"also called {', '.join(found.aliases)}"))
    parts.append(columns(("figure", "value", "source", "read"), lines))
    if found.link:
        parts.append(Text(f"Connected by {found.link.kind}: {found.link.topology}."))
    parts += [Text(note) for note in found.notes]
    if found.unverified:
        parts.append(Text("? was recalled or derived, and nobody has compared it with the maker's page."))
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
