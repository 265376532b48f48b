"""The text of the energy of one call, and of a run of many calls."""

from __future__ import annotations

from rich.text import Text

from costax.core import units
from costax.performance.energy import Energy, Run
from costax.report.text import footer


def render(value: Energy | Run) -> Text:
    """Return what rich prints: one quantity per line, as `expected   [low, high]`."""
    return footer(_energy(value) if isinstance(value, Energy) else _run(value))


def _energy(energy: Energy) -> list[str]:
    devices = energy.devices
    one, every = ("", "") if devices == 1 else (f", one of {devices} devices", f", all {devices} devices")
    lines = [f"energy per call      {energy.joules.text('J')}{one}"]
    if energy.per_token:
        lines.append(f"energy per token     {energy.per_token.text('J')}{every}")
    if energy.per_example:
        lines.append(f"energy per example   {energy.per_example.text('J')}{every}")
    return [*lines, *energy.assumptions]


def _run(run: Run) -> list[str]:
    best, expected, worst = map(units.seconds, (run.seconds.low, run.seconds.expected, run.seconds.high))
    lines = [
        f"time         {expected}   [{best}, {worst}]",
        f"device hours {run.device_hours.text('h')}",
        f"energy       {(run.kwh * 1000).text('Wh')}",
    ]
    if run.co2_grams is not None:
        lines.append(f"CO2          {run.co2_grams.text('g')}")
    if run.cost is not None:
        lines.append(f"cost         {run.cost.text('')}")
    return [*lines, *run.assumptions]
