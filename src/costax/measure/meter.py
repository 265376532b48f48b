"""Meter: step time, tokens per second and MFU of a training loop, from one call in each step.

The program is analysed once, before the loop. A tick reads a clock and keeps the interval since the tick before: it
starts nothing on the device and waits for nothing. jax returns from a call before the device is done, so single
intervals are times of steps only where the loop itself waits for each step, as one does that reads the loss. Where it
waits every tenth step, nine intervals are short and one is long, and their mean is the time of a step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any, Final, NamedTuple, cast

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.analysis.analyze import analyze
from costax.analysis.utilisation import MODEL, convention_flops, device_count, peak_of
from costax.core import units
from costax.core.display import Printed, reporter
from costax.core.open_symbols import check_numbers
from costax.errors import InputError
from costax.measure.measurement import known_device
from costax.measure.writers import writer
from costax.performance.hardware import Device

# A mean beyond this multiple of the median is that of a loop which runs ahead of the device, or which stopped between.
_UNEVEN: Final = 1.5


class StepWork(NamedTuple):
    """The work of one step, and the device that does it.

    convention: that the model FLOPs follow. model_flops, hardware_flops: of one device; the latter with recomputed
    work. devices: that share the step. peak: FLOP/s of one device; None if it is not known.
    """

    convention: str
    model_flops: float
    hardware_flops: float
    devices: int
    peak: float | None


class Reading(NamedTuple):
    """What the meter says after a tick. Everything is computed when it is asked for.

    work: of one step. step: the number of the tick, from 1, or what the loop calls it. intervals: seconds between
    ticks, of the window that ends with this one. tokens: of all devices, of the same steps; None where they were not
    given.
    """

    work: StepWork
    step: int
    intervals: Sequence[float]
    tokens: Sequence[int | None]

    @property
    def median_seconds(self) -> float | None:
        """The median of the intervals; None during the warm-up."""
        return median(self.intervals) if self.intervals else None

    @property
    def mean_seconds(self) -> float | None:
        """The mean of the intervals; None during the warm-up."""
        return sum(self.intervals) / len(self.intervals) if self.intervals else None

    @property
    def is_uneven(self) -> bool:
        """Whether the mean is far above the median: the loop runs ahead of the device, or stopped between steps."""
        return bool(self.intervals) and (self.mean_seconds or 0) > _UNEVEN * (self.median_seconds or 0)

    @property
    def is_possible(self) -> bool:
        """Whether no device would be faster than its peak; it would be until a loop that runs ahead has waited."""
        seconds, peak = self._seconds, self.work.peak
        return bool(seconds) and (peak is None or self.work.model_flops <= peak * seconds)

    @property
    def _seconds(self) -> float:
        return (self.mean_seconds if self.is_uneven else self.median_seconds) or 0.0

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step: the median over the window, or the mean if the intervals are uneven.

        None during the warm-up, and while the loop runs so far ahead that the device would be faster than its peak.
        """
        return self._seconds if self.is_possible else None

    @property
    def spread(self) -> float | None:
        """The interquartile range of the intervals divided by their median; None during the warm-up."""
        if not self.median_seconds:
            return None
        ordered, last = sorted(self.intervals), len(self.intervals) - 1
        return (ordered[int(0.75 * last)] - ordered[int(0.25 * last)]) / self.median_seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of all devices together; None where they were not given."""
        known = [count for count in self.tokens if count is not None]
        if self.step_seconds is None or not known or len(known) < len(self.tokens):
            return None
        return sum(known) / len(known) / self.step_seconds

    @property
    def tokens_per_second_per_device(self) -> float | None:
        """Tokens per second divided by the number of devices."""
        return None if self.tokens_per_second is None else self.tokens_per_second / self.work.devices

    @property
    def model_flops_per_second_per_device(self) -> float | None:
        """Model FLOP/s of one device, by the convention of the meter."""
        return None if self.step_seconds is None else self.work.model_flops / self.step_seconds

    @property
    def hardware_flops_per_second_per_device(self) -> float | None:
        """FLOP/s of one device with recomputed work."""
        return None if self.step_seconds is None else self.work.hardware_flops / self.step_seconds

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s over the peak, 1.0 for all of it; None if the peak is not known."""
        return self._share(self.model_flops_per_second_per_device)

    @property
    def hfu(self) -> float | None:
        """FLOP/s with recomputed work over the peak; None if the peak is not known."""
        return self._share(self.hardware_flops_per_second_per_device)

    def _share(self, rate: float | None) -> float | None:
        return None if rate is None or self.work.peak is None else rate / self.work.peak

    def scalars(self) -> dict[str, float]:
        """Return all numbers that are known, by name."""
        named = {name: getattr(self, name) for name in _SCALARS}
        return {name: float(value) for name, value in named.items() if value is not None}

    def __repr__(self) -> str:
        """Return the line that `str()` returns, with the name of the class."""
        return f"<costax.Reading> {self}."

    def __rich__(self) -> Any:
        """Return the table of the numbers for rich."""
        return reporter("renderable")(self)

    def _repr_html_(self) -> str:
        """Return the table of the numbers, for a notebook."""
        return reporter("notebook_html")(self)

    def __str__(self) -> str:
        """Return one line, such as `step 120: 512 ms +- 2%, 16 k tokens/s a device, MFU 43.2% (model), HFU 51.0%`."""
        if self.step_seconds is None:
            why = "the loop runs ahead of the device" if self.intervals else "warm-up"
            return f"step {self.step}: no time yet ({why})"
        each = "" if self.work.devices == 1 else " a device"
        rates = [f"{units.seconds(self.step_seconds)} +- {self.spread or 0:.0%}"]
        if self.tokens_per_second_per_device is not None:
            rates.append(f"{units.rate(self.tokens_per_second_per_device)} tokens/s{each}")
        if self.mfu is None or self.hfu is None:
            rates.append(f"{units.rate(self.model_flops_per_second_per_device or 0, 'FLOP/s')}{each}")
        else:
            rates += [f"MFU {self.mfu:.1%} ({self.work.convention})", f"HFU {self.hfu:.1%}"]
        return f"step {self.step}: {', '.join(rates)}"


