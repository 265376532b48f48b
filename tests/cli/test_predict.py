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
    assert "examples per second" in done.output
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
        ["--device", "h100", "--target", "cuda:h100:8"],
        ["--device", "h100", "--xla-flag", "xla_gpu_autotune_level=0"],
        ["--device", "h100", "--xla", "--xla-flag", "xla_gpu_autotune_level"],
        [],
    ],
)
def test_wrong_options_end_with_2_and_one_message(arguments):
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_forward", *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_a_prediction_is_saved_by_its_suffix(tmp_path):
    target = "jax.numpy:matmul", "--input", "f32[64,64]", "--input", "f32[64,64]", "--device", "h100-sxm"
    files_ = [tmp_path / f"a{suffix}" for suffix in (".json", ".speedscope.json", ".perfetto.json")]
    saving = [word for path in files_ for word in ("--save", str(path))]
    assert CliRunner().invoke(main, ["predict", *target, *saving]).exit_code == 0
    assert [next(iter(json.loads(path.read_text()))) for path in files_] == ["schema", "$schema", "traceEvents"]
    refused = CliRunner().invoke(main, ["predict", *target, "--save", str(tmp_path / "a.png")])
    assert (refused.exit_code, "Traceback" in refused.stderr) == (2, False)
