"""The measured rates of a calibrated CPU, and how long a step takes by them.

The device file has, for each table and dtype, a rate or pairs [size, rate]; a rate is units per second of one
processor's time. Between two sizes the rate is interpolated on logarithmic axes. A step without a table of its own
takes the nearest one, and the range is then wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, log
from typing import Any, Final, NamedTuple

from costax.errors import DeviceError
from costax.performance.cpu.steps import Step
from costax.performance.hardware import Device

FORMAT: Final = 3
"""The number of the format of the rates in a device file that `costax calibrate` writes."""

# What a step takes at best and at worst, over what is expected, by the first part of its table: how far two programs
# with the same step differ (by its operands, its neighbours in the kernel, the state of the caches).
_SPREAD: Final[Mapping[str, tuple[float, float]]] = {
    "elementwise": (0.6, 1.6),
    "reduce": (0.5, 1.8),
    "move": (0.4, 2.0),
    "gather": (0.5, 2.0),
    "scatter": (0.5, 2.0),
    "random": (0.5, 2.0),
    "sort": (0.5, 1.4),
    "fft": (0.6, 1.7),
    "library": (0.5, 2.0),
    "product": (0.6, 1.7),
    "convolution": (0.6, 1.7),
}
# Of routines whose threads wait actively for each other: where another process has the processor of one of them, the
# processor time of the others grows many times.
_THREADED_SPREAD: Final = (0.4, 20.0)
UNKNOWN: Final = (0.1, 10.0)
"""The range of a step for which nothing like it was measured."""
# The rate of a dtype over that of float32, where the dtype was not measured: by the width of the elements.
_WIDTHS: Final[Mapping[str, float]] = {"f64": 0.5, "i64": 0.5, "u64": 0.5, "c64": 0.25, "c128": 0.125}
# The routine of LAPACK that takes about as long for the same units, for those that are not measured.
_ALIKE: Final[Mapping[str, str]] = {
    "ungqr": "orgqr",
    "ormqr": "orgqr",
    "unmqr": "orgqr",
    "geqp3": "geqrf",
    "gesvd": "gesdd",
    "heevd": "syevd",
    "gees": "geev",
    "gehrd": "geqrf",
    "sytrd": "geqrf",
    "hetrd": "geqrf",
}


class StepTime(NamedTuple):
    """Seconds of processor time of a step. low, high: at best and at worst. measured: whether its table was."""

    seconds: float
    low: float
    high: float
    measured: bool


def check_format(device: Device) -> None:
    """Raise DeviceError for a device whose rates an earlier costax measured."""
    if device.rates and device.rates.get("format") != FORMAT:
        raise DeviceError(
            f"An earlier costax measured the rates of {device.name}, on {device.calibrated or 'an unknown day'}.",
            why="They are in other units, and lack the rates of some parts of a program that a prediction now needs.",
            cure="Measure this machine again: costax calibrate.",
        )


def seconds_of(device: Device, step: Step) -> StepTime:
    """Return the processor time of a step."""
    family = step.table.partition(".")[0]
    rate, measured = _rate(device.rates, step)
    if not rate:
        # Nothing is known of it: as many units as additions a second.
        rate, measured = _value(_entry(device.rates, ("elementwise", "add")), step.dtype, 1.0)[0] or 1e9, False
    low, high = _SPREAD.get(family, UNKNOWN) if measured else UNKNOWN
    if step.is_threaded:
        low, high = _THREADED_SPREAD
    seconds = step.units / rate
    return StepTime(seconds, seconds * low, seconds * high, measured)


def _rate(rates: Mapping[str, Any], step: Step) -> tuple[float, bool]:
    family, _, rest = step.table.partition(".")
    if family == "product" and rest != "batched":
        return _product_rate(rates.get("product", {}), float(rest), step)
    entry = _entry(rates, tuple(filter(None, (family, rest))))
    if entry is None and family == "library":
        entry = _entry(rates, (family, _ALIKE.get(rest, "")))
    if entry is None:
        return 0.0, False
    return _value(entry, step.dtype, step.size)


def _product_rate(tables: Mapping[str, Any], smallest: float, step: Step) -> tuple[float, bool]:
    """Return the rate of a product, between the tables of the next smaller and the next larger smallest extent."""
    extents = sorted((float(name), name) for name in tables if name != "batched")
    if not extents:
        return 0.0, False
    # A dtype that was measured at one extent only has the rate of that.
    own = [(extent, name) for extent, name in extents if step.dtype in tables[name]]
    found = [(extent, _least_time(tables[name], step)) for extent, name in own or extents]
    return interpolated([[extent, rate] for extent, (rate, _) in found], smallest), all(x for _, (_, x) in found)


def _least_time(table: Any, step: Step) -> tuple[float, bool]:
    """Return the rate of a product in a table; one that is smaller than all in it takes the time of the smallest."""
    rate, measured = _value(table, step.dtype, step.size)
    entry = table.get(step.dtype) or next(iter(table.values()))
    smallest = 0.0 if isinstance(entry, int | float) else float(entry[0][0])
    return rate * min(1.0, step.size / smallest) if smallest else rate, measured


def _entry(rates: Mapping[str, Any], path: Sequence[str]) -> Any:
    entry: Any = rates
    for name in path:
        if not isinstance(entry, Mapping) or name not in entry:
            return None
        entry = entry[name]  # pyright: ignore[reportUnknownVariableType]
    return entry  # pyright: ignore[reportUnknownVariableType]


def _value(entry: Any, dtype: str, size: float) -> tuple[float, bool]:
    """Return the rate for a dtype and a size, and whether the dtype was measured or is as fast as one that was."""
    if not isinstance(entry, Mapping) or not entry:
        return (0.0, False) if not entry or isinstance(entry, Mapping) else (_at(entry, size), True)
    name = dtype if dtype in entry else _CLASSES.get(dtype, "f32")
    if name in entry:
        return _at(entry[name], size), True
    first = next(iter(entry.values()))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return _at(first, size) * _WIDTHS.get(dtype, 1.0), dtype not in _WIDTHS


# dtypes that are computed as another one.
_CLASSES: Final[Mapping[str, str]] = {"u32": "i32", "u64": "i64", "c128": "c64", "u8": "i8", "u16": "i16"}


def _at(entry: Any, size: float) -> float:
    return float(entry) if isinstance(entry, int | float) else interpolated(entry, size)


def interpolated(table: Sequence[Sequence[float]], size: float) -> float:
    """Return the rate at a size by log-log interpolation between measured (size, rate) pairs, sorted by size.

    Outside of the table the rate is that of its nearest end.

    >>> interpolated([[1, 10], [100, 1000]], 10), interpolated([[1, 10], [100, 1000.0]], 1e6)
    (100.0, 1000.0)
    """
    if size <= table[0][0]:
        return float(table[0][1])
    for (x, a), (y, b) in pairwise(table):
        if size <= y:
            share = (log(size) - log(x)) / (log(y) - log(x))
            return round(exp(log(a) + share * (log(b) - log(a))), 9)
    return float(table[-1][1])
