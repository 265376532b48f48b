"""The text of a difference for a pull request."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from costax.analysis import thresholds
from costax.analysis.analysis import Analysis
from costax.analysis.diff import diff
from costax.cli.app import main
from costax.core.cost import Cost
from costax.core.size import Size
from costax.program.tree import Row
from costax.report import pull_request

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def model(layers: int, work: int, extra: int = 0) -> Analysis:
    rows = {
        Row((f"block_{i}", part), "forward", "dot_general", ""): Cost.macs_of("f32", work)
        for i in range(layers)
        for part in ("up", "down")
    }
    if extra:
        rows |= {
            Row((f"block_{i}", "gate"), "forward", "dot_general", ""): Cost.macs_of("f32", extra) for i in range(layers)
        }
    sizes = {(row.scope, "f32"): Size(10, 40) for row in rows}
    return Analysis("model", Cost.sum(rows.values()), parameters=sizes, saved_rows=rows)


GOLDEN = """\
### model: FLOPs +10 %

* :x: `flops > +1%`: 40 kFLOP -> 44 kFLOP (+10 %)

|  | before | after | change | % |
| --- | --: | --: | --: | --: |
| FLOPs | 40 kFLOP | 44 kFLOP | +4 kFLOP | +10 % |
| MACs | 20 kMAC | 22 kMAC | +2 kMAC | +10 % |
| OPs | 40 kOP | 44 kOP | +4 kOP | +10 % |
| parameters | 100 | 150 | +50 | +50 % |
| parameter bytes | 400 B | 600 B | +200 B | +50 % |

Where FLOPs changed:

| layer | before | after | change | % |
| --- | --: | --: | --: | --: |
| block\\_0..4/gate x 5 | 0 FLOP | 4 kFLOP | +4 kFLOP | new |
"""


def test_a_pull_request_that_adds_a_layer_reads_as_it_should():
    found = diff(model(5, 2000), model(5, 2000, extra=400))
    failures = thresholds.failures(found, [thresholds.parse("flops > +1%"), thresholds.parse("flops > +20%")])
    assert pull_request.as_markdown(found, failures) == GOLDEN


def test_a_change_that_keeps_the_totals_is_said():
    assert "No cost changed." in pull_request.as_markdown(diff(model(2, 5), model(2, 5)))
    rows = {Row(("elsewhere",), "forward", "dot_general", ""): Cost.macs_of("f32", 20)}
    moved = Analysis("model", Cost.macs_of("f32", 20), parameters={((), "f32"): Size(40, 160)}, saved_rows=rows)
    assert "costs moved between layers" in pull_request.as_markdown(diff(model(2, 5), moved))


def test_diff_fails_on_the_command_line_by_its_exit_code(tmp_path):
    model(5, 2000).save(tmp_path / "old.json")
    model(5, 2000, extra=400).save(tmp_path / "new.json")
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    failed = CliRunner().invoke(main, ["diff", *files, "--fail-on", "flops > +1%", "--markdown"])
    assert (failed.exit_code, failed.stdout) == (1, GOLDEN)
    assert "flops > +1%: 40 kFLOP -> 44 kFLOP (+10 %)" in failed.stderr
    assert CliRunner().invoke(main, ["diff", *files, "--fail-on", "flops > +10%"]).exit_code == 0
    wrong = CliRunner().invoke(main, ["diff", *files, "--fail-on", "speed > +10%"])
    assert wrong.exit_code == 2
    assert "Traceback" not in wrong.stderr
