"""The table of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from costax.core import units
from costax.measure.measurement import Measurement
from costax.measure.profile import Profile
from costax.measure.profile import profiled as run_profiled
from costax.performance.prediction import predict


def render(found: Measurement) -> Group:
    """Return what rich prints of a measurement."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in _lines(found):
        grid.add_row(Text(name), Text(text))
    title = Text(f"{found.analysis.name} measured on {found.kind} ({found.platform})", style="bold")
    return Group(title, grid, Text("\n".join(found.notes)))


def _lines(found: Measurement) -> list[tuple[str, str]]:
    seconds = units.seconds
    lines = [
        ("latency", f"{seconds(found.latency)}   [min {seconds(found.fastest)}, p90 {seconds(found.p90)}]"),
        ("throughput", f"{units.rate(found.throughput)} calls a second, many in flight"),
        ("work", f"{units.rate(found.flops_per_second, 'FLOP/s')}, {units.rate(found.bytes_per_second, 'B/s')} fused"),
    ]
    if found.mfu is not None and found.hfu is not None and found.peak is not None:
        hfu = f", HFU {found.hfu:.1%}" if found.hfu != found.mfu else ""
        lines.append(("MFU", f"{found.mfu:.1%}{hfu} of {units.rate(found.peak[1], 'FLOP/s')} ({found.peak[0]})"))
    if found.peak_memory is not None:
        lines.append(("peak memory", units.short_bytes(found.peak_memory)))
    lines.append(("compiled in", f"{seconds(found.compile_seconds)}; first call {seconds(found.first_seconds)}"))
    return lines


def to_record(found: Measurement) -> dict[str, Any]:
    """Return the measurement as a dictionary for JSON."""
    return {
        "schema": "costax/measurement/1",
        "name": found.analysis.name,
        "platform": found.platform,
        "kind": found.kind,
        "device": found.device.id if found.device else None,
        "seconds": {
            "median": found.latency,
            "min": found.fastest,
            "p90": found.p90,
            "spread": found.spread,
            "standard_error": found.standard_error,
            "runs": len(found.latencies),
            "in_flight": found.in_flight,
            "compile": found.compile_seconds,
            "first": found.first_seconds,
        },
        "calls_per_second": found.throughput,
        "flops_per_second": found.flops_per_second,
        "bytes_per_second": found.bytes_per_second,
        "mfu": found.mfu,
        "hfu": found.hfu,
        "peak": None if found.peak is None else {"unit": found.peak[0], "flops_per_second": found.peak[1]},
        "peak_memory": found.peak_memory,
        "notes": found.notes,
    }


class Profiled(NamedTuple):
    """A profile and its lines: (scope, measured, predicted), the last nothing where the device is not known."""

    profile: Profile
    lines: Sequence[tuple[str, float, float | None]]


def profiled(found: Measurement, values: Sequence[Any], depth: int | None = None) -> Profiled:
    """Profile some runs of a measured program."""
    profile = run_profiled(found.analysis, values)
    if found.device is None:
        scopes = sorted(profile.by_scope(depth).items(), key=lambda item: -item[1])
        return Profiled(profile, [(scope, seconds, None) for scope, seconds in scopes])
    return Profiled(profile, profile.beside(predict(found.analysis, found.device), depth))


def rows(found: Profiled) -> list[dict[str, Any]]:
    """Return the lines as dictionaries for JSON."""
    return [{"scope": scope, "measured": took, "predicted": said} for scope, took, said in found.lines]


def table(found: Profiled) -> Table:
    """Return the lines for rich."""
    made = Table(box=SIMPLE_HEAD, show_footer=True, header_style="bold", footer_style="bold", pad_edge=False)
    predicted = [said for _, _, said in found.lines if said is not None]
    made.add_column("scope", "total", overflow="fold")
    made.add_column("measured", units.seconds(found.profile.total), justify="right", no_wrap=True)
    made.add_column("predicted", units.seconds(sum(predicted)) if predicted else "", justify="right", no_wrap=True)
    made.add_column("predicted / measured", justify="right", no_wrap=True)
    for scope, took, said in found.lines:
        ratio = f"{said / took:.2f}" if said is not None and took else ""
        cells = (units.seconds(took), units.seconds(said) if said is not None else "", ratio)
        made.add_row(Text(scope or "(no scope)"), *cells)
    return made
