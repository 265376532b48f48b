"""Passes and formats: what they show adds up, and what they write is what other programs read."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import resource
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import pytest
from click.testing import CliRunner
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

import costax
from costax import report
from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.cli import options
from costax.cli.app import main
from costax.core.cost import Cost
from costax.core.size import Size
from costax.program.tree import DIRECTIONS, Row
from costax.report import flamegraph
from costax.report.formats import as_csv, as_markdown
from costax.report.tables import table
from costax.report.text import plain, render

COMPARISON = json.loads(files("costax.report").joinpath("comparison.schema.json").read_text())


def analysis_of(work: dict[str, int], params: dict[str, int] | None = None) -> Analysis:
    rows = {Row(tuple(s.split("/")), "forward", "add", "a.py:3"): Cost.arithmetic("f32", n) for s, n in work.items()}
    sizes = {(tuple(s.split("/")), "f32"): Size(n, 4 * n) for s, n in params.items()} if params else None
    return Analysis("model", Cost.sum(rows.values()), parameters=sizes, saved_rows=rows)


def labels(analysis: Analysis, **choice) -> list[str]:
    return [line.label for line in table(analysis, **choice).lines]


def flops(analysis: Analysis, **choice) -> list[str]:
    return [line.cells[1] for line in table(analysis, **choice).lines]


def test_equal_layers_share_a_line_which_is_their_sum():
    model = analysis_of({f"layer_{i}/{part}": n for i in range(12) for part, n in (("up", 3), ("down", 4))})
    assert labels(model) == ["layer_0..11 x 12", "up", "down"]
    assert flops(model) == [str(12 * 7), str(12 * 3), str(12 * 4)]
    assert len(labels(model, merge=False)) == 12 * 3


def test_a_layer_that_differs_keeps_its_line():
    model = analysis_of({"layer_0": 5, "layer_1": 7, "layer_2": 7, "layer_3": 5})
    assert labels(model) == ["layer_0", "layer_1..2 x 2", "layer_3"]
    model = analysis_of({"layer_0": 7, "layer_1": 7}, params={"layer_0": 2, "layer_1": 3})
    assert labels(model) == ["layer_0", "layer_1"]


def test_layers_within_layers_are_merged_first():
    model = analysis_of({f"stage{s}/block{b}/conv": 5 for s in range(2) for b in range(3)})
    assert labels(model) == ["stage0..1 x 2", "block0..2 x 3", "conv"]
    assert flops(model) == ["30", "30", "30"]


def test_layers_that_stand_apart_are_gathered_if_they_hold_layers():
    work = {f"layer_{i}/{'mamba' if i % 2 else 'attention'}": 2 + i % 2 for i in range(6)}
    assert labels(analysis_of(work), depth=1) == ["layer_0,2,4 x 3", "layer_1,3,5 x 3"]
    norms = {"norm1": 2, "up": 9, "norm2": 2, "down": 9, "norm3": 2}
    assert labels(analysis_of(norms)) == list(norms)


names = st.lists(st.sampled_from(["a0", "a1", "a2", "b_0", "b_1", "x"]), max_size=3).map(tuple)
tables = st.dictionaries(
    st.builds(Row, names, st.sampled_from(DIRECTIONS), st.sampled_from("pq"), st.sampled_from(["", "f:1"])),
    st.integers(1, 3).map(lambda n: Cost.arithmetic("f32", n)),
    max_size=20,
)


@given(tables, st.integers(1, 4))
def test_passes_that_rename_keep_the_total(rows, most):
    analysis = Analysis("any", Cost.sum(rows.values()), saved_rows=rows)
    whole = analysis.total
    for shown in (
        views.merged(analysis).rows,
        views.top(analysis, most, lambda c: c.flops).rows,
        views.top_primitives(rows, most, lambda c: c.flops),
        views.top_sources(rows, most, lambda c: c.flops),
        views.cut(rows, most),
        views.without_sources(rows),
        views.without_free(rows),
    ):
        assert Cost.sum(shown.values()) == whole
    assert sum((Cost.sum(views.only(rows, d).values()) for d in DIRECTIONS), Cost()) == whole


@given(tables)
def test_merging_twice_changes_nothing(rows):
    once = views.merged(Analysis("any", Cost.sum(rows.values()), saved_rows=rows))
    assert views.merged(once).rows == once.rows


def test_top_keeps_the_costliest_of_each_level_and_sums_the_others():
    model = analysis_of({"a": 1, "b": 9, "c": 2, "d/x": 5, "d/y": 1})
    assert labels(model, top=2) == ["(2 others)", "b", "d", "x", "y"]
    assert flops(model, top=2) == ["3", "9", "6", "5", "1"]
    assert labels(model, top=1) == ["(3 others)", "b"]
    assert labels(model, by="source", top=1) == ["a.py:3"]


def test_two_programs_are_merged_where_both_have_the_same_layers_equal():
    plain = {f"block_{i}/{part}": 5 for i in range(4) for part in ("up", "down")}
    gated = {**plain, **{f"block_{i}/gate": 3 for i in range(4)}}
    before, after = views.merged_alike(analysis_of(plain), analysis_of(gated))
    assert list(after.by_scope()) == [f"block_0..3 x 4/{part}" for part in ("up", "down", "gate")]
    assert list(before.by_scope()) == [f"block_0..3 x 4/{part}" for part in ("up", "down")]
    changed = {**plain, "block_2/up": 6}
    before, after = views.merged_alike(analysis_of(plain), analysis_of(changed))
    assert set(before.by_scope()) == set(after.by_scope()) == set(plain)


def test_formulas_are_merged_and_ranked_too():
    def net(w, x):
        for i in range(3):
            with jax.named_scope(f"block_{i}"):
                x = x @ w
        with jax.named_scope("head"):
            return x @ w[:, :2]

    analysis = costax.analyze(net)(costax.spec("f32[8,8]"), costax.spec("f32[b,8]"))
    assert labels(analysis) == ["block_0..2 x 3", "head"]
    assert table(analysis).lines[0].cells[0] == "192*b"
    assert labels(analysis, merge=False, top=2) == ["block_0", "block_1", "(2 others)"]


def test_a_direction_shows_its_own_rows_alone():
    step = costax.analyze(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))), params_argnums=0)(
        costax.spec("f32[8,3]"), costax.spec("f32[4,8]")
    )
    text = plain(render(step, direction="backward"))
    assert "The table holds the backward part alone." in text
    backward = table(step, direction="backward")
    assert backward.total.cells[0] == "96"
    assert "params" not in backward.columns


def looped(w, x):
    def layer(c, _):
        with jax.named_scope("layer"):
            return jnp.tanh(c @ w), None

    return jax.lax.scan(layer, x, None, length=5)[0]


SHAPES = (costax.spec("f32[8,8]"), costax.spec("f32[4,8]"))


def test_a_saved_comparison_shows_what_the_comparison_shows(tmp_path):
    found = costax.compare(looped)(*SHAPES)
    report.save(found, tmp_path / "c.json")
    loaded = report.load_any(tmp_path / "c.json")
    assert str(loaded) == str(found)
    assert (loaded.matches_xla, loaded.xla, len(loaded.unexplained)) == (True, found.xla, 0)
    report.save(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "c.json").read_text()
    assert costax.load(tmp_path / "c.json").total == found.jaxpr.total
    assert as_markdown(loaded) == as_markdown(found)


def test_the_record_of_a_comparison_fits_its_published_schema(tmp_path):
    costax.compare(looped)(*SHAPES).save(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    jsonschema.Draft202012Validator.check_schema(COMPARISON)
    jsonschema.validate(record, COMPARISON)
    assert set(COMPARISON["required"]) == set(record) == set(COMPARISON["properties"])
    stage = COMPARISON["$defs"]["stage"]
    assert set(stage["required"]) == set(record["compiled"]) == set(stage["properties"])


GOLDEN_MARKDOWN = """\
# model

