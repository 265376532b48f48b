"""`costax sweep` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import studies
from costax.cli.app import main
from costax.cli.sweep import parsed_grid

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

STUDIES = Path(studies.__file__)


STUDY = f"{STUDIES}:make"


def run(*args):
    return CliRunner().invoke(main, ["sweep", *args])


def test_the_command_sweeps_and_saves(tmp_path):
    out = tmp_path / "r.jsonl"
    result = run(STUDY, "--grid", "depth=1,2", "--grid", "width=16:32:16", "--out", str(out), "--workers", "1")
    assert result.exit_code == 0, result.stderr
    assert "4 points, 4 different programs." in result.stdout
    assert [json.loads(line)["macs"] for line in out.read_text().splitlines()[1:]] == [
        8 * w * w * d for d in (1, 2) for w in (16, 32)
    ]
    again = run(STUDY, "--grid", "depth=1,2", "--grid", "width=16:32:16", "--out", str(out), "--workers", "1", "--json")
    assert [json.loads(line)["point"]["depth"] for line in again.stdout.splitlines()] == [1, 1, 2, 2]
    assert "4 of 4 points are in the file already" in again.stderr


def test_strict_fails_with_a_failing_point():
    picky = f"{STUDIES}:picky"
    args = (picky, "--grid", "depth=2,3", "--grid", "width=8", "--workers", "1")
    assert run(*args).exit_code == 0
    result = run(*args, "--strict")
    assert result.exit_code == 1
    assert "CheckError: 1 of 2 points failed" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        [f"{STUDIES}:nothing", "--grid", "depth=1"],
        [STUDY, "--grid", "depth"],
        [STUDY, "--grid", "depth="],
        [STUDY, "--grid", "depth=1,,2"],
        [STUDY, "--grid", "width=8:1:2"],
        [STUDY, "--grid", "width=8:16:0"],
        [STUDY, "--grid", "width=1:99999999999:1"],
        [STUDY],
    ],
)
def test_wrong_usage_is_one_message(args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_grids_are_read_from_text():
    assert parsed_grid("depth=2,4,8") == ("depth", [2, 4, 8])
    assert parsed_grid("width=256:2048:256") == ("width", list(range(256, 2049, 256)))
    assert parsed_grid("n=3:1:-1") == ("n", [3, 2, 1])
    assert parsed_grid("lr=0.1,1e-3") == ("lr", [0.1, 1e-3])
    assert parsed_grid("norm=layer,rms") == ("norm", ["layer", "rms"])
