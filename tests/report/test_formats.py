"""Formats: Markdown, CSV, data frames and records hold the numbers of the analysis, and comparisons can be saved."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import operator
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import costax
from analyses import analysis_of
from costax import report
from costax.analysis.analysis import Analysis
from costax.cli import options
from costax.cli.app import main
from costax.core.hints import for_a_shell
from costax.errors import RecordError
from costax.report.comparison_record import ComparisonReader
from costax.report.formats import as_csv, as_json, as_markdown

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

COMPARISON = json.loads(files("costax.report").joinpath("comparison.schema.json").read_text())


def looped(w, x):
    def layer(c, _):
        with jax.named_scope("layer"):
            return jnp.tanh(c @ w), None

    return jax.lax.scan(layer, x, None, length=5)[0]


def merged(w, x):
    with jax.named_scope("first"):
        y = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        return y + jnp.cos(x @ w)


SHAPES = (costax.spec("f32[8,8]"), costax.spec("f32[4,8]"))


@pytest.mark.parametrize("fn", [looped, merged])
def test_a_saved_comparison_shows_what_the_comparison_shows(fn, tmp_path):
    found = costax.compare(fn)(*SHAPES)
    report.save(found, tmp_path / "c.json")
    loaded = report.load_any(tmp_path / "c.json")
    assert str(loaded) == str(found)
    assert (loaded.matches_xla, loaded.xla, len(loaded.unexplained)) == (True, found.xla, 0)
    assert loaded.deltas == found.deltas
    assert (loaded.by_pass(), loaded.by_pass_and_scope()) == (found.by_pass(), found.by_pass_and_scope())
    report.save(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "c.json").read_text()
    assert costax.load(tmp_path / "c.json").total == found.jaxpr.total
    assert as_markdown(loaded) == as_markdown(found)


def test_a_saved_difference_says_which_pass_made_it(tmp_path):
    found = costax.compare(merged, xla_flags={"xla_cpu_enable_fast_math": False})(*SHAPES)
    found.save(tmp_path / "c.json")
    loaded = report.load_any(tmp_path / "c.json")
    (delta,) = loaded.deltas
    assert (delta.pass_name, delta.cause, delta.flops) == ("cse", "common subexpressions merged", -2 * 4 * 8 * 8)
    # The second product is the third equation.
    assert (delta.scope, delta.address) == (("second",), (3,))
    assert delta.run == found.deltas[0].run > 0
    assert loaded.xla_flags == {"xla_cpu_enable_fast_math": "false"}
    assert loaded.by_pass() == {"cse": (-2 * 4 * 8 * 8, 0)}
    assert loaded.by_pass_and_scope() == {("cse", ("second",)): (-2 * 4 * 8 * 8, 0)}


def test_the_record_of_a_comparison_holds_its_passes(tmp_path):
    found = costax.compare(merged)(*SHAPES)
    found.save(tmp_path / "c.json")
    kept = json.loads((tmp_path / "c.json").read_text())["passes"]
    assert [step["pass"] for step in kept["steps"]] == [step.name for step in found.passes.steps]
    for name in ("flops", "transcendentals", "bytes"):
        steps = sum(step[name] for step in kept["steps"])
        assert kept["before"][name] + steps == kept["after"][name] == getattr(found.compiled.total, name)


def test_a_comparison_of_the_first_schema_is_read_without_passes(tmp_path):
    found = costax.compare(merged)(*SHAPES)
    found.save(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    record["schema"] = "costax/comparison/1"
    del record["passes"], record["xla_flags"]
    for delta in record["deltas"]:
        for name in ("pass_name", "run", "address"):
            del delta[name]
    (tmp_path / "old.json").write_text(json.dumps(record))
    old = report.load_any(tmp_path / "old.json")
    assert [(delta.pass_name, delta.run, delta.address) for delta in old.deltas] == [("", 0, ())] * len(old.deltas)
    assert [delta.flops for delta in old.deltas] == [delta.flops for delta in found.deltas]
    assert (old.by_pass(), dict(old.xla_flags), old.xla) == ({}, {}, found.xla)
    assert "common subexpressions merged" in str(old)


@functools.cache
def comparison_record_text() -> str:
    return as_json(costax.compare(merged)(*SHAPES))


@pytest.mark.parametrize(
    ("name", "value"),
    [("pass_name", 3), ("pass_name", None), ("run", "9"), ("run", 1.5), ("address", 3), ("address", [1, "2"])],
)
def test_a_damaged_difference_is_refused_with_its_place(name, value):
    record = json.loads(comparison_record_text())
    record["deltas"][0][name] = value
    with pytest.raises(RecordError, match=name):
        ComparisonReader("c.json").comparison(record)


def places(value, path=()):
    """Every place in a value of JSON, as keys and positions."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)  # other processes share the machine
