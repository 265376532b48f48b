"""A prediction as the contents of a file: Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from costax.core import units
from costax.performance.prediction import Prediction
from costax.performance.roofline import KernelTime
from costax.report.formats import escaped, grid, written_csv
from costax.report.prediction import bound_by, groups_of

HEADINGS: Final = (
    *("kernel", "scope", "direction", "opcode", "source", "runs", "seconds", "bound_by"),
    *("flops", "bytes_read", "bytes_written"),
)
"""The columns of the CSV; FLOPs and bytes are of one run, seconds of all runs."""


OF_TABLE: Final = ("runs", "seconds", "bound_by", "flops", "bytes_read", "bytes_written")
"""The columns of the CSV of a table, beside its labels; all are of all runs."""


def as_csv(prediction: Prediction, **choice: Any) -> str:
    """Return one line for each kernel, in the order of the program.

    choice: `by` and `depth` of the table; with any of them, return one line for each line of the table.
    """
    if choice:
        by = choice.get("by", "scope")
        groups = groups_of(prediction, by, choice.get("depth"))
        return written_csv((by, *OF_TABLE), [(name, *_sums(parts)) for name, parts in groups])
    cells: list[tuple[Any, ...]] = []
    for part in prediction.parts:
        kernel = part.kernel
        names = (kernel.name, "/".join(kernel.scope), kernel.direction, kernel.opcode, kernel.source)
        counts = (kernel.flops, kernel.read, kernel.written)
        cells.append((*names, kernel.times, part.seconds, part.timing.bound, *counts))
    return written_csv(HEADINGS, cells)


def _sums(parts: Sequence[KernelTime]) -> tuple[Any, ...]:
    runs = [(part.kernel, part.kernel.times) for part in parts]
    return (
        sum(times for _, times in runs),
        sum(part.seconds for part in parts),
        bound_by(parts),
        sum(kernel.flops * times for kernel, times in runs),
        sum(kernel.read * times for kernel, times in runs),
        sum(kernel.written * times for kernel, times in runs),
    )


def as_markdown(prediction: Prediction, **_: Any) -> str:
    """Return the totals, the time of each scope and the assumptions as GitHub-flavoured Markdown."""
    best, expected, worst = prediction.range
    times = f"{units.seconds(expected)} (best {units.seconds(best)}, worst {units.seconds(worst)})"
    rows = [("time per call", times)]
    if prediction.mfu is not None and prediction.peak is not None:
        unit, peak = prediction.peak
        one = ", per device" if prediction.devices > 1 else ""
        rows.append(("MFU", f"{prediction.mfu:.1%} of {units.rate(peak, 'FLOP/s')} ({unit}{one})"))
    total = prediction.seconds or 1.0
    scopes = sorted(prediction.by_scope().items(), key=lambda item: -item[1])
    lines = [(scope or "(no scope)", units.seconds(time), f"{100 * time / total:.1f}") for scope, time in scopes]
    text = [f"# {escaped(prediction.analysis.name)} on {escaped(prediction.device.name)}", ""]
    text += [*grid(("", ""), rows, numeric_from=1), "", *grid(("scope", "time", "%"), lines, numeric_from=1), ""]
    text += [f"* {escaped(assumption)}" for assumption in prediction.assumptions]
    return "\n".join(text) + "\n"
