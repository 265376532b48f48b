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
import threading

import pytest
from click.testing import CliRunner
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import costax
import traces
from costax.cli.app import main
from costax.cli.commands import COMMANDS as _ALL
from costax.report.fitting import fitted
from costax.report.folding import folded
from costax.report.text import plain
from traces import written

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

def study(width):
    return (lambda w, x: jnp.tanh(x @ w)), (costax.spec(f"f32[{width},{width}]"), costax.spec(f"f32[8,{width}]"))

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
    "fits": ("fits", "named", "--device", "v5e"),
    "show": ("show", "record.json"),
    "show by primitive": ("show", "record.json", "--by", "primitive"),
    "rules": ("rules",),
    "devices": ("devices",),
    "one device": ("devices", "h100"),
    "explain": ("explain", "conv"),
    "explain a term": ("explain", "framework peak"),
    "join": ("join", "--trace", "host.xplane.pb"),
    "sweep": ("sweep", "programs.py:study", "--grid", "width=64:256:64", "--workers", "1", "--fit", "flops ~ width^2"),
}

SLOW = ("compare", "measure", "sweep")
# Their numbers are other ones in every run.
TIMED = ("compare", "measure", "sweep")
ENDS_WITH: dict[str, int] = {}
# Words of names, shorter than the least width of a name: they are in one piece at every width.
WHOLE_WORDS = {
    "analyze": ("attention", "layer"),
    "by source": (r"programs\.py:\d+",),
    "formula by primitive": ("dot_general", "tanh"),
    "predict": ("dot_general", "attention"),
    "memory": ("dot_general",),
    "diff": ("attention",),
    "show by primitive": ("dot_general",),
    "rules": ("conv_general_dilated",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths")
    (folder / "programs.py").write_text(PROGRAMS)
    written(folder, "host.xplane.pb", traces.gpu_xplane())
    costax.analyze(lambda x, w: x @ w @ w)("f32[1024,512]", "f32[512,512]").save(folder / "record.json")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def at(width: int | None, *command: str) -> str:
        env = {"COLUMNS": None if width is None else str(width)}
        result = CliRunner().invoke(main, with_files(command), env=env)
        assert result.exit_code == ENDS_WITH.get(command[0], 0), result.output
        return result.stdout

    return at


def with_files(command: tuple[str, ...]) -> list[str]:
    """The words of a command, with the file of each of its targets."""
    return [f"programs.py:{word}" if word in ("named", "formula") else word for word in command]


def numbers(text: str) -> set[str]:
    """The numbers with a unit, `1.81 G` or `68 %`, or with separators, `1,814,073,344`; a broken one is two others."""
    return set(re.findall(r"\d+(?:\.\d+)? (?:[kMGT]i?B?\b|B\b|%|[mun]?s\b)|\d{1,3}(?:,\d{3})+", text))


APART = re.compile(r"\d\n *(?:%|[kMGT]i?B?\b|B\b|[mun]?s\b)")
"""A number at the end of a line, and its unit on the next one."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SLOW])
def test_a_command_fits_every_width_and_breaks_no_number(run, name):
    whole = numbers(run(None, *COMMANDS[name]))
    for width in WIDTHS:
        shown = run(width, *COMMANDS[name])
        assert max(map(len, shown.splitlines())) <= width
        assert "\u2026" not in shown
        assert not APART.search(shown)
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


def test_a_number_keeps_its_unit_and_a_name_its_parts():
    sentence = Text("reductions take 68 % of 1.81 GFLOPs", style="bold")
    assert folded(sentence, 18).plain.split("\n") == ["reductions take", "68 % of", "1.81 GFLOPs"]
    assert folded(sentence, 18).spans or folded(sentence, 18).style == "bold"
    name = Text("decoder/layer_11/attention/query")
    assert folded(name, 28).plain.split("\n") == ["decoder/layer_11/attention/", "query"]
    formula = Text("1,024*batch*keys+2.5e+06*queries+4,096*batch")
    assert folded(formula, 24).plain.split("\n") == ["1,024*batch*keys+", "2.5e+06*queries+", "4,096*batch"]
    assert folded(name, 80) is name


def test_a_minor_column_goes_before_a_name_folds():
    table = Table(box=SIMPLE_HEAD)
    for heading in ("kernel", "time", "runs", "per run", "FLOPs/B"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    table.add_column("scope")
    table.add_row("conv_general_dilated", "14.7 us", "1", "14.7 us", "23.3", "ResNet/layer4_0/downsample")
    lines = plain(fitted(table, 76)).splitlines()
    assert any("ResNet/layer4_0/downsample" in line for line in lines)
    assert lines[-1] == "Not shown, because the terminal is narrow: runs, per run."


class Terminal:
    """A pseudo-terminal in the place of standard input, output and error, and what it shows."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.written = b""

    def run(self, words: list[str]) -> int:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, self.width, 0, 0))
        reader = threading.Thread(target=self._read, args=(controller,))
        reader.start()
        saved = [os.dup(descriptor) for descriptor in (0, 1, 2)]
        streams = sys.stdout, sys.stderr
        try:
            for descriptor in (0, 1, 2):
                os.dup2(terminal, descriptor)
            with os.fdopen(os.dup(1), "w") as sys.stdout, os.fdopen(os.dup(2), "w") as sys.stderr:
                return main.main(words, prog_name="costax", standalone_mode=False) or 0
        finally:
            sys.stdout, sys.stderr = streams
            for descriptor, copy in zip((0, 1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            os.close(terminal)
            reader.join(60)
            os.close(controller)

    def _read(self, controller: int) -> None:
        with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal as an error
            while block := os.read(controller, 65536):
                self.written += block

    @property
    def lines(self) -> list[str]:
        """The lines as they were written, without colours."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.decode())
        return [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]

    @property
    def screen(self) -> str:
        """What a terminal emulator shows of it."""
        screen = pytest.importorskip("pyte").Screen(self.width, 3000)
        sys.modules["pyte"].ByteStream(screen).feed(self.written)
        return "\n".join(line.rstrip() for line in screen.display).rstrip()


@pytest.fixture
def on_a_terminal(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "COSTAX_QUIET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def at(width: int, *command: str) -> Terminal:
        terminal = Terminal(width)
        assert terminal.run(with_files(command)) == ENDS_WITH.get(command[0], 0), terminal.written.decode()
        return terminal

    return at


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in COMMANDS])
def test_a_command_fits_a_real_terminal_of_every_width(on_a_terminal, run, name):
    whole = None if name in TIMED else numbers(run(None, *COMMANDS[name]))
    for width in WIDTHS:
        terminal = on_a_terminal(width, *COMMANDS[name])
        assert max(map(len, terminal.lines)) <= width, width
        shown = terminal.screen
        assert "\u2026" not in shown
        assert not APART.search(shown)
        if whole is not None:
            assert numbers(shown) <= whole, width
        # The lines of stages are gone, and no word of a name is broken.
        assert not re.search(r"costax: \w+ \.\.\.", shown)
        for word in WHOLE_WORDS.get(name, ()):
            assert re.search(rf"(?<![a-z_]){word}", shown), (word, width)


def test_every_command_is_tried():
    """`calibrate` alone is not: it measures for minutes, and prints the table of `devices NAME`."""
    assert {words[0] for words in COMMANDS.values()} == {command.name for command in _ALL} - {"calibrate"}


_PRINTED = "import sys, costax; print(costax.load(sys.argv[1]).by_primitive()); print(costax.load(sys.argv[1]))"


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    "command", [("-m", "costax", "show", "record.json", "--by", "primitive"), ("-c", _PRINTED, "record.json")]
)
def test_a_process_on_a_real_terminal(tmp_path, command):
    record = tmp_path / "record.json"
    costax.analyze(lambda x, w: x @ w @ w)("f32[1024,512]", "f32[512,512]").save(record)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    words = [sys.executable, *command]
    environment["TERM"] = "xterm"
    process = subprocess.Popen(words, stdout=terminal, stderr=terminal, env=environment, cwd=tmp_path)
    os.close(terminal)
    shown = Terminal(60)
    shown._read(controller)
    os.close(controller)
    assert process.wait(timeout=120) == 0
    assert "dot_general" in shown.screen
    assert str(f"{2 * 2 * 1024 * 512 * 512:,}") in shown.screen
    assert max(map(len, shown.lines)) <= 60
