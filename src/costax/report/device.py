"""The sheet of a device: every figure with its source; and the list of all devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from costax.core import units
from costax.report.text import columns

if TYPE_CHECKING:
    from costax.performance.hardware import Device, Figure

# The peaks of the list. With the other columns they fill 80 characters; the sheet of a device has all.
_PEAKS: Final = ("fp32", "bf16", "fp8", "int8")
_LEGEND: Final = (
    "fp32 to int8: dense peaks of a chip, TFLOP/s (int8: TOP/s).",
    "bf16 shows fp16 for a device without bf16. ? marks an unverified figure.",
    "GiB, GB/s: memory and bandwidth. link: GB/s of all links, one way. W: power.",
    "`costax devices NAME` prints all figures of a device, with their sources.",
)


def render(device: Device) -> Group:
    """Return what rich prints of a device: every figure with the number of its source, and the sources with dates."""
    figures = device.figures()
    numbers = {origin: n for n, origin in enumerate(dict.fromkeys(map(_origin, figures.values())), 1)}
    lines = [(name, _value(name, x) + x.mark, f"[{numbers[_origin(x)]}]") for name, x in figures.items()]
    parts: list[Text | object] = [Text(f"{device.name} ({device.id})", style="bold")]
    if device.aliases:
        parts.append(Text(f"also called {', '.join(device.aliases)}"))
    if device.device_kinds:
        parts.append(Text(f"device_kind in jax: {', '.join(device.device_kinds)}"))
    if device.jax_devices > 1:
        parts.append(Text(f"jax sees {device.jax_devices} devices in one chip; the figures are of the chip."))
    if device.of_chip > 1:
        parts.append(Text(f"jax sees {device.of_chip} devices in one chip; the figures are of one of them."))
    parts.append(columns(("figure", "value", "source"), lines))
    parts += [Text(f"[{n}] {source}, read on {date}") for (source, date), n in numbers.items()]
    parts.append(Text())
    if device.link:
        parts.append(Text(f"Link: {device.link.kind}; topology: {device.link.topology}."))
    if device.network:
        parts.append(Text(f"Network: {device.network.kind}; it joins groups of {device.network.hosts_of} chips."))
    if device.compile_for:
        parts.append(Text(f"Compile for it where it is not: --target {device.compile_for}."))
    parts += [Text(note) for note in device.notes]
    if device.unverified:
        parts.append(Text("? marks a figure that nobody has checked against the vendor's documentation."))
    return Group(*parts)  # type: ignore[arg-type]


def listed(devices: Sequence[Device], folder: str) -> Group:
    """Return what rich prints of many devices, a line each. folder: where the user's own files are."""
    headings = ("device", *_PEAKS, "GiB", "GB/s", "link", "W")
    lines = [
        (
            d.id,
            *(_short(d.peaks.get(peak) or (d.peaks.get("fp16") if peak == "bf16" else None), 1e12) for peak in _PEAKS),
            _short(d.capacity, 2**30),
            _short(d.bandwidth, 1e9),
            _short(d.link.send if d.link else None, 1e9),
            _short(d.power.get("tdp"), 1),
        )
        for d in devices
    ]
    return Group(columns(headings, lines), Text("\n".join((*_LEGEND, f"Folder for your own device files: {folder}."))))


def _origin(figure: Figure) -> tuple[str, str]:
    return figure.source, figure.date


def _short(figure: Figure | None, unit: float) -> str:
    return "" if figure is None else f"{float(f'{figure.value / unit:.3g}'):g}{figure.mark}"


def _value(name: str, figure: Figure) -> str:
    if name.startswith("peak."):
        return units.rate(figure.value, "OP/s" if "int" in name else "FLOP/s")
    if name in ("memory.bandwidth", "link.send", "network.send"):
        return units.rate(figure.value, "B/s")
    if name.startswith("memory.") or (name.startswith("on_chip.") and figure.value > 1024):
        return units.short_bytes(round(figure.value))
    if name == "clock":
        return units.rate(figure.value, "Hz")
    return f"{figure.value:g} W" if name.startswith("power.") else f"{figure.value:g}"
