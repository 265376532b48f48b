"""The constants that were fitted to measured tables, and those of devices without a table.

`constants.json` is written by `benchmarks/efficiency.py`. A device with a table has constants of its own. Another
device gets the median of all, with the spread that this guess had when each measured device was left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Constants:
    """Constants of a formula.

    values: in the formula's order. low, high: measured over predicted, of which nine in ten measurements are above and
    below. measured: whether they were fitted to a table of this device. source: the end of a sentence "from ...".
    """

    values: tuple[float, ...]
    low: float
    high: float
    measured: bool
    source: str


@cache
def data() -> Any:
    """Return the contents of constants.json."""
    return json.loads((Path(__file__).parent / "constants.json").read_text(encoding="utf-8"))


@cache
def constants(device: str, unit: str) -> Constants:
    """Return the constants of products on a device. unit: of the matmul peaks, such as "bf16"."""
    table: Any = data()["products"]
    entry = table["devices"].get(device, {}).get(unit)
    return _constants(device, entry, table["transfer"].get(unit) or table["transfer"]["bf16"])


@cache
def attention_constants(device: str, kind: str, *, warp_groups: bool) -> Constants:
    """Return the constants of attention on a device.

    kind: "prefill" or "decode". warp_groups: whether the kernels of a device without a table multiply by warp groups.
    """
    table: Any = data()["attention"][kind]
    others = table["transfer"]["warp groups" if warp_groups else "warps"]
    return _constants(device, table["devices"].get(device), others)


def _constants(device: str, own: Any, others: Any) -> Constants:
    if own:
        return Constants(tuple(own["values"]), own["low"], own["high"], True, f"the measured table of {device}")
    source = f"measured tables of {others['devices']} other GPUs"
    return Constants(tuple(others["values"]), others["low"], others["high"], False, source)


@cache
def hardware_of(device: str) -> dict[str, float]:
    """Return what the device file of a measured device may lack, such as its multiprocessors."""
    return data()["products"]["hardware"].get(device, {})


def source_of_tables() -> str:
    """Return where the measured tables are from."""
    return str(data()["source"])


@cache
def program_spread(family: str) -> tuple[float, float]:
    """Return published over expected seconds of which nine in ten whole programs are above, and below."""
    spread: dict[str, list[float]] = data()["programs"]
    low, high = spread.get(family, (1.0, 1.0))
    return low, high
