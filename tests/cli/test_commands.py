"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import costax
from costax.analysis.explain import program_text
from costax.cli.app import main
from costax.rules.examples import cases

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

SCHEMA = json.loads(files("costax.report").joinpath("analysis.schema.json").read_text())

PROGRAM = """
    import jax
    import jax.numpy as jnp
    from jax import lax

    import costax

    def product(w, x):
        with jax.named_scope("layer"):
            return jnp.tanh(x @ w)

    def solve(w, x):
        with jax.named_scope("solver"):
            return lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: c * 2, product(w, x))

    SHAPES = (costax.spec("f32[8,3]"), costax.spec("f32[4,8]"))

    def pair():
        print("a factory may print")
        return product, SHAPES

    def triple():
        return product, SHAPES[:1], {"x": SHAPES[1]}

    def target():
        return costax.Target(product, SHAPES, params_argnums=0)

    def loop():
        return solve, SHAPES

    ready = costax.Target(product, SHAPES)

    class Box:
        @staticmethod
        def inside(x):
            return x @ x
"""


@pytest.fixture
def program(tmp_path) -> str:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return str(path)


def run(*args: str):
    return CliRunner().invoke(main, args)


def ran(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def start(*args: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "costax", *args],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize("name", ["pair", "triple", "target", "ready"])
def test_a_target_is_a_factory_or_ready(name, program):
    record = json.loads(ran("analyze", f"{program}:{name}", "--json"))
    assert record["total"]["macs"] == 4 * 8 * 3
    assert record["total"]["transcendentals"] == 4 * 3
    assert record["name"] == name
    assert record["params"] == (8 * 3 if name == "target" else None)
    jsonschema.validate(record, SCHEMA)


@pytest.mark.parametrize(
    "inputs", [("f32[8,3]", "f32[4,8]"), ("f32[8,3]", "x=f32[4,8]"), ("x = f32[4,8]", "w=f32[8,3]")]
)
def test_inputs_give_shapes_to_a_callable(inputs, program):
    options = [part for text in inputs for part in ("--input", text)]
    assert json.loads(ran("analyze", f"{program}:product", "--json", *options))["total"]["macs"] == 4 * 8 * 3


def test_a_target_may_stand_in_a_module_or_a_class(program):
    assert " 96 " in ran("analyze", "jax.numpy:matmul", "--input", "f32[4,8]", "--input", "f32[8,3]")
    assert " 512 " in ran("analyze", f"{program}:Box.inside", "--input", "f32[8,8]")


def test_a_module_of_the_current_directory_is_found(program, monkeypatch):
    monkeypatch.chdir(Path(program).parent)
    monkeypatch.delitem(sys.modules, "program", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path(program).parent))])
    assert "layer" in ran("analyze", "program:pair")
    sys.modules.pop("program", None)


def test_a_file_that_is_called_like_a_module_leaves_that_module_alone(tmp_path, monkeypatch):
    # Its folder must not stay on the path: processes that later tests start would find this file.
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "json.py").write_text("def double(x):\n    return x + x\n")
    assert " 8 " in ran("analyze", f"{tmp_path / 'json.py'}:double", "--input", "f32[8]")
    assert sys.modules["json"] is json


def test_what_a_target_prints_goes_to_standard_error(program):
    result = run("analyze", f"{program}:pair", "--json")
    assert json.loads(result.stdout)
    assert "a factory may print" in result.stderr


@pytest.mark.parametrize("by", ["scope", "primitive", "source", "dtype", "direction"])
def test_a_live_and_a_saved_analysis_show_the_same(by, program, tmp_path):
    saved = str(tmp_path / "a.json")
    options = ("--by", by, "--sort", "name")
    live = ran("analyze", f"{program}:target", "--save", saved, *options)
    assert ran("show", saved, *options) == live
    assert live.splitlines()[0] == "target: 96 MACs, 192 FLOPs, 24 parameters."


