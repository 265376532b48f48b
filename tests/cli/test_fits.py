"""`costax fits` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main
from costax.core import units

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


SOFTMAX = """
import costax, jax

def layers(x, w):
    for i in range(6):
        x = jax.nn.softmax(x @ w)
    return x.sum()

def net():
    return layers, (costax.spec("f32[4096,1024]"), costax.spec("f32[1024,1024]"))
"""


@pytest.mark.once
def test_memory_that_is_not_modelled_has_an_amount(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(SOFTMAX)
    record = json.loads(run("fits", f"{path}:net", "--device", "tpu-v5e", "--json").output)
    # Arguments of 20 MiB and at least the result of one product in HBM: 16 MiB.
    assert record["needed_bytes"] < 21 << 20
    assert record["most_bytes"] >= 36 << 20
    sentence = f"at most {units.short_bytes(record['most_bytes'])} in all"
    for command in ("fits", "memory"):
        shown = " ".join(run(command, f"{path}:net", "--device", "tpu-v5e").output.split())
        assert f"More may be needed, {sentence} by the bounds of the estimate; the memory of these" in shown
        assert "temporaries in on-chip memory" in shown
    # A GPU keeps no temporaries on the chip, so nothing is said.
    assert "More may be needed" not in run("fits", f"{path}:net", "--device", "h100").output
