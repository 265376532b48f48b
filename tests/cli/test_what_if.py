"""`costax what-if` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_command_shows_now_and_then():
    name = f"{EXAMPLES}/mlp_train.py:mlp_forward"
    done = CliRunner().invoke(main, ["what-if", name, "--weights", "int8", "--device", "h100", "--sparsity", "*=0.5"])
    assert done.exit_code == 0, done.output
    assert "model size" in done.output
    assert CliRunner().invoke(main, ["what-if", name, "--weights", "int7"]).exit_code == 2
    assert CliRunner().invoke(main, ["what-if", name, "--sparsity", "half"]).exit_code == 2
