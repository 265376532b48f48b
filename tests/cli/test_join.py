"""`costax join` on the command line."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from click.testing import CliRunner

import traces
from costax.cli.app import main
from traces import DOT, FIRST, written

pytestmark = pytest.mark.once

SCHEMA = json.loads(files("costax.report").joinpath("join.schema.json").read_text())


def run(*words):
    return CliRunner().invoke(main, ["join", *map(str, words)])


@pytest.fixture
def profile(tmp_path):
    return written(tmp_path, "host.xplane.pb", traces.gpu_xplane())


def test_a_profile_alone_is_joined_with_the_module_that_it_embeds(profile):
    done = run("--trace", profile)
    assert done.exit_code == 0, done.output
    assert "joined with a trace: xplane, 2 runs on 1 device" in done.output
    assert "layer_0" in done.output
    assert max(map(len, done.output.split("Time:")[0].splitlines())) <= 80


@pytest.mark.parametrize("by", ["scope", "direction", "primitive", "source", "opcode", "instruction"])
def test_the_table_has_a_line_for_each_place(by, profile):
    done = run("--trace", profile, "--by", by)
    assert done.exit_code == 0, done.output
    expected = {"scope": "layer_0", "direction": "backward", "primitive": "tanh", "source": "net.py:7"}
    assert expected.get(by, {"opcode": "fusion", "instruction": "dot.2"}.get(by)) in done.output


def test_a_direction_and_the_longest_lines_are_chosen(profile):
    done = run("--trace", profile, "--by", "instruction", "--direction", "backward")
    assert "dot.2" in done.output
    assert "loop_fusion.3" not in done.output.split("Time:")[0]
    done = run("--trace", profile, "--by", "instruction", "--top", 1)
    assert "more)" in done.output


def test_the_record_fits_its_schema(profile, tmp_path):
    done = run("--trace", profile, "--json", "--save", tmp_path / "saved.json")
    record = json.loads(done.output)
    jsonschema.validate(record, SCHEMA)
    assert json.loads((tmp_path / "saved.json").read_text()) == record
    assert record["by_instruction"]["dot.2"]["seconds"] == pytest.approx(1.5e-9 * FIRST["dot.2"])
    assert record["by_scope_and_direction"]["net/layer_0"]["backward"]["flops"] == DOT
    assert record["runs"] == 2


def test_the_program_may_be_a_file_a_folder_or_text(profile, tmp_path):
    name = "module_0015.jit_step.gpu_after_optimizations"
    proto = written(tmp_path, f"dump/{name}.hlo.pb", traces.step_module())
    text = written(tmp_path, f"text/{name}.txt", traces.STEP.encode())
    for program in (proto, proto.parent, text, text.parent):
        done = run(program, "--trace", profile, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["total"]["flops"] > 2 * DOT


def test_the_page_and_the_flame_graph_have_the_measured_seconds(profile, tmp_path):
    done = run("--trace", profile, "--save", tmp_path / "j.html", "--save", tmp_path / "j.speedscope.json")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "j.html").read_text()
    data = json.loads(page.partition('<script id="data" type="application/json">')[2].partition("</script>")[0])
    root = data["boxes"][0]
    assert root["parent"] == ""
    inner: dict[str, float] = {}
    for box in data["boxes"][1:]:
        inner[box["parent"]] = inner.get(box["parent"], 0.0) + box["seconds"]
    for box in data["boxes"]:
        # The boxes inside a box fill it.
        assert inner.get(box["id"], box["seconds"]) == pytest.approx(box["seconds"])
    stacks = json.loads((tmp_path / "j.speedscope.json").read_text())["profiles"][0]
    assert sum(stacks["weights"]) == pytest.approx(root["seconds"])


def test_strict_fails_while_time_is_not_joined(profile):
    done = run("--trace", profile, "--strict")
    assert done.exit_code == 1
    assert "1 kernels of the trace have no instruction" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '--trace'"),
        (["--trace", "none.xplane.pb"], "cannot be read: No such file"),
        (["--trace", "{profile}", "--step", "0"], "not in the range"),
        (["--trace", "{profile}", "--save", "x.csv"], "no format of a join has the suffix"),
        (["--trace", "{profile}", "--module", "other"], "There is no module 'other'"),
        (["--trace", "{profile}", "--device", "nothing"], "There is no device 'nothing'"),
        (["--trace", "{profile}", "--trips", "loop=3"], "No loop of unknown length is called 'loop'"),
    ],
)
def test_wrong_usage_is_one_message(words, message, profile):
    done = run(*(word.format(profile=profile) for word in words))
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
