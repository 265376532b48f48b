"""The time of a matrix product on a GPU, by its tiles, waves and traffic.

A kernel splits the result into tiles of `rows x columns`, and perhaps the contracted dimension into parts. Each
multiprocessor computes one tile at a time, so the tiles run in waves, and the last wave may be almost empty:

    compute = waves * max(2 * rows * columns * k / rate of one multiprocessor, loads of the tile / its bandwidth)
    memory  = bytes / min(share of the bandwidth, what the busy multiprocessors can have in flight)
    seconds = (compute**p + memory**p)**(1/p) + start + waves * start of a wave

The fastest tiling counts, as the library that runs the product chooses it. The eleven constants are in units of the
device's own peak, bandwidth and clock; `constants.json` has them for each device that was measured, and those that a
device without measurements gets. What the formula leaves over is interpolated from the measurements nearby.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, SupportsFloat

import numpy as np

from costax.performance.efficiency.tables import constants

CONSTANTS: Final = (
    *("share", "edge", "start", "wave", "bandwidth_share", "load", "cache_speed", "cache_share", "cache_steep"),
    *("overlap", "split"),
)
"""Names of the constants.

share: of the peak that a tile of any size could reach; edge: what small tiles lose of it. start, wave, split: seconds
of a kernel, of a wave, and of the sum over the parts of k. bandwidth_share: of the memory's bandwidth. load: bytes that
a multiprocessor loads in the time of one FLOP at the bf16 peak. cache_speed: bandwidth of the L2 cache over that of the
memory; cache_share, cache_steep: products whose bytes are below this share of the L2 cache find them there.
overlap: the exponent p.
"""
_TILES: Final = np.array(
    [
        (rows, columns, parts)
        for rows in (16, 32, 64, 128, 256)
        for columns in (32, 64, 128, 256)
        for parts in (1, 2, 3, 4, 6, 8, 16)
    ],
    dtype=float,
)
# The share of the peak that a tile reaches, over that of the best product that anybody measured on a device. Source:
# the constants of the measured devices over the figures of their files, 1.0 to 1.05.
_OVER_BEST: Final = 1.04
# A library's convolution does not split the sum over taps and channels, and has no tiles for a few rows. The gradient
# of the filter splits its sum, which goes over all positions.
_TILES_OF_CONVOLUTIONS: Final = _TILES[(_TILES[:, 2] == 1) & (_TILES[:, 0] >= 64) & (_TILES[:, 1] >= 64)]
# How near a measured product must be to correct the formula: in octaves of m, n and k, and how many count as one.
_NEAR: Final = (1.0, 1.4, 1.4)
_PRIOR: Final = 1.0
# The fewest columns in the measured tables.
_FEWEST_COLUMNS: Final = 256


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the formula needs of a device.

    peak: FLOP/s of the unit that the product runs on. reference: FLOP/s of the bf16 or fp16 unit, with which the
    bandwidth of the L2 cache grows from one generation to the next. bandwidth: bytes per second of the memory. cache:
    bytes of L2.
    """

    peak: float
    reference: float
    bandwidth: float
    cache: float
    multiprocessors: float


@dataclass(frozen=True, slots=True)
class ProductTime:
    """Seconds of one product: compute and memory alone, the start of the kernel, and all together."""

    compute: float
    memory: float
    start: float
    total: float


def formula(
    values: Any,
    batch: Any,
    m: Any,
    n: Any,
    k: Any,
    hardware: Hardware,
    widths: tuple[float, float],
    moved: float | None = None,
    tiles: Any = _TILES,
) -> tuple[Any, Any, Any]:
    """Return the seconds of products as arrays: (total, compute, memory), each (products,).

    values: the constants in the order of `CONSTANTS`. batch, m, n, k: sizes, (products,). widths: bytes of an element
    of the operands and of the result. moved: bytes between memory and caches, if they are not those of the operands.
    tiles: rows, columns and parts of each tiling that the library has, (tilings, 3).
    """
    share, edge, start, wave, bandwidth_share, load, cache_speed, cache_share, steep, p, split = values
    batch, m, n, k = (np.asarray(x, dtype=float)[:, None] for x in (batch, m, n, k))
    rows, columns, parts = tiles.T
    operand, result = widths
    bytes_ = batch * (operand * (m * k + n * k) + result * m * n) if moved is None else np.full_like(m, moved)
    count = batch * np.ceil(m / rows) * np.ceil(n / columns) * parts
    depth = np.maximum(np.ceil(k / parts / 64) * 64, 64)
    waves = np.ceil(count / hardware.multiprocessors)
    one = hardware.peak / hardware.multiprocessors
    multiply = 2 * rows * columns * depth * (1 + edge * 64 * (1 / rows + 1 / columns)) / (one * share)
    loads = load * hardware.reference / hardware.multiprocessors
    fetch = operand * (rows + columns) * depth / loads
    compute = waves * (multiply**4 + fetch**4) ** 0.25
    cached = 1 / (1 + (bytes_ / (cache_share * hardware.cache)) ** steep)
    bandwidth = hardware.bandwidth / ((1 - cached) / bandwidth_share + cached / cache_speed)
    bandwidth = np.minimum(bandwidth, np.minimum(count, hardware.multiprocessors) * loads)
    memory = (bytes_ + np.where(parts > 1, 4 * parts * m * n * batch, 0)) / bandwidth
    total = (compute**p + memory**p) ** (1 / p) + start + wave * waves + np.where(parts > 1, split, 0)
    best = np.argmin(total, axis=1)
    lines = np.arange(len(best))
    return total[lines, best], (compute + wave * waves)[lines, best], memory[lines, best]


