"""Fuzz the readers of records with atheris: `nox -s fuzz -- 600` for ten minutes.

By hand: `python tests/fuzz/fuzz_records.py CORPUS_DIR -max_total_time=600`. Anything but an error of costax is a
finding, and an input that takes ten seconds or 2 GB (-timeout and -rss_limit_mb). Seeds: `seeds.py` in this folder.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["costax"]):
    from costax import report
    from costax.errors import CostaxError
    from costax.report.comparison_record import ComparisonReader
    from costax.report.module_record import ModuleRecordReader
    from costax.report.record import from_record

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        2**64,
        -(2**63),
        10**400,
        0.5,
        -0.0,
        1e308,
        float("inf"),
        float("nan"),
    ),
    *("", "/", "a/b", "\x1b]0;x\x07", "\n", "\ud800", "b*s", "9^999999", "(b+s)^50", "s//0", "x" * 10_000, "é" * 100),
    *([], {}, [[]], [None], {"": {}}, ["a"] * 100, [1, 2, 3], {"flops": 1}),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a JSON value with every key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Replace, remove or move a few values of a record; other bytes are changed as libFuzzer does."""
    rng = random.Random(seed)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return atheris.Mutate(data, most)
    if not isinstance(record, dict | list) or rng.random() < 0.1:
        return atheris.Mutate(data, most)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        known = places(record)
        if not known:
            break
        container, key = rng.choice(known)
        how = rng.random()
        if how < 0.15:
            del container[key]
        elif how < 0.3:
            other, place = rng.choice(known)
            with contextlib.suppress(LookupError, RecursionError):
                container[key] = json.loads(json.dumps(other[place]))
        elif how < 0.4 and isinstance(container[key], str):
            container[key] += rng.choice("/~;*^\n\x1b0s ")
        else:
            # A copy, because a later change of a container would change the table, or put it into itself.
            container[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(record).encode()[:most]


def one_input(data: bytes) -> None:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return
    schema = str(record.get("schema")) if isinstance(record, dict) else ""
    with contextlib.suppress(CostaxError):
        if schema.startswith("costax/comparison/"):
            str(ComparisonReader("fuzz").comparison(record))
        elif schema.startswith("costax/hlo/"):
            str(ModuleRecordReader("fuzz").module(record))
        else:
            analysis = from_record(record, "fuzz")
            str(analysis)
            for name in ("json", "csv", "markdown", "html", "speedscope", "pprof"):
                # Some formats refuse formulas.
                with contextlib.suppress(CostaxError):
                    report.as_format(name)(analysis)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()
