"""`costax fits` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.slow
@pytest.mark.once
def test_the_command_says_whether_a_program_fits():
    assert run("fits", f"{EXAMPLES}/resnet.py:resnet50", "--device", "l4").exit_code == 0
    done = run("fits", f"{EXAMPLES}/llama.py:llama2_7b", "--device", "tpu-v5e", "--json")
    assert done.exit_code == 0
    done = run("fits", f"{EXAMPLES}/llama.py:llama3_405b_train_step", "--device", "h100")
    assert done.exit_code == 1
    assert "What to change" in done.output
