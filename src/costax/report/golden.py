"""Golden records: what a program cost when someone last looked, kept beside the test that watches it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from costax import report
from costax.analysis import thresholds, views
from costax.analysis.analysis import Analysis
from costax.analysis.diff import Diff, diff
from costax.errors import BudgetError, RecordError
from costax.report import pull_request
from costax.report.record import to_record

_NAME: Final = re.compile(r"[\w.-]+")


def compare_with_golden(
    analysis: Analysis, folder: Path, name: str, fail_on: Sequence[str] = (), *, update: bool = False
) -> None:
    """Compare an analysis with the golden record of a name, or write it anew.

    fail_on: thresholds such as `flops > +1%`; without them every change of a cost fails. Raises BudgetError.
    """
    __tracebackhide__ = True
    if not _NAME.fullmatch(name):
        raise RecordError(
            f"{name!r} cannot name a golden record.",
            why="It is the name of a file.",
            cure="Use letters, digits, dots, dashes and underscores.",
        )
    path = folder / f"{name}.json"
    if update:
        folder.mkdir(exist_ok=True)
        report.write(path, json.dumps(golden(analysis), indent=1) + "\n")
        return
    if not path.exists():
        raise BudgetError(
            f"There is no golden record {name!r} yet: {path}.",
            why="Nothing says what the program may cost.",
            cure="Write it with pytest --costax-update, look at it, and commit it.",
        )
    _check(diff(report.load(path), analysis), name, [thresholds.parse(text) for text in fail_on])


def golden(analysis: Analysis) -> dict[str, Any]:
    """Return the record that is kept: without paths, lines and versions, which change without a cost."""
    rows = views.without_sources(analysis.rows)
    plain = replace(
        analysis,
        versions={},
        saved_rows=rows,
        unknowns=tuple(replace(unknown, source="") for unknown in analysis.unknowns),
        uncounted=tuple(replace(missing, where="") for missing in analysis.uncounted),
    )
    record = to_record(plain)
    # It follows from the rows, and would double the file.
    del record["tree"]
    return record


def _check(found: Diff, name: str, asked: list[thresholds.Threshold]) -> None:
    __tracebackhide__ = True
    failures = thresholds.failures(found, asked)
    changed = any(layer.changed for layer in found.layers())
    if not (failures if asked else changed):
        return
    broken = "\n".join(f"  {failure}" for failure in failures)
    raise BudgetError(
        f"`{found.after.name}` does not cost what the golden record {name!r} says.",
        why="\n".join(part for part in (broken, pull_request.as_text(found)) if part),
        cure="If that is meant, write it anew: pytest --costax-update.",
    )
