"""`costax diff` of compiled programs in every form: files, records of modules, records of comparisons."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax import lax

import costax
from costax.analysis.compiled_counts import COMPILED
from costax.cli.app import main
from costax.report import load_any, load_module

pytestmark = pytest.mark.xdist_group("modules")

ROWS, WIDTH = 32, 64
PRODUCTS = 2 * ROWS * WIDTH * WIDTH


def run(*args: object):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def ran(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 0, done.output
    return done.stdout


def step(weights, x):
    def loss(weights):
        def layer(c, w):
            with jax.named_scope("layer"):
                return jnp.tanh(c @ w), None

        return jnp.mean(lax.scan(layer, x, weights)[0] ** 2)

    with jax.named_scope("update"):
        return weights - 0.1 * jax.grad(loss)(weights)


def shapes(layers: int):
    return jax.ShapeDtypeStruct((layers, WIDTH, WIDTH), "float32"), jax.ShapeDtypeStruct((ROWS, WIDTH), "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For 5 and for 6 layers: the module, its record and the record of the comparison of its program."""
    folder = tmp_path_factory.mktemp("diffs")
    # jax traces its own functions once for each shape: in another test's trace they have that test's lines.
    jax.clear_caches()
    for layers in (5, 6):
        compiled = jax.jit(step).lower(*shapes(layers)).compile()
        costax.analyze(compiled)().save(folder / f"stage{layers}.json")
        costax.compare(step, passes=False)(*shapes(layers)).save(folder / f"compared{layers}.json")
        (folder / f"module{layers}.txt").write_text(compiled.as_text())
        ran("analyze", folder / f"module{layers}.txt", "--save", folder / f"module{layers}.json")
    costax.analyze(step)(*shapes(5)).save(folder / "program.json")
    return folder


def difference(before, after, *options):
    return json.loads(ran("diff", before, after, "--json", *options))


@pytest.mark.parametrize(("before", "after"), [("json", "json"), ("txt", "json"), ("json", "txt")])
def test_the_record_of_a_module_gives_the_difference_of_the_module(folder, before, after):
    files = difference(folder / "module5.txt", folder / "module6.txt")
    assert difference(folder / f"module5.{before}", folder / f"module6.{after}") == files
    # A layer more is three products, in one scope.
    (layer,) = (x for x in files["layers"] if x["scope"] == "update/layer")
    assert 3 * PRODUCTS <= layer["executed_flops"]["delta"] < 1.05 * 3 * PRODUCTS
    for field in COMPILED:
        assert sum(x[field]["delta"] for x in files["layers"]) == files["total"][field]["delta"]


@pytest.mark.parametrize(("before", "after"), [("stage", "compared"), ("compared", "stage"), ("compared", "compared")])
def test_a_comparison_stands_for_its_compiled_program(folder, before, after):
    options = ("--field", "kernels") if before == after else ()
    stages = difference(folder / "stage5.json", folder / "stage6.json")
    assert difference(folder / f"{before}5.json", folder / f"{after}6.json", *options) == stages
    assert stages["total"]["executed_flops"]["delta"] >= 3 * PRODUCTS
    assert stages["buffers"]


@pytest.mark.parametrize(
    ("threshold", "fails"),
    [
        ("executed_flops > +1%", True),
        ("executed_flops > +30%", False),
        ("kernels > +0", True),
        ("temp_bytes > +0", True),
    ],
)
@pytest.mark.parametrize("names", [("module5.txt", "compared6.json"), ("compared5.json", "compared6.json")])
def test_thresholds_hold_for_records(folder, names, threshold, fails):
    done = run("diff", *(folder / name for name in names), "--fail-on", threshold)
    if threshold.startswith("temp") and names[0].endswith("txt"):
        return
    assert done.exit_code == int(fails), done.output
    assert (threshold in done.stderr) is fails


