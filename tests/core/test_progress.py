"""Lines of progress where standard error is no terminal."""

from __future__ import annotations

import io
import time

import pytest

from costax.core import progress

pytestmark = pytest.mark.once


@progress.stage("working")
def work(seconds):
    time.sleep(seconds)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(progress, "_LONG", 0.2)
    monkeypatch.delenv("COSTAX_QUIET", raising=False)


def written(*seconds):
    stream = io.StringIO()
    with progress.shown(stream):
        for each in seconds:
            work(each)
    return stream.getvalue()


def test_a_stage_that_takes_long_has_one_line_in_a_pipe(soon):
    assert written(0.01, 1.0) == "costax: working ...\n"


def test_a_short_stage_has_no_line(soon, monkeypatch):
    monkeypatch.setattr(progress, "_LONG", 60.0)
    assert written(0.3) == ""


def test_a_variable_of_the_environment_silences_the_lines(soon, monkeypatch):
    monkeypatch.setenv("COSTAX_QUIET", "1")
    assert written(1.0) == ""
