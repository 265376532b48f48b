"""The sections of a report that need the traced program: predictions for some devices, and memory over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.analysis.analysis import Analysis
from costax.core.polynomial import magnitude
from costax.core.printable import printable
from costax.errors import CostaxError, SymbolError
from costax.report.colours import hue

if TYPE_CHECKING:
    from costax.performance.memory import Buffer
    from costax.performance.prediction import Prediction
    from costax.program.tree import Scope

# Common devices; `costax predict --device` offers all.
DEVICES: Final = ("h100-sxm", "a100-sxm-80", "tpu-v5e", "tpu-v5p", "mi300x")
# The points of the memory timeline: about the columns of a screen. Each is the maximum of a range of steps, so that the
# peak is kept.
_MOMENTS: Final = 800
# The arrays alive at the peak; the page shows the largest groups of equal ones.
_ALIVE: Final = 1000
# The marks of the roofline: the kernels that take longest. The others are one entry per layer, without a mark.
_MARKS: Final = 250


def sections(analysis: Analysis, prediction: Prediction | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the sections, and a sentence for each one that failed. A saved record has no program and no sections."""
    if analysis.tree is None:
        return {}, []
    by_name: dict[str, Any] = {}
    gaps: list[str] = []
    for name, make in (("memory", lambda: _memory(analysis)), ("devices", lambda: _devices(analysis, prediction))):
        try:
            by_name[name] = make()
        except CostaxError as error:
            gaps.append(f"No {'prediction' if name == 'devices' else name}: {error.what}")
    return by_name, gaps


def _memory(analysis: Analysis) -> dict[str, Any]:
    loops = {unknown.place for unknown in analysis.unknowns}
    if not loops.issuperset(analysis.symbols):
        return {"framework": _formulas(analysis)}
    return {
        name: {
            "peak": analysis.fused_peak_bytes if fused else analysis.peak_bytes,
            "timeline": thinned(
                [[m.step, m.nbytes, m.scope, m.primitive] for m in analysis.memory_timeline(fused=fused)]
            ),
            "alive": alive(analysis.live_at_peak(_ALIVE, fused=fused)),
        }
        for name, fused in (("fused", True), ("framework", False))
    }


def _formulas(analysis: Analysis) -> dict[str, Any]:
    """Return the memory of a program with symbols, without fusion: the bytes alive at each step are a formula."""
    profile = analysis.memory_formulas
    timeline = [[m.step, m.nbytes, m.scope, m.primitive] for m in profile.timeline()]
    lifetimes = sorted(profile.lifetimes(), key=lambda life: -magnitude(life[2].nbytes))[:_ALIVE]
    buffers = alive([buffer for _, _, buffer in lifetimes])
    steps = [{"from": first, "to": last} for first, last, _ in lifetimes]
    return {
        "timeline": [[step, number(nbytes), *names] for step, nbytes, *names in thinned(timeline)],
        "alive": [{**buffer, **alive_at} for buffer, alive_at in zip(buffers, steps, strict=True)],
    }


def number(count: Any) -> Any:
    """Return a count for JSON: a number, or the formula of a polynomial as a string."""
    return count if isinstance(count, int | float) else str(count)


def alive(buffers: Sequence[Buffer]) -> list[dict[str, Any]]:
    """Return the arrays alive at the peak for the script."""
    return [
        {
            "nbytes": number(buffer.nbytes),
            "dtype": buffer.dtype,
            "shape": list(map(number, buffer.shape)),
            "scope": printable(buffer.scope),
            "primitive": buffer.primitive,
            "why": printable(buffer.why),
        }
        for buffer in buffers
    ]


def thinned(moments: list[list[Any]]) -> list[list[Any]]:
    """Return at most as many moments as a screen has columns; each is the largest of some."""
    width = -(-len(moments) // _MOMENTS)
    return [max(moments[i : i + width], key=lambda m: magnitude(m[1])) for i in range(0, len(moments), max(1, width))]


def _devices(analysis: Analysis, prediction: Prediction | None) -> dict[str, Any]:
    if analysis.symbols:
        raise SymbolError(f"the counts contain the symbols {', '.join(analysis.symbols)}; --at gives them values.")
    return predicted(analysis, prediction)


def predicted(program: Any, prediction: Prediction | None = None) -> dict[str, Any]:
    """Return the predictions for `DEVICES` by name; before them a prediction that was asked for."""
    from costax.performance.prediction import predict

    chosen = {} if prediction is None else {prediction.device.id: prediction}
    return {
        name: device_section(chosen.get(name) or predict(program, name)) for name in dict.fromkeys([*chosen, *DEVICES])
    }


class LayerTimes:
    """The predicted seconds of each layer, by device and by what bounds its kernels: the numbers of one list.

    Two devices and the bounds ["matmul unit", "memory"] make lists of four numbers, of which the page shows the sum and
    the largest bound of each device.
    """

    def __init__(self, devices: Mapping[str, Any]) -> None:
        """Take the sections of the devices."""
        found = {part["bound"] for device in devices.values() for part in device["parts"]}
        self.bounds: list[str] = sorted(found, key=hue)
        self.hues: list[int] = [hue(bound) for bound in self.bounds]
        self._length = len(devices) * len(self.bounds)
        self._seconds: dict[Scope, list[float]] = {}
        for i, device in enumerate(devices.values()):
            for part in device["parts"]:
                scope = tuple(name for name in part["scope"].split("/") if name)
                numbers = self._seconds.setdefault(scope, [0.0] * self._length)
                numbers[i * len(self.bounds) + self.bounds.index(part["bound"])] += part["seconds"]

    @property
    def scopes(self) -> list[Scope]:
        """The layers that take time."""
        return list(self._seconds)

    def renamed(self, names: Mapping[Scope, Scope]) -> LayerTimes:
        """Return the times with other names of layers; those of equal names are added."""
        other = LayerTimes({})
        other.bounds, other._length = self.bounds, self._length
        for scope, numbers in self._seconds.items():
            name = names.get(scope, scope)
            other._seconds[name] = [a + b for a, b in zip(other.of(name), numbers, strict=True)]
        return other

    def of(self, scope: Scope) -> list[float]:
        """Return the numbers of one layer, without the layers inside it."""
        return self._seconds.get(scope, [0.0] * self._length)

    def _by_device(self, numbers: Sequence[float]) -> list[Sequence[float]]:
        width = len(self.bounds)
        return [numbers[i : i + width] for i in range(0, self._length, width or 1)]

    def per_device(self, numbers: Sequence[float]) -> list[float]:
        """Return the seconds on each device."""
        return [sum(part) for part in self._by_device(numbers)]

    def dominant(self, numbers: Sequence[float]) -> list[list[int] | None]:
        """Return for each device which bound takes most of the time, and its per cent; None for no time at all."""
        return [
            [list(part).index(max(part)), round(100 * max(part) / sum(part))] if sum(part) else None
            for part in self._by_device(numbers)
        ]


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
    others: dict[tuple[str, str], dict[str, Any]] = {}
    for part in ordered[_MARKS:]:
        key = part["scope"], part["bound"]
        rest = others.setdefault(key, {**part, "name": "(others)", "flops": 0, "bytes": 0, "seconds": 0.0})
        rest["seconds"] += part["seconds"]
    return [*ordered[:_MARKS], *others.values()]
