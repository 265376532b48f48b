"""Sweeps: every point once, whatever becomes of processes, files and executors."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import costax
import studies
from costax.errors import SweepError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

HELPERS = Path(studies.__file__).resolve().parent
GRID = {"depth": [1, 2, 4], "width": [16, 32]}


@pytest.fixture(autouse=True)
def path_without_other_tests(monkeypatch, tmp_path_factory):
    # Processes get this one's path; a file that another test called json.py must not be found there.
    others = str(tmp_path_factory.getbasetemp().parent)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.startswith(others)])


def macs(depth, width):
    return 8 * width * width * depth


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Processes of their own find the studies."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def swept(make=studies.make, grid=GRID, **options):
    """A sweep in this process."""
    return costax.sweep(make, grid, progress=False, workers=1, **options)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_every_combination_is_analysed_in_the_order_of_the_grid():
    found = swept()
    assert [(row["depth"], row["width"]) for row in found] == [(d, w) for d in (1, 2, 4) for w in (16, 32)]
    assert all(row["macs"] == macs(row["depth"], row["width"]) for row in found)
    assert all(row["params"] == row["depth"] * row["width"] ** 2 for row in found)
    assert found.errors == {}


def test_a_grid_may_be_a_list_of_points():
    found = swept(grid=({"depth": d, "width": 8 * d} for d in (1, 2, 2, 3)))
    assert [row["macs"] for row in found] == [macs(d, 8 * d) for d in (1, 2, 3)]


def test_a_pool_of_processes_gives_the_same_as_this_one(tmp_path):
    out = tmp_path / "r.jsonl"
    found = costax.sweep(studies.make, {**GRID, "note": ["a", "b"]}, progress=False, workers=2, out=out)
    assert [row["macs"] for row in found] == [macs(d, w) for d in (1, 2, 4) for w in (16, 32) for _ in "ab"]
    # a note changes nothing of the program: six different ones, each analysed once by one of the processes
    assert found.programs == 6
    assert sum(line["analysed"] for line in lines(out)[1:]) == 6


def test_a_failing_point_is_recorded_and_stops_no_other(tmp_path):
    grid = {"depth": [2, 3, 4], "width": [16]}
    found = swept(studies.picky, grid, out=tmp_path / "r.jsonl")
    assert [row["macs"] for row in found if row["error"] is None] == [macs(2, 16), macs(4, 16)]
    assert found.errors == {"depth=3, width=16": "ValueError: three is no depth"}
    again = swept(studies.picky, grid, out=tmp_path / "r.jsonl")
    assert again.errors == found.errors
    assert len(lines(tmp_path / "r.jsonl")) == 1 + 3
    swept(studies.picky, grid, out=tmp_path / "r.jsonl", retry_errors=True)
    assert len(lines(tmp_path / "r.jsonl")) == 1 + 3 + 1


def test_a_program_that_fails_fails_once_for_all_its_points(tmp_path):
    grid = {"depth": [1], "width": [8], "note": ["a", "b", "c", "d"]}
    out = tmp_path / "r.jsonl"
    found = costax.sweep(studies.make, grid, progress=False, workers=2, out=out, trips={"nowhere": 3})
    assert len(found.errors) == 4
    assert all("No loop of unknown length" in error for error in found.errors.values())
    assert sum(line["analysed"] for line in lines(out)[1:]) == 1


def test_what_is_no_program_is_an_error_of_its_point():
    found = swept(studies.wrong, {"depth": [1]})
    assert "Return (fn, args)" in next(iter(found.errors.values()))


def test_a_sweep_goes_on_where_its_file_ends(tmp_path):
    out = tmp_path / "r.jsonl"
    swept(grid={"depth": [1, 2], "width": [16]}, out=out)
    with out.open("a") as file:
        file.write('{"point": {"depth": 4, "wid')  # as a killed process leaves it
    found = swept(grid={"depth": [1, 2, 4], "width": [16]}, out=out)
    assert [row["macs"] for row in found] == [macs(d, 16) for d in (1, 2, 4)]
    assert [line["point"]["depth"] for line in lines(out)[1:]] == [1, 2, 4]


@pytest.mark.slow
@pytest.mark.once
def test_a_killed_sweep_analyses_again_only_what_was_under_way(tmp_path):
    out = tmp_path / "r.jsonl"
    code = (
        "import costax, studies\n"
        "if __name__ == '__main__':\n"
        "    costax.sweep(studies.slow, {'depth': range(1, 41), 'width': [8]}, workers=2, progress=False, "
        f"out={str(out)!r})\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    # Nothing is left to remove the folder of the sweep.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE, env=environment
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not out.exists() or out.read_bytes().count(b"\n") < 9):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = out.read_bytes().count(b"\n") - 1
    assert 8 <= before < 40, "the sweep was to be killed on its way"
    found = costax.sweep(studies.slow, {"depth": range(1, 41), "width": [8]}, workers=2, progress=False, out=out)
    assert [row["macs"] for row in found] == [macs(depth, 8) for depth in range(1, 41)]
    written = lines(out)[1:]
    # Nothing that had been written was analysed again.
    assert len(written) == 40
    assert len({line["point"]["depth"] for line in written}) == 40


@pytest.mark.slow
@pytest.mark.once
def test_a_point_that_kills_its_process_is_recorded_and_the_others_are_done():
    found = costax.sweep(studies.deadly, {"depth": [1, 2, 3, 4], "width": [8]}, progress=False, workers=2)
    assert [row.get("macs") for row in found] == [macs(1, 8), macs(2, 8), None, macs(4, 8)]
    assert "died" in found.errors["depth=3, width=8"]


def test_an_executor_that_dies_is_an_error_and_nothing_is_lost(tmp_path):
    out = tmp_path / "r.jsonl"
    grid = {"depth": [1, 2, 3, 4], "width": [8]}
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(SweepError, match="ProcessPoolExecutor died") as caught,
    ):
        costax.sweep(studies.deadly, grid, pool, progress=False, out=out)
    done = [row["macs"] for row in caught.value.sweep]
    assert macs(1, 8) in done
    assert sorted(line["macs"] for line in lines(out)[1:]) == sorted(done)
    found = swept(studies.make, {"depth": [1], "width": [8]})
    assert found.rows[0]["macs"] == macs(1, 8)


def test_an_executor_that_was_shut_down_is_an_error():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(SweepError, match="ThreadPoolExecutor died before 6 points"):
        costax.sweep(studies.make, GRID, pool, progress=False)


def test_any_executor_does():
    with ThreadPoolExecutor(2) as pool:
        found = costax.sweep(studies.make, GRID, pool, progress=False)
    assert [row["macs"] for row in found] == [macs(d, w) for d in (1, 2, 4) for w in (16, 32)]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.filterwarnings("ignore")  # dask's own
def test_a_dask_cluster_does(tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "processes": True}
    # A busy machine takes long to start two processes.
    patient = {"distributed.comm.timeouts.connect": "180s", "distributed.comm.timeouts.tcp": "180s"}
    with (
        importlib.import_module("dask").config.set(patient),
        distributed.LocalCluster(**options, local_directory=str(tmp_path)) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = costax.sweep(studies.make, GRID, client.get_executor(), progress=False, out=tmp_path / "r.jsonl")
    assert [row["macs"] for row in found] == [macs(d, w) for d in (1, 2, 4) for w in (16, 32)]
    workers = {line["process"] for line in lines(tmp_path / "r.jsonl")[1:]}
    assert os.getpid() not in workers


def test_results_may_be_formulas(tmp_path):
    found = swept(studies.symbolic, {"depth": [1, 2]}, out=tmp_path / "r.jsonl")
    assert [str(row["macs"]) for row in found] == ["b*d^2", "2*b*d^2"]
    assert [row["macs"](b=2, d=3) for row in found] == [18, 36]
    again = swept(studies.symbolic, {"depth": [1, 2]}, out=tmp_path / "r.jsonl")
    assert [row["macs"] for row in again] == [row["macs"] for row in found]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "The grid is empty"),
        ({"depth": []}, "The grid is empty"),
        ([], "The grid is empty"),
        ({"depth": 3}, "instead of a list of values"),
        ({"depth": "12"}, "instead of a list of values"),
        ([3], "is not a point"),
        ({"depth": [object()]}, "cannot be written as JSON"),
    ],
)
def test_a_grid_without_points_is_refused(grid, message):
    with pytest.raises(SweepError, match=message):
        swept(grid=grid)


@pytest.mark.parametrize("name", ["r.csv", "nowhere/r.jsonl", "other.jsonl", "text.jsonl"])
def test_a_file_that_cannot_take_results_is_refused(name, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"schema": "costax/sweep/2", "function": {"name": "somebody:else"}}\n')
    (tmp_path / "text.jsonl").write_text("hello\n")
    with pytest.raises(SweepError, match=r"does not end in|no directory|of another sweep|not a file of sweep results"):
        swept(out=tmp_path / name)


def test_progress_is_lines_in_a_pipe(capfd):
    swept()
    assert capfd.readouterr().err == ""
    costax.sweep(studies.picky, {"depth": [2, 3], "width": [8]}, workers=1)
    assert capfd.readouterr().err.startswith("sweep: 2 of 2 points, 1 failed, ")


def test_a_sweep_may_run_beside_others_in_threads():
    found = {}
    threads = [
        threading.Thread(target=lambda d=d: found.update({d: swept(grid={"depth": [d], "width": [8]})})) for d in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {d: sweep.rows[0]["macs"] for d, sweep in found.items()} == {1: macs(1, 8), 2: macs(2, 8)}
