"""Options with odd values, and programs that end in odd ways: one message, never a rounded or a silent number."""

import json
import signal
import subprocess
import sys
import time

import jax
import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main
from costax.errors import InputError, TargetError

pytestmark = pytest.mark.once

PROGRAM = """
import jax
import costax

def double(x):
    return 2 * x

def sized():
    return (lambda x: x @ x), (costax.spec("f32[n,n]"),)

def looped():
    return (lambda x: jax.lax.while_loop(lambda c: c.sum() < 5, double, x)), (costax.spec("f32[4]"),)

class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")

class Hidden:
    def __repr__(self):
        raise ValueError("no text")

def raises_mute():
    raise Mute

def returns_hidden():
    return Hidden()

def passes_hidden():
    return double, (Hidden(),)

def raises_base():
    raise BaseException("at the base")

def raises_generator_exit():
    raise GeneratorExit

def exits_in_the_trace():
    def fn(x):
        raise SystemExit(0)
    return fn, (costax.spec("f32[4]"),)

def odd_parameters():
    return costax.Target(double, (costax.spec("f32[4]"),), params_argnums="x")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("programs") / "odd.py"
    file.write_text(PROGRAM)
    return str(file)


def refused(*command):
    result = CliRunner().invoke(main, [*command])
    assert result.exit_code == 2, result.output
    assert "costax itself failed" not in result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("value", ["1.5", "0.9", "2.0001", "1e-1", "1.0005k"])
def test_a_size_or_trip_count_is_never_rounded(program, value):
    assert f"got 'n={value}'" in refused("analyze", f"{program}:sized", "--at", f"n={value}")
    assert f"got 'while={value}'" in refused("analyze", f"{program}:looped", "--trips", f"while={value}")


@pytest.mark.parametrize(("value", "size"), [("2.0", 2), ("1.5k", 1500), ("1e3", 1000), ("1,0", None)])
def test_a_whole_number_may_be_written_in_any_way(program, value, size):
    command = ["analyze", f"{program}:sized", "--at", f"n={value}", "--json"]
    if size is None:  # the comma separates two values
        refused(*command)
    else:
        assert json.loads(CliRunner().invoke(main, command).stdout)["total"]["macs"] == size**3


def test_a_name_has_one_value(program):
    sized = ["analyze", f"{program}:sized", "--at"]
    assert "'n' has two values, 4 and 5" in refused(*sized, "n=4,n=5")
    assert "'n' has two values, 4 and 5" in refused(*sized, "n=4", "--trips", "n=5")
    assert CliRunner().invoke(main, [*sized, "n=4", "--at", "n=4"]).exit_code == 0
    matmul = ["jax.numpy:matmul", "--input", "f32[8,8]", "--input", "f32[8,8]"]
    assert "two values" in refused("predict", *matmul, "--device", "h100-sxm", "--mesh", "data=2,data=3")
    assert "two values" in refused("what-if", *matmul, "--params", "0", "--sparsity", "*=0.5", "--sparsity", "*=0.6")
    assert "two values" in refused("analyze", *matmul, "--branches", "max", "--branches", "min")
    assert "two values" in refused("sweep", f"{program}:sized", "--grid", "n=1,2", "--grid", "n=3")


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "1e308", "-1"])
@pytest.mark.parametrize("option", ["--power", "--price", "--carbon", "--calls"])
def test_a_figure_is_a_finite_number(option, value):
    refused("predict", "jax.numpy:sin", "--input", "f32[8]", "--device", "h100-sxm", "--price", "1", option, value)


def test_numbers_of_any_length_are_refused_or_counted():
    command = ["predict", "jax.numpy:sin", "--input", "f32[8]", "--device", "h100-sxm", "--price", "1", "--energy"]
    for option in ("--devices", "--examples", "--tokens"):
        refused(*command, option, "9" * 400)
    most = ["--devices", str(10**15), "--calls", "1e15", "--carbon", "1e15", "--price", "1e15", "--power", "1e15"]
    assert CliRunner().invoke(main, [*command, *most]).exit_code == 0
    for option in (["measure", "jax.numpy:sin", "--seconds"], ["compare", "jax.numpy:sin", "--timeout"]):
        refused(*option, "nan", "--input", "f32[8]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_the_energy_of_a_run_checks_its_figures(value):
    prediction = costax.predict(costax.analyze(jax.numpy.sin)("f32[8]"), "h100-sxm")
    with pytest.raises(InputError, match="power must be a number"):
        prediction.energy(power=value)
    for name in ("calls", "carbon_intensity", "price", "overhead"):
        with pytest.raises(InputError, match=f"{name} must be a number"):
            prediction.energy().run(**{"calls": 1, name: value})
    # A run on no device takes no energy; it is not a run on the devices of the program.
    assert prediction.energy().run(devices=0).kwh.high == 0


def test_a_difference_of_formulas_is_json(program, tmp_path):
    for name in ("sized", "looped"):
        CliRunner().invoke(main, ["analyze", f"{program}:{name}", "--save", str(tmp_path / f"{name}.json")])
    records = [str(tmp_path / "sized.json"), str(tmp_path / "looped.json")]
    result = CliRunner().invoke(main, ["diff", *records, "--json"])
    assert result.exit_code == 0, result.output
    macs = json.loads(result.stdout)["total"]["macs"]
    assert macs == {"before": "n^3", "after": 0, "delta": "-n^3"}


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("raises_mute", "raised Mute"),
        ("returns_hidden", "Hidden object at"),
        ("passes_hidden", "Hidden object at"),
        ("raises_base", "raised BaseException: at the base"),
        ("raises_generator_exit", "raised GeneratorExit"),
        ("exits_in_the_trace", "SystemExit: 0"),
        ("odd_parameters", "params_argnums must be an integer or integers, got 'x'"),
    ],
)
def test_what_a_program_raises_is_told_as_its_own(program, factory, text):
    assert text in refused("analyze", f"{program}:{factory}")


def test_a_module_that_raises_at_the_base_is_told_as_its_own(tmp_path):
    (tmp_path / "odd_base.py").write_text("raise BaseException('at the base')\n")
    assert "raised BaseException: at the base" in refused("analyze", f"{tmp_path / 'odd_base.py'}:f")


def test_constraints_that_no_size_fulfils_are_refused():
    for text in ("f32[b,b]; b >= 5, b <= 3", "f32[b,s]; b >= s + 1, s >= b + 1", "f32[b]; b == 4, b >= 5"):
        with pytest.raises(InputError, match="Unsatisfiable"):
            costax.spec(text)
    with pytest.raises(InputError, match="Unsatisfiable"):
        costax.analyze(lambda x, y: (x, y))("f32[b,s]; b >= s + 1", "f32[s,b]; s >= b + 1")
    assert costax.spec("f32[b,s]; b >= s + 1, s >= 2").shape


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_while_a_module_is_imported_is_no_error_of_the_module(tmp_path):
    started = tmp_path / "started"
    (tmp_path / "slow.py").write_text(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "costax", "analyze", f"{tmp_path / 'slow.py'}:f"], stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if started.exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "raised" not in errors


def test_the_negative_control_a_factory_that_works(program):
    result = CliRunner().invoke(main, ["analyze", f"{program}:sized", "--at", "n=4"])
    assert result.exit_code == 0
    with pytest.raises(TargetError):
        costax.analyze(3)()