def test_a_record_is_shown_and_converted(program, tmp_path):
    record, page = str(tmp_path / "a.json"), tmp_path / "a.md"
    printed = ran("analyze", f"{program}:target", "--save", record, "--json")
    assert json.loads(printed) == json.loads(Path(record).read_text())
    assert ran("show", record, "--json") == printed
    ran("show", record, "--save", str(page))
    assert "| layer |" in page.read_text()


def test_trips_answer_a_loop(program):
    never_said = json.loads(ran("analyze", f"{program}:loop", "--json"))
    once = json.loads(ran("analyze", f"{program}:loop", "--json", "--trips", "solver/while=1"))
    often = json.loads(ran("analyze", f"{program}:loop", "--json", "--trips", "solver/while=1k"))
    assert never_said["unknowns"] == [{**once["unknowns"][0], "assumed": "solver/while", "answered": False}]
    assert never_said["symbols"] == [{"name": "solver/while", "least": 0}]
    assert often["exact"]
    # The body doubles 4 x 3 numbers; the condition sums them, 11 additions, each time before.
    assert often["total"]["flops"] - once["total"]["flops"] == 999 * (4 * 3 + 11)
    assert often["unknowns"] == [{**once["unknowns"][0], "assumed": 1000}]


def test_strict_exits_1_on_a_loop_that_nobody_answered(program, tmp_path):
    result = run("analyze", f"{program}:loop", "--strict", "--save", str(tmp_path / "a.json"))
    assert result.exit_code == 1
    assert "CheckError: Some numbers of `loop` are not exact or not known." in result.stderr
    assert "solver/while" in result.stderr
    assert "total" in result.stdout
    assert run("show", str(tmp_path / "a.json"), "--strict").exit_code == 1
    assert run("analyze", f"{program}:loop", "--strict", "--trips", "*/while=3").exit_code == 0


def test_explain_shows_the_rule_the_law_and_live_examples():
    text = ran("explain", "dot_general")
    assert re.search(r"leaf rule, .*contractions\.py:\d+", text)
    assert "macs = |out| * k" in text
    assert "lambda a, b: a @ b" in text
    assert "macs 96, flops 192" in text
    assert "XLA:    flops 192, transcendentals 0 (the same)" in text


def test_explain_knows_every_kind_of_rule():
    assert "higher-order rule" in ran("explain", "scan")
    assert "Free: " in ran("explain", "reshape")


def test_explain_names_the_nearest_primitives():
    result = run("explain", "cumsm")
    assert result.exit_code == 2
    assert "Did you mean cumsum" in result.stderr


def test_the_program_of_every_example_can_be_shown():
    for case in cases():
        assert program_text(case.function) not in ("", "<lambda>"), case


def test_rules_lists_every_rule():
    text = ran("rules")
    for name, rule in costax.rules().items():
        assert re.search(rf"^ {re.escape(name)} .*{'higher-order' if rule.higher_order else ''}", text, re.MULTILINE)


def test_help_names_every_command():
    text = ran("--help")
    assert all(f"\n  {name} " in text for name in main.commands)
    for name in main.commands:
        ran(name, "--help")


def test_version_is_that_of_the_package():
    assert re.fullmatch(r"costax \d+\.\d+\.\d+\n", ran("--version"))


# Real processes.

CHECK = (
    "import sys; from costax.cli import main; sys.argv[0] = 'costax'\n"
    "try: main()\n"
    "finally: assert not {m.partition('.')[0] for m in sys.modules} & {'jax', 'jaxlib', 'numpy'}, 'imports jax'"
)