inputs: none

| total |  | exactly |
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

* FLOPs = 2 x MACs + elementwise arithmetic; transcendentals are counted apart.
* Equal layers share a line, which is their sum; --no-merge shows each.
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


def step() -> Analysis:
    def loss(w, x):
        with jax.named_scope("net"):
            return jnp.sum(jnp.tanh(x @ w) * 2)

    return costax.analyze(jax.grad(loss), params_argnums=0)(costax.spec("f32[8,3]"), costax.spec("f32[4,8]"))


def test_a_record_of_the_first_schema_is_read_for_ever():
    kept = report.load_any(Path(__file__).resolve().parents[1] / "data" / "records" / "analysis-1.json")
    assert kept.total.macs == 5 * 4 * 8 * 8
    assert (kept.params, kept.by_direction()["backward"].macs) == (2 * 8 * 8, 3 * 4 * 8 * 8)
    old = report.load_any(Path(__file__).resolve().parents[1] / "data" / "records" / "comparison-1.json")
    assert sum(delta.flops for delta in old.deltas) + old.jaxpr.total.flops == old.xla["flops"]
    assert "= XLA, compiled" in str(old)


def test_speedscope_profiles_add_up_to_the_totals():
    analysis = step()
    record = json.loads(flamegraph.as_speedscope(analysis))
    totals = {p["name"].partition(", ")[2]: p for p in record["profiles"]}
    assert totals["FLOPs"]["endValue"] == sum(totals["FLOPs"]["weights"]) == analysis.total.flops
    assert totals["bytes, unfused"]["unit"] == "bytes"
    frames = record["shared"]["frames"]
    for profile in record["profiles"]:
        # The rules of file-format-schema.json for a sampled profile.
        assert profile["type"] == "sampled"
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= frame < len(frames) for sample in profile["samples"] for frame in sample)
        assert profile["unit"] in ("none", "bytes", "seconds", "milliseconds", "microseconds", "nanoseconds")
    dots = [s for s in totals["MACs"]["samples"] if frames[s[-1]]["name"] == "dot_general"]
    assert [[frames[f]["name"] for f in s] for s in dots] == [
        ["forward", "net", "dot_general"],
        ["backward", "net", "dot_general"],
    ]
    assert frames[dots[0][-1]]["file"] == __file__


