"""The tables of a prediction: the totals, the time of each scope, the longest kernels, the assumptions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.core import units
from costax.performance.energy import Run
from costax.performance.prediction import CollectiveTime, Prediction
from costax.performance.roofline import KernelTime
from costax.report.headlines import headline
from costax.report.tables import short_place
from costax.report.text import footer, one_line

_MOST: Final = 8


def render(prediction: Prediction, *, depth: int | None = None, most: int = _MOST, by: str = "scope") -> Group:
    """Return what rich prints of a prediction.

    depth: the number of levels of scopes, by default as many as fit in 40 lines. most: the number of kernels. by: what
    each line of the table sums: "scope", "opcode", "source" or "direction".
    """
    parts: list[Any] = [footer([headline(prediction)], style="bold")]
    parts += [footer([prediction.unused_mesh], style="bold red")] if prediction.unused_mesh else []
    parts += [footer([prediction.warning], style="bold yellow")] if prediction.warning else []
    parts += [_head(prediction), _sums(prediction, by, depth)]
    parts += [_longest(prediction, most), *_collectives(prediction, most)]
    parts.append(footer(x for x in prediction.assumptions if x not in (prediction.warning, prediction.unused_mesh)))
    return Group(*parts)


def as_json(prediction: Prediction) -> str:
    """Return the record of a prediction as JSON text."""
    return json.dumps(to_record(prediction), indent=1) + "\n"


def to_record(prediction: Prediction, run: Run | None = None) -> dict[str, Any]:
    """Return the prediction as a dictionary for JSON."""
    best, expected, worst = prediction.range
    return {
        "schema": "costax/prediction/1",
        "name": prediction.analysis.name,
        "device": prediction.device.id,
        "unverified": prediction.device.unverified,
        "mesh": dict(prediction.mesh),
        # Everything below is of one device, except what names all devices.
        "devices": prediction.devices,
        "seconds": {"best": best, "expected": expected, "worst": worst},
        "dispatch_seconds": prediction.dispatch,
        "seconds_by_scope": prediction.by_scope(),
        "seconds_by_direction": prediction.by_direction(),
        "seconds_by_bound": prediction.by_bound(),
        "flops": prediction.flops,
        "model_flops": prediction.model_flops,
        "bytes": prediction.traffic,
        "flops_per_byte": prediction.intensity,
        "ridge_flops_per_byte": prediction.ridge,
        "peak": None
        if prediction.peak is None
        else dict(zip(("unit", "flops_per_second"), prediction.peak, strict=True)),
        "mfu": prediction.mfu,
        "hfu": prediction.hfu,
        "per_second": prediction.throughput,
        "per_second_and_device": prediction.throughput_per_device,
        "compiled_for": prediction.compiled_for,
        "assumptions": prediction.assumptions,
        "energy": None if run is None else _run(run),
        "collectives": [_collective(collective) for collective in prediction.collectives],
        "groups": [_kernel(part) for part in prediction.parts],
    }


def _run(run: Run) -> dict[str, Any]:
    ranges = {
        "joules_a_call": run.energy.joules,
        "seconds": run.seconds,
        "kwh": run.kwh,
        "co2_grams": run.co2_grams,
        "cost": run.cost,
    }
    record = {name: None if x is None else [x.low, x.expected, x.high] for name, x in ranges.items()}
    return {
        "calls": run.calls,
        "devices": run.devices,
        "assumptions": [*run.energy.assumptions, *run.assumptions],
        **record,
    }


def _collective(collective: CollectiveTime) -> dict[str, Any]:
    kernel, work = collective.kernel, collective.work
    return {
        "name": kernel.name,
        "kind": work.name,
        "axes": list(work.axes),
        "link": work.link,
        "scope": "/".join(kernel.scope),
        "direction": kernel.direction,
        "bytes_sent": work.sent,
        "times": kernel.times,
        "asynchronous": collective.asynchronous,
        "seconds": collective.seconds,
        "computation_between_seconds": collective.between * kernel.times,
        "exposed_seconds": collective.exposed,
    }


def _collectives(prediction: Prediction, most: int) -> list[Table]:
    """Return the collectives, those that are exposed longest first; [] without any."""
    collectives = sorted(prediction.collectives, key=lambda collective: -collective.exposed)
    if not collectives:
        return []
    title = f"Collectives of one device, {min(most, len(collectives))} of {len(collectives)}; predicted seconds"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("collective", overflow="fold")
    for name in ("runs", "sent", "time", "computation between", "exposed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("link", "scope"):
        table.add_column(name, overflow="fold")
    for collective in collectives[:most]:
        kernel, work = collective.kernel, collective.work
        table.add_row(
            one_line(" over ".join(filter(None, [work.name, ", ".join(work.axes)]))),
            str(kernel.times),
            "-" if work.sent is None else units.short_bytes(work.sent * kernel.times),
            units.seconds(collective.seconds),
            units.seconds(collective.between * kernel.times) if collective.asynchronous else "-",
            units.seconds(collective.exposed),
            one_line(work.link or "-"),
            one_line(" ".join(filter(None, ["/".join(kernel.scope), kernel.direction]))),
        )
    return [table]


def _kernel(part: KernelTime) -> dict[str, Any]:
    kernel = part.kernel
    return {
        "name": kernel.name,
        "scope": "/".join(kernel.scope),
        "direction": kernel.direction,
        "times": kernel.times,
        "seconds": part.seconds,
        "bound": part.timing.bound,
        "flops": kernel.flops,
        "bytes_read": kernel.read,
        "bytes_written": kernel.written,
    }


def _head(prediction: Prediction) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    best, expected, worst = prediction.range
    seconds = f"{units.seconds(expected)}   [best {units.seconds(best)}, worst {units.seconds(worst)}]"
    rows = [("time per call", seconds)]
    each = prediction.throughput_per_device
    for name, rate in prediction.throughput.items():
        rows.append((f"{name} per second", _rate(rate, each.get(name), prediction.devices)))
    shares = prediction.by_bound()
    total = sum(shares.values()) or 1.0
    rows.append(("bound by", ", ".join(f"{name} {share / total:.0%}" for name, share in shares.items())))
    if prediction.mfu is not None and prediction.hfu is not None and prediction.peak is not None:
        unit, peak = prediction.peak
        mark = prediction.device.peaks[unit].mark if unit in prediction.device.peaks else ""
        share = f"{prediction.mfu:.1%}" + (f", HFU {prediction.hfu:.1%}" if prediction.hfu != prediction.mfu else "")
        one = ", per device" if prediction.devices > 1 else ""
        rows.append(("MFU", f"{share} of {units.rate(peak, 'FLOP/s')}{mark} ({unit}{one})"))
    intensities = ", ".join(f"{name} {value:.3g}" for name, value in prediction.intensity.items())
    ridge = f"; ridge {prediction.ridge:.3g}" if prediction.ridge else ""
    rows.append(("FLOPs per byte", f"{intensities}{ridge}"))
    for name, text in rows:
        grid.add_row(one_line(name), one_line(text))
    return grid


def _rate(rate: float, each: float | None, devices: int) -> str:
    """Return a rate; of a sharded program that of all devices and, where a device has a share of it, that of each."""
    if devices == 1:
        return units.rate(rate)
    share = "" if each is None else f"; {units.rate(each)} per device"
    return f"{units.rate(rate)} by all {devices} devices{share}"


def groups_of(prediction: Prediction, by: str, depth: int | None) -> list[tuple[str, list[KernelTime]]]:
    """Return the label and the kernels of each line of the table; see `render` for its options."""
    groups: dict[str, list[KernelTime]] = defaultdict(list)
    chosen = depth or _depth(prediction)
    for part in prediction.parts:
        kernel = part.kernel
        groups["/".join(kernel.scope[:chosen]) if by == "scope" else getattr(kernel, by)].append(part)
    lines = list(groups.items())
    if by != "scope":
        lines.sort(key=lambda line: -sum(part.seconds for part in line[1]))
    return [(short_place(name) if by == "source" and name else name or f"(no {by})", parts) for name, parts in lines]


def bound_by(parts: Sequence[KernelTime]) -> str:
    """Return what bounds most of the time of kernels."""
    bounds: dict[str, float] = defaultdict(float)
    for part in parts:
        bounds[part.timing.bound] += part.seconds
    return max(bounds, key=lambda name: bounds[name])


def _sums(prediction: Prediction, by: str, depth: int | None) -> Table:
    total = prediction.seconds
    table = Table(box=SIMPLE_HEAD, show_footer=True, header_style="bold", footer_style="bold", pad_edge=False)
    table.add_column(by, "total", overflow="fold")
    for heading, total_text in (
        ("time", units.seconds(total)),
        ("%", "100.0"),
        ("FLOPs", units.short(sum(p.kernel.flops * p.kernel.times for p in prediction.parts))),
        ("bytes", units.short_bytes(sum(p.kernel.moved * p.kernel.times for p in prediction.parts))),
        ("kernels", str(sum(p.kernel.times for p in prediction.parts))),
    ):
        table.add_column(heading, total_text, justify="right", no_wrap=True)
    table.add_column("bound by")
    for name, parts in groups_of(prediction, by, depth):
        seconds = sum(part.seconds for part in parts)
        table.add_row(
            one_line(name),
            units.seconds(seconds),
            f"{100 * seconds / total if total else 0:.1f}",
            units.short(sum(p.kernel.flops * p.kernel.times for p in parts)),
            units.short_bytes(sum(p.kernel.moved * p.kernel.times for p in parts)),
            str(sum(p.kernel.times for p in parts)),
            bound_by(parts),
        )
    if prediction.dispatch:
        table.add_row(one_line("(dispatch)"), units.seconds(prediction.dispatch), "", "", "", "", "")
    return table


def _depth(prediction: Prediction) -> int:
    """Return the largest depth with at most 40 scopes."""
    deepest = max((len(part.kernel.scope) for part in prediction.parts), default=1)
    lines = {d: len({part.kernel.scope[:d] for part in prediction.parts}) for d in range(1, deepest + 1)}
    return max((d for d, count in lines.items() if count <= 40), default=1)


def _longest(prediction: Prediction, most: int) -> Table:
    shown = sorted(prediction.parts, key=lambda part: -part.seconds)[:most]
    title = f"Longest kernels, {len(shown)} of {len(prediction.parts)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("kernel", overflow="fold")
    for name in ("time", "runs", "per run", "FLOPs/B"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by")
    table.add_column("scope", overflow="fold")
    for part in shown:
        kernel = part.kernel
        table.add_row(
            one_line(kernel.name),
            units.seconds(part.seconds),
            str(kernel.times),
            units.seconds(part.timing.expected),
            f"{kernel.flops / kernel.moved:.3g}" if kernel.moved else "-",
            part.timing.bound,
            one_line("/".join(kernel.scope)),
        )
    return table
