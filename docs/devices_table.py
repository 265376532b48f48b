"""Write docs/devices.md anew from the device files: `python docs/devices_table.py`. A test compares it."""

from __future__ import annotations

from pathlib import Path

from costax.performance import hardware

PAGE = Path(__file__).resolve().parent / "devices.md"
PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")
HEAD = """# Devices

    costax devices
    costax devices h100-sxm        # every number with its source and date
    costax devices h100-sxm --file # as a pattern for a file of your own

Dense peaks of one chip in TFLOP/s (int8 in TOP/s), memory in GB, bandwidth and links (all of a chip, one direction) in
GB/s, power in W. A ? marks what was recalled or derived and nobody has compared with the maker's page; predictions
that use such a number say so. Figures with structured sparsity are twice these, and appear nowhere.

A processor stands in no table: `costax calibrate` measures it. A TOML file in `~/.config/costax/devices`, or in the
folder that `$COSTAX_DEVICES` names, adds a device or replaces one; a path ending in `.toml` is read as it is.

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
