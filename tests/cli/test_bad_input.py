"""Bad input: one clear message in four parts, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main
from costax.errors import MissingRuleError, RuleCollisionError, RuleError, install_command
from costax.program.targets import EXTRAS
from costax.rules.registry import REGISTRY

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

PROGRAM = """
    import jax.numpy as jnp

    import costax
    from jax import lax

    def product(x, y):
        return x @ y  # product

    def fails(x):
        raise ZeroDivisionError("one over nothing")  # fails

    def asserts(x):
        assert x.shape == (3,), "x has three elements"  # asserts

    def branches(x):
        return x if x.sum() > 0 else -x  # branches

    def factory_that_raises():
        raise KeyError("weights")  # factory_that_raises

    def factory_that_exits():
        raise SystemExit(3)  # factory_that_exits

    def factory_that_needs(size, depth=3):
        return product, ()

    def interrupted():
        raise KeyboardInterrupt

    def none():
        return None

    def bare():
        return product

    def single():
        return (product,)

    def four():
        return product, (), {}, 7

    def loose():
        return product, costax.spec("f32[4,4]")

    def pairs():
        return product, (), [1]

    def number():
        return 7, ()

    def array():
        return jnp.zeros(3)

    def fine():
        return product, (costax.spec("f32[4,8]"), costax.spec("f32[8,3]"))

    def loop():
        return (lambda x: lax.while_loop(lambda c: c.sum() < 3, lambda c: c * 2, x)), (costax.spec("f32[4]"),)

    three = 3
