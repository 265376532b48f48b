"""`costax devices` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_the_command_lists_devices():
    assert "h100-sxm" in run("devices").output
    assert "unverified" not in run("devices", "h100").output
    assert 'name = "NVIDIA L4"' in run("devices", "l4", "--file").output
    assert json.loads(run("devices", "--json").output).keys() == costax.devices().keys()
    assert run("devices", "nothing").exit_code == 2


def test_a_file_under_construction_does_not_stop_the_command_that_writes_it(tmp_path, monkeypatch):
    # The shell opens the file before `costax devices h100-sxm --file > new-chip.toml` starts.
    monkeypatch.setenv("COSTAX_DEVICES", str(tmp_path))
    (tmp_path / "new-chip.toml").write_text("")
    template = run("devices", "h100-sxm", "--file")
    assert template.exit_code == 0
    assert "[peak.bf16]" in template.output
    assert "new-chip.toml' is empty" in run("devices", "new-chip").output
