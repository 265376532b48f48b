"""The tables of a measurement and of its profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.core import units
from costax.measure.join.result import Join
from costax.measure.measurement import Measurement
from costax.measure.profile import profiled as run_profiled
from costax.performance.prediction import predict
from costax.report.text import footer, one_line


def render(result: Measurement) -> Group:
    """Return what rich prints of a measurement."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in _lines(result):
        grid.add_row(one_line(name), one_line(text))
    title = one_line(f"{result.analysis.name} measured on {result.kind} ({result.platform})", style="bold")
    return Group(title, grid, footer(result.notes))


def _lines(result: Measurement) -> list[tuple[str, str]]:
    seconds = units.seconds
    lines = [
        ("latency", f"{seconds(result.latency)}   [min {seconds(result.fastest)}, p90 {seconds(result.p90)}]"),
        ("throughput", f"{units.rate(result.throughput)} calls per second, with many calls in flight"),
    ]
    if result.flops_per_second is not None and result.bytes_per_second is not None:
        flops, nbytes = units.rate(result.flops_per_second, "FLOP/s"), units.rate(result.bytes_per_second, "B/s")
        lines.append(("achieved", f"{flops}, {nbytes} of fused traffic{_whose(result)}"))
    if result.mfu is not None and result.hfu is not None and result.peak is not None:
        hfu = f", HFU {result.hfu:.1%}" if result.hfu != result.mfu else ""
        peak = f"{units.rate(result.peak[1], 'FLOP/s')} ({result.peak[0]})"
        lines.append(("MFU", f"{result.mfu:.1%}{hfu} of {peak}{_whose(result)}"))
    if result.peak_memory is not None:
        lines.append(("peak memory", units.short_bytes(result.peak_memory)))
    lines.append(("compiled in", f"{seconds(result.compile_seconds)}; first call {seconds(result.first_seconds)}"))
    return lines


def _whose(result: Measurement) -> str:
    return f", per device of {result.analysis.devices}" if result.analysis.devices > 1 else ""


def to_record(result: Measurement) -> dict[str, Any]:
    """Return the measurement as a dictionary for JSON."""
    return {
        "schema": "costax/measurement/1",
        "name": result.analysis.name,
        "platform": result.platform,
        "kind": result.kind,
        "device": result.device.id if result.device else None,
        "seconds": {
            "median": result.latency,
            "min": result.fastest,
            "p90": result.p90,
            "spread": result.spread,
            "standard_error": result.standard_error,
            "runs": len(result.latencies),
            "in_flight": result.in_flight,
            "compile": result.compile_seconds,
            "first": result.first_seconds,
        },
        # Rates of FLOPs and bytes, MFU and HFU are of one device; calls need all devices.
        "devices": result.analysis.devices,
        "calls_per_second": result.throughput,
        "flops_per_second": result.flops_per_second,
        "bytes_per_second": result.bytes_per_second,
        "mfu": result.mfu,
        "hfu": result.hfu,
        "peak": None if result.peak is None else {"unit": result.peak[0], "flops_per_second": result.peak[1]},
        "peak_memory": result.peak_memory,
        "notes": result.notes,
    }


class Profiled(NamedTuple):
    """A profile and its lines (scope, measured, predicted), in seconds; predicted is None if the device is unknown."""

    profile: Join
    lines: Sequence[tuple[str, float, float | None]]


def profiled(result: Measurement, values: Sequence[Any], depth: int | None = None) -> Profiled:
    """Profile some runs of a measured program. values: its arguments. depth: the number of levels of scopes."""
    profile = run_profiled(result.analysis, values, device=result.device)
    measured = {scope: part.seconds for scope, part in profile.by_scope(depth).items()}
    if result.device is None:
        return Profiled(profile, [(scope, seconds, None) for scope, seconds in measured.items()])
    predicted = predict(result.analysis, result.device).by_scope(depth)
    scopes = dict.fromkeys([*measured, *predicted])
    lines = [(scope, measured.get(scope, 0.0), predicted.get(scope, 0.0)) for scope in scopes]
    return Profiled(profile, sorted(lines, key=lambda line: -max(line[1:])))


def rows(profile: Profiled) -> list[dict[str, Any]]:
    """Return the lines of a profile as dictionaries for JSON."""
    return [
        {"scope": scope, "measured": measured, "predicted": predicted} for scope, measured, predicted in profile.lines
    ]


def table(profile: Profiled) -> Table:
    """Return the table of a profile for rich."""
    rendered = Table(box=SIMPLE_HEAD, show_footer=True, header_style="bold", footer_style="bold", pad_edge=False)
    predictions = [predicted for _, _, predicted in profile.lines if predicted is not None]
    predicted_total = units.seconds(sum(predictions)) if predictions else ""
    rendered.add_column("scope", "total", overflow="fold")
    rendered.add_column("measured", units.seconds(profile.profile.total.seconds), justify="right", no_wrap=True)
    rendered.add_column("predicted", predicted_total, justify="right", no_wrap=True)
    rendered.add_column("predicted / measured", justify="right", no_wrap=True)
    for scope, measured, predicted in profile.lines:
        ratio = f"{predicted / measured:.2f}" if predicted is not None and measured else ""
        cells = (units.seconds(measured), units.seconds(predicted) if predicted is not None else "", ratio)
        rendered.add_row(one_line(scope or "(no scope)"), *cells)
    return rendered
