"""A file of results belongs to one sweep: another function, source, option or version is refused, never mixed in."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
import sys

import pytest

import costax
import studies
from costax.errors import SweepError
from costax.sweep.conditions import conditions, differences

pytestmark = pytest.mark.once

LOOP = """
import jax, costax
from beside import WIDTH

def fn(x):
    return jax.lax.while_loop(lambda v: v[0] < 1, lambda v: v * 2, x)

def make(depth):
    return fn, (costax.spec(f"f32[{WIDTH}]"),)
"""


@pytest.fixture
def study(tmp_path):
    """A study of two files, which a process of its own runs: `run(option, ...)` returns what it did."""
    (tmp_path / "study.py").write_text(LOOP)
    (tmp_path / "beside.py").write_text("WIDTH = 8\n")

    def run(*options):
        command = [sys.executable, "-m", "costax", "sweep", "study.py:make", "--grid", "depth=1", "--workers", "1"]
        command += ["--out", "r.jsonl", "--json", "--no-progress", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_other_options_and_edited_files_are_refused(study, tmp_path):
    ten = study("--trips", "while=10")
    assert json.loads(ten.stdout)["flops"] == 8 * 10, ten.stderr
    assert study("--trips", "while=10").stdout == ten.stdout
    more = study("--trips", "while=1000")
    assert (more.returncode, more.stdout) == (2, "")
    assert 'the option `trips` was {"while": 10} and is {"while": 1000}' in " ".join(more.stderr.split())
    (tmp_path / "beside.py").write_text("WIDTH = 16\n")
    edited = study("--trips", "while=10")
    assert (edited.returncode, edited.stdout) == (2, "")
    assert "the source of beside.py has changed" in " ".join(edited.stderr.split())
    (tmp_path / "r.jsonl").unlink()
    assert json.loads(study("--trips", "while=10").stdout)["flops"] == 16 * 10


def test_versions_options_and_arguments_are_conditions(monkeypatch):
    then = conditions(studies.make, {"branches": "max", "trips": {}})
    assert differences(then, conditions(studies.make, {"branches": "max"})) == []
    assert differences(then, conditions(studies.make, {"branches": "mean"})) == [
        'the option `branches` was "max" and is "mean"'
    ]
    (other,) = differences(then, conditions(studies.slow, {"branches": "max"}))
    assert other == "the name of the function was studies:make and is studies:slow"
    bound = [conditions(functools.partial(studies.make, note=note), {}) for note in ("a", "b")]
    assert "arguments of the function" in differences(*bound)[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0")
    assert [text.split(" was ")[0] for text in differences(then, conditions(studies.make, {"branches": "max"}))] == [
        "the version of costax",
        "the version of jax",
    ]


def test_sources_are_those_of_the_study_and_its_package(tmp_path, monkeypatch):
    package = tmp_path / "mine"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sub" / "__init__.py").write_text("from . import parts\n")
    (package / "sub" / "parts.py").write_text("import json\nfrom ..top import x\n")
    (package / "top.py").write_text("x = 1\n")
    (package / "unused.py").write_text("")
    (tmp_path / "json.py").write_text("")  # a namesake beside the package is not part of it
    (package / "study.py").write_text("import numpy\nfrom mine.sub import parts\ndef make():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    from mine import study  # type: ignore[import-not-found]

    found = conditions(study.make, {})["sources"]
    assert sorted(found) == [
        "mine/__init__.py",
        "mine/study.py",
        "mine/sub/__init__.py",
        "mine/sub/parts.py",
        "mine/top.py",
    ]


@pytest.mark.parametrize(
    "header", ['{"schema": "costax/sweep/2", "options": 3}', '{"schema": "costax/sweep/1"}', "[]", "3"]
)
def test_a_file_that_does_not_say_what_it_depends_on_is_refused(header, tmp_path):
    out = tmp_path / "r.jsonl"
    out.write_text(f"{header}\n")
    with pytest.raises(SweepError, match="not a file of sweep results"):
        costax.sweep(studies.make, {"depth": [1], "width": [8]}, progress=False, workers=1, out=out)
    assert out.read_text() == f"{header}\n"
