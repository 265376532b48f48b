"""What each pass of XLA did to the cost of a module, read from the modules that XLA dumps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax import lax

import costax
from costax._jax import hlo_text as xla_text
from costax.cli import main
from costax.compare import comparison as comparison_module
from costax.compare import dumping
from costax.compare.causes import COMPILED
from costax.compare.passes import PLAIN, read_passes
from costax.errors import HloError, InputError, RecordError
from costax.hlo.files import module_of
from costax.hlo.read import read_bytes
from costax.hlo.replay import replay_module
from costax.hlo.series import ModuleSeries

F32 = "float32"


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, F32)


def layers(x, w):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        x = jnp.tanh(x @ w)
    return x.sum()


def recurrent(x, w):
    def step(carry, row):
        return jnp.tanh(carry @ w + row), carry.sum()

    carry, sums = lax.scan(step, x[0], x)
    return carry.sum() + sums.sum()


def branches(x, w):
    return lax.cond(x.sum() > 0, lambda x: jnp.tanh(x @ w), lambda x: x @ w @ w, x).sum()


def twice(x, w):
    # Both products are the same: XLA merges them.
    return jnp.tanh(x @ w) + jnp.sin(x @ w)


PROGRAMS = {
    "gradient": (jax.grad(layers), spec(32, 16), spec(16, 16)),
    "scan": (jax.grad(recurrent), spec(8, 16), spec(16, 16)),
    "cond": (branches, spec(32, 16), spec(16, 16)),
    "convolution": (
        lambda x, k: lax.conv(x, k, (2, 2), "SAME").sum(),
        jax.ShapeDtypeStruct((2, 3, 16, 16), F32),
        jax.ShapeDtypeStruct((4, 3, 3, 3), F32),
    ),
    "merged": (twice, spec(8, 16), spec(16, 8)),
}
OPTIONS = {"xla_dump_hlo_pass_re": ".*", "xla_dump_hlo_as_proto": True, "xla_dump_emitter_re": "none"}


def dump(folder: Path, fn, *args):
    lowered = jax.jit(fn).lower(*args)
    compiled = lowered.compile(compiler_options={"xla_dump_to": str(folder), **OPTIONS})
    for path in folder.iterdir():
        if not path.name.endswith(".hlo.pb"):
            path.unlink()
    return lowered, compiled


@pytest.fixture(scope="module", params=PROGRAMS)
def dumped(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    fn, *args = PROGRAMS[request.param]
    return folder, *dump(folder, fn, *args)


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    dump(folder, *PROGRAMS["merged"])
    return folder


def versions(folder: Path) -> list[Path]:
    numbered = sorted(path for path in folder.iterdir() if ".after_" in path.name)
    first = [path for path in folder.iterdir() if "before_optimizations" in path.name]
    last = [path for path in folder.iterdir() if "after_optimizations" in path.name]
    return [*first, *numbered, *last]


def test_every_version_costs_what_a_full_replay_says(dumped):
    folder, *_ = dumped
    series = ModuleSeries()
    assert len(versions(folder)) > 10
    for path in versions(folder):
        contents = module_of(path)
        assert series.add(contents).total == replay_module(read_bytes(contents)).total, path.name


def test_the_steps_lead_from_the_lowered_to_the_compiled_count(dumped):
    folder, lowered, compiled = dumped
    trail = read_passes(folder)
    for i in range(3):
        assert trail.before[i] + sum(step.cost[i] for step in trail.steps) == trail.after[i]
    for totals, stage in ((trail.before, lowered), (trail.after, compiled)):
        found = stage.cost_analysis()
        reported = found if isinstance(found, dict) else found[0]
        assert totals.flops == pytest.approx(reported["flops"], rel=1e-6)
        assert totals.bytes == pytest.approx(reported["bytes accessed"], rel=1e-6)


def test_the_scopes_of_a_step_add_up_to_it(dumped):
    folder, *_ = dumped
    for step in read_passes(folder).steps:
        for i in range(3):
            assert sum(cost[i] for cost in step.scopes.values()) == step.cost[i]


def test_the_instructions_of_a_step_add_up_to_it(dumped):
    folder, *_ = dumped
    trail = read_passes(folder)
    for step in trail.steps:
        assert step.added + step.removed + step.changed == len(step.changes)
        for change in step.changes:
            for i in range(3):
                assert sum(cost[i] for cost in change.owners.values()) == change.cost[i]
                assert sum(cost[i] for cost in change.scopes.values()) == change.cost[i]
        for i in range(3):
            assert sum(change.cost[i] for change in step.changes) == step.cost[i]
    for name, cost in trail.by_pass().items():
        changes = trail.changes(name)
        assert tuple(sum(change.cost[i] for change in changes) for i in range(3)) == cost
        assert all(change.before or change.after for change in changes)


def test_the_instructions_that_a_pass_changed_stand_in_the_modules_before_and_after_it(merged):
    """The text of each instruction is compared with what XLA itself writes for the module."""

    def lines(path: Path) -> dict[str, str]:
        found = (line.strip().removeprefix("ROOT ") for line in xla_text(module_of(path)).splitlines())
        return {line.split(" = ")[0].removeprefix("%"): line for line in found if " = " in line}

    paths = {path.name: path for path in versions(merged)}
    names, compared = list(paths), []
    trail = read_passes(merged)
    for step in trail.steps:
        # A pass that ran once has one module after it, and the one before that is the module before it.
        runs = [name for name in names if f".after_{step.name}." in name]
        if len(runs) != 1:
            continue
        then, now = lines(paths[names[names.index(runs[0]) - 1]]), lines(paths[runs[0]])
        for change in step.changes:
            for text, written in ((change.before, then), (change.after, now)):
                if text:
                    _, shape, opcode, operands = re.fullmatch(r"(\S+) = (.+) (\S+?)\((.*)\)", text).groups()
                    line = re.sub(r"\{[0-9,]*\}", "", written[change.name])
                    assert f" = {shape} {opcode}(" in line.replace("pred[", "bool[").replace("s32[", "i32[")
                    assert all(re.search(rf"%{re.escape(x)}[,)]", line) for x in operands.split(", ") if x)
                    compared.append(text)
                else:
                    assert change.cost.flops == 0 or change.name not in written
    assert len(compared) > 5


def test_the_changes_of_a_scope_are_those_of_its_instructions(tmp_path):
    dump(tmp_path, jax.grad(layers), spec(32, 16), spec(16, 16))
    trail = read_passes(tmp_path)
    whole = trail.by_pass()
    inside = trail.by_pass("second")
    assert inside == _parts(trail, "jvp(second)", "transpose(jvp(second))")
    assert any(any(cost) for cost in inside.values())
    assert any(inside.get(name) != cost for name, cost in whole.items())
    for name, cost in inside.items():
        changes = trail.changes(name, "second")
        assert tuple(sum(change.cost[i] for change in changes) for i in range(3)) == cost
        assert all("second" in "/".join(scope) for change in changes for scope in change.scopes)
    with pytest.raises(InputError, match="scope 'third'"):
        trail.by_pass("third")
    # "sec" is no scope, although the name of one begins with it.
    with pytest.raises(InputError, match="scope 'sec'"):
        trail.changes(next(iter(whole)), "sec")


def _parts(trail, *names):
    """The changes of scopes that begin with one of the names, summed by hand."""
    sums = {}
    for step in trail.steps:
        for scope, cost in step.scopes.items():
            if scope and scope[0] in names:
                sums[step.name] = sums.get(step.name, type(cost)()).plus(cost)
    return sums


def test_the_command_shows_the_instructions_of_a_pass_and_a_scope(tmp_path):
    dump(tmp_path, jax.grad(layers), spec(32, 16), spec(16, 16))
    trail = read_passes(tmp_path)
    passes = CliRunner().invoke(main, ["compare", str(tmp_path), "--scope", "second"])
    assert passes.exit_code == 0, passes.output
    assert "scope second" in passes.output
    name, cost = next((name, cost) for name, cost in trail.by_pass("second").items() if cost.bytes)
    shown = CliRunner().invoke(main, ["compare", str(tmp_path), "--scope", "second", "--pass", name])
    assert shown.exit_code == 0, shown.output
    first = trail.changes(name, "second")[0]
    assert first.name in shown.output
    options = ["--scope", "second", "--pass", name, "--json"]
    record = json.loads(CliRunner().invoke(main, ["compare", str(tmp_path), *options]).output)
    assert sum(change["bytes"] for change in record["changes"]) == cost.bytes
    assert record["changes"][0]["name"] == first.name


def test_equal_products_are_merged_by_one_pass(merged):
    # 8 x 16 times 16 x 8, twice; which pass merges them is XLA's choice.
    trail = read_passes(merged)
    passes = {name: cost.flops for name, cost in trail.by_pass().items() if cost.flops == -2 * 8 * 16 * 8}
    assert len(passes) == 1
    assert set(passes) <= {"cse", "algsimp", "dce"}


def test_the_scopes_are_those_of_the_program(tmp_path):
    dump(tmp_path, jax.grad(layers), spec(32, 16), spec(16, 16))
    trail = read_passes(tmp_path)
    scopes = " ".join("/".join(scope) for step in trail.steps for scope in step.scopes if scope)
    assert "first" in scopes
    assert "second" in scopes
    assert trail.attributed > 0.9
    assert sum(cost.flops for cost in trail.by_scope(depth=1).values()) == trail.after.flops - trail.before.flops


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_passes_of_a_comparison_lead_from_its_lowered_to_its_compiled_stage(program):
    fn, *args = PROGRAMS[program]
    comparison = costax.compare(fn)(*args)
    trail = comparison.passes
    assert trail.before == comparison.lowered.total
    assert trail.after == comparison.compiled.total
    assert [step.number for step in trail.steps] == sorted({step.number for step in trail.steps})
    assert all(step.attributed == 1 for step in trail.steps)
    for i in range(3):
        steps = sum(step.cost[i] for step in trail.steps)
        assert comparison.lowered.total[i] + steps == comparison.compiled.total[i]


def test_the_scopes_of_a_comparison_are_those_of_the_analysis():
    def shared(x, w):
        @jax.jit
        def layer(x):
            return jnp.tanh(x @ w)

        with jax.named_scope("first"):
            x = layer(x)
        with jax.named_scope("second"):
            return layer(x).sum()

    comparison = costax.compare(jax.grad(shared))(spec(32, 16), spec(16, 16))
    steps = comparison.passes.steps
    with_flops = {scope for step in steps for scope, cost in step.scopes.items() if cost.flops}
    # Of a call that has no name only the bytes of its operands are known.
    assert with_flops <= {row.scope for row in comparison.jaxpr.rows} | {()}
    assert {("first",), ("second",)} <= {scope for step in steps for scope in step.scopes}
    assert comparison.passes.attributed == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_differences_of_the_compiled_stage_are_what_the_passes_did(program):
    fn, *args = PROGRAMS[program]
    comparison = costax.compare(fn)(*args)
    compiled = [delta for delta in comparison.deltas if delta.stage == "compiled"]
    by_pass: dict[str, list[int]] = {}
    by_pass_and_scope: dict[tuple[str, str], list[int]] = {}
    for delta in compiled:
        for sums, key in ((by_pass, delta.pass_name), (by_pass_and_scope, (delta.pass_name, delta.scope))):
            flops, transcendentals = sums.get(key, (0, 0))
            sums[key] = [flops + delta.flops, transcendentals + delta.transcendentals]
    assert {name: list(pair) for name, pair in comparison.by_pass().items()} == by_pass
    assert {key: list(pair) for key, pair in comparison.by_pass_and_scope().items()} == by_pass_and_scope
    trail = {name: list(cost[:2]) for name, cost in comparison.passes.by_pass().items() if any(cost[:2])}
    assert {name: pair for name, pair in by_pass.items() if any(pair)} == trail


def test_a_comparison_reads_no_passes_if_told_so():
    comparison = costax.compare(twice, passes=False)(spec(8, 16), spec(16, 8))
    assert comparison.passes is None
    assert comparison.by_pass() == {}
    assert not comparison.compiled.note


def test_a_pass_of_a_comparison_has_the_changes_of_each_equation():
    comparison = costax.compare(twice)(spec(8, 16), spec(16, 8))
    # One of two equal products goes: that of the third equation.
    merging = comparison.passes["cse"]
    assert (merging.name, merging.cause) == ("cse", "common subexpressions merged")
    assert merging.cost.flops == -2 * 8 * 16 * 8
    # The delta, the call site and the address tell the same equation.
    (delta,) = (delta for delta in comparison.deltas if delta.pass_name == "cse")
    (change,) = (change for change in merging.changes(delta) if change.cost.flops)
    assert (change.cost.flops, change.after) == (-2 * 8 * 16 * 8, "")
    assert re.fullmatch(r"dot_general\S* = f32\[8,8\] dot\(x\S*, w\S*\)", change.before)
    (owner,) = change.owners
    assert (owner.primitive, owner.address) == ("dot_general", (3,)) == (delta.equation, delta.address)
    assert merging.changes(delta) == merging.changes(owner) == merging.changes((3,)) == merging.changes(owner.address)
    # Of the first product nothing has changed, and there is no equation with the number 99.
    assert not any(change.cost.flops for change in merging.changes((1,)))
    assert merging.changes((99,)) == []
    whole = merging.changes()
    assert sum(change.cost.flops for change in whole) == merging.cost.flops
    assert [abs(change.cost.flops) for change in whole] == sorted(
        (abs(change.cost.flops) for change in whole), reverse=True
    )


def test_the_changes_of_all_equations_add_up_to_the_pass():
    comparison = costax.compare(jax.grad(layers))(spec(32, 16), spec(16, 16))
    for name in comparison.passes.by_pass():
        found = comparison.passes[name]
        owners = dict.fromkeys(owner for run in found.runs for owner in run.owners)
        for i in range(3):
            parts = sum(change.cost[i] for owner in owners for change in found.changes(owner))
            assert parts == found.cost[i] == sum(run.cost[i] for run in found.runs)


def test_an_unknown_pass_is_answered_with_those_that_there_are():
    comparison = costax.compare(twice)(spec(8, 16), spec(16, 8))
    with pytest.raises(InputError, match="No pass 'nonsense'") as caught:
        comparison.passes["nonsense"]
    assert "cse" in caught.value.why


# Without this pass XLA keeps both of two equal products.
NO_CSE = {"xla_disable_hlo_passes": "cse"}


def test_options_of_xla_change_what_the_passes_do():
    plain, other = (costax.compare(twice, xla_flags=flags)(spec(8, 16), spec(16, 8)) for flags in (None, NO_CSE))
    assert plain.xla_flags == {}
    assert other.xla_flags == NO_CSE
    assert plain.by_pass() == {"cse": (-2 * 8 * 16 * 8, 0)}
    assert other.by_pass() == {}
    assert other.xla["flops"] - plain.xla["flops"] == 2 * 8 * 16 * 8
    theirs = jax.jit(twice).lower(spec(8, 16), spec(16, 8)).compile(compiler_options=NO_CSE).cost_analysis()
    assert other.xla["flops"] == theirs["flops"]


def test_options_of_xla_may_be_truths_and_numbers():
    flags = {"xla_cpu_enable_fast_math": True, "xla_cpu_parallel_codegen_split_count": 2}
    comparison = costax.compare(twice, xla_flags=flags)(spec(8, 16), spec(16, 8))
    assert comparison.xla_flags == {"xla_cpu_enable_fast_math": "true", "xla_cpu_parallel_codegen_split_count": "2"}


@pytest.mark.parametrize("name", ["--xla_cpu_enable_fast_math", "fast_math", "xla cpu", ""])
def test_what_is_no_name_of_an_option_is_refused(name):
    with pytest.raises(InputError, match="is no option of XLA") as caught:
        costax.compare(twice, xla_flags={name: True})(spec(8, 16), spec(16, 8))
    assert "xla_flags={" in caught.value.cure


def test_an_option_that_xla_does_not_have_is_refused():
    with pytest.raises(InputError, match="xla_no_such_option"):
        costax.compare(twice, xla_flags={"xla_no_such_option": True})(spec(8, 16), spec(16, 8))


def test_the_command_takes_options_of_xla(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TWICE)
    command = ["compare", f"{program}:twice", *SHAPES, "--json"]
    plain = json.loads(CliRunner().invoke(main, command).stdout)
    other = json.loads(CliRunner().invoke(main, [*command, "--xla-flag", "xla_disable_hlo_passes=cse"]).stdout)
    assert (plain["xla_flags"], other["xla_flags"]) == ({}, NO_CSE)
    assert other["xla"]["flops"] - plain["xla"]["flops"] == 2 * 8 * 16 * 8
    assert {delta["pass_name"] for delta in plain["deltas"]} == {"cse"}
    assert other["deltas"] == []


@pytest.mark.parametrize("flag", ["xla_disable_hlo_passes", "--xla_x=1", "fast_math=true", "=true"])
def test_wrong_options_of_xla_end_in_a_message(tmp_path, flag):
    program = tmp_path / "program.py"
    program.write_text(TWICE)
    ended = CliRunner().invoke(main, ["compare", f"{program}:twice", *SHAPES, "--xla-flag", flag])
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert "costax itself failed" not in ended.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_dumped_modules_are_deleted_however_the_comparison_ends(monkeypatch, error):
    folders = []

    def fail(versions, *_):
        folders.append(versions.dumps[0].path.parent)
        assert list(folders[0].iterdir())
        raise error

    monkeypatch.setattr(comparison_module, "passes_of", fail)
    with pytest.raises(error):
        costax.compare(twice)(spec(8, 16), spec(16, 8))
    assert folders
    assert not folders[0].exists()


def test_dumps_that_are_too_large_are_left_out_and_the_comparison_says_so(monkeypatch):
    monkeypatch.setattr(dumping, "_MAX_BYTES", 1000)
    comparison = costax.compare(twice)(spec(8, 16), spec(16, 8))
    assert comparison.passes is None
    assert "The passes were not read" in comparison.compiled.note
    assert "GiB" in comparison.compiled.note
    assert comparison.compiled.note in str(comparison)
    # The difference of the equation is that of the passes together.
    (delta,) = comparison.deltas
    assert (delta.cause, delta.pass_name, delta.flops, delta.address) == (COMPILED, "", -2 * 8 * 16 * 8, (3,))


TWICE = "import jax.numpy as jnp\n\n\ndef twice(x, w):\n    return jnp.tanh(x @ w) + jnp.sin(x @ w)\n"
SHAPES = ["--input", "f32[8,16]", "--input", "f32[16,8]"]


def test_the_command_shows_the_passes_of_a_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TWICE)
    shown = CliRunner().invoke(main, ["compare", f"{program}:twice", *SHAPES, "--passes"])
    assert shown.exit_code == 0, shown.output
    assert "pass by pass" in shown.output
    unknown = ["--pass", "nonsense", "--save", str(tmp_path / "twice.json")]
    ended = CliRunner().invoke(main, ["compare", f"{program}:twice", *SHAPES, *unknown])
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert not (tmp_path / "twice.json").exists()


@pytest.mark.parametrize("options", [[], ["--passes"], ["--pass", "cse"]])
def test_the_record_of_a_program_holds_its_passes(tmp_path, options):
    program, saved = tmp_path / "program.py", tmp_path / "twice.json"
    program.write_text(TWICE)
    command = ["compare", f"{program}:twice", *SHAPES, *options]
    printed = CliRunner().invoke(main, [*command, "--json", "--save", str(saved)])
    assert printed.exit_code == 0, printed.output
    record = json.loads(printed.stdout)
    assert json.loads(saved.read_text()) == record
    (merging,) = (step for step in record["passes"]["steps"] if step["flops"])
    assert (merging["pass"], merging["flops"]) == ("cse", -2 * 8 * 16 * 8)


def test_a_folder_without_passes_gives_one_step(merged, tmp_path):
    for path in merged.iterdir():
        if "optimizations" in path.name:
            shutil.copy(path, tmp_path)
    whole, only = read_passes(merged), read_passes(tmp_path)
    assert only.versions == 2
    assert len(only.steps) == 1
    assert (only.before, only.after) == (whole.before, whole.after)


def test_a_version_that_is_missing_moves_its_change_to_the_next_step(merged, tmp_path):
    shutil.copytree(merged, tmp_path / "dump")
    whole = read_passes(merged)
    (name,) = {name for name, cost in whole.by_pass().items() if cost.flops == -2 * 8 * 16 * 8}
    for path in (tmp_path / "dump").glob(f"*.after_{name}.*"):
        path.unlink()
    rest = read_passes(tmp_path / "dump")
    assert name not in {step.name for step in rest.steps if step.cost.flops}
    assert sum(step.cost.flops for step in rest.steps) == sum(step.cost.flops for step in whole.steps)


def test_the_version_of_another_program_is_seen_in_two_steps(merged, tmp_path):
    """A falsified module: what it adds in its own step it takes back in the next, and both name the pass."""
    shutil.copytree(merged, tmp_path / "dump")
    paths = versions(tmp_path / "dump")
    middle = len(paths) // 2
    dump(tmp_path / "other", twice, spec(8, 32), spec(32, 8))
    shutil.copy(versions(tmp_path / "other")[0], paths[middle])
    true, false = read_passes(merged), read_passes(tmp_path / "dump")
    assert (false.before, false.after) == (true.before, true.after)
    assert {step.cost.flops for step in false.steps} != {step.cost.flops for step in true.steps}
    assert sum(abs(step.cost.flops) for step in false.steps) >= 2 * (2 * 2 * 8 * 16 * 8)


def test_the_largest_module_is_read_unless_one_is_named(merged, tmp_path):
    shutil.copytree(merged, tmp_path / "dump")
    dump(tmp_path / "dump", jax.grad(layers), spec(32, 16), spec(16, 16))
    trail = read_passes(tmp_path / "dump")
    assert len(trail.modules) == 2
    assert "layers" in trail.name
    assert "twice" in read_passes(tmp_path / "dump", "twice").name
    with pytest.raises(InputError, match="has 'third' in its name"):
        read_passes(tmp_path / "dump", "third")


def test_a_damaged_version_is_an_error_that_says_so(merged, tmp_path):
    shutil.copytree(merged, tmp_path / "dump")
    path = versions(tmp_path / "dump")[5]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(HloError):
        read_passes(tmp_path / "dump")


def test_a_folder_without_modules_is_an_error_with_the_flags(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="no module before and after") as caught:
        read_passes(tmp_path)
    assert "--xla_dump_hlo_pass_re" in str(caught.value)


def test_plain_words_are_for_passes_that_xla_has_and_others_keep_their_name(dumped):
    folder, *_ = dumped
    for step in read_passes(folder).steps:
        assert step.cause == PLAIN.get(step.name, step.name)
    assert all(cause and cause != name for name, cause in PLAIN.items())


def test_the_command_shows_passes_and_the_scopes_of_one(merged, tmp_path):
    shown = CliRunner().invoke(main, ["compare", str(merged)])
    assert shown.exit_code == 0, shown.output
    assert "pass by pass" in shown.output
    trail = read_passes(merged)
    name = next(step.name for step in trail.steps if step.cost.flops)
    scopes = CliRunner().invoke(main, ["compare", str(merged), "--pass", name])
    assert scopes.exit_code == 0
    assert f"pass {name}" in scopes.output
    record = json.loads(CliRunner().invoke(main, ["compare", str(merged), "--json"]).output)
    assert record["schema"] == "costax/passes/1"
    assert sum(step["flops"] for step in record["steps"]) == record["after"]["flops"] - record["before"]["flops"]
    saved = CliRunner().invoke(main, ["compare", str(merged), "--save", str(tmp_path / "passes.json")])
    assert saved.exit_code == 0
    assert json.loads((tmp_path / "passes.json").read_text()) == record


WRONG = {
    "an unknown pass": (["--pass", "nonsense"], "No pass 'nonsense'"),
    "an unknown scope": (["--scope", "nonsense"], "the scope 'nonsense'"),
    "an unknown module": (["--module", "nonsense"], "'nonsense' in its name"),
    "an input": (["--input", "f32[8]"], "does not apply"),
    "a format without": (["--save", "x.csv"], ".csv"),
}


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=list(WRONG))
def test_wrong_options_of_a_folder_end_in_a_message(merged, options, text):
    ended = CliRunner().invoke(main, ["compare", str(merged), *options])
    assert ended.exit_code == 2
    assert text in ended.output
    assert "Traceback" not in ended.output
    assert "costax itself failed" not in ended.output


@pytest.mark.parametrize("option", ["--passes", "--pass=cse", "--scope=first"])
def test_options_of_passes_are_refused_for_one_module(merged, option):
    ended = CliRunner().invoke(main, ["compare", str(versions(merged)[-1]), option])
    assert ended.exit_code == 2
    assert "is one module" in ended.output


def test_options_of_folders_are_refused_for_programs():
    ended = CliRunner().invoke(main, ["compare", "jax.numpy:matmul", "--input", "f32[4,4]", "--module", "cse"])
    assert ended.exit_code == 2
    assert "--module" in ended.output


def test_a_trail_prints_and_saves(merged, tmp_path):
    trail = read_passes(merged)
    assert "cse: common subexpressions merged" in str(trail)
    assert "<pre" in trail._repr_html_()
    with pytest.raises(RecordError):
        trail.save(tmp_path / "x.csv")
