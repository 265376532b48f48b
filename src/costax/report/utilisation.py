"""The table of a utilisation: every convention beside the others, with what each counts more or less."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from costax.analysis.utilisation import HARDWARE
from costax.core import units
from costax.core.hints import hint
from costax.report.headlines import headline
from costax.report.text import footer, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.analysis.utilisation import ConventionCount, Utilisation


def render(found: Utilisation) -> Group:
    """Return what rich prints."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in _head(found):
        grid.add_row(one_line(name), one_line(text))
    omitted: dict[str, list[str]] = {}
    for convention, reason in found.omitted.items():
        omitted.setdefault(reason.replace(convention, "each"), []).append(convention)
    lines = list(found.notes)
    if found.unfitting:
        lines.append(
            f"Not shown, because they are formulas of transformers, and the program has no attention and looks up no "
            f"tokens: {', '.join(found.unfitting)}. " + hint("`tokens=` shows them.", "--tokens shows them.")
        )
    lines += [f"No number by {', '.join(names)}: {reason}" for reason, names in omitted.items()]
    return Group(footer([headline(found)], style="bold"), grid, _table(found), footer(lines))


def _head(found: Utilisation) -> list[tuple[str, str]]:
    mark = found.device.peaks[found.unit].mark
    rows = [("peak", f"{units.rate(found.peak, 'FLOP/s')}{mark} a device ({found.unit})")]
    each, every = found.tokens_per_second_per_device, found.tokens_per_second
    if each is not None and every is not None:
        whole = f", {units.rate(every)} by all devices" if found.devices > 1 else ""
        rows.append(("tokens per second", f"{units.rate(each)} a device{whole}"))
    return rows


def _table(found: Utilisation) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("convention", no_wrap=True)
    headings = [
        f"FLOPs a step{', all devices' if found.devices > 1 else ''}",
        *(["FLOPs a token"] if found.tokens else []),
        "FLOP/s a device",
        "MFU",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("against all FLOPs of the program", overflow="fold")
    for count in (count for count in found.counts if count.convention not in found.unfitting):
        name = count.convention
        per_token = [units.short(round(count.flops / found.tokens))] if found.tokens else []
        rate = units.rate(found.flops_per_second_per_device(name))
        share = f"{units.percent(found.mfu(name))}{' (HFU)' if name == HARDWARE else ''}"
        table.add_row(
            name,
            units.short(count.flops),
            *per_token,
            rate,
            share,
            one_line(_differences(count, found.flops(HARDWARE))),
        )
    return table


def _differences(count: ConventionCount, whole: int) -> str:
    """Return what a convention leaves out and what it adds, the largest first, in percent of all FLOPs."""
    if count.convention == HARDWARE:
        return "all of them, recomputed ones too"
    parts: Sequence[Any] = sorted(count.reasons, key=lambda reason: -abs(reason.count))
    texts = {
        sign: ", ".join(
            f"{part.what} {units.percent(abs(part.count) / whole)}" for part in parts if part.count * sign > 0 and whole
        )
        for sign in (-1, 1)
    }
    words = (("without ", texts[-1]), ("plus ", texts[1]))
    return "; ".join(f"{word}{text}" for word, text in words if text) or "the same"


def to_record(found: Utilisation) -> dict[str, Any]:
    """Return the utilisation as a dictionary for JSON."""
    return {
        "schema": "costax/mfu/1",
        "name": found.name,
        "device": found.device.id,
        "devices": found.devices,
        "step_seconds": found.seconds,
        "tokens_per_step": found.tokens,
        "tokens_per_second": found.tokens_per_second,
        "tokens_per_second_per_device": found.tokens_per_second_per_device,
        "peak": {"unit": found.unit, "flops_per_second_per_device": found.peak},
        "hfu": found.hfu,
        "conventions": [
            {
                "convention": count.convention,
                "source": count.source,
                "flops_per_step": count.flops,
                "flops_per_second_per_device": found.flops_per_second_per_device(count.convention),
                "mfu": found.mfu(count.convention),
                "differences": [
                    {"what": reason.what, "flops": reason.count, "why": reason.why} for reason in count.reasons
                ],
            }
            for count in found.counts
        ],
        "omitted": dict(found.omitted),
        "notes": list(found.notes),
    }


def as_json(found: Utilisation) -> str:
    """Return the record as JSON text."""
    return json.dumps(to_record(found), indent=1) + "\n"
