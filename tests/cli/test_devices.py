"""`costax devices` on the command line."""

from __future__ import annotations

import json

from click.testing import CliRunner

import costax
from costax.cli.app import main


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_the_command_lists_devices():
    assert "h100-sxm" in run("devices").output
    assert "unverified" not in run("devices", "h100").output
    assert 'name = "NVIDIA L4"' in run("devices", "l4", "--file").output
    assert json.loads(run("devices", "--json").output).keys() == costax.devices().keys()
    assert run("devices", "nothing").exit_code == 2
