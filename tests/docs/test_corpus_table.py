"""docs/corpus.md is the corpus: its programs, and the numbers of a few of them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import jax
import pytest

from corpus import programs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "corpus.md").read_text()
ROWS = {
    cells[0]: cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| ") and (cells := line.strip("| ").split(" | "))[0] != "program"
}
# Those of one device that need no further library.
PLAIN = [program for program in programs(devices=1) if not program.needs]


def script():
    spec = importlib.util.spec_from_file_location("corpus_table", ROOT / "docs" / "corpus_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus_table"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_has_every_program_of_the_corpus():
    assert set(ROWS) == {program.name for program in programs()}


def test_every_replay_of_the_table_is_xlas_own_number():
    assert "Replays that are not XLA's own number: 0." in " ".join(PAGE.split())
    # The exact sum of a compiled module is what XLA says, as long as float32 holds it.
    for name, cells in ROWS.items():
        compiled, xla = (int(cell.replace(",", "")) for cell in cells[4:6])
        assert compiled == xla or abs(compiled) > 2**24, name


@pytest.mark.skipif(f"jax {jax.__version__} " not in PAGE, reason="the table was made with another jax")
def test_rows_of_the_table_are_reproduced():
    names = tuple(program.name for program in PLAIN[::40])
    found = {line.name: line for line in script().lines(names)}
    assert found.keys() == set(names)
    for name, line in found.items():
        assert list(line.cells) == ROWS[name][:8], name


def test_every_number_is_a_count():
    assert all(re.fullmatch(r"-?[\d,]+", cell) for cells in ROWS.values() for cell in cells[:6])


def test_every_module_of_every_chain_has_its_equations():
    assert "Unexplained differences: 0." in PAGE
    assert all(float(cells[7].removesuffix("%")) >= 99.9 for cells in ROWS.values())
