"""Measurement: the time of a program on this machine.

Latency is measured with one call in flight, throughput with several. The program runs until the standard error of the
mean is at most 2 % or a limit is reached. The result states which of the two happened and how noisy the runs were.
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
from costax._jax.spec import with_specs
from costax.analysis.analysis import Analysis
from costax.analysis.analyze import analyze_program
from costax.core.display import Displayed
from costax.core.hints import hint
from costax.core.listing import shown
from costax.core.open_symbols import check_numbers, given
from costax.errors import DeviceError, InputError
from costax.performance.hardware import Device
from costax.performance.hardware import device as load_device
from costax.performance.prediction import Prediction, predict
from costax.program.trace import Program, trace

# The standard error of the mean, as a share of the mean, at which the runs end.
_ERROR: Final = 0.02
_MOST_SECONDS: Final = 5.0
_MOST_RUNS: Final = 2000
_FEWEST_RUNS: Final = 10
_WARM_UP: Final = 3
_IN_FLIGHT: Final = 16


@dataclass(frozen=True, repr=False)
class Measurement(Displayed):
    """The measured times of a program, in seconds.

    compile_seconds: to lower and compile. first_seconds: the first call. latencies: every later call, one at a time.
    in_flight: seconds per call with several calls in flight. platform, kind: jax's names for the device. device: the
    costax device whose peak MFU and HFU divide by; None if costax does not know it. peak_memory: bytes, if the platform
    reports them. made_up: how many arguments were random values, because only their shapes were known. limit: why the
    runs ended before the standard error was small enough; "" if it was.
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
        """The seconds of the fastest call."""
        return min(self.latencies)

    @property
    def p90(self) -> float:
        """The 90th percentile of the seconds of a call."""
        return sorted(self.latencies)[int(0.9 * (len(self.latencies) - 1))]

    @property
    def spread(self) -> float:
        """The interquartile range divided by the median."""
        ordered, last = sorted(self.latencies), len(self.latencies) - 1
        return (ordered[int(0.75 * last)] - ordered[int(0.25 * last)]) / self.latency

    @property
    def standard_error(self) -> float:
        """The standard error of the mean divided by the mean."""
        return _standard_error(self.latencies)

    @property
    def throughput(self) -> float:
        """Calls per second with several calls in flight."""
        return 1 / self.in_flight

    @property
    def counted(self) -> bool:
        """Whether the counts are numbers; a loop of unknown length makes them formulas, and the rates are not known."""
        return not self.analysis.symbols

    @property
    def flops_per_second(self) -> float | None:
        """FLOPs of the program divided by the median latency; None if they depend on a loop of unknown length."""
        return self.analysis.per_device.flops / self.latency if self.counted else None

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes of the fused traffic divided by the median latency; None if they depend on a loop of unknown length."""
        return self._predicted.traffic["fused"] / self.latency if self.counted else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: model FLOPs per second divided by the peak; None if the peak is not known."""
        return self._share(self._predicted.model_flops) if self.counted else None

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs utilisation: hardware FLOPs per second divided by the peak; None if the peak is not known."""
        return self._share(self._predicted.flops) if self.counted else None

    @property
    def peak(self) -> tuple[str, float] | None:
        """(unit, FLOP/s) that MFU and HFU divide by; None if the device is not known."""
        return self._predicted.peak if self.device is not None and self.counted else None

    def _share(self, flops: int) -> float | None:
        return flops / self.latency / self.peak[1] if self.peak else None

    @property
    def _predicted(self) -> Prediction:
        # Traffic and FLOPs do not depend on the device, so any device serves if this one is not known.
        return predict(self.analysis, self.device or "h100-sxm")

    @property
    def notes(self) -> list[str]:
        """How the program was measured, and how noisy the runs were; one sentence each."""
        notes = [
            f"{len(self.latencies)} runs, one at a time; standard error {self.standard_error:.1%}"
            + (f" ({self.limit})." if self.limit else ".")
        ]
        if self.spread > 0.1:
            notes.append(f"Noisy: the interquartile range is {self.spread:.0%} of the median.")
        if self.made_up:
            notes.append(
                f"{self.made_up} arguments had only a shape and ran with random normal values, or zeros for integers."
            )
        if not self.counted:
            notes.append(
                "FLOP/s and MFU are not known: the counts depend on trip counts "
                f"({', '.join(self.analysis.symbols)}); {_how(self.analysis.symbols)}."
            )
        elif self.device is None:
            notes.append(
                f"MFU is not known, because costax has no peak for {self.kind}. `costax calibrate` measures a CPU."
            )
        return notes


def _how(symbols: Sequence[str]) -> str:
    return hint("count them with costax.count_trips and give them to costax.analyze", f"give them: {given(symbols)}")


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
    """Return a function that takes the arguments of `fn`, runs `fn` with them and returns a Measurement.

    An argument that is only a shape runs with random values.

    Args:
        fn: A program, as for `analyze`.
        iterations: The number of timed runs; None stands for as many as a standard error of 2 % needs.
        static_argnums: As for `jax.jit`.
        static_argnames: As for `jax.jit`.
        params_argnums: The positional arguments that are parameters.
        device: The device whose peak MFU divides by; "auto" finds it by the name that jax gives it.
        seconds: The time after which no run starts, if `iterations` is None. The other options are those of
            `costax.analyze`.

    Raises InputError if the arguments do not fit or are traced, DeviceError for an unknown device.
    """
    count: Any = iterations
    if count is not None and (not isinstance(count, int) or count < 1):
        shown = count if isinstance(count, int) else type(count).__name__
        raise InputError(
            f"iterations must be a number of at least 1, got {shown}.",
            why="The latency is the median of the timed runs.",
            cure="Leave `iterations` out; the arguments of the program follow in a second call: costax.measure(fn)(x).",
        )

    def call(*args: Any, **kwargs: Any) -> Measurement:
        args, kwargs = with_specs(args, kwargs, static_argnums, static_argnames)
        if any(map(_jax.is_tracer, pytrees.leaves((args, kwargs)))):
            raise InputError(
                "An argument has no value yet: jax traces the function that calls costax.measure.",
                why="costax.measure runs the program with its arguments.",
                cure="Call it outside of jax.jit, jax.grad and jax.vmap, or pass shapes: jax.ShapeDtypeStruct.",
            )
        program = trace(
            fn,
            args,
            kwargs,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            params_argnums=params_argnums,
        )
        analysis = analyze_program(program, {}, "warn")
        check_numbers(analysis, "A program runs with arrays, whose sizes are numbers.", only_sizes=True)
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
    """Compile, warm up and time the program of an analysis on jax's default device; options as for `measure`.

    values: an array for each input. made_up: how many of them are random.
    """
    check_numbers(analysis, "A program runs with arrays, whose sizes are numbers.", only_sizes=True)
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
        shown(latencies),
        runs.in_flight(seconds / 4),
        platform,
        kind,
        known_device(device, platform, kind),
        _jax.peak_memory(),
        made_up,
        limit,
    )


def arguments(program: Program, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], int]:
    """Return an array for each input of a program, and how many of them are random."""
    by_path = {path: leaf for path, leaf in pytrees.leaf_paths((tuple(args), dict(kwargs)))}
    values: list[Any] = []
    made_up = 0
    for seed, ((path, operand), aval) in enumerate(zip(program.inputs, _jax.avals(program.jaxpr), strict=True)):
        leaf = by_path.get(path)
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
    """Runs of an executable. A donated argument is copied before each run, outside of the measured time."""

    def __init__(self, executable: _jax.Executable, values: Sequence[Any]) -> None:
        self._executable = executable
        self._values = _jax.block_until_ready(list(values))

    def _arguments(self) -> list[Any]:
        pairs = zip(self._values, self._executable.donated, strict=True)
        return _jax.block_until_ready([_jax.copy_of(value) if donated else value for value, donated in pairs])

    def once(self) -> float:
        """Return the seconds of one call, from the start until its results are ready."""
        values = self._arguments()
        start = time.perf_counter()
        _jax.block_until_ready(self._executable(values))
        return time.perf_counter() - start

    def in_flight(self, most: float) -> float:
        """Return the seconds per call when several calls are started before the first one ends."""
        if any(self._executable.donated):
            # A donated array can be used only once, and copies would add to the measured time.
            return median(self.once() for _ in range(3))
        calls, spent = 0, 0.0
        while calls < _IN_FLIGHT or (spent < most and calls < 8 * _IN_FLIGHT):
            start = time.perf_counter()
            _jax.block_until_ready([self._executable(self._values) for _ in range(_IN_FLIGHT // 2)])
            spent += time.perf_counter() - start
            calls += _IN_FLIGHT // 2
        return spent / calls


def _timed(runs: _Runs, iterations: int | None, seconds: float) -> tuple[list[float], str]:
    latencies: list[float] = []
    start = time.perf_counter()
    while iterations is None or len(latencies) < iterations:
        latencies.append(runs.once())
        if iterations is not None:
            continue
        if len(latencies) >= _FEWEST_RUNS and _standard_error(latencies) <= _ERROR:
            return latencies, ""
        if len(latencies) >= _MOST_RUNS:
            return latencies, f"stopped after {_MOST_RUNS} runs"
        if time.perf_counter() - start > seconds and len(latencies) >= 3:
            return latencies, f"stopped after {seconds:g} s"
    return latencies, "as many runs as requested"


def _standard_error(sample: Sequence[float]) -> float:
    if len(sample) < 2:
        return 1.0
    mean = sum(sample) / len(sample)
    variance = sum((x - mean) ** 2 for x in sample) / (len(sample) - 1)
    return sqrt(variance / len(sample)) / mean


def known_device(name: str | Device, platform: str, kind: str) -> Device | None:
    """Return a device by name; "auto" stands for the device that jax calls `kind`, or None if it is unknown."""
    if name != "auto":
        return load_device(name)
    wanted = "cpu" if platform == "cpu" else next((device for part, device in _KINDS.items() if part in kind), "")
    try:
        return load_device(wanted) if wanted else None
    except DeviceError:
        return None


# Part of jax's name for a device -> costax device. The first match counts, so longer names come first.
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