_SCALARS: Final = (
    "step_seconds",
    "spread",
    "tokens_per_second",
    "tokens_per_second_per_device",
    "model_flops_per_second_per_device",
    "hardware_flops_per_second_per_device",
    "mfu",
    "hfu",
)


def _is_positive(count: Any) -> bool:
    try:
        return isfinite(count) and count > 0
    except TypeError:
        return False


class Meter(Printed):
    """Measures the steps of a training loop; see `costax.meter`. work: of one step."""

    def __init__(
        self,
        work: StepWork,
        *,
        window: int = 50,
        warm_up: int = 2,
        every: int = 10,
        to: Sequence[Any] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the work of one step; the other options are those of `costax.meter`. clock: returns seconds."""
        for name, value, least in (("window", window, 1), ("warm_up", warm_up, 0), ("every", every, 1)):
            if value < least:
                raise InputError(
                    f"{name} must be at least {least}, got {value}.",
                    why="The meter keeps the last `window` steps after `warm_up` others, and writes `every` few steps.",
                    cure=f"Pass {least} or more, or leave it out.",
                )
        self.work = work
        self._clock = clock
        self._intervals: deque[float] = deque(maxlen=window)
        self._tokens: deque[int | None] = deque(maxlen=window)
        self._every = every
        self._writers = [writer(each) for each in to]
        self._ticks = 0
        self._left_out = warm_up
        self._last: float | None = None

    def __repr__(self) -> str:
        """Return the work of a step, and how many steps have been timed."""
        model = units.short(round(self.work.model_flops), "FLOPs")
        each = "" if self.work.devices == 1 else f" on each of {self.work.devices} devices"
        timed = f"{len(self._intervals)} steps timed" if self._intervals else "no step timed yet"
        return f"<costax.Meter> {model} a step{each} ({self.work.convention}), {timed}.\ntick() returns the reading."

    def tick(self, tokens: int | None = None, step: int | None = None) -> Reading:
        """Take note of the end of a step, and return what the last steps took.

        The first tick starts the clock, so that the first step, which compiles, is left out.

        Args:
            tokens: That all devices together processed in the step.
            step: What the loop calls it, for the writers; by default the ticks are counted.

        Raises InputError if tokens is not a positive number.
        """
        now = self._clock()
        if tokens is not None and not _is_positive(tokens):
            raise InputError(
                f"tokens must be a positive number, got {tokens!r}.",
                why="They are the tokens that all devices together processed in the step.",
                cure="Pass batch x length, or leave `tokens` out.",
            )
        self._ticks += 1
        if self._last is not None and self._left_out:
            self._left_out -= 1
        elif self._last is not None:
            self._intervals.append(now - self._last)
            self._tokens.append(tokens)
        self._last = now
        number = self._ticks if step is None else step
        reading = Reading(self.work, number, tuple(self._intervals), tuple(self._tokens))
        if self._writers and self._ticks % self._every == 0:
            self._write(reading)
        return reading

    def skip(self) -> None:
        """Leave out the time until the next tick: after an evaluation or a checkpoint between two steps."""
        self._last = None

    def _write(self, reading: Reading) -> None:
        scalars = reading.scalars()
        for write in self._writers if scalars else ():
            write(reading, scalars)


def meter(
    step: Any,
    *args: Any,
    device: str | Device = "auto",
    devices: int | None = None,
    convention: str = MODEL,
    peak: str | None = None,
    window: int = 50,
    warm_up: int = 2,
    every: int = 10,
    to: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    params_argnums: int | Sequence[int] | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    trips: Mapping[str, int] | None = None,
) -> Meter:
    """Return a meter for a training loop: `reading = meter.tick(tokens=...)` after each step.

    Args:
        step: The function of a step, with its arguments or their shapes, or an analysis of it. It is traced once
            and not executed.
        args: The arguments of the step, or their shapes.
        device: The device whose peak MFU divides by; "auto" finds it by the name that jax gives it.
        devices: As jax counts them, that share the step; by default those that it is sharded over.
        convention: Of the model FLOPs: "model" (those of the program without recomputed work) or one of
            `Analysis.as_`, such as "maxtext".
        peak: As for `Analysis.mfu`.
        window: The number of steps that a reading is over.
        warm_up: The intervals that are left out after the first tick.
        every: The number of ticks between two outputs to `to`.
        to: Where the numbers go `every` few ticks: a function that takes a reading, a writer of
            `clu.metric_writers`, a `SummaryWriter` of TensorBoard, a run of wandb, or several of them.
        kwargs: Keyword arguments of the step.
        params_argnums: The positional arguments that are parameters.
        static_argnums: As for `jax.jit`.
        static_argnames: As for `jax.jit`.
        trips: Trip counts of loops, as for `analyze`.

    Raises InputError for an unknown convention or another number of devices than the program has, DeviceError for an
    unknown device, SymbolError if the FLOPs depend on symbols.
    """
    writers = cast("Sequence[Any]", to) if isinstance(to, list | tuple) else (to,)
    analysis = step if isinstance(step, Analysis) else None
    if analysis is not None and (args or kwargs):
        raise InputError(
            "An analysis takes no arguments.",
            why="Its counts belong to the arguments that it was made with.",
            cure="Pass the analysis alone, or the function with its arguments.",
        )
    if analysis is None:
        analysis = analyze(
            step,
            params_argnums=params_argnums,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            trips=trips,
            on_missing="warn",
        )(*args, **(kwargs or {}))
    check_numbers(analysis, "The meter divides the FLOPs of one step by its time.")
    count = device_count(analysis, devices)
    chip = known_device(device, *_jax.device()) if device == "auto" else known_device(device, "", "")
    work = StepWork(
        convention,
        float(convention_flops(analysis, convention)) / count,
        float(analysis.total.flops) / count,
        count,
        None if chip is None else peak_of(analysis, chip, peak)[1],
    )
    return Meter(work, window=window, warm_up=warm_up, every=every, to=writers)
