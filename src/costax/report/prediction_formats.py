"""A prediction as the contents of a file: Markdown and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from costax.core import units
from costax.performance.prediction import Prediction
from costax.report.formats import escaped, grid

HEADINGS: Final = (
    *("kernel", "scope", "direction", "opcode", "source", "runs", "seconds", "bound_by"),
    *("flops", "bytes_read", "bytes_written"),
)
"""The columns of the CSV; FLOPs and bytes are of one run, seconds of all runs."""


def as_csv(prediction: Prediction, **_: Any) -> str:
    """Return one line for each kernel, in the order of the program."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADINGS)
    for part in prediction.parts:
        kernel = part.kernel
        names = (kernel.name, "/".join(kernel.scope), kernel.direction, kernel.opcode, kernel.source)
        counts = (kernel.flops, kernel.read, kernel.written)
        writer.writerow([*names, kernel.times, part.seconds, part.timing.bound, *counts])
    return out.getvalue()


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
