"""Files of HLO as targets: what XLA charges them, what the machine does, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.resources import files

import jax
import jax.numpy as jnp
import jsonschema
import pytest
from click.testing import CliRunner
from jax import lax

import costax
from costax import _jax
from costax.cli.app import main
from costax.hlo import HloError
from costax.hlo.metadata import Scopes, split
from costax.hlo.module_analysis import analyze_bytes, analyze_module
from hlo_damaged import DAMAGED, build, computation, instruction, module
from hlo_samples import SPECS, module_bytes, scanned, stage

# Of processor time, on a loaded machine: a reader that does not bound its work needs minutes for such a file, or all
# memory.
SECONDS = 10

# One process of pytest-xdist runs all of them: they share the dump.
pytestmark = pytest.mark.xdist_group("HLO files")

SCHEMA = json.loads(files("costax.report").joinpath("hlo.schema.json").read_text())
KEYS = ("flops", "transcendentals", "bytes accessed")
STEPS = SPECS[scanned][1].shape[0]


def run(*args: str):
    return CliRunner().invoke(main, list(args))


def ran(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def record(*args: str):
    found = json.loads(ran(*args, "--json"))
    jsonschema.validate(found, SCHEMA)
    return found


@pytest.fixture(scope="session")
def dump(tmp_path_factory):
    """What `XLA_FLAGS=--xla_dump_to` writes of a program with a loop, a library call and a shared function."""
    folder = tmp_path_factory.mktemp("dump")
    program = folder / "step.py"
    program.write_text(
        "import jax, jax.numpy as jnp\n"
        "from jax import lax\n"
        "def step(w, x):\n"
        "    with jax.named_scope('steps'):\n"
        "        y = lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0]\n"
        "    with jax.named_scope('factor'):\n"
        "        z = jnp.linalg.cholesky(w @ w.T)\n"
        "    return jax.nn.relu(y), jax.nn.relu(z)\n"
        "jax.jit(step)(jnp.ones((8, 8)), jnp.ones((4, 8)))\n"
    )
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_proto --xla_dump_hlo_as_text --xla_dump_hlo_snapshots"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, str(program)], check=True, env=environment, capture_output=True)
    return folder


def dumped(folder, stage_: str, suffix: str) -> str:
    (found,) = folder.glob(f"*jit_step*{stage_}{suffix}")
    return str(found)


@pytest.mark.parametrize("suffix", [".hlo.pb", ".txt"])
@pytest.mark.parametrize("stage_", ["before_optimizations", "cpu_after_optimizations"])
def test_what_xla_dumps_is_costed_as_xla_costs_it(dump, stage_, suffix):
    found = record("compare", dumped(dump, stage_, suffix))
    assert found["matches_xla"] is True
    assert found["name"] == "jit_step"
    assert [found["xla"][key] for key in KEYS] == list(found["float32"].values())
    product = 2 * 8 * 8 * 8
    assert found["by_opcode"]["dot"]["charged"]["flops"] == 2 * 4 * 8 * 8 + product
    # The factorisation symmetrises its operand and masks its result: a few operations an element.
    assert product <= found["by_scope"]["factor"]["charged"]["flops"] < product + 8 * 8 * 8
    assert set(found["by_scope"]) == {"steps", "factor", ""}


def test_a_module_in_another_message_is_found_inside_it(dump):
    snapshots = sorted(dump.glob("*snapshot*.pb"))
    assert snapshots
    for path in snapshots:
        assert record("compare", str(path))["matches_xla"] is True


@pytest.mark.parametrize("stage_", ["before_optimizations", "cpu_after_optimizations"])
def test_before_and_after_the_loop_says_how_often_it_runs(dump, stage_):
    found = record("analyze", dumped(dump, stage_, ".hlo.pb"))
    assert [loop["trips"] for loop in found["loops"]] == [7]
    assert found["executed"]["flops"] - found["total"]["flops"] > 6 * 2 * 4 * 8 * 8
    assert found["by_opcode"]["dot"]["executed"]["flops"] == 7 * 2 * 4 * 8 * 8 + 2 * 8 * 8 * 8


UNBOUNDED = """
body {
  p = (s32[], f32[4]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  x = f32[4] get-tuple-element(p), index=1
  s = s32[] constant(1)
  j = s32[] add(i, s)
  y = f32[4] add(x, x)
  ROOT t = (s32[], f32[4]) tuple(j, y)
}
cond {
  p = (s32[], f32[4]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  c = s32[] constant(80)
  ROOT r = pred[] compare(i, c), direction=LT
}
ENTRY e {
  i = s32[] parameter(0)
  x = f32[4] parameter(1)
  t = (s32[], f32[4]) tuple(i, x)
  w = (s32[], f32[4]) while(t), condition=cond, body=body
  ROOT r = f32[4] get-tuple-element(w), index=1
}
"""


@pytest.fixture
def unbounded(tmp_path):
    """A module whose loop starts at a number that only the caller knows."""
    path = tmp_path / "loop.hlo"
    path.write_text(UNBOUNDED)
    return str(path)


def test_a_loop_of_unknown_length_can_be_answered(unbounded):
    assert [loop["trips"] for loop in record("analyze", unbounded)["loops"]] == [None]
    answered = record("analyze", unbounded, "--trips", "w=7")
    # In each iteration: the counter, four sums, and the comparison.
    assert answered["executed"]["flops"] == 7 * (1 + 4 + 1)


def test_names_in_a_shared_function_are_joined_with_those_of_its_call(dump):
    analysis = analyze_module(dumped(dump, "before_optimizations", ".hlo.pb"))
    scopes = Scopes(analysis.replay.module)
    raw = {"/".join(scopes.of(cost.computation, cost.instruction)) for cost in analysis.instruction_costs}
    assert any(scope.startswith("factor/jit(cholesky)") for scope in raw), raw
    assert not any(scope.startswith("jit(step)") for scope in raw)


def test_source_lines_are_the_users(dump):
    lines = record("analyze", dumped(dump, "cpu_after_optimizations", ".hlo.pb"))["by_source"]
    by_line = {int(place.rpartition(":")[2]): account["charged"] for place, account in lines.items() if place}
    assert by_line[5]["transcendentals"] == 4 * 8
    assert by_line[7]["flops"] >= 2 * 8 * 8 * 8


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fn", SPECS)
def test_every_view_adds_up(fn, compiled):
    found = analyze_bytes(module_bytes(fn, compiled))
    for view in (found.by_opcode(), found.by_scope(), found.by_scope(1), found.by_source(), found.by_computation()):
        for i in range(3):
            assert sum(cost.counted[i] for cost in view.values()) == found.total[i]
            assert sum(cost.executed[i] for cost in view.values()) == found.executed[i]


def test_former_names_warn_and_give_the_same():
    analysis = analyze_bytes(module_bytes(scanned, True))
    with pytest.warns(DeprecationWarning, match="instruction_costs"):
        assert analysis.lines == analysis.instruction_costs
    cost = analysis.by_opcode()["dot"]
    with pytest.warns(DeprecationWarning, match="counted"):
        assert cost.charged == cost.counted


def test_what_is_executed_is_what_a_comparison_says(tmp_path):
    made = costax.compare(scanned)(*SPECS[scanned])
    path = tmp_path / "module.pb"
    path.write_bytes(module_bytes(scanned))
    found = costax.compare(path)()
    assert found.total == made.compiled.total
    assert found.executed == made.compiled.executed
    assert found.matches_xla is True
    assert found.xla["flops"] == stage(scanned, True).cost_analysis()["flops"]
    assert costax.analyze(str(path))().matches_xla is None


def test_executed_is_what_the_loop_does_when_it_is_written_out():
    def steps(unroll):
        def f(w, x):
            return lax.scan(lambda c, _: (jnp.sin(c) @ w, None), x, None, length=6, unroll=unroll)[0]

        return _jax.hlo_of(jax.jit(f).lower(jnp.ones((8, 8)), jnp.ones((4, 8))).compile())

    looped, flat = analyze_bytes(steps(1)), analyze_bytes(steps(True))
    assert not flat.loops
    assert looped.executed.transcendentals == flat.total.transcendentals == 6 * 4 * 8
    assert looped.by_opcode()["dot"].executed.flops == flat.by_opcode()["dot"].counted.flops == 6 * 2 * 4 * 8 * 8


def test_a_call_of_which_nothing_tells_the_work_is_said(tmp_path):
    text = """HloModule m
ENTRY e {
  p = f32[8] parameter(0)
  c = f32[8] custom-call(p), custom_call_target="mystery"
  ROOT r = f32[8] add(p, c)
}
"""
    path = tmp_path / "module.hlo.txt"
    path.write_text(text)
    found = record("compare", str(path))
    assert found["opaque"] == {"mystery": 1}
    assert found["total"]["flops"] == 8 - 1
    assert found["executed"]["flops"] == 8
    assert "the work of these library calls is unknown: mystery x 1" in ran("analyze", str(path))
    strict = run("compare", str(path), "--strict")
    assert strict.exit_code == 1
    assert "mystery" in strict.stderr


def test_strict_passes_where_all_is_known_and_fails_where_a_loop_is_not(dump, unbounded):
    assert run("compare", dumped(dump, "cpu_after_optimizations", ".txt"), "--strict").exit_code == 0
    strict = run("analyze", unbounded, "--strict")
    assert strict.exit_code == 1
    assert "The trip count of w is unknown" in strict.stderr


@pytest.mark.parametrize("by", ["scope", "opcode", "source", "computation"])
def test_each_table_shows_the_total(dump, by):
    text = ran("compare", dumped(dump, "cpu_after_optimizations", ".hlo.pb"), "--by", by)
    assert "equal bit for bit" in text
    assert text.count(" total ") == 1


def test_the_record_is_saved(dump, tmp_path):
    target = dumped(dump, "cpu_after_optimizations", ".hlo.pb")
    saved = tmp_path / "module.json"
    assert record("analyze", target, "--save", str(saved)) == json.loads(saved.read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "f32[8]"),
        ("--on-missing", "warn"),
        ("--by", "primitive"),
        ("--sort", "macs"),
        ("--save", "x.pb.gz"),
        ("--trips", "nowhere=7"),
        ("--trips", "steps=7"),
        ("--branches", "min"),
        ("--as", "thop"),
        ("--top", "3"),
        ("--no-merge",),
        ("--direction", "forward"),
        ("--depth", "2", "--by", "opcode"),
    ],
    ids=lambda arguments: "".join(arguments),
)
def test_an_option_that_does_not_fit_a_module_is_refused(dump, arguments):
    done = run("analyze", dumped(dump, "cpu_after_optimizations", ".hlo.pb"), *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert not isinstance(done.exception, HloError)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--target", "tpu:v5e"),
        ("--timeout", "3"),
        ("--xla-flag", "a=b"),
        ("--no-passes",),
        ("--passes",),
        ("--module", "x"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_option_of_compare_that_does_not_fit_a_module_is_refused(unbounded, arguments):
    done = run("compare", unbounded, *arguments)
    assert done.exit_code == 2
    assert f"{arguments[0]} " in done.stderr
    assert done.stderr.startswith("InputError: ")


@pytest.mark.parametrize("arguments", [("--trips", "x=3"), ("--by", "opcode"), ("--sort", "flops"), ("--timeout", "3")])
def test_an_option_that_does_not_fit_a_folder_is_refused(tmp_path, arguments):
    done = run("compare", str(tmp_path), *arguments)
    assert done.exit_code == 2
    assert f"{arguments[0]} does not apply to a folder" in done.stderr


@pytest.mark.parametrize(
    ("door", "option"),
    [
        (costax.analyze, {"on_missing": "warn"}),
        (costax.analyze, {"branches": "min"}),
        (costax.analyze, {"loops_once": True}),
        (costax.compare, {"target": "tpu:v5e"}),
        (costax.compare, {"passes": False}),
        (costax.compare, {"rules": {"sin": lambda eqn: costax.Cost()}}),
    ],
)
def test_a_keyword_that_does_nothing_for_a_file_is_refused(unbounded, door, option):
    with pytest.raises(costax.errors.InputError, match=f"{next(iter(option))} does not apply to an HLO file"):
        door(unbounded, **option)
    with pytest.raises(costax.errors.InputError, match="already has its arguments"):
        door(unbounded)(jnp.ones(3))


@pytest.mark.parametrize("command", ["measure"])
def test_other_commands_name_those_that_read_files(unbounded, command):
    done = run(command, unbounded)
    assert done.exit_code == 2
    assert "predict, memory, fits, diff, show, analyze and compare take HLO files." in done.stderr


def test_tables_of_modules_are_refused_for_programs():
    done = run("analyze", "jax.numpy:sin", "--input", "f32[8]", "--by", "opcode")
    assert done.exit_code == 2
    assert "--by" in done.stderr


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"module @jit_f {\n}\n", "StableHLO"),
        (b"; ModuleID = 'x'\n", "LLVM"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"dear diary\n", "without a line HloModule"),
        (b'{"schema": "costax/analysis/1"}', "costax show"),
        (b"{ lambda ; a:f32[2]. let b:f32[2] = sin a in (b,) }", "jaxpr"),
        (b'hlo_module {\n  name: "main"\n}\n', "protoc --encode"),
        (b'# RUN: translate\nname: "main"\n', "protoc --encode"),
        (b"HloModule a\nENTRY e { ROOT p = f32[] parameter(0) }\n\nHloModule b\n", "2 modules in one text"),
        (b"module @m { func.func public @main() { return frob } }", "does not convert"),
        (b"PK\x03\x04", "unzip"),
        (b"HloModule m\nENTRY e {", "parser rejects"),
        (b"HloModule m\nENTRY e { ROOT r = f32[8] frobnicate() }", "parser rejects"),
        (b"", "not an HLO module"),
    ],
)
def test_a_file_that_is_no_module_is_told_apart(tmp_path, contents, words):
    path = tmp_path / "module.txt"
    path.write_bytes(contents)
    done = run("analyze", str(path))
    assert done.exit_code == 2
    assert words in done.stderr
    assert str(path) in done.stderr


@pytest.mark.parametrize("target", ["nowhere.pb", os.devnull])
def test_a_path_that_is_no_file_is_a_clear_error(target):
    done = run("analyze", target)
    assert done.exit_code == 2
    assert done.stderr.startswith("HloError: ")


@pytest.mark.parametrize("command", ["analyze", "compare"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_ends_with_one_message(tmp_path, command, name):
    path = tmp_path / "module.pb"
    path.write_bytes(DAMAGED[name])
    start = time.process_time()
    done = run(command, str(path))
    assert time.process_time() - start < SECONDS
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("HloError: ")
    assert len(done.stderr) < 2500
    assert str(path) in done.stderr


def hostile_calls(height: int) -> bytes:
    """Each computation calls the one before twice: 2^height instructions to go through."""
    made = [computation(1, instruction(1, "parameter"), instruction(2, operand_ids=[1]), root=2)]
    for i in range(2, height):
        calls = [instruction(2 + j, "call", operand_ids=[1], called_computation_ids=[i - 1]) for j in range(2)]
        made.append(computation(i, instruction(1, "parameter"), *calls, root=2))
    return module(*made, entry=height - 1)


def hostile_loops(height: int) -> bytes:
    """Loops in loops, each of which says that it runs 10^18 times."""
    config = b'{"known_trip_count":{"n":"' + b"9" * 18 + b'"}}'
    made = [computation(1, instruction(1, "parameter"), instruction(2, operand_ids=[1]), root=2)]
    for i in range(2, height):
        loop = instruction(2, "while", operand_ids=[1], called_computation_ids=[i - 1, i - 1], backend_config=config)
        made.append(computation(i, instruction(1, "parameter"), loop, root=2))
    return module(*made, entry=height - 1)


def hostile_configuration(config: bytes) -> bytes:
    call = instruction(
        2, "custom-call", operand_ids=[1], custom_call_target=b"__cublas$lt$matmul", backend_config=config
    )
    return module(computation(1, instruction(1, "parameter"), call, root=2))


HOSTILE = {
    "calls that double": hostile_calls(500),
    "loops without end": hostile_loops(500),
    "a configuration a hundred thousand deep": hostile_configuration(b"[" * 10**5),
    "a configuration of another kind": hostile_configuration(b'{"gemm_backend_config": 7}'),
    "a configuration of words": hostile_configuration(
        b'{"gemm_backend_config": {"dot_dimension_numbers": {"lhs_contracting_dimensions": ["x"]}}}'
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_soon(tmp_path, name):
    path = tmp_path / "module.pb"
    path.write_bytes(HOSTILE[name])
    start = time.process_time()
    done = run("compare", str(path))
    assert time.process_time() - start < SECONDS
    assert done.exit_code in (0, 2)
    if done.exit_code:
        assert done.stderr.startswith("HloError: ")


def test_what_xla_refuses_does_not_end_the_process(tmp_path):
    # The reader accepts a negate of two operands; XLA's own checks do not.
    path = tmp_path / "module.pb"
    path.write_bytes(
        module(computation(1, instruction(1, "parameter"), instruction(2, "negate", operand_ids=[1, 1]), root=2))
    )
    done = run("compare", str(path))
    assert done.exit_code == 2
    assert "XLA rejects the module" in done.stderr


def test_names_of_a_file_do_not_reach_the_terminal_as_commands(tmp_path):
    path = tmp_path / "module.pb"
    evil = b"jit(f)/\x1b[31mred\x1b]0;title\x07/add"
    made = instruction(2, operand_ids=[1], metadata=build("Metadata", op_name=evil))
    path.write_bytes(module(computation(1, instruction(1, "parameter"), made, root=2)))
    text = ran("analyze", str(path))
    assert "red" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_process_of_a_huge_claim_stays_small(tmp_path):
    path = tmp_path / "module.pb"
    path.write_bytes(DAMAGED["a length of 2 GB"])
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))"
    program = f"{limited}\nfrom costax.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "analyze", str(path)], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"HloError: ")


def test_a_slash_in_brackets_belongs_to_its_part():
    assert split("jit(f)/transpose(jvp(a/b))/c/mul") == ("jit(f)", "transpose(jvp(a/b))", "c", "mul")
    assert split("") == ()


BARE = {
    "an entry": ("ENTRY e {\n  p = f32[8] parameter(0)\n  ROOT r = f32[8] add(p, p)\n}\n", 8),
    "a computation": ("fused.1 {\n  p = f32[8] parameter(0)\n  ROOT r = f32[8] add(p, p)\n}\n", 8),
    "a signature": (
        "// RUN: x\n\n%add.3 (x: f32[3], y: f32[3]) -> f32[3] {\n  %x = f32[3]{0} parameter(0)\n"
        "  %y = f32[3]{0} parameter(1)\n  ROOT %s = f32[3]{0} add(f32[3]{0} %x, f32[3]{0} %y)\n}\n",
        3,
    ),
    "two computations": (
        "f { p = f32[5] parameter(0)\n ROOT r = f32[5] multiply(p, p) }\n"
        "g {\n p = f32[5] parameter(0)\n q = f32[5] fusion(p), kind=kLoop, calls=f\n ROOT r = f32[5] add(p, q)\n}\n",
        10,
    ),
    "an instruction": (
        "%d = f32[2,3] dot(f32[2,4] %a, f32[4,3] %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
        48,
    ),
    "a long comment": (
        "// " + "x" * 9000 + "\nENTRY e {\n  p = f32[8] parameter(0)\n  ROOT r = f32[8] add(p, p)\n}\n",
        8,
    ),
}


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("name", ["module.txt", "7 odd (name).hlo"])
def test_text_without_a_line_hlomodule_is_read(tmp_path, kind, name):
    text, flops = BARE[kind]
    path = tmp_path / name
    path.write_text(text)
    assert record("compare", str(path))["total"]["flops"] == flops


def exported_program(w, x):
    return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0]


SHAPES = jax.ShapeDtypeStruct((8, 8), jnp.float32), jax.ShapeDtypeStruct((4, 8), jnp.float32)


@pytest.mark.parametrize("form", ["text", "debug", "bytecode", "export"])
def test_stablehlo_and_exported_programs_are_read(tmp_path, form):
    lowered = jax.jit(exported_program).lower(*SHAPES)
    if form in ("text", "debug"):
        contents = lowered.as_text(debug_info=form == "debug").encode()
    else:
        pytest.importorskip("flatbuffers")
        exported = jax.export.export(jax.jit(exported_program))(*SHAPES)
        contents = exported.mlir_module_serialized if form == "bytecode" else bytes(exported.serialize())
    path = tmp_path / "program"
    path.write_bytes(contents)
    found = record("compare", str(path))
    assert found["matches_xla"] is True
    assert [loop["trips"] for loop in found["loops"]] == [5]
    assert found["executed"]["transcendentals"] == 5 * 4 * 8
    assert found["total"] == analyze_bytes(_jax.hlo_of(lowered)).total._asdict()


def test_an_exported_program_with_symbols_is_refused_with_the_cure(tmp_path):
    pytest.importorskip("flatbuffers")
    shapes = jax.export.symbolic_shape("b, 8")
    exported = jax.export.export(jax.jit(jnp.sin))(jax.ShapeDtypeStruct(shapes, jnp.float32))
    path = tmp_path / "program.bin"
    path.write_bytes(bytes(exported.serialize()))
    done = run("analyze", str(path))
    assert done.exit_code == 2
    assert "jax.export.deserialize" in done.stderr
    assert ".call)(*args)" in done.stderr
