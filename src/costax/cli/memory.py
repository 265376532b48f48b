"""`costax memory`: activations, model size, the two memory peaks, and the buffers alive at them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from costax.cli import options, terminal
from costax.core import units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.analysis.analysis import Analysis
    from costax.performance.hardware import Device
    from costax.performance.memory import MemoryProfile

_SCHEMES = ("fp32", "bf16", "int8", "int4")


@click.command(short_help="Show activations and memory of TARGET.")
@options.tracing
@click.option(
    "--fused", is_flag=True, help="Show the buffers at the peak of the fused estimate, not at the framework peak."
)
@click.option(
    "--device",
    "device_name",
    default="h100-sxm",
    show_default=True,
    help="The device whose compiler the fused estimate models: a device of `costax devices`, or a device file.",
)
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="Number of buffers to show.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.module_of_folder
@options.debug
def memory(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    fused: bool,
    device_name: str,
    most: int,
    as_json: bool,
    module: str | None,
) -> None:
    """Show activations, model size, peak memory and the largest buffers of TARGET. The program is not executed.

    Of an HLO file or a folder of dumps: XLA's buffer assignment where there is one, else an estimate by live ranges.

    \b
    costax memory examples/alexnet.py:alexnet_224
    costax memory examples/gpt2.py:gpt2_train_step --fused
    costax memory module.hlo.pb
    """
    from costax.analysis.analysis import Analysis
    from costax.cli.programs import loaded
    from costax.performance.hardware import device
    from costax.report import module_memory

    analysis = loaded(
        target, inputs, options.parsed_trips(trips), on_missing or "warn", module=module, applicable=("most",)
    )
    if not isinstance(analysis, Analysis):
        if as_json:
            click.echo(json.dumps(module_memory.to_record(analysis, most), indent=1))
        else:
            terminal.show(module_memory.render(analysis, most=most))
        return
    chosen = device(device_name)
    if as_json:
        click.echo(json.dumps(_record(analysis, chosen, most, fused=fused), indent=1))
    else:
        terminal.show(_shown(analysis, chosen, most, fused=fused))


def _profile(analysis: Analysis, device: Device) -> MemoryProfile:
    """Return the memory by the model of the compiler of a device; for an H100 where costax has no such model."""
    from costax.performance.memory import compiler_model

    model = compiler_model(device)
    return analysis.memory if model is None else analysis.memory.compiled_by(model)


def _shown(analysis: Analysis, device: Device, most: int, *, fused: bool) -> Any:
    from rich.console import Group

    from costax.report.fit import unmodelled
    from costax.report.tables import short_place
    from costax.report.text import columns, one_line

    exact, nbytes = units.exact, units.short_bytes
    lines = [
        ("activations, mit", exact(analysis.activations("mit")), "input and output of every layer"),
        (
            "activations, contractions",
            exact(analysis.activations("contractions")),
            "outputs of contractions, as fvcore and timm count",
        ),
        ("activations, all", exact(analysis.activations("all")), "outputs of all equations"),
        ("peak activations, mit", exact(analysis.peak_activations()), "largest input + output of a layer"),
    ]
    if analysis.params:
        stored = analysis.model_size()
        lines.append(("model size, stored", f"{stored / 8e6:,.4g} MB", f"{exact(stored)} bits"))
        sizes = [(scheme, analysis.model_size(scheme)) for scheme in _SCHEMES]
        lines += [(f"model size, {scheme}", f"{bits / 8e6:,.4g} MB", f"{exact(bits)} bits") for scheme, bits in sizes]
    use, profile = analysis.memory_use(device), _profile(analysis, device)
    one = f", of one of {analysis.devices} devices" if analysis.devices > 1 else ""
    lines += [
        ("framework peak", nbytes(analysis.peak_bytes), f"{exact(analysis.peak_bytes)} B, without fusion{one}"),
        (
            "fused estimate",
            nbytes(use.needed),
            f"{exact(use.needed)} B, {use.source.partition(', ')[2] or use.source}{one}",
        ),
    ]
    residuals = analysis.saved_residuals()
    if residuals:
        total = sum(residual.nbytes for residual in residuals)
        lines.append(
            ("saved residuals", nbytes(total), f"{len(residuals)} arrays for the backward pass, without fusion")
        )
    buffers = [
        (
            nbytes(b.nbytes),
            f"{b.dtype}[{','.join(map(str, b.shape))}]",
            b.primitive,
            b.scope,
            short_place(b.source) if ":" in b.source else b.source,
            b.why,
        )
        for b in profile.live_at_peak(most, fused=fused)
    ]
    title = f"The largest buffers at the {'fused' if fused else 'framework'} peak"
    parts: list[Any] = [one_line(analysis.name, style="bold"), columns(("", "", ""), lines)]
    if analysis.devices > 1:
        title += f", bytes of one of {analysis.devices} devices, arrays of the whole program"
    parts.append(one_line(title, style="bold"))
    parts.append(columns(("size", "array", "primitive", "scope", "source", "alive because"), buffers))
    if use.unmodelled:
        most = use.bounds[1] if use.bounds else use.needed
        parts.append(one_line(unmodelled(use.unmodelled, use.needed, most)))
    return Group(*parts)


def _record(analysis: Analysis, device: Device, most: int, *, fused: bool) -> dict[str, Any]:
    use = analysis.memory_use(device)
    return {
        "schema": "costax/memory/1",
        "name": analysis.name,
        "activations": {kind: analysis.activations(kind) for kind in ("mit", "contractions", "all")},
        "peak_activations": {"mit": analysis.peak_activations()},
        "model_bits": analysis.model_size(),
        "framework_peak_bytes": analysis.peak_bytes,
        "device": device.id,
        "fused_estimate_bytes": use.needed,
        "doubts": list(use.unmodelled),
        "live_at_peak": [
            {
                "bytes": b.nbytes,
                "dtype": b.dtype,
                "shape": list(b.shape),
                "scope": b.scope,
                "primitive": b.primitive,
                "source": b.source,
                "why": b.why,
            }
            for b in _profile(analysis, device).live_at_peak(most, fused=fused)
        ],
    }
