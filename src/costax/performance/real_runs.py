"""Real runs: the utilisation and the power of published training runs, from which the range of a run is read.

A prediction is of one call on healthy devices. The hours of a run also contain exchange between devices, pipeline
bubbles, input, checkpoints, evaluations and restarts. No formula has them; what other people's runs reached does.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

_FILE: Final = Path(__file__).parent / "real_runs.toml"
_SECONDS_OF_AN_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class RealRun:
    """A published training run and its utilisation: model FLOPs per second over the peak of bfloat16 or float16."""

    name: str
    mfu: float
    source: str


@dataclass(frozen=True, slots=True)
class RunSpread:
    """The least, the median and the most of a quantity over published runs. count: how many there are."""

    least: float
    median: float
    most: float
    count: int


@cache
def runs() -> tuple[RealRun, ...]:
    """Return the published runs with their utilisation."""
    return tuple(RealRun(entry["name"], _mfu(entry), entry["source"]) for entry in _document()["run"])


@cache
def utilisation() -> RunSpread:
    """Return the spread of the utilisation of the published runs."""
    return _spread([run.mfu for run in runs()])


@cache
def power_share() -> RunSpread:
    """Return the spread of the mean power of the devices of a run, as a share of their power limit."""
    return _spread([entry["share"] for entry in _document()["power"]])


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def _mfu(entry: dict[str, Any]) -> float:
    if "mfu" in entry:
        return entry["mfu"]
    return 6 * entry["parameters"] * entry["tokens"] / (entry["hours"] * _SECONDS_OF_AN_HOUR * entry["peak"])


def _spread(values: list[float]) -> RunSpread:
    return RunSpread(min(values), median(values), max(values), len(values))