"""


@pytest.fixture
def program(tmp_path) -> str:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return str(path)


@pytest.fixture(autouse=True)
def _rules_stay_as_they_are():
    costax.rules()  # loads the built-in rules, which would be forgotten with the test's own
    with REGISTRY.restored():
        yield


def refused(*args: str, code: int = 2) -> str:
    """Run a command line that must fail, and return its message."""
    before = {
        path: set(os.listdir(path)) for path in {str(Path(a).parent) for a in args if os.path.isdir(Path(a).parent)}
    }
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert all(set(os.listdir(path)) - {"__pycache__"} <= names for path, names in before.items())
    return result.stderr


def assert_in_parts(message: str, kind: str, *, where: str = "") -> None:
    """Check that a message says its kind and what happened, where, why it matters, and what to do."""
    lines = message.strip().splitlines()
    assert lines[0].startswith(f"{kind}: "), message
    assert len(lines) >= 3, message
    assert all(line.strip().endswith((".", "?", ")")) for line in (lines[0], lines[-1])), message
    assert where in message


def line_of(mark: str, file: str) -> str:
    lines = Path(file).read_text().splitlines()
    return f"{file}:{next(i for i, line in enumerate(lines, 1) if line.endswith(f'# {mark}'))}"


# Targets.


@pytest.mark.parametrize("target", ["resnet18", ":resnet18", "examples/resnet.py:", "", ":"])
def test_a_text_that_is_no_target(target):
    message = refused("analyze", target)
    assert_in_parts(message, "TargetError")
    assert "package.module:name or path/to/file.py:name" in message


def test_a_file_that_is_not_there(program):
    message = refused("analyze", program.replace("program.py", "programm.py") + ":fine")
    assert_in_parts(message, "TargetError")
    assert "There is no file" in message
    assert "Did you mean program.py?" in message


def test_a_file_in_a_directory_that_is_not_there():
    assert_in_parts(refused("analyze", "nowhere/at/all.py:fine"), "TargetError")


def test_a_directory(tmp_path):
    message = refused("analyze", f"{tmp_path}/:fine")
    assert_in_parts(message, "TargetError")
    assert "is a directory" in message


def test_a_module_that_is_not_there():
    message = refused("analyze", "no_such_package.models:net")
    assert_in_parts(message, "TargetError")
    assert "There is no module 'no_such_package'." in message


@pytest.mark.parametrize("place", ["a b", "..", "x.", ".models"])
def test_a_module_name_that_is_none(place):
    assert_in_parts(refused("analyze", f"{place}:net"), "TargetError")


def test_a_name_that_the_file_does_not_have(program):
    message = refused("analyze", f"{program}:produkt")
    assert_in_parts(message, "TargetError")
    assert "Its callables are: array, asserts, bare" in message
    assert "Did you mean product?" in message
    assert_in_parts(refused("analyze", f"{program}:product.inner"), "TargetError")


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("x = 1\ndef f(:\n", "has a syntax error", 2),
        ("import jax\nimport no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'", 2),
        ("from jax import no_such_thing\n", "ImportError: cannot import name 'no_such_thing'", 1),
        ("def f():\n    raise RuntimeError('no disk')\nf()\n", "RuntimeError: no disk", 2),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0", 2),
        ("assert False\n", "raised AssertionError.", 1),
        ("x = 'a\0b'\n", "null bytes", 1),
    ],
)
def test_a_file_that_does_not_import(text, what, line, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    message = refused("analyze", f"{path}:f")
    assert_in_parts(message, "TargetError", where=f"{path}:{line}")
    assert what in message
    assert ("Install the package that provides `no_such_package`." in message) == ("ModuleNotFoundError" in what)
    assert "broken" not in sys.modules


def test_a_missing_package_of_an_extra_is_installed_by_the_extra(tmp_path, monkeypatch):
    for name, extra in EXTRAS.items():
        # None in sys.modules makes the import fail as that of an absent package does.
        monkeypatch.setitem(sys.modules, name, None)
        path = tmp_path / f"needs_{name}.py"
        path.write_text(f"from {name} import nn\n")
        message = refused("analyze", f"{path}:f")
        assert message.startswith("TargetError: ")
        assert f"{path}:1" in message
        assert f"Install `{name}` in a version that works with costax: {install_command(extra)}" in message


def test_an_extra_has_the_packages_that_messages_say_it_installs():
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    for name, extra in EXTRAS.items():
        assert {"haiku": "dm-haiku"}.get(name, name) in [re.split("[^a-z-]", line)[0] for line in extras[extra]]


def test_a_binary_file(tmp_path):
    path = tmp_path / "weights.py"
    path.write_bytes(bytes(range(256)))
    assert_in_parts(refused("analyze", f"{path}:f"), "TargetError")
    (tmp_path / "weights.npz").write_bytes(bytes(range(256)))
    assert_in_parts(refused("analyze", f"{tmp_path}/weights.npz:f"), "TargetError")


# Factories and inputs.


@pytest.mark.parametrize(
    ("name", "what", "mark"),
    [
        ("factory_that_raises", "raised KeyError: 'weights'.", "factory_that_raises"),
        ("factory_that_exits", "raised SystemExit: 3.", "factory_that_exits"),
    ],
)
def test_a_factory_that_raises(name, what, mark, program):
    message = refused("analyze", f"{program}:{name}")
    assert_in_parts(message, "TargetError", where=line_of(mark, program))
    assert what in message


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none", "returned None of type NoneType"),
        ("bare", "returned <function product"),
        ("single", "returned a tuple of 1 values"),
        ("four", "returned a tuple of 4 values"),
        ("loose", "returned ShapeDtypeStruct"),
        ("pairs", "returned [1] of type list as the keyword arguments instead of a dict"),
        ("array", "returned Array([0., 0., 0.]"),
    ],
)
def test_a_factory_that_returns_the_wrong_thing(name, what, program):
    message = refused("analyze", f"{program}:{name}")
    assert_in_parts(message, "TargetError", where=f"{program}:")
    assert what in message
    assert "Return (fn, args)" in message


def test_a_factory_of_something_that_is_no_program(program):
    assert_in_parts(refused("analyze", f"{program}:number"), "TargetError")
    assert_in_parts(refused("analyze", f"{program}:three"), "TargetError")
    assert_in_parts(refused("analyze", f"{program}:three", "--input", "f32[]"), "TargetError")


def test_a_factory_that_needs_arguments(program):
    message = refused("analyze", f"{program}:factory_that_needs")
    assert_in_parts(message, "InputError", where=f"{program}:")
    assert "`factory_that_needs(size, depth=3)` takes arguments" in message


CLASSES = """
import flax.linen as nn
from flax import nnx

class Small(nnx.Module):  # Small
    def __init__(self, rngs):
        self.layer = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)

class Named(nnx.Module):  # Named
    def __init__(self, size=4, *, rngs):
        self.layer = nnx.Linear(size, 4, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)

class Sized(nn.Module):  # Sized
    rngs: int

    def __call__(self, x):
        return x

class Faulty(nnx.Module):  # Faulty
    def __init__(self):
        self.layer = 1 + None  # raises

    def __call__(self, x):
        return x