def predicted():
    return costax.predict(step(), "h100-sxm")


def test_a_predictions_flame_graph_adds_up_to_its_seconds():
    found = predicted()
    (profile,) = json.loads(flamegraph.prediction_as_speedscope(found))["profiles"]
    assert profile["unit"] == "seconds"
    assert sum(profile["weights"]) == pytest.approx(found.seconds - found.dispatch)


def test_a_predictions_trace_lasts_as_long_as_it_says():
    found = predicted()
    events = [e for e in json.loads(flamegraph.prediction_as_perfetto(found))["traceEvents"] if e["ph"] == "X"]
    assert len(events) >= len(found.parts)
    # One after the other, without gaps, in microseconds.
    for before, after in itertools.pairwise(events):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])
    assert events[-1]["ts"] + events[-1]["dur"] == pytest.approx(found.seconds * 1e6)
    assert "net" in {e["args"]["scope"] for e in events if "args" in e}


def test_a_prediction_is_saved_by_its_suffix(tmp_path):
    target = "jax.numpy:matmul", "--input", "f32[64,64]", "--input", "f32[64,64]", "--device", "h100-sxm"
    files_ = [tmp_path / f"a{suffix}" for suffix in (".json", ".speedscope.json", ".perfetto.json")]
    saving = [word for path in files_ for word in ("--save", str(path))]
    assert CliRunner().invoke(main, ["predict", *target, *saving]).exit_code == 0
    assert [next(iter(json.loads(path.read_text()))) for path in files_] == ["schema", "$schema", "traceEvents"]
    refused = CliRunner().invoke(main, ["predict", *target, "--save", str(tmp_path / "a.png")])
    assert (refused.exit_code, "Traceback" in refused.stderr) == (2, False)


