"""Compiled modules as targets of predict, memory, fits, diff, what-if and show, and folders that XLA dumped into."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax import lax
from jax.experimental import serialize_executable

import costax
from costax import _jax
from costax.cli.app import main

# One process of pytest-xdist runs all of them: they share the modules.
pytestmark = pytest.mark.xdist_group("modules")

LAYERS, ROWS, WIDTH = 5, 32, 64
PRODUCTS = 2 * ROWS * WIDTH * WIDTH


def run(*args: object):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def ran(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 0, done.output
    return done.stdout


def program(layers: int):
    def step(weights, x):
        def loss(weights):
            def layer(c, w):
                with jax.named_scope("layer"):
                    return jnp.tanh(c @ w), None

            return jnp.mean(lax.scan(layer, x, weights)[0] ** 2)

        with jax.named_scope("update"):
            return weights - 0.1 * jax.grad(loss)(weights)

    shapes = (jax.ShapeDtypeStruct((layers, WIDTH, WIDTH), "float32"), jax.ShapeDtypeStruct((ROWS, WIDTH), "float32"))
    return jax.jit(step, donate_argnums=0).lower(*shapes)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Files: the module before and after optimisation, as proto and as text, and one with a layer more."""
    folder = tmp_path_factory.mktemp("modules")
    lowered = program(LAYERS)
    compiled = lowered.compile()
    (folder / "before.hlo.pb").write_bytes(_jax.hlo_of(lowered))
    (folder / "after.hlo.pb").write_bytes(_jax.hlo_of(compiled))
    (folder / "after.txt").write_text(compiled.as_text())
    (folder / "more.hlo.pb").write_bytes(_jax.hlo_of(program(LAYERS + 1).compile()))
    (folder / "executable").write_bytes(serialize_executable.serialize(compiled)[0])
    return folder


FILES = ("before.hlo.pb", "after.hlo.pb", "after.txt", "executable")


@pytest.mark.parametrize("name", FILES)
def test_every_command_takes_every_form(modules, name):
    path = modules / name
    predicted = json.loads(ran("predict", path, "--device", "h100-sxm", "--json"))
    assert sum(group["flops"] * group["times"] for group in predicted["groups"]) == predicted["flops"]
    assert 3 * LAYERS * PRODUCTS <= predicted["flops"] < 1.05 * 3 * LAYERS * PRODUCTS
    remembered = json.loads(ran("memory", path, "--json"))
    assert remembered["bytes_by_kind"]["arguments"] == 4 * (LAYERS * WIDTH * WIDTH + ROWS * WIDTH)
    assert remembered["is_estimate"]
    fitted = json.loads(ran("fits", path, "--device", "h100-sxm", "--json"))
    assert fitted["needed"] == remembered["peak_bytes"] if "needed" in fitted else True
    assert "same" in ran("diff", path, path)
    assert "executed" in ran("show", path)


@pytest.mark.parametrize(("by", "word"), [("scope", "layer"), ("opcode", "fusion"), ("source", "test_modules.py:")])
def test_predict_sums_by_scope_opcode_and_source(modules, by, word):
    assert word in ran("predict", modules / "after.hlo.pb", "--device", "h100-sxm", "--by", by)


@pytest.mark.parametrize("name", FILES)
def test_analyze_and_predict_name_the_same_layers(modules, name):
    analysed = json.loads(ran("analyze", modules / name, "--json"))["by_scope"]
    groups = json.loads(ran("predict", modules / name, "--device", "h100-sxm", "--json"))["groups"]
    layers = {"update", "update/layer"}
    assert layers <= {group["scope"] for group in groups} <= set(analysed) <= layers | {""}
    executed = analysed["update/layer"]["executed"]["flops"]
    assert 3 * LAYERS * PRODUCTS <= executed < 1.05 * 3 * LAYERS * PRODUCTS


def test_what_if_says_what_a_module_does_not_know(modules):
    done = run("what-if", modules / "after.hlo.pb", "--weights", "int8")
    assert done.exit_code == 2
    assert "which of its arguments are weights" in done.stderr


