"""Measurement: how long a program really takes here. The only part of costax that runs the program.

Latency is measured with one call in flight, throughput with many. Runs go on until the standard error of the mean is
within 2 %, or a limit is met; either is said, and so is the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import Any, Final

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analysis import Analysis
from costax.analysis.analyze import analyze_program
from costax.core.display import Displayed
from costax.errors import DeviceError, InputError
from costax.performance.hardware import Device
from costax.performance.hardware import device as load_device
from costax.performance.prediction import Prediction, predict
from costax.program.trace import Program, trace

_ERROR: Final = 0.02
_MOST_SECONDS: Final = 5.0
_MOST_RUNS: Final = 2000
_FEWEST_RUNS: Final = 10
_WARM_UP: Final = 3
_IN_FLIGHT: Final = 16


@dataclass(frozen=True)
class Measurement(Displayed):
    """What was measured: seconds to lower and compile, of the first call, and of each later one.

    in_flight: seconds of a call with many in flight. made_up: how many arguments were made up, because only their
    shapes were known. device: the one whose peak utilisation is a share of; None where nobody knows it.
    """

    analysis: Analysis
    compile_seconds: float
    first_seconds: float
    latencies: Sequence[float] = field(repr=False)
    in_flight: float
    platform: str
    kind: str
    device: Device | None = None
    peak_memory: int | None = None
    made_up: int = 0
    limit: str = ""

    @property
    def latency(self) -> float:
        """The median seconds of a call."""
        return median(self.latencies)

    @property
    def fastest(self) -> float:
        """The least seconds of a call."""
        return min(self.latencies)

    @property
    def p90(self) -> float:
        """The seconds that nine calls of ten take at most."""
        return sorted(self.latencies)[int(0.9 * (len(self.latencies) - 1))]

    @property
    def spread(self) -> float:
        """The distance between the quartiles, as a share of the median."""
        ordered, last = sorted(self.latencies), len(self.latencies) - 1
        return (ordered[int(0.75 * last)] - ordered[int(0.25 * last)]) / self.latency

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, as a share of it."""
        return _standard_error(self.latencies)

    @property
    def throughput(self) -> float:
        """Calls a second with many in flight."""
        return 1 / self.in_flight

    @property
    def flops_per_second(self) -> float:
        """FLOPs of the program over the median latency."""
        return self.analysis.per_device.flops / self.latency

    @property
    def bytes_per_second(self) -> float:
        """Bytes of the fused traffic over the median latency."""
        return self._predicted.traffic["fused"] / self.latency

    @property
    def mfu(self) -> float | None:
        """Model FLOPs a second over the peak; None where the peak is not known."""
        return self._share(self._predicted.model_flops)

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs a second over the peak; None where the peak is not known."""
        return self._share(self._predicted.flops)

    @property
    def peak(self) -> tuple[str, float] | None:
        """The peak that utilisation is a share of."""
        return self._predicted.peak if self.device is not None else None

    def _share(self, flops: int) -> float | None:
        return flops / self.latency / self.peak[1] if self.peak else None

    @property
    def _predicted(self) -> Prediction:
        # Without a known device the peaks of any serve: only counts are asked of it.
        return predict(self.analysis, self.device or "h100-sxm")

    @property
    def notes(self) -> list[str]:
        """What was done, and how noisy it was."""
        said = [
            f"{len(self.latencies)} runs, one in flight; standard error {self.standard_error:.1%}"
            + (f" ({self.limit})." if self.limit else ".")
        ]
        if self.spread > 0.1:
            said.append(f"Noisy: the quartiles are {self.spread:.0%} of the median apart.")
        if self.made_up:
            said.append(f"{self.made_up} arguments were made up: normal numbers, zeros for integers.")
        if self.device is None:
            said.append(f"No peak is known for {self.kind}: no utilisation. `costax calibrate` measures a processor.")
        return said


def measure(
    fn: Any,
    iterations: int | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    device: str | Device = "auto",
    seconds: float = _MOST_SECONDS,
) -> Callable[..., Measurement]:
    """Return a function that takes the arguments of `fn`, runs it and returns a Measurement.

    Arguments of which only the shape is given are made up. iterations: how many timed runs; None for as many as make
    the standard error 2 %. device: whose peak utilisation is a share of; "auto" finds it by what jax calls it. seconds:
    after which no more runs are started.
    """
    if iterations is not None and iterations < 1:
        raise InputError(
            f"iterations={iterations} measures nothing.",
            why="The latency is the median of the runs.",
            cure="Pass at least 1, or leave it out.",
        )

    def call(*args: Any, **kwargs: Any) -> Measurement:
        program = trace(
            fn,
            args,
            kwargs,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            params_argnums=params_argnums,
        )
        analysis = analyze_program(program, {}, "warn")
        values, made_up = arguments(program, args, kwargs)
        return measured(analysis, values, made_up, iterations, device, seconds)

    return call


def measured(
    analysis: Analysis,
    values: Sequence[Any],
    made_up: int,
    iterations: int | None = None,
    device: str | Device = "auto",
    seconds: float = _MOST_SECONDS,
) -> Measurement:
    """Compile, warm up and time the program of an analysis on jax's default device."""
    program = analysis.program
    start = time.perf_counter()
    executable = _jax.Executable(program.traced, program.jaxpr)
    compiled = time.perf_counter() - start
    values = list(values)[len(values) - executable.arguments :]
    runs = _Runs(executable, values)
    first = runs.once()
    for _ in range(_WARM_UP):
        runs.once()
    latencies, limit = _timed(runs, iterations, seconds)
    platform, kind = _jax.device()
    return Measurement(
        analysis,
        compiled,
        first,
        latencies,
        runs.in_flight(seconds / 4),
        platform,
        kind,
        known_device(device, platform, kind),
        _jax.peak_memory(),
        made_up,
        limit,
    )


