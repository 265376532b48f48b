"""Names with control characters, terminal escapes, formulas and markup, in every exporter and message."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import costax
from costax import report
from costax.cli import main
from costax.core.printable import printable

pytestmark = pytest.mark.once

TITLE = "\x1b]0;owned\x07"
LINK = "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\"
HOSTILE = (
    TITLE,
    LINK,
    "\x1b[2J",
    "\x9b31m",
    "line\nbreak",
    "carriage\rreturn",
    "\u202etxt.exe",
    "=1+1",
    "+cmd",
    "-2+3",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "![x](http://evil.example/a.png)",
    "[bold]markup[/bold]",
    "[link=http://evil.example]x[/link]",
    "a|b",
    "$\\frac{",
    "\ud800",
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


def spread(value, hostile):
    """Return a record with a text added to every string that a file can choose freely."""
    free = {"name", "scope", "primitive", "source", "place", "inputs", "outputs", "params", "reason", "path", "text"}

    def changed(entry, key=""):
        if isinstance(entry, dict):
            return {k: changed(v, k) for k, v in entry.items()}
        if isinstance(entry, list):
            return [changed(v, key) for v in entry]
        return hostile + entry if isinstance(entry, str) and key in free else entry

    return changed(value)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    def fn(x, n):
        with jax.named_scope("layer"):
            y = jax.lax.while_loop(lambda c: c.sum() < n, lambda c: jnp.sin(c @ c), x)
        return jax.lax.cond(n > 0, jnp.sin, lambda y: y * 2, y)

    path = tmp_path_factory.mktemp("records") / "a.json"
    costax.analyze(fn, trips={"*": 3})(costax.spec("f32[8,8]"), costax.spec("f32[]")).save(path)
    return json.loads(path.read_text())


@pytest.fixture(params=HOSTILE, ids=lambda text: repr(text)[:30])
def path(request, record, tmp_path):
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps(spread(record, request.param)))
    return file


def test_tables_and_exports_are_safe(path, tmp_path):
    analysis = costax.load(path)
    lines = len(str(costax.load(_harmless(path, tmp_path))).splitlines())
    text = str(analysis)
    assert not CONTROL.search(text)
    assert len(text.splitlines()) == lines, "a name may not write lines of its own"
    assert "[bold]" not in path.read_text() or "[bold]markup[/bold]" in text, "rich does not obey markup in names"
    for form in ("markdown", "csv"):
        contents = report.as_format(form)(analysis)
        assert not CONTROL.search(contents), form
        assert not re.search(r"(?<!\\)<script", contents) or form == "csv"
        assert "](http" not in contents or form == "csv"
    rows = list(csv.reader(io.StringIO(report.as_format("csv")(analysis))))
    assert all(not cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)
    assert all(not cell.startswith("-") or cell.lstrip("-").isdigit() for row in rows for cell in row)
    page = report.as_format("html")(analysis)
    assert "<script>alert" not in page
    check_strings(json.loads(report.as_format("speedscope")(analysis)))
    profile = gzip.decompress(report.as_format("pprof")(analysis))
    assert not any(text in profile for text in (b"\x1b]", b"\x1b[", b"line\n", b"carriage\r", "\u202e".encode()))
    assert not CONTROL.search(analysis._repr_html_().replace("\t", ""))


def check_strings(value):
    """Check every text of a JSON value: a viewer may print it on a terminal."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for entry in value:
            check_strings(entry)
    elif isinstance(value, str):
        assert not CONTROL.search(value)
        assert "\n" not in value


def _harmless(path, tmp_path):
    """Write a record of the same scopes with harmless names."""
    record = json.loads(path.read_text())
    first = next(text for text in HOSTILE if record["name"].startswith(text))
    file = tmp_path / "harmless.json"
    file.write_text(json.dumps(record).replace(json.dumps(first)[1:-1], re.sub("[^/]", "x", first)))
    return file


def test_the_command_line_prints_no_control_character(path):
    for options in ((), ("--by", "primitive"), ("--by", "source")):
        result = CliRunner().invoke(main, ["show", str(path), *options])
        assert result.exit_code == 0
        assert not CONTROL.search(result.output)


def test_an_error_message_prints_no_control_character(tmp_path, record):
    damaged = {**spread(record, TITLE), "total": record["per_device"], "exactness": TITLE}
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps(damaged))
    result = CliRunner().invoke(main, ["show", str(file)])
    assert result.exit_code == 2
    assert "RecordError" in result.output
    assert not CONTROL.search(result.output)


