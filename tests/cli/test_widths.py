"""Every command in terminals of 60, 80, 120 and 200 columns: names are readable, numbers whole, nothing cut off."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from click.testing import CliRunner
from rich.table import Table

import costax
from costax.cli.app import main
from costax.report.fitting import fitted
from costax.report.text import plain

WIDTHS = (60, 80, 120, 200)
PROGRAMS = """
import jax, jax.numpy as jnp, costax

def named():
    def f(w, x):
        for layer in range(3):
            with jax.named_scope(f"a_layer_with_a_long_name_{layer}/attention"):
                x = jnp.tanh(x @ w) * (layer + 1)
        return x
    return costax.Target(f, (costax.spec("f32[512,512]"), costax.spec("f32[1024,512]")), params_argnums=0)

def formula():
    def f(w, x, y):
        with jax.named_scope("a_layer_with_a_long_name"):
            return jnp.tanh(x @ w) @ jnp.transpose(y @ w, (0, 2, 1)) + jnp.exp(x @ jnp.transpose(y, (0, 2, 1)))
    return f, tuple(map(costax.spec, ("f32[512,512]", "f32[batch,queries,512]", "f32[batch,keys,512]")))
"""
COMMANDS = {
    "analyze": ("analyze", "named"),
    "by source": ("analyze", "named", "--by", "source"),
    "formula": ("analyze", "formula"),
    "formula by primitive": ("analyze", "formula", "--by", "primitive"),
    "compare": ("compare", "named"),
    "predict": ("predict", "named", "--device", "h100"),
    "mfu": ("mfu", "named", "--step", "1", "--device", "h100"),
    "memory": ("memory", "named"),
    "what-if": ("what-if", "named", "--weights", "int8"),
    "diff": ("diff", "named", "formula"),
    "measure": ("measure", "named", "--iterations", "2"),
    "rules": ("rules",),
}

SLOW = ("compare", "measure")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths")
    (folder / "programs.py").write_text(PROGRAMS)
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def at(width: int | None, *command: str) -> str:
        env = {"COLUMNS": None if width is None else str(width)}
        words = [f"programs.py:{word}" if word in ("named", "formula") else word for word in command]
        result = CliRunner().invoke(main, words, env=env)
        assert result.exit_code == 0, result.output
        return result.stdout

    return at


def numbers(text: str) -> set[str]:
    """The numbers with a prefix, `1.81 G`, or with separators, `1,814,073,344`; a broken one is two others."""
    return set(re.findall(r"\d+(?:\.\d+)? [kMGT]\b|\d{1,3}(?:,\d{3})+", text))


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SLOW])
def test_a_command_fits_every_width_and_breaks_no_number(run, name):
    whole = numbers(run(None, *COMMANDS[name]))
    for width in WIDTHS:
        shown = run(width, *COMMANDS[name])
        assert max(map(len, shown.splitlines())) <= width
        assert "\u2026" not in shown
        assert numbers(shown) <= whole, width


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("name", SLOW)
def test_a_command_that_compiles_fits_too(run, name):
    assert max(map(len, run(60, *COMMANDS[name]).splitlines())) <= 60


def test_a_narrow_table_keeps_its_names_and_says_what_it_leaves_out(run):
    shown = run(50, "analyze", "named", "--by", "primitive")
    assert "dot_general" in shown
    assert "Not shown, because the terminal is narrow: transc." in " ".join(shown.split())
    assert "Not shown" not in run(200, "analyze", "named", "--by", "primitive")


def test_a_long_formula_makes_each_line_a_paragraph():
    table = Table(show_footer=True)
    table.add_column("scope", "total")
    table.add_column("FLOPs", "3*a", justify="right", no_wrap=True)
    table.add_row("a/layer", "+".join(f"{n}*symbol_{n}^2" for n in range(10)))
    lines = plain(fitted(table, 80)).splitlines()
    assert lines[0] == "a/layer"
    assert lines[1].startswith("    FLOPs  0*symbol_0^2")
    assert "  FLOPs  3*a" in lines[-1]


def test_without_a_width_a_pipe_gets_whole_lines(run):
    assert max(map(len, run(None, "rules").splitlines())) > 80


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("width", WIDTHS)
def test_a_real_terminal_of_this_width(tmp_path, width):
    record = tmp_path / "record.json"
    costax.analyze(lambda x, w: x @ w @ w)("f32[1024,512]", "f32[512,512]").save(record)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "costax", "show", str(record), "--by", "primitive"]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env={**environment, "TERM": "xterm"})
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal as an error
        while block := os.read(controller, 65536):
            output += block
    os.close(controller)
    assert process.wait(timeout=120) == 0
    shown = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output.decode()).replace("\r", "")
    assert "dot_general" in shown
    assert str(f"{2 * 2 * 1024 * 512 * 512:,}") in shown
    assert max(map(len, shown.splitlines())) <= width
