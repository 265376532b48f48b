"""`nox -s accuracy` fails if a figure is worse than in the last release: false records and models are noticed."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORACLES = ROOT.parent / "shared" / "oracles"
pytestmark = pytest.mark.once
needs_tables = pytest.mark.skipif(
    not ORACLES.is_dir(), reason="the oracles do not lie beside the repository: ../shared/oracles"
)


@pytest.fixture
def accuracy(monkeypatch):
    pytest.importorskip("scipy", reason="benchmarks/efficiency.py fits with scipy")
    pytest.importorskip("flax", reason="the programs of the published runs are flax modules")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "collectives"])
    return importlib.import_module("accuracy")


def errors(accuracy, name, *ratios, **bars):
    return accuracy.Errors(name, ratios, **bars)


def test_a_median_may_worsen_by_two_points_and_no_more(accuracy):
    last = {"products, h100": {"median error": 4.0}}
    assert accuracy.worse([errors(accuracy, "products, h100", 1.059)], last) == []
    found = accuracy.worse([errors(accuracy, "products, h100", 1.061)], last)
    assert found == ["products, h100, median error: 6.1 %, 4.0 % in the last release"]


def test_a_bias_of_either_sign_and_the_tail_are_noticed_though_the_median_error_is_the_same(accuracy):
    before, after = (0.95, 0.95, 1.0, 1.05, 1.05), (1.0, 1.05, 1.05, 1.05, 1.2)
    last = accuracy.recorded([errors(accuracy, "products, h100", *before)])
    for now in (after, [2 - x for x in after]):
        row = errors(accuracy, "products, h100", *now)
        assert row.figures["median error"] == pytest.approx(last["products, h100"]["median error"])
        assert [line.partition(":")[0] for line in accuracy.worse([row], last)] == ["products, h100, bias"]
    tail = errors(accuracy, "products, h100", 0.95, 0.95, 1.0, 1.5, 1.5)
    assert [line.partition(":")[0] for line in accuracy.worse([tail], last)] == ["products, h100, nine in ten"]


def test_a_bar_that_held_must_hold(accuracy):
    last = {"products, h100": {"median error": 7.5}}
    found = accuracy.worse([errors(accuracy, "products, h100", 1.085, bar=8)], last)
    assert found == ["products, h100, median error: 8.5 %, and the bar of 8 held in the last release"]
    # A bar that was missed is no reason to fail as long as the figure is as good as before.
    assert accuracy.worse([errors(accuracy, "products, h100", 1.085, bar=7)], last) == []


def test_one_more_program_silently_below_is_noticed(accuracy):
    rows = [("a", 100, 100, ()), ("b", 70, 100, ()), ("c", 70, 100, ("a doubt",))]
    now = accuracy.Bytes("memory, cpu", rows, 8, 10)
    assert now.figures["silently below"] == 1
    last = accuracy.recorded([now])
    assert accuracy.worse([now], last) == []
    last["memory, cpu"]["silently below"] = 0
    assert accuracy.worse([now], last) == ["memory, cpu, silently below: 1, 0 in the last release"]


def test_every_compiler_has_a_row_of_memory(accuracy, monkeypatch):
    few = {part: names[:2] for part, names in accuracy.memory.parts().items()}
    monkeypatch.setattr(accuracy.memory, "parts", lambda: few)
    monkeypatch.setattr(accuracy, "FEWEST_PROGRAMS", 2)
    rows = list(accuracy.bytes_of_programs())
    assert {row.name.split(", ")[1] for row in rows} == set(accuracy.memory.DEVICES)
    assert all(row.count and row.bars.keys() == row.figures.keys() for row in rows)
    # The record is of the same rows, for all programs.
    record = json.loads(accuracy.RECORD.read_text())
    assert {row.name.split(", ")[1] for row in rows} == {x.split(", ")[1] for x in record if x.startswith("memory")}


def test_a_figure_that_is_gone_is_noticed(accuracy):
    last = {"products, h100": {"median error": 4.0}, "collectives, h100": {"median error": 3.0}}
    found = accuracy.worse([errors(accuracy, "products, b200", 1.01)], last)
    assert found == ["products, h100, median error: missing, 4.0 % in the last release"]


def test_the_record_has_every_bar_and_the_bars_that_hold(accuracy):
    record = json.loads(accuracy.RECORD.read_text())
    kinds = {name.partition(",")[0].partition(" outside")[0] for name in record}
    assert kinds == {"products", "collectives", "attention", "memory", "energy", "published runs"}
    assert record["published runs"]["median error"] <= 12
    assert record["published runs outside [best, worst]"]["outside"] <= 15


@needs_tables
def test_the_figures_of_this_release_pass(accuracy, capsys):
    accuracy.main()
    assert "| collectives, h100-sxm | 72 |" in capsys.readouterr().out


@needs_tables
def test_a_falsified_model_fails(accuracy, monkeypatch):
    exact = accuracy.collectives.seconds

    def ten_per_cent_slower(*args):
        found = exact(*args)
        return found._replace(seconds=1.1 * found.seconds)

    monkeypatch.setattr(accuracy.collectives, "seconds", ten_per_cent_slower)
    with pytest.raises(SystemExit, match=r"collectives, h100-sxm, median error: \d"):
        accuracy.main()


@needs_tables
def test_falsified_constants_of_attention_fail(accuracy, monkeypatch):
    tables = importlib.import_module("costax.performance.efficiency.tables")
    false = copy.deepcopy(tables.data())
    for device in false["attention"]["prefill"]["devices"].values():
        # The share of the peak that attention reaches.
        device["values"][0] *= 0.8
    monkeypatch.setattr(tables, "data", lambda: false)
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "attention"])
    tables.attention_constants.cache_clear()
    try:
        with pytest.raises(SystemExit, match=r"attention, prefill, a100-sxm-80, median error: \d"):
            accuracy.main()
    finally:
        tables.attention_constants.cache_clear()


@needs_tables
def test_falsified_constants_of_products_fail_though_measurements_nearby_correct_them(accuracy, monkeypatch, tmp_path):
    false = json.loads((accuracy.efficiency.DATA / "constants.json").read_text())
    # The share of the bandwidth that products reach.
    false["products"]["devices"]["h200-sxm"]["bf16"]["values"][4] *= 0.8
    (tmp_path / "constants.json").write_text(json.dumps(false))
    monkeypatch.setattr(accuracy.efficiency, "DATA", tmp_path)
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "products"])
    with pytest.raises(SystemExit, match=r"products, bf16, h200-sxm, formula alone, median error: \d"):
        accuracy.main()


@needs_tables
def test_a_falsified_record_fails(accuracy, monkeypatch, tmp_path):
    record = json.loads(accuracy.RECORD.read_text())
    record["collectives, h100-sxm"]["median error"] -= 2.5
    other = tmp_path / "accuracy.json"
    other.write_text(json.dumps(record))
    monkeypatch.setattr(accuracy, "RECORD", other)
    with pytest.raises(SystemExit, match="collectives, h100-sxm, median error: 2"):
        accuracy.main()
