"""The sections of a report that need the traced program: predictions for some devices, and memory over time."""

from __future__ import annotations

from typing import Any, Final

from costax.analysis.analysis import Analysis
from costax.errors import CostaxError, SymbolError

# Common devices; `costax predict --device` offers all.
DEVICES: Final = ("h100-sxm", "a100-sxm-80", "tpu-v5e", "tpu-v5p", "mi300x")
# The points of the memory timeline: about the columns of a screen. Each is the maximum of a range of steps, so that the
# peak is kept.
_MOMENTS: Final = 800
_ALIVE: Final = 20
# The marks of the roofline: the kernels that take longest. The others are one entry per layer, without a mark.
_MARKS: Final = 250


def sections(analysis: Analysis) -> tuple[dict[str, Any], list[str]]:
    """Return the sections, and a sentence for each one that failed. A saved record has no program and no sections."""
    if analysis.tree is None:
        return {}, []
    by_name: dict[str, Any] = {}
    gaps: list[str] = []
    for name, make in (("memory", _memory), ("devices", _devices)):
        try:
            by_name[name] = make(analysis)
        except CostaxError as error:
            gaps.append(f"No {'prediction' if name == 'devices' else name}: {error.what}")
    return by_name, gaps


def _memory(analysis: Analysis) -> dict[str, Any]:
    return {
        name: {
            "peak": analysis.fused_peak_bytes if fused else analysis.peak_bytes,
            "timeline": thinned(
                [[m.step, m.nbytes, m.scope, m.primitive] for m in analysis.memory_timeline(fused=fused)]
            ),
            "alive": [
                {
                    "nbytes": buffer.nbytes,
                    "dtype": buffer.dtype,
                    "shape": list(buffer.shape),
                    "scope": buffer.scope,
                    "primitive": buffer.primitive,
                    "why": buffer.why,
                }
                for buffer in analysis.live_at_peak(_ALIVE, fused=fused)
            ],
        }
        for name, fused in (("fused", True), ("framework", False))
    }


def thinned(moments: list[list[Any]]) -> list[list[Any]]:
    """Return at most as many moments as a screen has columns; each is the largest of some."""
    width = -(-len(moments) // _MOMENTS)
    return [max(moments[i : i + width], key=lambda m: m[1]) for i in range(0, len(moments), max(1, width))]


def _devices(analysis: Analysis) -> dict[str, Any]:
    from costax.performance.prediction import predict

    if analysis.symbols:
        raise SymbolError(f"the counts contain the symbols {', '.join(analysis.symbols)}.")
    return {name: device_section(predict(analysis, name)) for name in DEVICES}


def device_section(prediction: Any) -> dict[str, Any]:
    """Return the data of a prediction for one device."""
    peak, device = prediction.peak, prediction.device
    return {
        "name": device.name,
        "unit": peak[0] if peak else None,
        "peak": peak[1] if peak else None,
        "bandwidth": device.bandwidth.value if device.bandwidth else None,
        "ridge": prediction.ridge,
        "mfu": prediction.mfu,
        "range": list(prediction.range),
        "assumptions": prediction.assumptions,
        "parts": _parts(prediction.parts),
    }


def _parts(parts: Any) -> list[dict[str, Any]]:
    """Return the kernels, longest first; equal kernels of a layer share an entry, and so do the short ones."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for part in parts:
        kernel = part.kernel
        scope = "/".join(kernel.scope)
        key = (kernel.name, scope, kernel.flops, kernel.moved, part.timing.bound)
        entry = groups.setdefault(
            key,
            {
                "name": kernel.name,
                "scope": scope,
                "flops": kernel.flops,
                "bytes": kernel.moved,
                "times": 0,
                "seconds": 0.0,
                "bound": part.timing.bound,
            },
        )
        # The share of a branch may be a fraction, which JSON does not have.
        entry["times"] += kernel.times if isinstance(kernel.times, int) else float(kernel.times)
        entry["seconds"] += part.seconds
    ordered = sorted(groups.values(), key=lambda entry: -entry["seconds"])
    # The short kernels have no FLOPs here, so that the roofline does not draw them; their time stays in the layer.
    others: dict[str, dict[str, Any]] = {}
    for part in ordered[_MARKS:]:
        rest = others.setdefault(part["scope"], {**part, "name": "(others)", "flops": 0, "bytes": 0, "seconds": 0.0})
        rest["seconds"] += part["seconds"]
    return [*ordered[:_MARKS], *others.values()]