def test_another_tools_answer_is_printed_by_the_command_line():
    target = "analyze", "jax.numpy:matmul", "--input", "f32[4,8]", "--input", "f32[8,3]"
    shown = CliRunner().invoke(main, [*target, "--as", "torch"])
    assert shown.stdout.splitlines()[-1].split()[:3] == ["=", "torch", "192"]
    told = json.loads(CliRunner().invoke(main, [*target, "--as", "torch", "--json"]).stdout)
    assert (told["count"], told["unit"], told["ours"]) == (192, "FLOPs", 192)
    assert CliRunner().invoke(main, [*target, "--as", "flopper"]).exit_code == 2


# The parts of pprof's profile.proto that a flame graph needs, so that protobuf itself reads the bytes.
FIELDS = {
    "ValueType": [("type", 1, "int64"), ("unit", 2, "int64")],
    "Sample": [("location_id", 1, "uint64*"), ("value", 2, "int64*")],
    "Line": [("function_id", 1, "uint64"), ("line", 2, "int64")],
    "Location": [("id", 1, "uint64"), ("line", 4, "Line*")],
    "Function": [("id", 1, "uint64"), ("name", 2, "int64"), ("system_name", 3, "int64"), ("filename", 4, "int64")],
    "Profile": [
        ("sample_type", 1, "ValueType*"),
        ("sample", 2, "Sample*"),
        ("location", 4, "Location*"),
        ("function", 5, "Function*"),
        ("string_table", 6, "string*"),
        ("default_sample_type", 14, "int64"),
    ],
}


def profile_class():
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="pprof", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            bare = kind.rstrip("*")
            made = message.field.add(name=field, number=number)
            made.label = types.LABEL_REPEATED if kind.endswith("*") else types.LABEL_OPTIONAL
            if bare in FIELDS:
                made.type, made.type_name = types.TYPE_MESSAGE, f".pprof.{bare}"
            else:
                made.type = getattr(types, f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pprof.Profile"))


def test_pprof_profiles_are_read_by_protobuf_and_add_up():
    analysis = step()
    profile = profile_class().FromString(gzip.decompress(flamegraph.as_pprof(analysis)))
    strings = profile.string_table
    assert strings[0] == ""
    kinds = [strings[kind.type] for kind in profile.sample_type]
    sums = {kind: sum(s.value[i] for s in profile.sample) for i, kind in enumerate(kinds)}
    assert sums["FLOPs"] == analysis.total.flops
    assert sums["bytes, unfused"] == analysis.total.bytes_unfused
    functions = {f.id: strings[f.name] for f in profile.function}
    at = {location.id: functions[location.line[0].function_id] for location in profile.location}
    # Leaf first.
    assert ["dot_general", "net", "backward"] in [[at[i] for i in s.location_id] for s in profile.sample]


def test_a_profile_of_a_program_beyond_64_bits_says_its_scale():
    profile = profile_class().FromString(gzip.decompress(flamegraph.as_pprof(analysis_of({"a": 10**24, "b": 5}))))
    assert "FLOPs x 1,000,000" in profile.string_table
    assert profile.sample[0].value[0] == 10**18


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
    assert shown == report_bytes(small(), form)


def report_bytes(analysis: Analysis, form: str) -> bytes:
    contents = report.as_format(form)(analysis)
    return contents.encode() if isinstance(contents, str) else contents


def test_showing_a_record_takes_less_than_a_fifth_of_a_second(tmp_path):
    work = {f"net/layer_{i}/{part}": i + 1 for i in range(200) for part in ("up", "down")}
    analysis_of(work).save(tmp_path / "a.json")

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "costax", "show", str(tmp_path / "a.json")]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, and the best of several: other processes share the machine.
    assert min(seconds() for _ in range(3)) < 0.2


def test_the_formats_of_the_command_line_are_those_of_the_report():
    command = options.formats(lambda: None)
    assert set(command.__click_params__[0].type.choices) == set(report.format_names("Analysis"))


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
