"""Regenerate docs/devices.md from the device files: `python docs/devices_table.py`. A test compares the two."""

from __future__ import annotations

from pathlib import Path

from costax.performance import hardware

PAGE = Path(__file__).resolve().parent / "devices.md"
PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")
HEAD = """# Devices

    costax devices
    costax devices h100-sxm        # every number with its source and date
    costax devices h100-sxm --file # a file to start your own from

The table has dense peaks of one chip in TFLOP/s (int8 in TOP/s), memory in GB, bandwidth and links in GB/s (all links
of a chip, one direction), and power in W. A ? marks a number that was recalled or derived and that nobody has checked
against the maker's page; predictions list the unverified numbers that they use. Peaks with structured sparsity are
twice these and are not listed.

CPUs are not in the table: `costax calibrate` measures yours. A TOML file in `~/.config/costax/devices`, or in the
folder that `$COSTAX_DEVICES` names, adds or replaces a device. Wherever costax takes a device, it also takes a path
that ends in `.toml`.

"""


def cell(figure, unit: float) -> str:
    """Return a figure in a unit, with its mark."""
    return "" if figure is None else f"{float(f'{figure.value / unit:.4g}'):g}{figure.mark}"


def page() -> str:
    """Return the text of the page."""
    columns = ("device", "name", *PEAKS, "memory", "bandwidth", "links", "power")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    sources: dict[str, str] = {}
    folder = Path(hardware.__file__).parent / "devices"
    for path in sorted(folder.glob("*.toml")):
        d = hardware.read(path)
        cells = [cell(d.peaks.get(peak), 1e12) for peak in PEAKS]
        cells += [cell(d.capacity, 1e9), cell(d.bandwidth, 1e9), cell(d.link.send if d.link else None, 1e9)]
        lines.append(f"| `{d.id}` | {d.name} | {' | '.join(cells)} | {cell(d.power.get('tdp'), 1)} |")
        sources.update(
            {f.source: f"{f.source}{f', <{f.url}>' if f.url else ''}, {f.date}" for f in d.figures().values()}
        )
    listed = [f"* {text}" for _, text in sorted(sources.items())]
    return HEAD + "\n".join(lines) + "\n\n## Sources\n\n" + "\n".join(listed) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
