"""`costax measure` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from costax.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_command_measures():
    name = f"{EXAMPLES}/mlp_train.py:mlp_forward"
    done = CliRunner().invoke(main, ["measure", name, "--iterations", "3", "--device", "h100"])
    assert done.exit_code == 0, done.output
    assert "latency" in done.output
    done = CliRunner().invoke(main, ["measure", name, "--iterations", "2", "--profile", "--json"])
    record = json.loads(done.output)
    assert record["seconds"]["runs"] == 2
    assert record["profile"]
