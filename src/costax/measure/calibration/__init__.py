"""Calibration: the rates of this CPU, measured with small programs in about a minute.

The result is a device file with the rate of each mechanism: units of work per second of one processor's time. On a
machine with other work processor time stays what it is, while wall time depends on the neighbours.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import jax

from costax import _jax
from costax.analysis.analyze import analyze
from costax.core.unfinished_files import unfinished_name, write
from costax.errors import DeviceError, RecordError
from costax.measure.calibration.clock import sample, share
from costax.measure.calibration.rates import Point, rates_of
from costax.measure.calibration.trials import Trial, all_trials
from costax.performance.hardware import Device, read, user_folder
from costax.performance.kernels import Kernel
from costax.performance.protocols import Predictable

_api: Any = jax

_ROUNDS: Final = 7
# A trial with this many samples, which took so many seconds together, is not sampled again.
_FEWEST: Final = 3
_ENOUGH: Final = 0.3
# Bytes that the disk must have before the first measurement: more than a device file takes.
_ROOM: Final = 2**16


def calibrate(
    path: str | Path | None = None, *, progress: Callable[[int, int, str], None] | None = None, quick: bool = False
) -> Device:
    """Measure this CPU, write its device file, and return the device.

    Args:
        path: The device file to write; by default `cpu.toml` in the user's folder of device files.
        progress: A function that is called with (steps done, steps in all, name of the next trial).
        quick: Measure fewer sizes, in a fifth of the time and less accurately.

    Raises DeviceError before the first measurement if jax's device is no CPU, or if the file cannot be written.
    """
    platform_name, kind = _jax.device()
    if platform_name != "cpu":
        raise DeviceError(
            f"costax calibrate measures CPUs, and jax's default device is {kind!r} ({platform_name}).",
            why="The processor time of a GPU or a TPU cannot be read; predictions for them rest on the tables of their "
            "device files.",
            cure="Set JAX_PLATFORMS=cpu to measure the CPU, or choose a device that `costax devices` lists.",
        )
    target = _writable(Path(path) if path is not None else user_folder() / "cpu.toml")
    rounds = 2 if quick else _ROUNDS
    trials = len(list(all_trials(quick=quick)))
    count, done = (rounds + 1) * trials, 0

    def report(what: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, count, what)
        done += 1

    calibration = Calibration(quick=quick, progress=report)
    for _ in range(rounds):
        for what in calibration.round():
            report(what)
    if progress is not None:
        progress(count, count, "done")
    return calibration.write(target)


@dataclass(slots=True)
class _Compiled:
    """A trial that is compiled. seconds, shares: a sample of each round."""

    trial: Trial
    run: Callable[[], Any]
    kernels: Sequence[Kernel]
    allocated: int
    arguments: int
    seconds: list[float] = field(default_factory=list[float])
    shares: list[float] = field(default_factory=list[float])


class Calibration:
    """A calibration in rounds; each round samples every trial once.

    Trials take turns, so that other work on the machine does not disturb all samples of one trial, and the median
    counts. A caller that compares predictions with measurements can measure between the rounds, under the same
    disturbances.
    """

    def __init__(self, *, quick: bool = False, progress: Callable[[str], None] | None = None) -> None:
        """Compile the trials. quick: fewer sizes. progress: is called with the name of each."""
        self._compiled: list[_Compiled] = []
        for trial in all_trials(quick=quick):
            if progress is not None:
                progress(trial.table)
            self._compiled.append(_compile(trial))

    def __len__(self) -> int:
        """The number of trials."""
        return len(self._compiled)

    def round(self) -> Iterator[str]:
        """Sample every trial once, after yielding its name."""
        for compiled in self._compiled:
            if len(compiled.seconds) >= _FEWEST and sum(compiled.seconds) > _ENOUGH:
                continue
            yield compiled.trial.table
            compiled.seconds.append(sample(compiled.run))
            if len(compiled.shares) < _FEWEST:
                compiled.shares.append(share(compiled.run))

    def points(self) -> list[Point]:
        """Return the trials with what is typical of their samples."""
        return [
            Point(
                x.trial.table, x.kernels, _typical(x.seconds, x.trial.table), x.allocated, x.arguments, median(x.shares)
            )
            for x in self._compiled
        ]

    def write(self, path: Path) -> Device:
        """Write the device file with the rates of all rounds, and return the device. Raises DeviceError."""
        try:
            write(path, _file(rates_of(self.points())))
        except RecordError as error:
            raise _unwritable(error.what) from error
        return read(path)


def _typical(seconds: Sequence[float], table: str) -> float:
    """Return the median of some samples; of a routine of LAPACK, and of waking threads, the lower quartile.

    How long threads wait actively depends on other processes. Where one of these has the processor of a thread of
    LAPACK, the others wait for it up to a hundred times as long as they compute, and the median of few samples may be
    such a wait.
    """
    patient = table.startswith(("library", "threads"))
    return sorted(seconds)[(len(seconds) - 1) // 4] if patient else median(seconds)


def _compile(trial: Trial) -> _Compiled:
    with _jax.double_precision() if trial.double else nullcontext():
        fn, host = trial.make()
        args: Any = _api.device_put(host)
        jitted = _api.jit(fn)
        compiled = jitted.lower(*args).compile()
        analysis = cast("Predictable", analyze(jitted)(*args) if trial.traced else analyze(compiled)())
        # A call of a compiled program takes a longer way through Python, and its start is measured apart.
        program = jitted if trial.table in ("dispatch", "argument") else compiled

    def run() -> Any:
        # 64-bit arguments would be cast, and the program compiled again, outside of the context.
        with _jax.double_precision() if trial.double else nullcontext():
            return program(*args)

    return _Compiled(trial, run, analysis.kernels(), int(analysis.memory_use().allocated), len(args))


def _writable(path: Path) -> Path:
    """Return a path after creating its folder. Raises DeviceError if a device file cannot be written there.

    The file itself is written when all is measured, so that an interrupt leaves the one that is there.
    """
    if path.exists() and not path.is_file():
        raise _unwritable(f"{str(path)!r} cannot be written: it is no regular file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = unfinished_name(path)
        try:
            trial.write_bytes(bytes(_ROOM))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    return path


def _unwritable(what: str) -> DeviceError:
    return DeviceError(
        what,
        why="The measured rates are written to a device file.",
        cure="Choose another path: costax calibrate --file FILE.toml.",
    )


def _file(rates: Mapping[str, Any]) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    name = _processor()
    today = datetime.date.today().isoformat()
    lines = [
        f"# {name}, as `costax calibrate` measured it. Rates are units per second of one processor's time, or pairs of",
        "# [size, such units]; docs/prediction.md says what each table is.",
        f'name = "{name}"',
        'vendor = "x86"',
        f'calibrated = "{today}"',
        f'notes = ["{os.cpu_count()} processors, jax {_api.__version__}; processor time, medians"]',
    ]
    for dtype, peak in _peaks(rates).items():
        lines += _figure(f"peak.{dtype}", peak)
    lines += _figure("memory.bandwidth", rates["memory"][-1][1])
    if memory:
        lines += _figure("memory.capacity", memory)
    lines += _table("rates", rates)
    lines += ["", "[sources.calibration]", 'title = "costax calibrate, on this machine"', 'url = ""', f"date = {today}"]
    return "\n".join(lines) + "\n"


def _peaks(rates: Mapping[str, Any]) -> dict[str, float]:
    """Return the best rates of products by unit; where threads share a product, of all of them together."""
    best: dict[str, float] = {}
    for table in rates.get("product", {}).values():
        for dtype, pairs in table.items():
            if dtype in _UNITS:
                unit = _UNITS[dtype]
                best[unit] = max(best.get(unit, 0.0), *(rate for _, rate in pairs))
    return {unit: rate * rates.get("parallel", {}).get("product", 1.0) for unit, rate in best.items()}


_UNITS: Final = {"f32": "fp32", "f64": "fp64"}


def _table(name: str, entries: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table and of the tables in it."""
    lines = ["", f"[{name}]"]
    # A key that is the name of a table with a part, such as "product.batched", has quotes.
    lines += [
        f"{json.dumps(key) if '.' in key else key} = {_value(entry)}"
        for key, entry in entries.items()
        if not isinstance(entry, dict)
    ]
    for key, entry in entries.items():
        if isinstance(entry, dict):
            lines += _table(f"{name}.{key}", entry)  # pyright: ignore[reportUnknownArgumentType]
    return lines


def _value(entry: Any) -> str:
    return f"{entry:.4g}" if isinstance(entry, int | float) else _pairs(entry)


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
