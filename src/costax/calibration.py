"""Calibration: what this machine can do, measured with small programs in less than two minutes.

Matrix products by dtype and size, convolutions, bandwidth by size, transcendentals, the time to start a program and a
kernel in it. The result is a device file like any other, with rates by size.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from costax import _jax
from costax.errors import DeviceError
from costax.hardware import Device, read, user_folder
from costax.hlo.read import read_bytes
from costax.roofline import interpolated

_api: Any = jax
_jnp: Any = jnp
_lax: Any = lax

# All points are measured in turn, again and again, so that a disturbance does not fall on one alone. Of all runs the
# lower quartile counts: other work on the machine only ever adds.
_ROUNDS: Final = 6
_SECONDS: Final = 0.1
_RUNS: Final = (2, 12)
_DTYPES: Final[Mapping[str, str]] = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


class Point(NamedTuple):
    """A measured point: the table that it belongs to, the size of the work, and the seconds that it took."""

    table: str
    dtype: str
    size: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Trial:
    """A program to time: where its point belongs, how much work one step is, how many steps it has, how to make it."""

    table: str
    dtype: str
    size: float
    steps: int
    make: Callable[[], Callable[[], Any]]


def calibrate(
    path: str | Path | None = None, *, progress: Callable[[int, int, str], None] | None = None, quick: bool = False
) -> Device:
    """Measure this machine, write its device file, and return the device.

    path: of the file; by default `cpu.toml` (or `gpu.toml`, `tpu.toml`) in the user's folder of devices. progress: is
    called with (done, all, what comes next). quick: fewer sizes, a tenth of the time, less to rely on.
    """
    kind = _jax.device()
    target = _writable(Path(path) if path is not None else user_folder() / f"{kind[0]}.toml")
    trials = list(_trials(quick=quick))
    runs = [trial.make() for trial in trials]
    seconds: list[list[float]] = [[] for _ in trials]
    rounds = 2 if quick else _ROUNDS
    for number in range(rounds * len(trials)):
        trial, which = trials[number % len(trials)], number % len(trials)
        if progress is not None:
            progress(number, rounds * len(trials), f"{trial.table} {trial.dtype}".strip())
        seconds[which] += _timed(runs[which], quick=quick)
    dispatch = _lower_quartile(seconds[0])
    points = [
        Point(t.table, t.dtype, t.size, _step(_lower_quartile(s), t.steps, dispatch))
        for t, s in zip(trials, seconds, strict=True)
    ]
    if progress is not None:
        progress(rounds * len(trials), rounds * len(trials), "done")
    target.write_text(_file(points, kind), encoding="utf-8")
    return read(target)


def _writable(path: Path) -> Path:
    """Return a path that can be written, its folder made. Raises DeviceError where it cannot, before any work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DeviceError(
            f"{str(path)!r} cannot be written: {error.strerror or error}.",
            why="What is measured is kept in a device file.",
            cure="Give another path: costax calibrate --file FILE.toml.",
        ) from error
    return path


def _timed(run: Callable[[], Any], *, quick: bool) -> list[float]:
    """Return the seconds of some runs; the first does not count."""
    _jax.ready(run())
    found: list[float] = []
    start = time.perf_counter()
    least, most = (1, 2) if quick else _RUNS
    while len(found) < least or (len(found) < most and time.perf_counter() - start < _SECONDS):
        begin = time.perf_counter()
        _jax.ready(run())
        found.append(time.perf_counter() - begin)
    return found