def test_a_module_is_saved_in_every_format(modules, tmp_path):
    names = [tmp_path / f"module.{suffix}" for suffix in ("json", "md", "csv", "html")]
    ran("show", modules / "after.hlo.pb", *(x for name in names for x in ("--save", name)))
    record = json.loads(names[0].read_text())
    with names[2].open() as file:
        lines = list(csv.DictReader(file))
    assert sum(int(line["executed_flops"]) for line in lines) == record["executed"]["flops"]
    assert f"{record['executed']['flops']:,}" in names[1].read_text()
    page = names[3].read_text()
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert data["trees"]["full"]["t"][0] == record["executed"]["flops"]
    assert data["memory"]["fused"]["alive"]

    def check(node):
        for child in node.get("c", ()):
            check(child)
        if "c" in node:
            sums = [sum(child["t"][i] for child in node["c"]) for i in range(len(node["t"]))]
            assert node["t"] == pytest.approx(sums)

    check(data["trees"]["full"])
    for lines_ in data["tables"].values():
        assert sum(line["t"][0] for line in lines_) == record["executed"]["flops"]


@pytest.mark.parametrize("suffix", ["json", "speedscope.json", "perfetto.json", "pbtxt"])
def test_the_prediction_of_a_module_is_saved_in_every_format(modules, tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    ran("predict", modules / "after.hlo.pb", "--device", "h100-sxm", "--save", path)
    assert path.stat().st_size
    if suffix == "speedscope.json":
        (profile,) = json.loads(path.read_text())["profiles"]
        whole = costax.predict(costax.analyze(program(LAYERS).compile())(), "h100-sxm")
        assert sum(profile["weights"]) == pytest.approx(whole.seconds - whole.dispatch)


@pytest.mark.parametrize("name", FILES)
def test_the_layers_of_the_memory_add_up_to_the_peak(modules, name):
    record = json.loads(ran("memory", modules / name, "--json"))
    rows = sum(record["live_by_scope"].values()) + record["unnamed_bytes"]
    assert rows == record["peak_bytes"] == sum(record["bytes_by_kind"].values())
    table = ran("memory", modules / name)
    assert ("(the rest" in table) == (record["unnamed_bytes"] > 0)
    assert ("share)" in table) == (record["unnamed_bytes"] < 0)


@pytest.mark.parametrize("command", [("memory",), ("fits", "--device", "h100-sxm"), ("diff",)])
def test_memory_fits_and_diff_save_nothing(modules, tmp_path, command):
    path = modules / "after.hlo.pb"
    targets = (path, path) if command == ("diff",) else (path,)
    done = run(command[0], *targets, *command[1:], "--save", tmp_path / "x.html")
    assert done.exit_code == 2
    assert "--save" in done.stderr
    assert json.loads(ran(command[0], *targets, *command[1:], "--json"))


def test_a_record_of_another_kind_says_what_it_is(modules, tmp_path):
    path = tmp_path / "o.json"
    ran("predict", modules / "after.hlo.pb", "--device", "h100-sxm", "--save", path)
    shown = run("show", path)
    assert shown.exit_code == 2
    assert "'costax/prediction/1'" in shown.stderr
    assert "analyze and compare" in shown.stderr
    assert "Save it again" not in shown.stderr
    predicted = run("predict", path, "--device", "h100-sxm")
    assert "not the program" in predicted.stderr
    assert "HLO" not in predicted.stderr
    measured = run("measure", modules / "after.hlo.pb")
    assert "predict, memory, fits" in measured.stderr


def test_the_layers_of_a_diff_sum_to_the_totals_and_have_the_count_by_hand(modules):
    found = json.loads(ran("diff", modules / "after.hlo.pb", modules / "more.hlo.pb", "--json"))
    for field, total in found["total"].items():
        if field != "scope":
            assert sum(layer[field]["delta"] for layer in found["layers"]) == total["delta"], field
    (layer,) = (x for x in found["layers"] if x["scope"] == "update/layer")
    # A layer more is three products, the tanh gradient and a few scalars of the loop.
    assert 3 * PRODUCTS <= layer["executed_flops"]["delta"] < 1.05 * 3 * PRODUCTS
    assert any(buffer["bytes"]["delta"] > 0 for buffer in found["buffers"])


@pytest.mark.parametrize(
    ("threshold", "fails"),
    [
        ("executed_flops > +1%", True),
        ("executed_flops > +30%", False),
        ("kernels > +0", True),
        ("hbm_bytes > 1 TB", False),
        ("temp_bytes > +0", True),
        ("collective_bytes > +0", False),
    ],
)
def test_thresholds_take_the_fields_of_modules(modules, threshold, fails):
    done = run("diff", modules / "after.hlo.pb", modules / "more.hlo.pb", "--fail-on", threshold)
    assert done.exit_code == int(fails), done.output
    assert (threshold in done.stderr) is fails
    assert run("diff", modules / "after.hlo.pb", modules / "after.hlo.pb", "--fail-on", threshold).exit_code == 0


@pytest.mark.parametrize(
    "arguments", [("--fail-on", "flops > +1%"), ("--fail-on", "executed_flops > +1 GiB"), ("--field", "macs")]
)
def test_a_field_or_unit_of_programs_is_refused(modules, arguments):
    done = run("diff", modules / "after.hlo.pb", modules / "more.hlo.pb", *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_a_module_and_a_program_do_not_compare(modules):
    done = run("diff", modules / "after.hlo.pb", "jax.numpy:sin")
    assert done.exit_code == 2
    assert "no HLO file" in done.stderr


def test_budgets_take_the_same_names_for_modules_and_comparisons(modules):
    module = costax.analyze(modules / "after.hlo.pb")()
    flops = module.executed.flops
    module.check(costax.Budget(executed_flops=flops, kernels=1000))
    with pytest.raises(costax.errors.BudgetError, match="over its budget in executed_flops"):
        module.check(costax.Budget(executed_flops=flops - 1))
    with pytest.raises(costax.errors.BudgetError, match="params of"):
        module.check(costax.Budget(params=1))
    x = jax.ShapeDtypeStruct((16, 16), "float32")
    comparison = costax.compare(lambda x: jnp.tanh(x @ x), passes=False)(x)
    comparison.check(costax.Budget(executed_flops=2 * 16**3, temp_bytes="1 MiB", kernels=5, macs=16**3))
    with pytest.raises(costax.errors.BudgetError, match="executed_flops"):
        comparison.check(costax.Budget(executed_flops=2 * 16**3 - 1))
    with pytest.raises(costax.errors.BudgetError, match="macs"):
        comparison.check(costax.Budget(macs=16**3 - 1))
    with pytest.raises(costax.errors.BudgetError, match="not compiled"):
        comparison.jaxpr.check(costax.Budget(kernels=5))


def test_a_module_of_a_folder_is_chosen_by_name_or_size(modules, tmp_path):
    for i, name in enumerate(("after", "more", "after")):
        shutil.copy(modules / f"{name}.hlo.pb", tmp_path / f"module_000{i}.jit_step.cpu_after_optimizations.hlo.pb")
        shutil.copy(modules / "before.hlo.pb", tmp_path / f"module_000{i}.jit_step.before_optimizations.hlo.pb")
    named = json.loads(ran("memory", tmp_path, "--module", "module_0001.jit_step", "--json"))
    assert named["bytes_by_kind"] == json.loads(ran("memory", modules / "more.hlo.pb", "--json"))["bytes_by_kind"]
    largest = run("memory", tmp_path)
    assert largest.exit_code == 0
    assert "the largest of 3 modules" in largest.stderr
    # Three modules of the same name.
    done = run("predict", tmp_path, "--module", "jit_step", "--device", "h100-sxm")
    assert done.exit_code == 2
    assert "3 modules have 'jit_step' in the name" in done.stderr
    assert "module_0002.jit_step" in done.stderr
    assert run("fits", tmp_path, "--module", "nowhere", "--device", "h100-sxm").exit_code == 2
    assert costax.analyze(tmp_path)().name == "jit_step"
    assert "jit_step" in ran("analyze", tmp_path, "--module", "module_0001.jit_step")


@pytest.mark.parametrize("contents", [{}, {"a.json": b'{"schema": "costax/analysis/1"}', "b.json": b"{}"}])
def test_a_folder_without_a_module_is_one_clear_message(tmp_path, contents):
    for name, text in contents.items():
        (tmp_path / name).write_bytes(text)
    for command in (("memory",), ("predict", "--device", "h100-sxm"), ("fits", "--device", "h100-sxm"), ("show",)):
        done = run(command[0], tmp_path, *command[1:])
        assert done.exit_code == 2
        assert done.stderr.startswith("HloError: The folder")
        assert "2 .json" in done.stderr if contents else "it is empty" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--device", "h100-sxm", "--xla"),
        ("predict", "--device", "h100-sxm", "--input", "f32[2]"),
        ("predict", "--device", "h100-sxm", "--module", "x"),
        ("memory", "--fused"),
        ("fits", "--device", "h100-sxm", "--xla"),
        ("show", "--top", "3"),
        ("show", "--format", "pprof"),
    ],
    ids=" ".join,
)
def test_an_option_that_does_nothing_for_a_module_is_refused(modules, arguments):
    command, *options = arguments
    done = run(command, modules / "after.hlo.pb", *options)
    assert done.exit_code == 2
    assert re.search(r"does not apply|applies to a folder", done.stderr)


