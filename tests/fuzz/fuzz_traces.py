"""Fuzz the readers of traces and the join with atheris: `nox -s fuzz -- 600` for ten minutes.

By hand: `python tests/fuzz/fuzz_traces.py CORPUS_DIR -max_total_time=600`. Anything but an error of costax is a
finding, and an input that takes ten seconds or 2 GB (-timeout and -rss_limit_mb). Seeds: `seeds.py` in this folder.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["costax"]):
    from costax.errors import CostaxError
    from costax.hlo import cost_model_for, module_analysis
    from costax.measure.join.join import join
    from costax.measure.traces.files import read_contents
    from costax.report.join import to_record

# One law, so that no jaxlib is asked for its version.
LAW = cost_model_for("0.12.0")
module_analysis.cost_model_for = lambda: LAW


def one_input(data: bytes) -> None:
    with contextlib.suppress(CostaxError):
        trace = read_contents(data, "fuzz")
        found = join(None, trace)
        assert found.total.seconds >= 0
        to_record(found)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
