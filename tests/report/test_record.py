"""Records: what is saved comes back, and what is not a record is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import jax
import jax.numpy as jnp
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from costax import report
from costax.analysis.analysis import Analysis
from costax.core.cost import FIELDS, KINDS, Cost
from costax.core.unfinished_files import write
from costax.errors import MissingRuleError, RecordError
from costax.program.tree import DIRECTIONS, Row
from costax.report.record import from_record, to_record

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

SCHEMA = json.loads(files("costax.report").joinpath("analysis.schema.json").read_text())
TABLES = ("by_scope", "by_primitive", "by_scope_and_primitive", "by_source", "by_dtype", "by_direction")


def loss(params, x):
    with jax.named_scope("encoder"):
        h = jnp.tanh(x @ params["w"])
        with jax.named_scope("mlp"):
            h = (h @ params["w"]).astype("bfloat16")
    with jax.named_scope("solver"):
        h = lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: c * 2, h)
    _dead = jnp.exp(x) @ params["w"]
    return jnp.sum(lax.fori_loop(0, 10, lambda i, c: c + 1, h).astype("float32"))


def an_analysis(**options) -> Analysis:
    params = {"w": costax.spec("f32[8,8]")}
    return costax.analyze(loss, params_argnums=0, **options)(params, x=costax.spec("f32[4,8]"))


def with_numbers() -> Analysis:
    """An analysis whose loop has an answer, so that every count is an integer."""
    return an_analysis(trips={"*": 3})


def saved_and_loaded(analysis: Analysis, tmp_path) -> Analysis:
    report.save(analysis, tmp_path / "a.json")
    return costax.load(tmp_path / "a.json")


def test_every_table_of_a_loaded_record_equals_the_original(tmp_path):
    saved = an_analysis()
    loaded = saved_and_loaded(saved, tmp_path)
    for name in TABLES:
        assert getattr(loaded, name)() == getattr(saved, name)()
        assert list(getattr(loaded, name)()) == list(getattr(saved, name)())


def test_every_answer_of_a_loaded_record_equals_the_original(tmp_path):
    saved = an_analysis()
    loaded = saved_and_loaded(saved, tmp_path)
    for name in (
        "name", "total", "per_device", "devices", "params", "param_bytes", "parameters", "exact", "unknowns",
        "uncounted", "dead_code", "inputs", "versions",
    ):  # fmt: skip
        assert getattr(loaded, name) == getattr(saved, name), name
    assert str(loaded) == str(saved)
    assert to_record(loaded) == to_record(saved)


def test_a_gradient_keeps_its_directions(tmp_path):
    analysis = costax.analyze(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))))(
        costax.spec("f32[8,3]"), costax.spec("f32[4,8]")
    )
    assert saved_and_loaded(analysis, tmp_path).by_direction() == analysis.by_direction()
    assert set(analysis.by_direction()) >= {"forward", "backward"}


def test_the_record_fits_its_published_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(to_record(an_analysis()), SCHEMA)


def test_the_schema_names_every_field_and_kind():
    assert SCHEMA["$defs"]["fields"]["required"] == list(FIELDS)
    assert set(SCHEMA["$defs"]["counts"]["propertyNames"]["enum"]) == set(KINDS)
    assert set(SCHEMA["required"]) == set(to_record(an_analysis())) == set(SCHEMA["properties"])


def test_scopes_of_the_tree_equal_own_and_children():
    def check(node):
        for field in FIELDS:
            assert node["total"][field] == node["own"][field] + sum(c["total"][field] for c in node["children"])
        for child in node["children"]:
            check(child)

    record = to_record(with_numbers())
    check(record["tree"])
    assert {field: record["total"][field] for field in FIELDS} == record["tree"]["total"]
    assert record["tree"]["params"] == record["params"] == 8 * 8


# `jsonschema.validate` would check the schema again each time.
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
names = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=4)
costs = st.dictionaries(
    st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(["f32", "i8*i8->i32", "key<fry>"])),
    st.integers(0, 10**60),
    max_size=3,
).map(Cost)
rows = st.dictionaries(
    st.builds(Row, st.lists(names, max_size=3).map(tuple), st.sampled_from(DIRECTIONS), names, st.text(max_size=5)),
    costs,
    max_size=5,
)


@pytest.mark.slow
@settings(deadline=None)  # other processes share the machine
@given(rows)
def test_any_rows_survive_json(table):
    saved = Analysis("any", Cost.sum(table.values()), saved_rows=table)
    record = json.loads(json.dumps(to_record(saved)))
    VALIDATOR.validate(record)
    assert from_record(record).rows == table
    assert from_record(record).total == saved.total


def test_integers_beyond_a_double_are_exact(tmp_path):
    big = 2**64 * 10**30 + 1
    row = Row(("a",), "forward", "dot_general", "")
    saved = Analysis("big", Cost.macs_of("f32", big), saved_rows={row: Cost.macs_of("f32", big)})
    assert saved_and_loaded(saved, tmp_path).total.flops == 2 * big


def test_showing_a_record_imports_no_jax(tmp_path):
    report.save(an_analysis(), tmp_path / "a.json")
    code = (
        "import sys, costax; a = costax.load(sys.argv[1]); str(a); a.save(sys.argv[2]);"
        "sys.exit(int(any(m.partition('.')[0] in ('jax', 'jaxlib', 'numpy') for m in sys.modules)))"
    )
    paths = [str(tmp_path / "a.json"), str(tmp_path / "b.md")]
    subprocess.run([sys.executable, "-W", "error", "-c", code, *paths], check=True)
    assert (tmp_path / "b.md").is_file()


@pytest.mark.parametrize("suffix", [".json", ".md", ".csv"])
def test_a_suffix_names_the_format(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    an_analysis().save(path)
    text = path.read_text()
    assert "dot_general" in text or "| encoder |" in text
    assert os.listdir(tmp_path) == [path.name]


def test_csv_lines_add_up_to_the_total(tmp_path):
    import csv

    analysis = with_numbers()
    analysis.save(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        lines = list(csv.DictReader(file))
    for field in FIELDS:
        assert sum(int(line[field]) for line in lines) == getattr(analysis.total, field)


def test_saving_replaces_a_file_whole_or_leaves_it(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RecordError, match="No space left"):
        an_analysis().save(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.json"]


def test_many_threads_save_one_file(tmp_path):
    path = tmp_path / "a.json"
    (tmp_path / f".a.json.{os.getpid()}.tmp").write_text("left by another process of the same number")
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(write, path, str(n % 10) * 1000) for n in range(200)]
        assert [save.result() for save in done] == [None] * 200
    assert len(set(path.read_text())) == 1
    assert len(path.read_text()) == 1000
    assert sorted(found.name for found in tmp_path.iterdir()) == [f".a.json.{os.getpid()}.tmp", "a.json"]


def test_pipes_and_devices_are_no_records(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", "/dev/zero", "/dev/full"):
        with pytest.raises(RecordError, match="cannot be read: it is no regular file"):
            costax.load(path)
    with pytest.raises(RecordError, match="cannot be read: Is a directory"):
        costax.load(tmp_path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(RecordError, match="it has 2,147,483,648 bytes, and 1,073,741,824 is the limit"):
        costax.load(tmp_path / "a.json")


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(RecordError, match="no regular file"):
        write(pipe, "text")
    assert pipe.is_fifo()


def test_saving_follows_a_link(tmp_path):
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    an_analysis().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert costax.load(tmp_path / "real.json").params == 64


def broken(**changes):
    record = to_record(an_analysis())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = record
        for part in parents:
            place = place[int(part) if part.isdecimal() else part]
        place[last] = value
    return record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "costax/analysis/3"}, "written by a newer costax"),
        ({"schema": "costax/analysis/one"}, "the schema 'costax/analysis/one' does not exist"),
        ({"schema": "fvcore/flops"}, "its schema is 'fvcore/flops'"),
        ({"schema": None}, "it has no schema"),
        ({"rows": {}}, "rows is {}, not a list"),
        ({"rows__0__counts": {"mac": {"f32": 1.5}}}, r"rows\[0\].counts.mac.f32 is 1.5, not an integer"),
        ({"rows__0__counts": {"mac": {"f32": True}}}, r"rows\[0\].counts.mac.f32 is True, not an integer"),
        ({"rows__0__counts": {"teraflops": {"f32": 1}}}, "unknown kind 'teraflops'"),
        ({"rows__0__counts": {"mac": {"f32": 10**9}}}, "the sum of the rows is not the total"),
        ({"rows__0__direction": "sideways"}, "'sideways', not one of forward"),
        ({"rows__0__scope": ["a"]}, r"rows\[0\].scope is \['a'\], not a string"),
        ({"total": 7}, "total is 7, not an object"),
        ({"inputs__0__shape": [4, "x"]}, r"inputs\[0\].shape\[1\] is 'x', neither an integer nor a formula"),
        ({"parameters": 3}, "parameters is 3, not a list"),
        ({"devices": "8"}, "devices is '8', not an integer"),
        ({"versions": {"jax": 10}}, "versions.jax is 10, not a string"),
    ],
)
def test_a_malformed_record_is_refused_by_the_place_of_its_fault(changes, message):
    with pytest.raises(RecordError, match=message):
        from_record(broken(**changes))


@given(st.data())
def test_a_record_that_lacks_a_field_is_refused(data):
    record = to_record(an_analysis_once())
    # What can be worked out from the rest may be missing.
    derived = {"params", "param_bytes", "exact", "tree"}
    field = data.draw(st.sampled_from(sorted(set(record) - derived)))
    del record[field]
    with pytest.raises(RecordError, match=field):
        from_record(record)


def an_analysis_once(_kept: list[Analysis] = []) -> Analysis:  # noqa: B006 (kept on purpose: tracing is slow)
    return (_kept or _kept.append(an_analysis()) or _kept)[0]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0\1\2", "[]", "3", "null", '{"schema": 1}', "1" * 5000])
def test_a_file_that_holds_no_record_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RecordError, match=r"a\.json"):
        costax.load(tmp_path / "a.json")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(bytes(range(128, 256)))
    with pytest.raises(RecordError, match="is not JSON"):
        costax.load(tmp_path / "a.json")


def test_errors_travel_between_processes():
    with pytest.raises(RecordError) as caught:
        from_record({})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.cure, type(copy)) == (str(caught.value), caught.value.cure, RecordError)
    missing = MissingRuleError([costax.errors.Missing("p", "here:1", "f32[]", "f32[]", "")])
    copy = pickle.loads(pickle.dumps(missing))
    assert (str(copy), copy.missing) == (str(missing), missing.missing)
