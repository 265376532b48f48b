"""`costax predict` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_the_command_predicts():
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_train_step", "--device", "h100-sxm", "--examples", "128")
    assert done.exit_code == 0, done.output
    assert "examples a second" in done.output
    assert "bound by" in done.output


def test_the_command_gives_a_record():
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_forward", "--device", "v5e", "--json")
    record = json.loads(done.output)
    assert record["schema"] == "costax/prediction/1"
    assert record["seconds"]["best"] <= record["seconds"]["expected"] <= record["seconds"]["worst"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "h1000"],
        ["--device", "h100", "--mesh", "data"],
        ["--device", "h100", "--tokens", "0"],
        ["--device", "x86-generic"],
        [],
    ],
)
def test_wrong_options_end_with_2_and_one_message(arguments):
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_forward", *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