def test_help_and_saved_records_import_no_jax(program, tmp_path):
    record = str(tmp_path / "a.json")
    ran("analyze", f"{program}:target", "--save", record)
    for args in (["--help"], ["analyze", "--help"], ["show", record], ["show", record, "--by", "source", "--json"]):
        done = subprocess.run([sys.executable, "-c", CHECK, *args], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_pipe_gets_no_colours_and_nothing_cut_off(program):
    long = "a_layer_with_a_name_that_is_longer_than_any_terminal_is_wide_" * 3
    path = Path(program).with_name("long.py")
    path.write_text(
        f"import jax\ndef f(x):\n    with jax.named_scope('{long}'):\n        return x @ x\n", encoding="utf-8"
    )
    done = start("analyze", f"{path}:f", "--input", "f32[8,8]")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert f" {long}" in done.stdout
    assert "…" not in done.stdout


def test_a_reader_that_leaves_early_causes_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "costax", "rules"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=120) == 141


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_characters_gets_ascii_tables(encoding, tmp_path):
    path = tmp_path / "sizes.py"
    path.write_text(
        "import jax\ndef f(x):\n    with jax.named_scope('größe_日本'):\n        return x @ x\n", encoding="utf-8"
    )
    few = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "costax", "analyze", f"{path}:f", "--input", "f32[8,8]"]
    done = subprocess.run(command, capture_output=True, env=few)
    assert done.returncode == 0, done.stderr
    assert b"+----" in done.stdout
    # click writes UTF-8 where Python was told ASCII: the locale C says nothing of the terminal.
    scope = {"latin-1": "größe_??".encode("latin-1"), "ascii": "größe_日本".encode()}[encoding]
    assert b"|" + scope in done.stdout
    assert re.search(rb"total\W+512\W", done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_colours_within_its_width(program):
    import pty

    here, there = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        variables.pop(name, None)
    command = [sys.executable, "-m", "costax", "analyze", f"{program}:target"]
    process = subprocess.Popen(command, stdout=there, stdin=there, stderr=there, env=variables)
    os.close(there)
    shown = b""
    # Linux says by an error that the other side has gone.
    with suppress(OSError):
        while part := os.read(here, 4096):
            shown += part
    os.close(here)
    assert process.wait(timeout=120) == 0
    text = shown.decode()
    assert "\x1b[1m" in text
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert "layer" in plain
    assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80


def test_another_tools_answer_is_printed_by_the_command_line():
    target = "analyze", "jax.numpy:matmul", "--input", "f32[4,8]", "--input", "f32[8,3]"
    shown = CliRunner().invoke(main, [*target, "--as", "torch"])
    assert shown.stdout.splitlines()[-1].split()[:3] == ["=", "torch", "192"]
    told = json.loads(CliRunner().invoke(main, [*target, "--as", "torch", "--json"]).stdout)
    assert (told["count"], told["unit"], told["ours"]) == (192, "FLOPs", 192)
    assert CliRunner().invoke(main, [*target, "--as", "flopper"]).exit_code == 2


def test_parameters_are_named_by_the_number_of_their_argument(program):
    inputs = ("--input", "f32[8,3]", "--input", "f32[4,8]")
    record = json.loads(ran("analyze", f"{program}:product", *inputs, "--params", "0", "--json"))
    assert record["params"] == 8 * 3
    assert json.loads(ran("analyze", f"{program}:product", *inputs, "--params", "0,1", "--json"))["params"] == 24 + 32
    assert json.loads(ran("analyze", f"{program}:product", *inputs, "--json"))["params"] is None
    # Of a target that says it already, the option is the newer word.
    assert json.loads(ran("analyze", f"{program}:target", "--params", "1", "--json"))["params"] == 32


@pytest.mark.parametrize(
    ("value", "words"),
    [("x", "list of numbers"), ("", "list of numbers"), ("-1", "list of numbers"), ("7", "--params has 7")],
)
def test_numbers_of_no_argument_are_refused(program, value, words):
    result = run("analyze", f"{program}:product", "--input", "f32[8,3]", "--input", "f32[4,8]", "--params", value)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_module_has_no_parameters_to_name(tmp_path):
    path = tmp_path / "module.hlo.txt"
    path.write_text("HloModule m\n\nENTRY main {\n  ROOT p = f32[4] parameter(0)\n}\n")
    for command in (["analyze"], ["predict", "--device", "l4"]):
        result = run(*command, str(path), "--params", "0")
        assert result.exit_code == 2
        assert "--params does not apply to an HLO file" in result.stderr


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--by", "scope"], ["layer"]),
        (["--by", "primitive"], ["dot_general", "tanh"]),
        (["--depth", "1"], ["layer"]),
        (["--top", "1", "--by", "direction"], ["forward"]),
        (["--columns", "type", "--by", "scope"], ["layer"]),
    ],
)
def test_a_csv_has_the_lines_of_the_table_that_was_asked_for(options, labels, program, tmp_path):
    saved, record = tmp_path / "s.csv", tmp_path / "s.json"
    ran("analyze", f"{program}:target", *options, "--save", str(saved), "--save", str(record))
    lines = rows_of(saved.read_text())
    name = "scope" if "--depth" in options else options[options.index("--by") + 1]
    assert [line[name] for line in lines] == labels
    assert sum(int(line["macs"]) for line in lines) == 4 * 8 * 3
    assert sum(int(line["transcendentals"]) for line in lines) == 4 * 3
    # The parameters are in the tables by scope alone, and the record prints the same lines.
    assert [int(line["params"]) for line in lines if "params" in line] == ([24] if name == "scope" else [])
    if "--columns" not in options:
        assert ran("show", str(record), "--format", "csv", *options) == saved.read_text()