def test_a_pickle_of_something_else_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "executable"
    path.write_bytes(pickle.dumps(Trap()))
    done = run("analyze", path)
    assert done.exit_code == 2
    assert "executed" not in done.stdout
    assert "a pickle without a module" in done.stderr


@pytest.mark.parametrize("kept", [40, 200, 1000])
def test_a_truncated_executable_is_one_clear_message(modules, tmp_path, kept):
    path = tmp_path / "executable"
    path.write_bytes((modules / "executable").read_bytes()[:kept])
    done = run("predict", path, "--device", "h100-sxm")
    assert done.exit_code == 2
    assert done.stderr.startswith("HloError: ")


def test_the_record_of_a_module_shows_the_same_tables_as_the_module(modules, tmp_path):
    path = modules / "after.hlo.pb"
    saved, again = tmp_path / "m.json", tmp_path / "again.json"
    ran("analyze", path, "--save", saved)
    for choice in ((), ("--format", "markdown"), ("--strict",)):
        assert ran("show", saved, *choice) == ran("show", path, *choice)
    assert ran("show", saved, "--by", "opcode") == ran("analyze", path, "--by", "opcode")
    assert f"bytes accessed   {costax.analyze(path)().total.bytes:,}" in ran("show", saved)
    ran("show", saved, "--save", again)
    assert again.read_text() == saved.read_text()
    record = json.loads(saved.read_text())
    record["total"]["flops"] += 1
    saved.write_text(json.dumps(record))
    refused = run("show", saved)
    assert refused.exit_code == 2
    assert "is not the total" in refused.stderr


def test_a_prediction_is_saved_as_a_table_of_its_kernels(modules, tmp_path):
    path = modules / "after.hlo.pb"
    table, page = tmp_path / "p.csv", tmp_path / "p.md"
    ran("predict", path, "--device", "h100-sxm", "--save", table, "--save", page)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    predicted = costax.predict(costax.analyze(path)(), "h100-sxm")
    assert len(rows) == len(predicted.parts)
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(sum(part.seconds for part in predicted.parts))
    assert sum(int(row["runs"]) * int(row["flops"]) for row in rows) == predicted.flops
    assert "on NVIDIA H100" in page.read_text().splitlines()[0]
