"""Regenerate docs/devices.md from the device files: `python docs/devices_table.py`. A test compares the two."""

from __future__ import annotations

from pathlib import Path

from costax.performance import hardware
from costax.performance.hardware import arithmetic

PAGE = Path(__file__).resolve().parent / "devices.md"
PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp4", "int8", "int32")
HEAD = """# Devices

    costax devices
    costax devices h100-sxm        # every number with its source and date
    costax devices h100-sxm --file # a file to start your own from

`costax.device("h100")` is the same in Python: `print` it for the sheet, or read `.peaks["bf16"].value`,
`.capacity.value`, `.figures()`. A device is one file, in which each number names its source and the date when it was
read. What the compilers are told (`--target cuda:h100`), the names that jax gives a device (`device_kind`) and the
network between hosts stand in the same file.

A TOML file in `~/.config/costax/devices`, or in the folder that `$COSTAX_DEVICES` names, adds or replaces a device.
Wherever costax takes a device, it also takes a path that ends in `.toml`.

## Figures

Dense peaks of one chip in TFLOP/s (int8 and int32 in TOP/s), memory in GiB as a driver or XLA reports it, bandwidth,
links and network in GB/s (of one chip, one direction), power in W. A ? marks a number that was recalled or derived and
that nobody has checked against the maker's page; predictions list the unverified numbers that they use. Peaks with
structured sparsity are twice these and are not listed.

"""
HALVES = """
## Two devices of jax in one chip

jax sees two devices in a chip of {halves}, and four in a Trainium2.
The table and `costax devices` have the figures of the chip. `costax.predict`, `costax.fits` and `costax.mfu` work with
what jax calls a device: a share of the units, the memory, the links and the power.
`costax.device("v7x").one_of_jax()` shows it.

## Dtypes without a unit

XLA refuses hardly any dtype. It converts the operands, splits each number into several, or emits a plain loop. The time
is that of what is computed instead, and the assumptions of the prediction say so. Where a device has no way at all,
such as float64 on an Apple GPU or int64 on a TPU, `costax.predict` refuses the program. Of several units the first that
the file of the device has a rate for is taken; `3 x bf16` means three FLOPs of it for each FLOP of the program.

"""
CPUS = """
## CPUs

The speed of a CPU depends on the whole machine, so `costax calibrate` measures yours. The files `grace` and
`epyc-9684x` are examples of sockets that others have measured: their efficiencies are the published share of the peak,
HPL and STREAM Triad for Grace, arithmetic in registers and a copy for the EPYC. XLA reaches less.

"""
FAMILIES = {"gpu": "NVIDIA and AMD GPUs", "tpu": "TPUs", "apple": "Apple GPUs", "neuron": "Trainium", "cpu": "CPUs"}


def cell(figure, unit: float) -> str:
    """Return a figure in a unit, with its mark."""
    return "" if figure is None else f"{float(f'{figure.value / unit:.4g}'):g}{figure.mark}"


def grid(columns, rows) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def dtypes() -> str:
    """Return the table of what each family does with each class of dtypes."""

    def ways(table, kind) -> str:
        found = [f"{w.passes:g} x {w.unit}" if w.passes != 1 else w.unit for w in table.get(kind, ())]
        return ", else ".join(found) or "refused"

    kinds = dict.fromkeys(kind for table in arithmetic.TABLES.values() for kind in table)
    rows = [(kind, *(ways(arithmetic.TABLES[family], kind) for family in FAMILIES)) for kind in kinds]
    return grid(("dtype", *FAMILIES.values()), rows)


def page() -> str:
    """Return the text of the page."""
    columns = ("device", "name", *PEAKS, "memory", "bandwidth", "links", "network", "power")
    rows: list[tuple[str, ...]] = []
    sources: dict[str, str] = {}
    folder = Path(hardware.__file__).parent / "devices"
    devices = [hardware.read(path) for path in sorted(folder.glob("*.toml"))]
    for d in devices:
        if not d.peaks:
            continue
        peaks = [cell(d.peaks.get(peak), 1e12) for peak in PEAKS]
        sends = (d.link.send if d.link else None, d.network.send if d.network else None)
        others = [cell(d.capacity, 2**30), cell(d.bandwidth, 1e9), *(cell(send, 1e9) for send in sends)]
        rows.append((f"`{d.id}`", d.name, *peaks, *others, cell(d.power.get("tdp"), 1)))
        sources.update(
            {f.source: f"{f.source}{f', <{f.url}>' if f.url else ''}, {f.date}" for f in d.figures().values()}
        )
    listed = "\n".join(f"* {text}" for _, text in sorted(sources.items()))
    halves = ", ".join(f"`{d.id}`" for d in devices if d.jax_devices == 2)
    parts = (HEAD, grid(columns, rows), HALVES.format(halves=halves), dtypes(), CPUS)
    return "".join(parts).rstrip() + "\n\n## Sources\n\n" + listed + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