def test_the_levels_of_a_csv_add_up(program, tmp_path):
    nested = tmp_path / "nested.py"
    nested.write_text(
        "import jax, costax\n"
        "def fn(x):\n"
        "    with jax.named_scope('a'):\n"
        "        y = x @ x\n"
        "        with jax.named_scope('b'):\n"
        "            return jax.numpy.sin(y) @ x @ x\n"
        "def net():\n"
        "    return fn, (costax.spec('f32[4,4]'),)\n"
    )
    saved = tmp_path / "s.csv"
    ran("analyze", f"{nested}:net", "--by", "scope", "--save", str(saved))
    macs = {(line["scope"], line["level"]): int(line["macs"]) for line in rows_of(saved.read_text())}
    assert macs == {("a", "0"): 192, ("a/(own)", "1"): 64, ("a/b", "1"): 128}


def test_a_csv_without_options_of_the_table_has_every_row(program, tmp_path):
    saved = tmp_path / "s.csv"
    ran("analyze", f"{program}:target", "--save", str(saved))
    assert {(line["scope"], line["primitive"]) for line in rows_of(saved.read_text())} == {
        ("layer", "dot_general"),
        ("layer", "tanh"),
    }


def test_the_csv_of_a_prediction_and_of_a_module_have_the_lines_that_were_asked_for(program, tmp_path):
    saved, kernels = tmp_path / "s.csv", tmp_path / "kernels.csv"
    target = f"{program}:target"
    ran("predict", target, "--device", "h100", "--by", "direction", "--save", str(saved))
    ran("predict", target, "--device", "h100", "--save", str(kernels))
    (line,) = rows_of(saved.read_text())
    each = rows_of(kernels.read_text())
    assert line["direction"] == "(no direction)"
    assert int(line["flops"]) == sum(int(kernel["flops"]) * int(kernel["runs"]) for kernel in each) > 0
    assert float(line["seconds"]) == pytest.approx(sum(float(kernel["seconds"]) for kernel in each))

    module = tmp_path / "module.txt"
    module.write_text(
        "HloModule m\n\nENTRY e {\n  a = f32[4,4] parameter(0)\n  b = f32[4,4] multiply(a, a)\n"
        "  ROOT c = f32[4,4] add(a, b)\n}\n"
    )
    ran("analyze", str(module), "--by", "opcode", "--save", str(saved))
    assert {line["opcode"]: line["counted_flops"] for line in rows_of(saved.read_text())} == {
        "add": "16",
        "multiply": "16",
    }
    assert "| add |" in ran("show", str(module), "--format", "markdown", "--by", "opcode")
