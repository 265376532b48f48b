"""Rates from measured seconds: what is left of a trial when everything but the step that it measures is taken off.

A trial is predicted with the rates that are known so far, by the code that predicts any program; what its measured time
has beyond that is the time of its own step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from costax.performance.cpu.rates import FORMAT
from costax.performance.cpu.timing import allocation, cpu_time, launch_name, steps_of, uses_threads
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel

# At least this share of a trial is the step that it measures: noise may make the rest longer than the whole.
_LEAST: Final = 0.05
# The fewest launches that tell how long one takes.
_LAUNCHES: Final = 100
# A trial that takes so many seconds of processor time tells how many threads share it.
_TELLING: Final = 1e-3
# A product or a convolution loads its operands while it computes.
_WITH_MEMORY: Final = ("product", "convolution")


class Point(NamedTuple):
    """A measured trial. kernels: of its program. allocated: bytes. arguments: of the program. share: of the threads."""

    table: str
    kernels: Sequence[Kernel]
    seconds: float
    allocated: int = 0
    arguments: int = 1
    share: float = 1.0


class _Rate(NamedTuple):
    table: str
    dtype: str
    size: float
    value: float


def rates_of(points: Sequence[Point]) -> dict[str, Any]:
    """Return the tables of rates of a device file, from trials in the order of `all_trials`."""
    rates: dict[str, Any] = {"format": FORMAT, "launch": {}}
    found: list[_Rate] = []
    # The start of a compiled program, as trials are called, which is longer than that of a jitted function.
    start = 0.0
    for point in points:
        known = Device("cpu", "cpu", "measured", rates=rates, calibrated="now")
        family, _, name = point.table.partition(".")
        if family == "dispatch":
            rates["dispatch"] = {"seconds": point.seconds}
        elif family == "argument":
            extra = max(point.seconds - rates["dispatch"]["seconds"], 0.0)
            rates["dispatch"]["argument"] = extra / max(point.arguments - 1, 1)
        elif family == "start":
            start = point.seconds
        elif family == "threads":
            left = point.seconds - _others(point, known, "elementwise", start)
            rates["dispatch"]["threads"] = max(left, _LEAST * point.seconds)
        elif family == "waiting":
            # What other threads take beyond the busiest, which alone does all but the short kernel that they share.
            rates["dispatch"]["waiting"] = point.seconds * (1 - 1 / point.share)
            rates["dispatch"]["processors"] = os.cpu_count() or 1
        elif family == "launch":
            rates["launch"][name] = 0.0
            rates["launch"][name] = _launch(point, known, name, start)
        elif family == "memory":
            found.append(_memory(point, known, start))
        elif family == "allocation":
            left = max(point.seconds - _others(point, known, "", start), _LEAST * point.seconds)
            found.append(_Rate("allocation", "", point.allocated, point.allocated / left))
        else:
            found += _step(point, known, start)
        rates.update(_tables(found))
    rates["parallel"] = _shares(points)
    return rates


def _launch(point: Point, known: Device, name: str, start: float) -> float:
    """Return the seconds of a launch. name: as `launch_name` returns it."""
    count = sum(float(x.times) for x in point.kernels if launch_name(x) == name)
    # A version of XLA without such launches has few kernels of that kind: they then take what any launch takes. XLA of
    # jax 0.12 compiles the whole loop into one function; then no trial measures a launch, and each is a part of it.
    if count < _LAUNCHES:
        if name != "seconds":
            return known.rates["launch"].get("seconds", 0.0)
        count = sum(float(x.times) for x in point.kernels)
    # Those of larger arrays come when the rates of what they compute are known.
    left = point.seconds - (_others(point, known, "", start) if name in ("divided", "library", "shared") else start)
    return max(left, _LEAST * point.seconds) / count


def _memory(point: Point, known: Device, start: float) -> _Rate:
    """Return the bandwidth of an array that is read and written in place, by its bytes."""
    largest = max(point.kernels, key=lambda kernel: float(kernel.moved * kernel.times))
    launches = sum(cpu_time(known, kernel, without="memory").launch * float(kernel.times) for kernel in point.kernels)
    left = max(point.seconds - start - launches, _LEAST * point.seconds)
    moved = float(largest.moved)
    return _Rate("memory", "", moved / 2, moved * float(largest.times) / left)


def _others(point: Point, known: Device, table: str, start: float) -> float:
    """Return the predicted seconds of everything in a trial but the steps of a table."""
    dispatch = known.rates["dispatch"]
    start += dispatch.get("argument", 0.0) * max(point.arguments - 1, 0)
    start += dispatch.get("threads", 0.0) if any(uses_threads(kernel) for kernel in point.kernels) else 0.0
    start += allocation(known, point.allocated) if table else 0.0
    for kernel in point.kernels:
        time = cpu_time(known, kernel, without=table or " ")
        seconds = time.seconds
        if table.startswith(_WITH_MEMORY) and _measures(kernel, table):
            seconds -= time.terms.get("memory", 0.0)
        start += seconds * float(kernel.times)
    return start


def _measures(kernel: Kernel, table: str) -> bool:
    return any(step.table.startswith(table) for step in steps_of(kernel)[0])


def _units(point: Point) -> dict[tuple[str, str, float], float]:
    """Return the units of the steps that a trial measures, by table, dtype and size."""
    units: dict[tuple[str, str, float], float] = {}
    for kernel in point.kernels:
        for step in steps_of(kernel)[0]:
            if step.table.startswith(point.table):
                key = (step.table, step.dtype, step.size)
                units[key] = units.get(key, 0.0) + step.units * float(kernel.times)
    return units


def _step(point: Point, known: Device, start: float) -> list[_Rate]:
    units = _units(point)
    if not units:
        return []
    left = max(point.seconds - _others(point, known, point.table, start), _LEAST * point.seconds)
    # A trial has one size; where XLA splits it into several, the largest one counts.
    (table, dtype, size), _ = max(units.items(), key=lambda item: item[1])
    return [_Rate(table, dtype, size, sum(units.values()) / left)]


def _tables(found: Sequence[_Rate]) -> dict[str, Any]:
    """Return nested tables of [size, rate] pairs by size; of rates of one size the median."""
    tables: dict[str, Any] = {}
    grouped: dict[tuple[str, str], dict[float, list[float]]] = {}
    for rate in found:
        grouped.setdefault((rate.table, rate.dtype), {}).setdefault(max(rate.size, 1.0), []).append(rate.value)
    for (table, dtype), sizes in grouped.items():
        entry = [[size, median(values)] for size, values in sorted(sizes.items())]
        place = tables
        path = [*table.split("."), *([dtype] if dtype else [])]
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = entry
    return tables


def _shares(points: Sequence[Point]) -> dict[str, float]:
    """Return how many threads share the steps of each table and of its family, of trials long enough to tell."""
    shares: dict[str, list[float]] = {}
    for point in points:
        if point.seconds > _TELLING and point.table != "waiting":
            tables = {table for table, _, _ in _units(point)} or {point.table}
            for name in {point.table.partition(".")[0], *tables}:
                shares.setdefault(name, []).append(point.share)
    return {name: median(values) for name, values in shares.items()}
