"""Golden records: the accepted costs of a program, saved in a file beside the test that compares with them."""

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
    """Compare an analysis with the golden record `folder/name.json`, or rewrite the record.

    fail_on: thresholds such as `flops > +1%`; without them every change of a cost fails. update: rewrite the record.
    Raises BudgetError if the costs differ or there is no record, RecordError if `name` is no file name.
    """
    __tracebackhide__ = True
    if not _NAME.fullmatch(name):
        raise RecordError(
            f"{name!r} cannot name a golden record.",
            why="The name of a golden record is the name of its file.",
            cure="Use letters, digits, dots, dashes and underscores.",
        )
    path = folder / f"{name}.json"
    if update:
        folder.mkdir(exist_ok=True)
        report.write(path, json.dumps(golden(analysis), indent=1) + "\n")
        return
    if not path.exists():
        raise BudgetError(
            f"The golden record {name!r} does not exist yet: {path}.",
            why="Without it there are no accepted costs to compare with.",
            cure="Write it with pytest --costax-update, check it, and commit it.",
        )
    _check(diff(report.load(path), analysis), name, [thresholds.parse(text) for text in fail_on])


def golden(analysis: Analysis) -> dict[str, Any]:
    """Return the golden record: without paths, line numbers and versions, which may change when no cost changes."""
    rows = views.without_sources(analysis.rows)
    plain = replace(
        analysis,
        versions={},
        saved_rows=rows,
        unknowns=tuple(replace(unknown, source="") for unknown in analysis.unknowns),
        uncounted=tuple(replace(missing, where="") for missing in analysis.uncounted),
        choices=tuple(replace(choice, source="") for choice in analysis.choices),
    )
    record = to_record(plain)
    # The tree follows from the rows; it would double the size of the file.
    del record["tree"]
    return record


def _check(difference: Diff, name: str, asked: list[thresholds.Threshold]) -> None:
    __tracebackhide__ = True
    failures = thresholds.failures(difference, asked)
    changed = any(layer.changed for layer in difference.layers())
    if not (failures if asked else changed):
        return
    broken = "\n".join(f"  {failure}" for failure in failures)
    raise BudgetError(
        f"`{difference.after.name}` does not have the costs of the golden record {name!r}.",
        why="\n".join(part for part in (broken, pull_request.as_text(difference)) if part),
        cure="If the change is intended, rewrite the record: pytest --costax-update.",
    )
