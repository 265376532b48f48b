"""`costax mfu` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRODUCT = ("jax.numpy:matmul", "--input", "bf16[4096,4096]", "--input", "bf16[4096,4096]")


def run(*arguments):
    return CliRunner().invoke(main, ["mfu", *arguments])


def test_the_command_shows_every_convention():
    step = f"{EXAMPLES}/mlp_train.py:mlp_train_step", "--step", "0.01", "--device", "v5p"
    done = run(*step, "--devices", "4", "--tokens", "4096")
    assert done.exit_code == 0, done.output
    assert all(word in done.output for word in ("hardware", "palm", "maxtext:noncausal", "FLOPs a token", "a device"))
    record = json.loads(run(*step, "--devices", "4", "--tokens", "4096", "--json").output)
    assert record["schema"] == "costax/mfu/1"
    assert record["tokens_per_second_per_device"] == 4096 / 0.01 / 4


def test_the_numbers_are_those_of_the_hand():
    # 2 x 4096^3 FLOPs on 128 chips of 459 TFLOP/s in a millisecond.
    record = json.loads(run(*PRODUCT, "--step", "0.001", "--device", "tpu-v5p", "--devices", "128", "--json").output)
    (hardware,) = (row for row in record["conventions"] if row["convention"] == "hardware")
    assert hardware["flops_per_second_per_device"] == pytest.approx(2 * 4096**3 / 128 / 0.001)
    assert hardware["mfu"] == pytest.approx(2 * 4096**3 / 128 / 0.001 / 459e12)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--step", "0", "--device", "v5p"], "positive number of seconds"),
        (["--step", "nan", "--device", "v5p"], "positive number of seconds"),
        (["--step", "1e-5", "--device", "v5p"], "impossible"),
        (["--step", "1", "--device", "v55p"], "no device 'v55p'"),
        (["--step", "1", "--device", "v5p", "--devices", "0"], "at least 1"),
        (["--step", "1", "--device", "v5p", "--tokens", "0"], "at least 1"),
        (["--step", "1", "--device", "v5p", "--peak", "fp6"], "not known"),
        (["--step", "one", "--device", "v5p"], "--step"),
        (["--step", "50ms", "--device", "v5p"], "'50ms' has a unit; write the number of seconds: 0.05"),
        (["--step", "1.5 min", "--device", "v5p"], "write the number of seconds: 90"),
        (["--seconds", "1", "--device", "v5p"], "Did you mean '--step'?"),
        (["--device", "NVIDIA H100", "--step", "1"], "Did you mean h100-sxm or"),
        (["--device", "v5p"], "--step"),
        (["--step", "1"], "--device"),
        (["--step", "1", "--device", "v5p", "--save", "a.png"], "suffix"),
    ],
)
def test_wrong_options_end_with_2_and_one_message(arguments, text):
    done = run(*PRODUCT, *arguments)
    assert done.exit_code == 2
    assert text in done.stderr
    assert "Traceback" not in done.output
