"""`costax diff` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import costax
from costax.analysis.changes import Change
from costax.cli.app import main
from costax.core import units
from costax.report.diff import _ratio

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_a_depthwise_separable_convolution_saves_what_the_paper_says():
    # MobileNet: 1/N + 1/k^2 of the multiplications. Source: Howard et al. 2017, section 3.1.
    names = [f"{EXAMPLES}/conv.py:{name}" for name in ("standard", "depthwise_separable")]
    done = CliRunner().invoke(main, ["diff", *names, "--depth", "1"])
    assert done.exit_code == 0, done.output
    assert f"{1 / 128 + 1 / 9:.3g}" in done.output


@pytest.mark.parametrize("arguments", [["--field", "speed"], ["--depth", "0"]])
def test_wrong_options_end_with_2(arguments):
    name = f"{EXAMPLES}/conv.py:standard"
    done = CliRunner().invoke(main, ["diff", name, name, *arguments])
    assert done.exit_code == 2


def test_a_record_stands_for_its_analysis(tmp_path):
    name = f"{EXAMPLES}/conv.py:standard"
    record = tmp_path / "before.json"
    assert CliRunner().invoke(main, ["analyze", name, "--save", str(record)]).exit_code == 0
    done = CliRunner().invoke(main, ["diff", str(record), name, "--changed"])
    assert done.exit_code == 0, done.output
    assert "same in both" in done.output


LAYERS = """
import flax.linen as nn
class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, use_bias=False)(x)
class Large(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(12, use_bias=False)(x)
"""


@pytest.fixture
def layers(tmp_path, monkeypatch):
    (tmp_path / "layers_to_compare.py").write_text(LAYERS)
    monkeypatch.chdir(tmp_path)
    return ["layers_to_compare.py:Small", "layers_to_compare.py:Large"]


def test_input_gives_both_targets_their_arguments(layers):
    done = CliRunner().invoke(main, ["diff", *layers, "--input", "f32[5,8]", "--json"])
    assert done.exit_code == 0, done.output
    macs = json.loads(done.stdout)["total"]["macs"]
    assert (macs["before"], macs["after"]) == (5 * 8 * 4, 5 * 8 * 12)
    symbolic = CliRunner().invoke(main, ["diff", *layers, "--input", "f32[b,8]", "--at", "b=5", "--json"])
    assert json.loads(symbolic.stdout)["total"]["macs"] == macs
    without = CliRunner().invoke(main, ["diff", *layers])
    assert (without.exit_code, "--input" in without.output) == (2, True)


def test_input_is_refused_where_no_program_is_traced(tmp_path):
    record = tmp_path / "product.json"
    costax.analyze(lambda x: x @ x, "f32[8,8]").save(record)
    done = CliRunner().invoke(main, ["diff", str(record), str(record), "--input", "f32[8,8]"])
    assert (done.exit_code, "--input does not apply to records" in done.output) == (2, True)


def test_the_counts_of_fail_on_are_columns_with_the_change_that_decides(tmp_path, monkeypatch):
    # The product has 100 FLOPs for each element of the result, and a product and a sum more are 2 of them.
    before, after = 64 * 64 * 2 * 50, 64 * 64 * (2 * 50 + 2)
    records = []
    for name, flops in (("before", lambda y: y), ("after", lambda y: y * 3 + 1)):
        records.append(str(tmp_path / f"{name}.json"))
        costax.analyze(lambda x, w, more=flops: more(x @ w))("f32[64,50]", "f32[50,64]").save(records[-1])
    crossed = CliRunner().invoke(main, ["diff", *records, "--fail-on", "flops > +1%"])
    assert crossed.exit_code == 1
    (total,) = (line for line in crossed.stdout.splitlines() if line.startswith(" total"))
    assert total.split()[:7] == ["total", *units.short(before).split(), *units.short(after).split(), "+2", "%"]
    assert "FLOPs" in crossed.stdout.split("total")[0]
    assert total.count("%") == 1, "the MACs are the same: their ratio is 1"
    # Beside the fields that --field names, and on a narrow terminal too.
    for options, env in ((["--field", "ops"], {}), ([], {"COLUMNS": "40"})):
        command = ["diff", *records, "--fail-on", "flops > +3%", *options]
        narrow = CliRunner().invoke(main, command, env=env)
        assert narrow.exit_code == 0, narrow.output
        assert "FLOPs" in narrow.stdout
        assert "+2 %" in narrow.stdout


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(10_000, 10_142, "+1.42 %"), (10_000, 9_999, "-0.01 %"), (100, 100, "1"), (100, 111, "1.11"), (3, 0, "gone")],
)
def test_a_ratio_near_one_has_the_digits_of_the_change(before, after, text):
    assert _ratio(Change(before, after)) == text
    one, other = (costax.analyze(lambda x: x * 2.0)(f"f32[{size}]") for size in (before, max(after, 1)))
    sentence = repr(costax.diff(one, other))
    assert (f"({text})" in sentence) is text.endswith("%")