def arguments(program: Program, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], int]:
    """Return an array for each input of a program, and how many of them are made up."""
    given = {path: leaf for path, leaf in pytrees.leaf_paths((tuple(args), dict(kwargs)))}
    values: list[Any] = []
    made_up = 0
    for seed, ((path, operand), aval) in enumerate(zip(program.inputs, _jax.avals(program.jaxpr), strict=True)):
        leaf = given.get(path)
        concrete = pytrees.is_array(leaf) and hasattr(leaf, "__array__")
        if (concrete and tuple(getattr(leaf, "shape", ())) == operand.shape) or (
            isinstance(leaf, bool | int | float) and not operand.shape
        ):
            values.append(leaf)
        else:
            values.append(_jax.example_array(aval, seed))
            made_up += 1
    return values, made_up


class _Runs:
    """Runs of an executable; what it is given for good is copied for each, outside of the time."""

    def __init__(self, executable: _jax.Executable, values: Sequence[Any]) -> None:
        self._executable = executable
        self._values = _jax.block_until_ready(list(values))

    def _arguments(self) -> list[Any]:
        pairs = zip(self._values, self._executable.donated, strict=True)
        return _jax.block_until_ready([_jax.copy_of(value) if given else value for value, given in pairs])

    def once(self) -> float:
        """Return the seconds of one call, from the start until its results are there."""
        values = self._arguments()
        start = time.perf_counter()
        _jax.block_until_ready(self._executable(values))
        return time.perf_counter() - start

    def in_flight(self, most: float) -> float:
        """Return the seconds of a call when the next is started before it ends."""
        if any(self._executable.donated):
            # What is given away cannot be given twice, and copies would be part of the time.
            return median(self.once() for _ in range(3))
        calls, spent = 0, 0.0
        while calls < _IN_FLIGHT or (spent < most and calls < 8 * _IN_FLIGHT):
            start = time.perf_counter()
            _jax.block_until_ready([self._executable(self._values) for _ in range(_IN_FLIGHT // 2)])
            spent += time.perf_counter() - start
            calls += _IN_FLIGHT // 2
        return spent / calls


def _timed(runs: _Runs, iterations: int | None, seconds: float) -> tuple[list[float], str]:
    found: list[float] = []
    start = time.perf_counter()
    while iterations is None or len(found) < iterations:
        found.append(runs.once())
        if iterations is not None:
            continue
        if len(found) >= _FEWEST_RUNS and _standard_error(found) <= _ERROR:
            return found, ""
        if len(found) >= _MOST_RUNS:
            return found, f"stopped after {_MOST_RUNS} runs"
        if time.perf_counter() - start > seconds and len(found) >= 3:
            return found, f"stopped after {seconds:g} s"
    return found, "as many runs as asked for"


def _standard_error(found: Sequence[float]) -> float:
    if len(found) < 2:
        return 1.0
    mean = sum(found) / len(found)
    variance = sum((x - mean) ** 2 for x in found) / (len(found) - 1)
    return sqrt(variance / len(found)) / mean


def known_device(name: str | Device, platform: str, kind: str) -> Device | None:
    """Return the device of a name; for "auto" the one that jax calls so, None where costax knows none."""
    if name != "auto":
        return load_device(name)
    wanted = "cpu" if platform == "cpu" else next((d for called, d in _KINDS.items() if called in kind), "")
    try:
        return load_device(wanted) if wanted else None
    except DeviceError:
        return None


# What jax calls a device, the longer name first.
_KINDS: Final[Mapping[str, str]] = {
    "H100 PCIe": "h100-pcie",
    "H100 NVL": "h100-nvl",
    "H100": "h100-sxm",
    "H200": "h200-sxm",
    "GB200": "gb200",
    "B200": "b200",
    "A100-SXM4-40GB": "a100-sxm-40",
    "A100-SXM4-80GB": "a100-sxm-80",
    "V100-SXM2": "v100-sxm2",
    "L40S": "l40s",
    "L4": "l4",
    "RTX 4090": "rtx4090",
    "MI250X": "mi250x",
    "MI300X": "mi300x",
    "MI325X": "mi325x",
    "TPU v2": "tpu-v2",
    "TPU v3": "tpu-v3",
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
    "TPU7x": "tpu-v7x",
    "Orin": "jetson-agx-orin-64",
}