@pytest.mark.parametrize("hostile", [TITLE, "$\\frac{", "$x$", "<a>&"])
def test_plots_draw_names_as_they_are(hostile, record, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps(spread(record, hostile)))
    image = tmp_path / "plot.svg"
    # Text as text, not as the outlines of its letters.
    with sys.modules["matplotlib"].rc_context({"svg.fonttype": "none"}):
        costax.load(file).plot_breakdown().figure.savefig(image)
    drawn = "".join(ElementTree.parse(image).getroot().itertext())
    assert printable(hostile) in drawn
    assert not CONTROL.search(drawn)


def test_scopes_of_a_program_print_no_control_character():
    def fn(x):
        with jax.named_scope(f"a{TITLE}\nb"):
            return jnp.sin(x)

    analysis = costax.analyze(fn)(costax.spec("f32[8]"))
    assert not CONTROL.search(str(analysis))
    assert not CONTROL.search(str(costax.predict(analysis, "h100-sxm")))
    assert not CONTROL.search(str(costax.compare(fn)(costax.spec("f32[8]"))))
    assert sum(1 for line in str(analysis).splitlines() if line.startswith("b")) == 0


@pytest.fixture(scope="module")
def module():
    """Return a compiled module, whose names `...name` stand for hostile ones of the same length."""

    def functionname(argumentname):
        with jax.named_scope("scope-namename"):
            return jnp.sort(jnp.tanh(argumentname @ argumentname), axis=0)

    compiled = jax.jit(functionname).lower(jax.ShapeDtypeStruct((8, 8), "float32")).compile()
    return compiled.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()


@pytest.mark.parametrize(
    "hostile", [b"\x1b]0;xy\x07", b"\x1b[2J\nab", b"x\r\n=1+1", b"<script", b"\xc2\x9b31m==", b"[/bold]"]
)
def test_names_of_a_module_are_safe(hostile, module, tmp_path):
    path, before = tmp_path / "module.pb", tmp_path / "before.pb"
    assert len(hostile) == 7, "the length of a text stands before it in the file"
    changed = module.replace(b"namename", hostile + b"e").replace(b"ionname", hostile).replace(b"entname", hostile)
    assert changed != module
    path.write_bytes(changed)
    before.write_bytes(module)
    commands = [
        *(
            ["analyze", path],
            ["analyze", path, "--by", "opcode"],
            ["analyze", path, "--by", "source"],
            ["memory", path],
        ),
        *(["predict", path, "--device", "h100-sxm"], ["diff", before, path], ["fits", path, "--device", "h100-sxm"]),
        *(["analyze", path, "--format", form] for form in ("markdown", "csv")),
    ]
    for command in commands:
        result = CliRunner().invoke(main, list(map(str, command)))
        assert result.exit_code in (0, 1, 2), result.output
        assert "costax itself failed" not in result.output
        assert not CONTROL.search(result.output), command
    for name in ("speedscope", "perfetto"):
        file = tmp_path / f"x.{name}.json"
        result = CliRunner().invoke(main, ["predict", str(path), "--device", "h100-sxm", "--save", str(file)])
        assert result.exit_code == 0, result.output
        check_strings(json.loads(file.read_text()))
    file = tmp_path / "costs.pbtxt"
    result = CliRunner().invoke(main, ["predict", str(path), "--device", "h100-sxm", "--save", str(file)])
    assert result.exit_code == 0, result.output
    assert all(line.startswith(("# ", "costs {")) for line in file.read_text().splitlines())


def test_numbers_of_a_csv_stay_numbers():
    from costax.report.formats import spreadsheet_safe

    assert [spreadsheet_safe(x) for x in (-3, 2.5, 10**30)] == [-3, 2.5, 10**30]


def test_long_names_are_cut_in_tables(record, tmp_path):
    file = tmp_path / "long.json"
    file.write_text(json.dumps(spread(record, "b*" * 250_000)))
    assert len(max(str(costax.load(file)).splitlines(), key=len)) < 50_000


@pytest.mark.parametrize("path", [TITLE], indirect=True, ids=["title"])
def test_a_terminal_with_colours_gets_no_other_escapes(path):
    code = (
        "import sys, costax; from rich.console import Console; from costax.report.text import for_output;"
        "sys.stdout.isatty = lambda: True; out = for_output(costax.load(sys.argv[1]));"
        "import re; sys.exit(bool(re.search(r'(?!\\x1b\\[[0-9;]*m|\\n)[\\x00-\\x1f\\x7f-\\x9f]', out)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=_coloured(), check=False)
    assert done.returncode == 0


def _coloured():
    import os

    return {**os.environ, "FORCE_COLOR": "1"}


def test_printable_keeps_what_people_write():
    assert printable("Schicht_1/größe [f32] ‑ 層") != ""
    assert printable("décoder/層") == "décoder/層"
