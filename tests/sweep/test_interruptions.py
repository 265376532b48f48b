"""Sweeps under signals, full disks and other sweeps: nothing is left behind, and the message says what is kept."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import costax
import studies
from costax.errors import SweepError
from costax.sweep import grid, journal, runner

pytestmark = pytest.mark.once

STUDIES = Path(studies.__file__).resolve()


def processes(text):
    """The processes whose command line or environment has a text."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            known = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in known and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc to find processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_sweep_with_all_its_processes(number, tmp_path):
    out, temporary = tmp_path / "r.jsonl", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "costax", "sweep", f"{STUDIES}:slow", "--grid", "depth=1:400", "--grid", "width=8"]
    command += ["--out", str(out), "--workers", "2", "--no-progress"]
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert until(lambda: out.exists() and out.read_bytes().count(b"\n") > 5)
    assert len(processes(str(temporary))) >= 3
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert until(lambda: not processes(str(temporary)), 10), "processes are left"
    assert until(lambda: not list(temporary.iterdir()), 5), "temporary folders are left"
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    done = out.read_bytes().count(b"\n") - 1
    assert 5 <= done < 400
    if number == signal.SIGINT:
        assert f"of 400 points are in '{out}'; run the same sweep again to go on." in message
        assert "Traceback" not in message


def test_the_folder_of_claims_goes_while_processes_still_claim(tmp_path):
    for i in range(20):
        claims = tmp_path / str(i)
        claims.mkdir()

        def claim(claims=claims):
            for k in range(50):
                with contextlib.suppress(OSError):
                    (claims / str(k)).mkdir()

        threads = [threading.Thread(target=f) for f in (claim, *[functools.partial(runner._remove, str(claims))] * 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not claims.exists()


def test_a_factory_that_exits_is_a_failed_point():
    def make(depth):
        return sys.exit("no such depth") if depth == 2 else studies.make(depth, 8)

    found = costax.sweep(make, {"depth": [1, 2, 3]}, progress=False, workers=1)
    assert list(found.errors.values()) == ["SystemExit: no such depth"]
    assert len([row for row in found if row.get("macs")]) == 2


def test_a_file_takes_one_sweep_at_a_time(tmp_path):
    out = tmp_path / "r.jsonl"
    seen = []

    def make(depth):
        try:
            costax.sweep(studies.make, {"depth": [1], "width": [8]}, progress=False, workers=1, out=out)
        except SweepError as error:
            seen.append(str(error))
        return studies.make(depth, 8)

    found = costax.sweep(make, {"depth": [1, 2]}, progress=False, workers=1, out=out)
    assert len(found) == 2
    assert len(seen) == 2
    assert all(text.startswith("Another sweep writes to") for text in seen)
    assert out.read_bytes().count(b"\n") == 3


def test_a_full_disk_is_told_and_what_is_written_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "r.jsonl"
    options = {"progress": False, "workers": 1, "out": out}
    costax.sweep(studies.make, {"depth": [1], "width": [8]}, **options)
    write = journal.Journal._write

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.file.close()

    def on_a_full_disk(self, entry):
        self._file = Full(self._file)
        write(self, entry)

    monkeypatch.setattr(journal.Journal, "_write", on_a_full_disk)
    with pytest.raises(SweepError, match="No space left on device") as caught:
        costax.sweep(studies.make, {"depth": [1, 2], "width": [8]}, **options)
    assert "Points in the file: 1." in str(caught.value)
    assert len(caught.value.sweep) == 1
    monkeypatch.undo()
    assert len(costax.sweep(studies.make, {"depth": [1, 2], "width": [8]}, **options)) == 2


def test_a_grid_that_fills_the_memory_is_refused(monkeypatch):
    wide = {name: range(10_000_000) for name in ("depth", "width")}
    with pytest.raises(SweepError, match=r"The grid has 100,000,000,000,000 points\."):
        costax.sweep(studies.make, wide, progress=False)
    monkeypatch.setattr(grid, "MOST_POINTS", 10)
    endless = ({"depth": n, "width": 8} for n in iter(int, 1))
    with pytest.raises(SweepError, match="more than 10 points"):
        costax.sweep(studies.make, endless, progress=False)


def test_an_interrupt_that_is_swallowed_ends_the_sweep_too(tmp_path):
    out = tmp_path / "r.jsonl"

    def make(depth):
        if depth == 2:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
        return studies.make(depth, 8)

    with pytest.raises(KeyboardInterrupt, match="1 of 5 points are in"):
        costax.sweep(make, {"depth": [1, 2, 3, 4, 5]}, progress=False, workers=1, out=out)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
