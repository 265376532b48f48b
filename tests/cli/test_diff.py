"""`costax diff` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_a_depthwise_separable_convolution_saves_what_the_paper_says():
    # MobileNet: 1/N + 1/k^2 of the multiplications. Source: Howard et al. 2017, section 3.1.
    names = [f"{EXAMPLES}/conv.py:{name}" for name in ("standard", "depthwise_separable")]
    done = CliRunner().invoke(main, ["diff", *names, "--depth", "1"])
    assert done.exit_code == 0, done.output
    assert f"{1 / 128 + 1 / 9:.3g}" in done.output


@pytest.mark.parametrize("arguments", [["--field", "speed"], ["--depth", "0"]])
def test_wrong_options_end_with_2(arguments):
    name = f"{EXAMPLES}/conv.py:standard"
    done = CliRunner().invoke(main, ["diff", name, name, *arguments])
    assert done.exit_code == 2


def test_a_record_stands_for_its_analysis(tmp_path):
    name = f"{EXAMPLES}/conv.py:standard"
    record = tmp_path / "before.json"
    assert CliRunner().invoke(main, ["analyze", name, "--save", str(record)]).exit_code == 0
    done = CliRunner().invoke(main, ["diff", str(record), name, "--changed"])
    assert done.exit_code == 0, done.output
    assert "same in both" in done.output
