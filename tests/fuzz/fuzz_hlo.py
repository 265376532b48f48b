"""Fuzz the reader of HLO, the replay and the analysis of files with atheris: `nox -s fuzz -- 600` for ten minutes.

By hand: `python tests/fuzz/fuzz_hlo.py CORPUS_DIR -max_total_time=600`. Anything but an HloError is a finding, and an
input that takes ten seconds or 2 GB (-timeout and -rss_limit_mb). Seeds: `python tests/fuzz/seeds.py DIR`.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["costax"]):
    from costax.hlo import HloError, cost_model_for, module_analysis, read_bytes, replay_module
    from costax.report.hlo_module import to_record

# Of every law one: the newest has the most rules. With it no jax is imported.
LAW = cost_model_for("0.12.0")
module_analysis.cost_model_for = lambda: LAW


def one_input(data: bytes) -> None:
    with contextlib.suppress(HloError):
        mine = replay_module(read_bytes(data), LAW)
        assert sum(row.flops for row in mine.instructions) == mine.total.flops
        found = module_analysis.analyze_bytes(data)
        to_record(found)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