def _lower_quartile(found: Sequence[float]) -> float:
    return sorted(found)[(len(found) - 1) // 4]


def _step(seconds: float, steps: int, dispatch: float) -> float:
    """Return the seconds of one step, without what it takes to start the program."""
    return seconds if steps == 1 else max(seconds - dispatch, seconds / 20) / steps


def _trials(*, quick: bool) -> Iterator[_Trial]:
    steady = _STEADY / 10 if quick else _STEADY
    yield _Trial("dispatch", "", 1, 1, _dispatch)
    chain, kernels = _launches()
    yield _Trial("launch", "", 1, kernels, lambda: chain)
    for dtype in ("fp32",) if quick else _DTYPES:
        if dtype != "fp64" or _api.config.jax_enable_x64:
            for n in (64, 512) if quick else (16, 32, 64, 128, 256, 512, 1024):
                yield _product(n, n, dtype, "matmul", 2 * n**3, steady)
    for rows in () if quick else (1, 2, 4, 8, 16, 32, 64, 128, 512):
        yield _product(rows, 512, "fp32", "rows", rows, steady)
    for side, channels in ((28, 32),) if quick else ((14, 32), (28, 32), (28, 64), (56, 32), (56, 64), (112, 32)):
        yield _convolution(side, channels, "convolution", 2 * 9 * side**2 * channels**2, steady)
    for channels in () if quick else (64, 128, 256, 512):
        yield _convolution(7, channels, "packing", 4 * 9 * channels**2, steady)
    for channels in () if quick else (128, 256, 512):
        # XLA leaves images of 2 x 2 to a slower way, whose time goes with the kernel.
        yield _convolution(2, channels, "plain_convolution", 4 * 9 * channels**2, steady)
    for side, channels in () if quick else ((7, 96), (14, 96), (28, 96), (56, 96)):
        yield _convolution(side, channels, "depthwise", 2 * 9 * side**2 * channels, steady, depthwise=True)
    for power in (14, 22) if quick else (10, 13, 16, 18, 20, 22, 23, 24, 25, 26, 27):
        yield _pointwise("bandwidth", "", 2**power, 2**power // 4, lambda x: x * 0.5 + 1.0, steady)
    for power in (14, 22) if quick else (16, 18, 20, 22, 24, 26):
        yield _Trial("allocation", "", 2**power, 1, _allocation(2**power // 4))
    for power in (16,) if quick else (8, 11, 14, 17, 20):
        yield _pointwise("transcendental", "fp32", 4 * 2**power, 2**power, _special, steady)
    for power in (16,) if quick else (8, 11, 14, 17, 20):
        yield _pointwise("vector", "fp32", 32 * 2**power, 2**power, _arithmetic, steady)


def _dispatch() -> Callable[[], Any]:
    def more(x: Any) -> Any:
        return x + 1

    compiled = _api.jit(more)
    x = _jnp.zeros(4)
    return lambda: compiled(x)


def _launches() -> tuple[Callable[[], Any], int]:
    """Return a program of many small kernels, each of which needs the one before, and their number."""

    def chain(x: Any) -> Any:
        for _ in range(200):
            x = x - x.sum()
        return x

    x = _jnp.zeros(4)
    compiled = _api.jit(chain).lower(x).compile()
    entry = read_bytes(_jax.hlo_of(compiled)).entry
    kernels = sum(ins.opcode not in ("parameter", "constant", "bitcast", "tuple") for ins in entry.instructions)
    return lambda: compiled(x), kernels


def _looped(
    table: str, dtype: str, size: float, work: float, step: Callable[[Any], Any], start: Any, steady: float
) -> _Trial:
    """Return a trial that runs a step again and again inside one program, so that starting it takes no part.

    work: what one step does, in operations or bytes; it is run until so much is done as `steady` says.
    """
    steps = int(min(max(steady / work, 2), 1000))

    def once(_: Any, x: Any) -> Any:
        return step(x)

    def loop(x: Any) -> Any:
        return _lax.fori_loop(0, steps, once, x)

    def make() -> Callable[[], Any]:
        x = start()
        compiled = _api.jit(loop)
        return lambda: compiled(x)

    return _Trial(table, dtype, size, steps, make)


# Operations or bytes of a trial: some milliseconds of a processor.
_STEADY: Final = 2e8


def _product(rows: int, n: int, dtype: str, table: str, size: float, steady: float) -> _Trial:
    def step(x: Any) -> Any:
        return (x[0] @ x[1], x[1])

    def start() -> Any:
        return (_jnp.ones((rows, n), _DTYPES[dtype]), _jnp.full((n, n), 1 / n, _DTYPES[dtype]))

    return _looped(table, dtype, size, 2 * rows * n * n, step, start, steady)


def _convolution(
    side: int, channels: int, table: str, size: float, steady: float, *, depthwise: bool = False
) -> _Trial:
    groups, inner = (channels, 1) if depthwise else (1, channels)

    def step(x: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        image = _lax.conv_general_dilated(
            x[0], x[1], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )
        return (image, x[1])

    def start() -> Any:
        return (_jnp.ones((1, side, side, channels)), _jnp.full((3, 3, inner, channels), 1 / (9 * inner)))

    return _looped(table, "fp32", size, 2 * 9 * side**2 * channels * inner, step, start, steady)


def _pointwise(table: str, dtype: str, size: float, elements: int, step: Callable[[Any], Any], steady: float) -> _Trial:
    def start() -> Any:
        # Rows, so that a reduction along them is the usual one.
        return _jnp.ones((max(elements // 256, 1), min(elements, 256)), "float32")

    return _looped(table, dtype, size, size * 4, step, start, steady)


def _allocation(elements: int) -> Callable[[], Callable[[], Any]]:
    """Return a program that writes an array that is new at each call, as results and temporaries are."""

    def new(x: Any) -> Any:
        return _jnp.broadcast_to(x, (elements,))

    def make() -> Callable[[], Any]:
        x = _jnp.ones(1)
        compiled = _api.jit(new)
        return lambda: compiled(x)

    return make


def _special(x: Any) -> Any:
    return _jnp.tanh(x) + _jnp.exp(-x) + _jnp.log(x + 2.0) + _lax.rsqrt(x + 3.0)


def _arithmetic(x: Any) -> Any:
    for step in range(16):
        x = x * 0.5 + float(step)
    return x


# The file.


def _file(points: Sequence[Point], kind: tuple[str, str]) -> str:
    alone = {point.table: point.seconds for point in points if point.table in ("dispatch", "launch")}
    dispatch, launch = alone["dispatch"], alone["launch"]
    rates = _rates(points, dispatch, launch)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    name = _processor() if kind[0] == "cpu" else kind[1]
    today = datetime.date.today().isoformat()
    lines = [
        f"# {name}, as `costax calibrate` measured it. Rates are [size of the work, work a second].",
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
    lines += ["", "[rates.dispatch]", f"seconds = {dispatch:.3g}", "", "[rates.launch]", f"seconds = {launch:.3g}"]
    lines += ["", "[rates]"]
    lines += [f"{table} = {_pairs(pairs)}" for (table, dtype), pairs in rates.items() if not dtype]
    for table in dict.fromkeys(table for table, dtype in rates if dtype):
        lines += ["", f"[rates.{table}]"]
        lines += [f"{dtype} = {_pairs(pairs)}" for (t, dtype), pairs in rates.items() if t == table]
    lines += ["", "[sources.calibration]", 'title = "costax calibrate, on this machine"', 'url = ""', f"date = {today}"]
    return "\n".join(lines) + "\n"


_Pairs = list[tuple[float, float]]


def _rates(points: Sequence[Point], dispatch: float, launch: float) -> dict[tuple[str, str], _Pairs]:
    """Return (size, rate) pairs by table and dtype: work a second beyond what starting takes, which counts apart."""
    rates: dict[tuple[str, str], _Pairs] = {}
    for table, dtype, size, seconds in points:
        if table in ("rows", "packing") or table in ("dispatch", "launch"):
            continue
        start = dispatch if table == "allocation" else launch
        rates.setdefault((table, dtype), []).append((size, size / max(seconds - start, seconds / 2)))
    # An array that is changed in place is read and written: by its size, twice the bytes move.
    rates["bandwidth", ""] = [(size, 2 * rate) for size, rate in rates["bandwidth", ""]]
    rates = {key: sorted(pairs) for key, pairs in rates.items()}
    square, images = rates["matmul", "fp32"], rates["convolution", "fp32"]
    for table, _, size, seconds in points:
        if table == "rows":
            # How much slower a product of few rows is than a square one of as many operations.
            flops = 2 * size * 512**2
            rates.setdefault((table, ""), []).append((size, min(1.0, flops / interpolated(square, flops) / seconds)))
        elif table == "packing":
            # What a convolution of a tiny image takes beyond its operations goes into laying out the kernel.
            flops = 2 * 49 * size / 4
            rest = seconds - flops / interpolated(images, flops)
            rates.setdefault((table, ""), []).append((size, size / max(rest, seconds / 5)))
    return rates


def _figure(table: str, value: float) -> list[str]:
    return ["", f"[{table}]", f"value = {value:.4g}", 'source = "calibration"']


def _pairs(pairs: Sequence[tuple[float, float]]) -> str:
    return "[" + ", ".join(f"[{size:g}, {rate:.4g}]" for size, rate in pairs) + "]"


def _processor() -> str:
    """Return what the operating system calls the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip().replace('"', "")
    return platform.processor() or platform.machine() or "CPU"