def test_thresholds_of_programs_and_of_compiled_programs_are_checked_together(folder):
    records = folder / "compared5.json", folder / "compared6.json"
    done = run("diff", *records, "--fail-on", "macs > +1%", "--fail-on", "kernels > +0", "--fail-on", "kernels > 1 M")
    assert done.exit_code == 1
    assert "macs > +1%" in done.stderr
    assert "kernels > +0" in done.stderr
    assert "1 M" not in done.stderr
    assert "passes" in json.loads(ran("diff", *records, "--json"))


def test_the_difference_by_level_is_that_of_the_modules(folder):
    files = difference(folder / "module5.txt", folder / "module6.txt", "--depth", "1")
    assert difference(folder / "module5.json", folder / "module6.json", "--depth", "1") == files
    assert {x["scope"] for x in files["layers"]} == {"", "update"}


def test_programs_comparisons_and_modules_from_python(folder):
    jax.clear_caches()
    compared = costax.compare(step, passes=False)(*shapes(5))
    module = costax.analyze(jax.jit(step).lower(*shapes(5)).compile())()
    found = costax.diff(compared, module)
    assert not found.buffers
    assert not any(layer.changed for layer in found.layers())
    assert found.total.change("executed_flops").before == compared.compiled.executed.flops > 15 * PRODUCTS
    assert load_any(folder / "compared5.json").summary == compared.summary == module.summary
    assert load_module(folder / "stage5.json").summary == module.summary
    with pytest.raises(costax.errors.InputError, match="is a module and"):
        costax.diff(module, compared.jaxpr)


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("module5.json", "program.json"), (), "is the record of a program that is not compiled"),
        (("compared5.json", "program.json"), ("--fail-on", "kernels > +0"), "costax compare TARGET --save"),
        (("module5.txt", "nothing.json"), (), "cannot be read"),
        (("module5.json", "module6.json"), ("--no-merge",), "do not apply to compiled programs"),
        (("compared5.json", "compared6.json"), ("--field", "kernels", "--field", "macs"), "fields of programs or"),
        (("module5.json", "module6.json"), ("--trips", "x=3"), "No loop of unknown length is called 'x'"),
        (("module5.json", "module6.json"), ("--field", "macs"), "fields of compiled programs"),
    ],
)
def test_what_does_not_compare_is_one_message_with_the_way(folder, names, options, words):
    done = run("diff", *(folder / name for name in names), *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_a_record_of_an_older_costax_says_to_save_it_again(folder, tmp_path):
    for name in ("module5", "compared5"):
        record = json.loads((folder / f"{name}.json").read_text())
        del record["by_layer"]
        old = tmp_path / f"{name}.json"
        old.write_text(json.dumps(record))
        ran("show", old)
        done = run("diff", old, folder / "module6.txt")
        assert done.exit_code == 2
        assert "Save it again" in done.stderr


def test_a_falsified_record_is_noticed(folder, tmp_path):
    record = json.loads((folder / "module5.json").read_text())
    record["by_layer"]["counts"]["update"]["executed_flops"] += 1
    path = tmp_path / "false.json"
    path.write_text(json.dumps(record))
    done = run("diff", path, folder / "module6.json")
    assert done.exit_code == 2
    assert "the sum of by_layer is not the total" in done.stderr


def test_the_trip_count_of_a_record_is_set_where_it_is_saved(tmp_path):
    def halve(x):
        return lax.while_loop(lambda y: jnp.sum(y) > 1, lambda y: y @ y, x)

    x = jax.ShapeDtypeStruct((16, 16), "float32")
    compiled = jax.jit(halve).lower(x).compile()
    open_module = costax.analyze(compiled)()
    (loop,) = open_module.unknown_loops
    path, fixed = tmp_path / "open.json", tmp_path / "fixed.json"
    open_module.save(path)
    costax.analyze(compiled, trips={loop.name: 10})().save(fixed)
    done = run("diff", path, path, "--trips", f"{loop.name}=10")
    assert done.exit_code == 2
    assert "which is a record" in done.stderr
    # What a threshold asks for is not known.
    assert run("diff", path, fixed, "--fail-on", "executed_flops > +1%").exit_code == 1
    found = difference(path, fixed)["total"]["executed_flops"]
    assert found["delta"] >= 9 * 2 * 16**3