"""


@pytest.mark.parametrize("inputs", [(), ("--input", "f32[8,4]")])
@pytest.mark.parametrize("name", ["Small", "Named", "Sized"])
def test_a_class_that_needs_arguments_is_named_with_its_line(name, inputs, tmp_path):
    path = tmp_path / "classes_with_arguments.py"
    path.write_text(CLASSES)
    message = refused("analyze", f"{path}:{name}", *inputs)
    assert_in_parts(message, "InputError", where=line_of(name, path))
    assert f"`{name}` is a class whose constructor needs `rngs`." in message
    assert f"costax.Target({name}(...)" in message


def test_an_error_inside_of_a_constructor_is_its_own(tmp_path):
    path = tmp_path / "classes_with_arguments.py"
    path.write_text(CLASSES)
    message = refused("analyze", f"{path}:Faulty")
    assert_in_parts(message, "TargetError", where=line_of("raises", path))
    assert "is a class whose" not in message


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("body", ['params["w"] @ x', "params.w @ x"])
def test_a_pytree_cannot_be_given_by_input(body, inputs, tmp_path):
    path = tmp_path / "takes_a_pytree.py"
    path.write_text(f"def step(params, x):\n    return {body}\n")
    message = refused("analyze", f"{path}:step", *["--input", "f32[8]"] * inputs)
    assert_in_parts(message, "InputError", where=f"{path}:")
    assert "--input cannot describe" in message
    assert "costax.Target(fn, " in message


def test_a_callable_without_its_inputs(program):
    message = refused("analyze", f"{program}:product")
    assert_in_parts(message, "InputError")
    assert "--input 'f32[8,128]'" in message


def test_inputs_for_a_target_that_has_its_own(program):
    message = refused("analyze", f"{program}:fine", "--input", "f32[4,4]")
    assert_in_parts(message, "InputError")
    assert "already has arguments, so --input is not allowed" in message


def test_too_many_inputs(program):
    message = refused("analyze", f"{program}:product", *["--input", "f32[4,4]"] * 3)
    assert_in_parts(message, "InputError", where=f"{program}:")
    assert "`product(x, y)` does not take 3 inputs" in message
    unknown = refused("analyze", f"{program}:product", "--input", "f32[4,4]", "--input", "z=f32[4,4]")
    assert_in_parts(unknown, "InputError")


@pytest.mark.parametrize(
    "text", ["", "f32", "f32[", "f32[a.b]", "f32[4,]", "f32[-1]", "f32[4.5]", "f33[4]", "[4]", "x=", "f32[4];f32[4]"]
)
def test_an_input_that_is_no_shape(text, program):
    message = refused("analyze", f"{program}:product", "--input", text, "--input", "f32[4,4]")
    assert_in_parts(message, "InputError")
    assert "f32[8,224,224,3]" in message


def test_shapes_that_do_not_fit(program):
    message = refused("analyze", f"{program}:product", "--input", "f32[4,8]", "--input", "f32[7,3]")
    assert_in_parts(message, "InputError", where=f"{program}:")
    assert "got (8,) and (7,)" in message
    assert "f32[4,8]" in message
    assert "f32[7,3]" in message


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fails", "ZeroDivisionError: one over nothing"),
        ("asserts", "AssertionError: x has three elements"),
        ("branches", "TracerBoolConversionError"),
    ],
)
def test_a_program_that_raises_while_it_is_traced(name, what, program):
    message = refused("analyze", f"{program}:{name}", "--input", "f32[4]")
    assert_in_parts(message, "InputError", where=line_of(name, program))
    assert what in message


# Options.


def test_an_unknown_table_or_command(program):
    assert "'layer' is not one of 'scope', 'module', 'primitive'" in refused(
        "analyze", f"{program}:fine", "--by", "layer"
    )
    assert "'speed' is not one of" in refused("analyze", f"{program}:fine", "--sort", "speed")
    assert "parameters belong to scopes" in refused("analyze", f"{program}:fine", "--sort", "params", "--by", "dtype")
    assert "0 is not in the range" in refused("analyze", f"{program}:fine", "--depth", "0")
    assert "No such command 'analyse'" in refused("analyse", f"{program}:fine")


@pytest.mark.parametrize("text", ["while", "while=", "=3", "while=many", "while=-1"])
def test_trips_that_are_none(text, program):
    assert_in_parts(refused("analyze", f"{program}:loop", "--trips", text), "TripsError")


def test_trips_of_a_loop_that_is_not_there(program):
    message = refused("analyze", f"{program}:loop", "--trips", "solver/while=3")
    assert_in_parts(message, "TripsError", where="loops of unknown length: while")
    assert_in_parts(refused("analyze", f"{program}:fine", "--trips", "while=3"), "TripsError", where="none")


# Rules.


def test_a_missing_rule(program):
    del REGISTRY._rules["dot_general"]
    message = refused("analyze", f"{program}:fine")
    assert_in_parts(message, "MissingRuleError", where=line_of("product", program))
    assert "No rule says what `dot_general` costs" in message
    assert "in: f32[4,8] f32[8,3]   out: f32[4,3]" in message
    assert '@costax.cost_rule("dot_general")' in message
    strict = refused("analyze", f"{program}:fine", "--strict", code=1)
    assert_in_parts(strict, "CheckError", where="program.py:8")
    warned = CliRunner().invoke(main, ["analyze", f"{program}:fine", "--on-missing", "warn"])
    assert warned.exit_code == 0
    assert "Not counted: dot_general (" in warned.stdout
    assert warned.stderr == ""


def test_many_missing_rules_are_one_error():
    for name in ("dot_general", "tanh", "sin"):
        del REGISTRY._rules[name]
    with pytest.raises(MissingRuleError, match="3 primitives") as caught:
        costax.analyze(lambda x: jax.numpy.sin(jax.numpy.tanh(x @ x)))(costax.spec("f32[4,4]"))
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (None, "returned None of type NoneType, not a costax.Cost"),
        (3, "returned 3 of type int, not a costax.Cost"),
        (costax.Cost.arithmetic("f32", -1), "= -1, not a non-negative integer"),
        (costax.Cost.arithmetic("f32", 1.5), "= 1.5, not a non-negative integer"),
        (costax.Cost.arithmetic("f32", "9"), "= '9', not a non-negative integer"),
        (ZeroDivisionError("by zero"), "raised ZeroDivisionError: by zero"),
    ],
)
def test_a_rule_that_is_wrong(returned, what, program):
    @costax.cost_rule("dot_general", override=True)
    def rule(eqn):
        if isinstance(returned, Exception):
            raise returned
        return returned

    message = refused("analyze", f"{program}:fine")
    assert_in_parts(message, "RuleError", where=line_of("product", program))
    assert what in message
    assert __file__ in message


@pytest.mark.parametrize("returned", [None, 3, ["body"], [costax.Body(None, times=-1)], [costax.Body(None, times=1.5)]])
def test_a_body_rule_that_is_wrong(returned):
    costax.body_rule("scan", override=True)(lambda eqn: returned)
    with pytest.raises(RuleError, match="rule of `scan` returned"):
        costax.analyze(lambda x: jax.lax.scan(lambda c, _: (c * 2, None), x, length=3))(costax.spec("f32[4]"))


def test_a_second_rule_names_the_first():
    first = costax.rules()["dot_general"]
    with pytest.raises(RuleCollisionError, match=f"{first.file}:{first.line}") as caught:
        costax.cost_rule("dot_general")(lambda eqn: costax.Cost())
    assert "override=True" in caught.value.cure


def test_a_second_rule_in_the_users_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import costax\n@costax.cost_rule('dot_general')\ndef mine(eqn):\n    return costax.Cost()\n")
    message = refused("analyze", f"{path}:mine", "--input", "f32[]")
    assert_in_parts(message, "RuleCollisionError", where=f"{path}:2")
    assert "contractions.py" in message


def test_an_unknown_primitive():
    assert_in_parts(refused("explain", "no_such_primitive_at_all"), "TargetError")


# Records and files.


@pytest.mark.parametrize("name", ["missing.json", "empty.json", "binary.json", "foreign.json", ""])
def test_a_record_that_is_none(name, tmp_path):
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    (tmp_path / "foreign.json").write_text('{"schema": "other/1", "total": 3}')
    error = "RecordError" if name else "HloError"  # a folder is taken for one that XLA dumped into
    assert_in_parts(refused("show", str(tmp_path / name)), error, where=str(tmp_path))


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.json.gz", "missing/a.json"])
def test_a_file_that_cannot_be_saved(name, program, tmp_path):
    # The text of a factory that would raise shows that nothing is done before the path is refused.
    message = refused("analyze", f"{program}:factory_that_raises", "--save", str(tmp_path / name))
    assert_in_parts(message, "RecordError")
    assert ".json, .md, .csv" in message or "does not exist" in message


def test_a_directory_in_place_of_a_file(program, tmp_path):
    (tmp_path / "a.json").mkdir()
    assert "is a directory" in refused("analyze", f"{program}:fine", "--save", str(tmp_path / "a.json"))


# Endings.


def test_debug_shows_the_traceback(program):
    for args in (["--debug", "analyze", f"{program}:fails"], ["analyze", "--debug", f"{program}:fails"]):
        result = CliRunner().invoke(main, [*args, "--input", "f32[4]"])
        assert result.exit_code == 2
        assert "Traceback" in result.stderr
        assert "ZeroDivisionError: one over nothing" in result.stderr


def test_a_fault_of_costax_asks_for_a_report(program, monkeypatch):
    monkeypatch.setattr("costax.program.targets.load_target", lambda *args: 1 // 0)
    message = refused("analyze", f"{program}:fine")
    assert "costax itself failed: ZeroDivisionError" in message
    assert "Please report it" in message


def test_an_interrupt_ends_with_the_shells_code(program):
    assert (
        refused("analyze", f"{program}:interrupted", code=130)
        == "Interrupted: the command did not finish. Nothing was written.\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_ctrl_c_leaves_no_traceback(tmp_path):
    path = tmp_path / "slow.py"
    path.write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    # What runs in the background of a shell ignores the signal, and so does all that it starts, unless it is told to.
    listening = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    listening += "runpy.run_module('costax', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", listening, "analyze", f"{path}:f", "--save", str(tmp_path / "a.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, "Interrupted: the command did not finish. Nothing was written.\n")
    assert not (tmp_path / "a.json").exists()