@given(st.data())
def test_a_damaged_record_of_a_comparison_is_read_or_refused(data):
    record = json.loads(comparison_record_text())
    (*path, last) = data.draw(st.sampled_from([place for place in places(record) if place]))
    around = functools.reduce(operator.getitem, path, record)
    if data.draw(st.booleans()):
        del around[last]
    else:
        around[last] = data.draw(json_values)
    with contextlib.suppress(RecordError):
        comparison = ComparisonReader("c.json").comparison(record)
        assert all(isinstance(delta.run, int) for delta in comparison.deltas)
        assert "deltas" in as_json(comparison)


@pytest.mark.parametrize("passes", [True, False])
def test_the_record_of_a_comparison_fits_its_published_schema(passes, tmp_path):
    costax.compare(merged, passes=passes)(*SHAPES).save(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    jsonschema.Draft202012Validator.check_schema(COMPARISON)
    jsonschema.validate(record, COMPARISON)
    if passes:
        assert set(COMPARISON["$defs"]["delta"]["required"]) == set(record["deltas"][0])
        step = COMPARISON["$defs"]["step"]
        assert set(step["required"]) == set(record["passes"]["steps"][0]) == set(step["properties"])
    else:
        assert record["passes"] is None
    assert set(COMPARISON["required"]) == set(record) == set(COMPARISON["properties"])
    stage = COMPARISON["$defs"]["stage"]
    assert set(stage["required"]) == set(record["compiled"]) == set(stage["properties"])


GOLDEN_MARKDOWN = """\
# model

inputs: none

| total |  | exact |
| --- | --: | --: |
| MACs | 0 | 0 |
| FLOPs | 22 | 22 |
| transcendentals | 0 | 0 |
| OPs | 22 | 22 |
| traffic, unfused | 0 B | 0 B |
| exact | yes |  |

| scope | MACs | FLOPs | transc. | % FLOPs |
| --- | --: | --: | --: | --: |
| block\\_0..1 x 2 | 0 | 22 | 0 | 100.0 |
| &emsp;up | 0 | 8 | 0 | 36.4 |
| &emsp;down | 0 | 14 | 0 | 63.6 |
| **total** | **0** | **22** | **0** | **100.0** |

* FLOPs = 2 x MACs + elementwise arithmetic; transcendentals are counted separately.
* Equal layers share one line, which is their sum; merge=False shows each layer.
"""


def small() -> Analysis:
    return analysis_of({"block_0/up": 4, "block_0/down": 7, "block_1/up": 4, "block_1/down": 7})


def test_markdown_reads_as_it_should():
    assert as_markdown(small()) == GOLDEN_MARKDOWN


def test_csv_reads_as_it_should():
    first, second, *_ = as_csv(small()).splitlines()
    assert first == (
        "scope,direction,primitive,source,macs,padding_macs,flops,transcendentals,ops,"
        "bytes_read,bytes_written,bytes_unfused,collective_bytes"
    )
    assert second == "block_0/up,forward,add,a.py:3,0,0,4,0,4,0,0,0,0"


def test_a_data_frame_has_the_rows_of_the_csv():
    pandas = pytest.importorskip("pandas", reason="pandas is an extra: costax[pandas]")
    step = costax.analyze(looped)(*SHAPES)
    frame = step.to_pandas()
    assert frame["macs"].sum() == step.total.macs == 5 * 4 * 8 * 8
    written = pandas.read_csv(io.StringIO(as_csv(step)), keep_default_na=False)
    assert list(frame.columns) == list(written.columns)
    assert frame.astype(str).equals(written.astype(str))


def test_a_record_of_the_first_schema_is_read_for_ever():
    kept = report.load_any(Path(__file__).resolve().parents[1] / "data" / "records" / "analysis-1.json")
    assert kept.total.macs == 5 * 4 * 8 * 8
    assert (kept.params, kept.by_direction()["backward"].macs) == (2 * 8 * 8, 3 * 4 * 8 * 8)
    old = report.load_any(Path(__file__).resolve().parents[1] / "data" / "records" / "comparison-1.json")
    assert sum(delta.flops for delta in old.deltas) + old.jaxpr.total.flops == old.xla["flops"]
    assert "= XLA, compiled" in str(old)


@pytest.mark.parametrize("form", report.format_names("Analysis"))
def test_show_prints_every_format_without_jax(form, tmp_path):
    small().save(tmp_path / "a.json")
    code = (
        "import sys; from costax.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not any(m.partition('.')[0] in ('jax', 'jaxlib', 'numpy') for m in sys.modules) or 'html' in sys.argv"
    )
    command = [sys.executable, "-W", "error", "-c", code, "show", str(tmp_path / "a.json"), "--format", form]
    shown = subprocess.run(command, check=True, capture_output=True).stdout
    with for_a_shell():
        assert shown == report_bytes(small(), form)


def report_bytes(analysis: Analysis, form: str) -> bytes:
    contents = report.as_format(form)(analysis)
    return contents.encode() if isinstance(contents, str) else contents


def test_showing_a_record_imports_neither_jax_nor_numpy(tmp_path):
    # jax alone takes over a second.
    work = {f"net/layer_{i}/{part}": i + 1 for i in range(200) for part in ("up", "down")}
    analysis_of(work).save(tmp_path / "a.json")
    command = [sys.executable, "-X", "importtime", "-m", "costax", "show", str(tmp_path / "a.json")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "costax.report.record_reader" in imported
    assert not imported & {"jax", "jaxlib", "numpy"}


@pytest.mark.parametrize(
    ("command", "kind"), [("analyze", "Analysis"), ("show", "Analysis"), ("predict", "Prediction")]
)
def test_the_help_of_a_command_lists_the_suffixes_of_its_formats(command, kind):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    listed = text.partition("the suffix selects the format: ")[2].partition(". Repeat")[0].split()
    # Written here by hand: the help is derived from the table of formats.
    expected = {
        "Analysis": {".json", ".md", ".csv", ".html", ".speedscope.json", ".pb.gz"},
        "Prediction": {".json", ".speedscope.json", ".perfetto.json"},
    }
    assert set(listed) >= expected[kind]
    assert set(listed) == {report.FORMATS[name].suffix for name in report.format_names(kind)}


def test_a_new_format_is_a_choice_of_the_command_line(monkeypatch):
    form = report.Format(".tex", {"Analysis": "formats.as_tex"})
    monkeypatch.setattr(report, "FORMATS", {**report.FORMATS, "latex": form})
    # In a module of its own: the commands of this process have their choices already.
    spec = importlib.util.spec_from_file_location("options_again", options.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    command = again.output(again.formats(lambda: None))
    parameters = {parameter.name: parameter for parameter in command.__click_params__}
    assert "latex" in parameters["form"].type.choices
    assert " .tex" in parameters["save"].help


def test_a_notebook_shows_the_table_and_escapes_names():
    html = analysis_of({"<b>x": 5, "y": 2})._repr_html_()
    assert "&lt;b&gt;x" in html
    assert html.count("<tr>") == html.count("</tr>") > 5
    assert "<script" not in html
    assert "= XLA, compiled" in costax.compare(looped)(*SHAPES)._repr_html_()


def test_a_saved_comparison_shows_without_jax():
    code = (
        "import sys; from costax.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not any(m.partition('.')[0] in ('jax', 'jaxlib', 'numpy') for m in sys.modules)"
    )
    kept = Path(__file__).resolve().parents[1] / "data" / "records" / "comparison-1.json"
    subprocess.run([sys.executable, "-W", "error", "-c", code, "show", str(kept)], check=True, capture_output=True)
