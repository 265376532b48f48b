"""`nox -s accuracy` fails if a figure is worse than in the last release: false records and models are noticed."""

from __future__ import annotations

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


def test_a_median_may_worsen_by_two_points_and_no_more(accuracy):
    last = {"products, h100": 4.0}
    assert accuracy.worse({"products, h100": 5.9}, last) == []
    assert accuracy.worse({"products, h100": 6.1}, last) == ["products, h100: 6.1 %, 4.0 % in the last release"]


def test_a_figure_that_is_gone_is_noticed(accuracy):
    last = {"products, h100": 4.0, "collectives, h100": 3.0}
    found = accuracy.worse({"products, b200": 1.0}, last)
    assert found == ["products, h100: missing, 4.0 % in the last release"]


def test_the_record_has_every_bar_and_the_bars_that_hold(accuracy):
    record = json.loads(accuracy.RECORD.read_text())
    kinds = {name.partition(",")[0].partition(" outside")[0] for name in record}
    assert kinds == {"products", "collectives", "attention", "published runs"}
    assert record["published runs"] <= 12
    assert record["published runs outside [best, worst]"] <= 15


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
    with pytest.raises(SystemExit, match=r"collectives, h100-sxm: \d"):
        accuracy.main()


@needs_tables
def test_a_falsified_record_fails(accuracy, monkeypatch, tmp_path):
    record = json.loads(accuracy.RECORD.read_text())
    record["collectives, h100-sxm"] -= 2.5
    other = tmp_path / "accuracy.json"
    other.write_text(json.dumps(record))
    monkeypatch.setattr(accuracy, "RECORD", other)
    with pytest.raises(SystemExit, match="collectives, h100-sxm: 2"):
        accuracy.main()