@cache
def measured(device: str, unit: str) -> Any:
    """Return the measured products of a device: rows of (m, n, k, seconds), in the table of costax; empty if none."""
    rows: list[tuple[float, ...]] = []
    with (Path(__file__).parent / "products.csv").open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(line for line in text if not line.startswith("#")):
            if row["unit"] == unit and row.get(device):
                sizes = float(row["m"]), float(row["n"]), float(row["k"])
                rows.append((*sizes, float(row[device]) * 1e-6))
    return np.array(rows).reshape(-1, 4)


def correction(sizes: Any, table: Any, left_over: Any) -> Any:
    """Return the logarithm of measured over formula at some sizes (products, 3), from the measured rows nearby."""
    if not len(table):
        return np.zeros(len(sizes))
    distance = (np.log2(sizes)[:, None] - np.log2(table[None, :, :3])) / np.array(_NEAR)
    weight = np.exp(-(distance**2).sum(-1) / 2)
    return weight @ left_over / (weight.sum(1) + _PRIOR)


@cache
def _left_over(device: str, unit: str, hardware: Hardware) -> Any:
    table = measured(device, unit)
    if not len(table):
        return np.zeros(0)
    width = 1.0 if unit == "fp8" else 2.0
    m, n, k, seconds = table.T
    values = constants(device, unit).values
    return np.log(seconds / formula(values, np.ones(len(m)), m, n, k, hardware, (width, 2.0))[0])


@cache
def product(
    device: str,
    unit: str,
    hardware: Hardware,
    sizes: tuple[int, int, int, int],
    widths: tuple[float, float],
    *,
    corrected: bool = True,
    best: float | None = None,
    moved: float | None = None,
) -> ProductTime:
    """Return the seconds of a product.

    unit: whose constants to take. sizes: (batch, m, n, k). widths: bytes of an element of operand and result.
    corrected: by the measurements nearby, if the device has some; only for a product on that unit itself. best: the
    largest share of the peak that anybody measured, for a unit without a table; else None. moved: for a convolution,
    see `formula`.
    """
    batch, m, n, k = sizes
    if n < _FEWEST_COLUMNS and m > n:
        # The library computes the transposed product, so that the short side is the rows of the table.
        m, n = n, m
    found = constants(device, unit)
    values = on_device(found.values, best)
    tiles = _TILES if moved is None or k > max(m, n) else _TILES_OF_CONVOLUTIONS
    total, compute, memory = formula(values, [batch], [m], [n], [k], hardware, widths, moved, tiles)
    factor = 1.0
    if found.measured and corrected:
        # A batch of products fills the multiprocessors as one product with more rows does.
        point = np.array([[m * batch, n, k]], dtype=float)
        factor = float(np.exp(correction(point, measured(device, unit), _left_over(device, unit, hardware))[0]))
    start = found.values[CONSTANTS.index("start")]
    return ProductTime(float(compute[0]) * factor, float(memory[0]) * factor, start, float(total[0]) * factor)


def on_device(values: tuple[float, ...], best: SupportsFloat | None) -> tuple[float, ...]:
    """Return the constants of other devices for one of which the best product is known, as a share of the peak."""
    return values if best is None else (float(best) * _OVER_BEST, *values[1:])


def wider(low: float, high: float) -> tuple[float, float]:
    """Return a spread for what was not measured: twice as wide, in logarithms."""
    return low**2, high**2
