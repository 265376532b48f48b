"""Results of a sweep as tables, and the points that no other point beats."""

from __future__ import annotations

import pytest

import costax
import studies
from costax.errors import SweepError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

GRID = {"depth": [1, 2, 4], "width": [16, 32]}


def macs(depth, width):
    return 8 * width * width * depth


def swept(grid=GRID, **options):
    """A sweep in this process."""
    return costax.sweep(studies.make, grid, progress=False, workers=1, **options)


def test_a_parquet_file_holds_a_column_for_each_name_and_count(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "r.parquet"
    swept(out=out)
    assert list(tmp_path.iterdir()) == [out]
    table = parquet.read_table(out).to_pydict()
    assert table["macs"] == [macs(d, w) for d in (1, 2, 4) for w in (16, 32)]
    assert table["depth"] == [1, 1, 2, 2, 4, 4]
    found = swept(grid={"depth": [1, 2, 4, 8], "width": [16, 32]}, out=out)
    assert len(parquet.read_table(out).to_pydict()["macs"]) == len(found) == 8


def test_counts_beyond_64_bits_stay_exact_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    swept(grid={"depth": [1], "width": [10**12]}, out=tmp_path / "r.parquet")
    assert int(parquet.read_table(tmp_path / "r.parquet").to_pydict()["macs"][0]) == 8 * 10**24


def test_pandas_gets_the_rows():
    pytest.importorskip("pandas")
    frame = swept().to_pandas()
    assert list(frame.macs) == [macs(d, w) for d in (1, 2, 4) for w in (16, 32)]
    assert frame.groupby("depth").flops.sum().is_monotonic_increasing


def test_the_pareto_front_is_what_no_point_beats():
    found = swept()
    front = found.pareto("flops", "-width", "-depth")
    points = [(row["flops"], -row["width"], -row["depth"]) for row in found]
    best = [p for p in points if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)]
    assert [(row["flops"], -row["width"], -row["depth"]) for row in front] == best
    assert [(row["depth"], row["width"]) for row in found.pareto("flops")] == [(1, 16)]
    with pytest.raises(SweepError, match="Did you mean 'flops'"):
        found.pareto("flop")
