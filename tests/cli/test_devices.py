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


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits_the_terminal(width):
    from rich.console import Console

    from costax.report.device import listed

    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(listed(list(costax.devices().values()), "~/.config/costax/devices"))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    # A line for each device, with numbers that are not broken: a table that is too wide would fold them.
    assert all(any(line.split()[:1] == [name] for line in lines) for name in costax.devices())
    (h100,) = (line.split() for line in lines if line.split()[:1] == ["h100-sxm"])
    assert h100 == ["h100-sxm", "66.9", "989", "1980", "1980", "79.1", "3350", "450", "700"]


def test_the_sheet_names_the_source_of_each_number_and_fits_80_columns():
    from rich.console import Console

    from costax.report.device import render

    for device in costax.devices().values():
        console = Console(width=80, force_terminal=False, color_system=None)
        with console.capture() as capture:
            console.print(render(device))
        text = capture.get()
        assert max(map(len, text.splitlines())) <= 80
        for name, figure in device.figures().items():
            (line,) = (line.split() for line in text.splitlines() if line.split()[:1] == [name])
            number = line[-1]
            assert f"{number} {figure.source}"[:60] in text
            assert figure.date in text


def test_a_file_under_construction_does_not_stop_the_command_that_writes_it(tmp_path, monkeypatch):
    # The shell opens the file before `costax devices h100-sxm --file > new-chip.toml` starts.
    monkeypatch.setenv("COSTAX_DEVICES", str(tmp_path))
    (tmp_path / "new-chip.toml").write_text("")
    template = run("devices", "h100-sxm", "--file")
    assert template.exit_code == 0
    assert "[peak.bf16]" in template.output
    assert "new-chip.toml' is empty" in run("devices", "new-chip").output
