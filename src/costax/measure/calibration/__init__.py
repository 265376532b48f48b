"""Calibration: the rates of this machine, measured with small programs in less than two minutes.

The result is a device file with rates by size of the work.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import jax

from costax import _jax
from costax.errors import DeviceError
from costax.measure.calibration.rates import Point, rates_of, starts_of
from costax.measure.calibration.trials import all_trials
from costax.performance.hardware import Device, read, user_folder

_api: Any = jax

_ROUNDS: Final = 6
_SECONDS: Final = 0.1
_RUNS: Final = (2, 12)


def calibrate(
    path: str | Path | None = None, *, progress: Callable[[int, int, str], None] | None = None, quick: bool = False
) -> Device:
    """Measure this machine, write its device file, and return the device.

    Args:
        path: The device file to write; by default `cpu.toml` (or `gpu.toml`, `tpu.toml`) in the user's folder of
            device files.
        progress: A function that is called with (trials done, trials in all, name of the next trial).
        quick: Measure fewer sizes, in a tenth of the time and less accurately.

    Raises DeviceError before the first measurement if the file cannot be written.
    """
    target = _writable(Path(path) if path is not None else user_folder() / f"{_jax.device()[0]}.toml")
    calibration = Calibration(quick=quick)
    rounds = 2 if quick else _ROUNDS
    count = rounds * len(calibration)
    for number in range(rounds):
        for done, what in enumerate(calibration.round(), number * len(calibration)):
            if progress is not None:
                progress(done, count, what)
    if progress is not None:
        progress(count, count, "done")
    return calibration.write(target)


class Calibration:
    """A calibration in rounds; each round runs every trial a few times.

    Trials take turns, so that other work on the machine does not disturb all runs of one trial. The median of all runs
    counts, as in a Measurement. A caller that compares predictions with measurements can measure between the rounds,
    under the same disturbances.
    """

    def __init__(self, *, quick: bool = False) -> None:
        """Build the trials. quick: fewer sizes, in a tenth of the time and less accurately."""
        self._quick = quick
        self._trials = list(all_trials(quick=quick))
        self._runs = [trial.make() for trial in self._trials]
        self._seconds: list[list[float]] = [[] for _ in self._trials]

    def __len__(self) -> int:
        """The number of trials."""
        return len(self._trials)

    def round(self) -> Iterator[str]:
        """Run every trial a few times, after yielding its name."""
        for trial, run, seconds in zip(self._trials, self._runs, self._seconds, strict=True):
            yield f"{trial.table} {trial.dtype}".strip()
            seconds += _timed(run, quick=self._quick)

    def write(self, path: Path) -> Device:
        """Write the device file with the medians of all rounds, and return the device."""
        points = [
            Point(trial.table, trial.dtype, trial.size, trial.work, trial.steps, median(seconds))
            for trial, seconds in zip(self._trials, self._seconds, strict=True)
        ]
        path.write_text(_file(points, _jax.device()), encoding="utf-8")
        return read(path)


def _writable(path: Path) -> Path:
    """Return a path after creating its folder and file. Raises DeviceError if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DeviceError(
            f"{str(path)!r} cannot be written: {error.strerror or error}.",
            why="The measured rates are written to a device file.",
            cure="Choose another path: costax calibrate --file FILE.toml.",
        ) from error
    return path


def _timed(run: Callable[[], Any], *, quick: bool) -> list[float]:
    """Return the seconds of a few runs after one run that does not count, because it compiles."""
    _jax.block_until_ready(run())
    seconds: list[float] = []
    start = time.perf_counter()
    least, most = (1, 2) if quick else _RUNS
    while len(seconds) < least or (len(seconds) < most and time.perf_counter() - start < _SECONDS):
        begin = time.perf_counter()
        _jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return seconds


def _file(points: Sequence[Point], kind: tuple[str, str]) -> str:
    starts = starts_of(points)
    rates = rates_of(points, starts)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    name = _processor() if kind[0] == "cpu" else kind[1]
    today = datetime.date.today().isoformat()
    lines = [
        f"# {name}, as `costax calibrate` measured it. Rates are [size of the work, work per second].",
        f'name = "{name}"',
        f'vendor = "{"x86" if kind[0] == "cpu" else "measured"}"',
        f'calibrated = "{today}"',
        f'notes = ["{os.cpu_count()} processors, jax {_api.__version__}, other work on the machine counts"]',
    ]
    for (table, dtype), pairs in rates.items():
        if table == "matmul":
            lines += _figure(f"peak.{dtype}", max(rate for _, rate in pairs))
    lines += _figure("memory.bandwidth", max(rate for _, rate in rates["bandwidth", ""][-3:]))
    if memory and kind[0] == "cpu":
        lines += _figure("memory.capacity", memory)
    lines += ["", "[rates.dispatch]", f"seconds = {starts.dispatch:.3g}"]
    lines += [f"threads = {starts.threads:.3g}", "", "[rates.launch]", f"seconds = {starts.launch:.3g}"]
    lines += ["", "[rates]"]
    lines += [f"{table} = {_pairs(pairs)}" for (table, dtype), pairs in rates.items() if not dtype]
    for table in dict.fromkeys(table for table, dtype in rates if dtype):
        lines += ["", f"[rates.{table}]"]
        lines += [f"{dtype} = {_pairs(pairs)}" for (t, dtype), pairs in rates.items() if t == table]
    lines += ["", "[sources.calibration]", 'title = "costax calibrate, on this machine"', 'url = ""', f"date = {today}"]
    return "\n".join(lines) + "\n"


def _figure(table: str, value: float) -> list[str]:
    return ["", f"[{table}]", f"value = {value:.4g}", 'source = "calibration"']


def _pairs(pairs: Sequence[tuple[float, float]]) -> str:
    return "[" + ", ".join(f"[{size:g}, {rate:.4g}]" for size, rate in pairs) + "]"


def _processor() -> str:
    """Return the operating system's name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip().replace('"', "")
    return platform.processor() or platform.machine() or "CPU"
