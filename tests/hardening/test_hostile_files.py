"""Records, specs, trip counts, budgets and device files that would take hours or gigabytes: one message, soon.

The limits are of the processor time and the memory of this process, because a clock measures other processes too.
"""

import contextlib
import copy
import itertools
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import costax
from costax.cli import main
from costax.errors import CostaxError, DeviceError, InputError, TripsError, UnitError
from costax.performance.hardware.device_file import read
from costax.report import load_any, plain_text
from costax.report.device import render
from costax.report.text import plain

pytestmark = pytest.mark.once

DEVICES = Path(costax.__file__).parent / "performance" / "hardware" / "devices"
DIGITS = "9" * 5000
FORMULAS = {
    "a tower": "9^99999999999",
    "a power of a sum": "(b+s+1)^400",
    "400 KB": " + ".join(f"b*{i}" for i in range(50_000)),
    "parentheses": "(" * 20_000 + "b" + ")" * 20_000,
    "nested calls": "max(" * 5000 + "b" + ",1)" * 5000,
    "digits": DIGITS,
    "a long product": "*".join(["(b+1)"] * 4000),
    "a division by zero": "b//0",
}


@contextmanager
def bounded(seconds=2, megabytes=200):
    """Check that a block takes little processor time and memory."""
    resource = pytest.importorskip("resource")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < seconds
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit < megabytes


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    def fn(x):
        with jax.named_scope("layer"):
            return jnp.tanh(x @ x.T).sum()

    path = tmp_path_factory.mktemp("records") / "a.json"
    costax.analyze(fn)(costax.spec("f32[b,8]")).save(path)
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_in_a_record_ends_with_a_message(name, record, tmp_path):
    hostile = copy.deepcopy(record)
    hostile["rows"][0]["counts"] = {"arithmetic": {"f32": FORMULAS[name]}}
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps(hostile))
    with bounded(), pytest.raises(CostaxError) as error:
        load_any(file)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_in_a_spec_ends_with_a_message(name):
    for text in (f"f32[{FORMULAS[name]}]", f"f32[b]; b >= {FORMULAS[name]}"):
        with bounded(), pytest.raises(InputError) as error:
            costax.spec(text)
        assert len(str(error.value)) < 1000


def test_specs_that_no_array_has_end_with_a_message():
    for text in ("f32[9^9999999999]", "f32[9^900]", f"f32[{','.join('1' * 20_000)}]", f"f32[{2**63}]", "f32[-3]"):
        with bounded(), pytest.raises(InputError):
            costax.spec(text)
    assert costax.spec(f"f32[{2**63 - 1}]").shape == (2**63 - 1,)
    assert costax.spec("f32[b,s]; b >= 2, mod(s, 8) == 0").shape


def test_a_scope_of_20_000_parts_ends_with_a_message(record, tmp_path):
    hostile = copy.deepcopy(record)
    hostile["rows"][0]["scope"] = "/".join(["x"] * 20_000)
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps(hostile))
    with bounded(), pytest.raises(CostaxError, match="20,000 parts"):
        load_any(file)
    hostile["rows"][0]["scope"] = "/".join(["x"] * 500)
    file.write_text(json.dumps(hostile))
    with bounded(seconds=20):
        assert plain_text(load_any(file))


@pytest.mark.parametrize("contents", ["[" * 100_000, '{"a":' * 100_000, f'{{"schema": {DIGITS}}}', "null", "[1]", ""])
def test_json_that_is_no_record_ends_with_a_message(contents, tmp_path):
    for name in ("x.json", "x.jsonl"):
        (tmp_path / name).write_text(contents + "\n")
    program = tmp_path / "study.py"
    program.write_text("import jax\ndef make(n=1): return jax.numpy.sin, (jax.ShapeDtypeStruct((n,), 'float32'),)\n")
    commands = [["show", str(tmp_path / "x.json")], ["diff", str(tmp_path / "x.json"), str(tmp_path / "x.json")]]
    if contents:
        commands.append(["sweep", f"{program}:make", "--grid", "n=1", "--out", str(tmp_path / "x.jsonl")])
    for command in commands:
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert "costax itself failed" not in result.output
        assert "Traceback" not in result.output


def test_every_integer_of_a_record_has_a_limit(record, tmp_path):
    file = tmp_path / "hostile.json"
    hostile = copy.deepcopy(record)
    hostile["devices"] = 10**4000
    file.write_text(json.dumps(hostile))
    with pytest.raises(CostaxError, match="bits"):
        load_any(file)


@pytest.mark.parametrize("contents", ["x=" + "[" * 20_000, f"jax_devices = {DIGITS}", "\x00", "[peak", ""])
def test_a_device_file_that_is_no_toml_ends_with_a_message(contents, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(contents)
    with bounded():
        result = CliRunner().invoke(main, ["devices", str(file)])
    assert result.exit_code == 2
    assert "costax itself failed" not in result.output


def test_trip_counts_and_budgets_have_limits():
    def fn(x):
        return jax.lax.while_loop(lambda c: c.sum() < 5, lambda c: c + 1, x)

    for trips in (10**5000, 2**63, -1):
        with pytest.raises(TripsError):
            costax.analyze(fn, trips={"*": trips})(costax.spec("f32[4]"))
    for text in (f"*={DIGITS}", "*=9^9999999", "*=1e999999", "*=inf", "*=nan", "*=-1", "*=", "="):
        result = CliRunner().invoke(main, ["analyze", "jax.numpy:sin", "--input", "f32[4]", "--trips", text])
        assert result.exit_code == 2
        assert "costax itself failed" not in result.output
    for limit in (DIGITS, 10**5000, "9^99", -(10**5000)):
        with pytest.raises(UnitError):
            costax.Budget(flops=limit).limits()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_refused(tmp_path, record):
    fifo, real = tmp_path / "pipe.json", tmp_path / "real.json"
    os.mkfifo(fifo)
    real.write_text(json.dumps(record))
    toml = tmp_path / "pipe.toml"
    os.mkfifo(toml)
    lines = tmp_path / "pipe.jsonl"
    os.mkfifo(lines)
    for bad in (str(fifo), "/dev/zero", str(tmp_path)):
        for command in (["show", bad], ["diff", bad, str(real)], ["diff", str(real), bad], ["join", str(real), bad]):
            with bounded():
                result = CliRunner().invoke(main, command)
            assert result.exit_code == 2, command
            assert "costax itself failed" not in result.output
    for command in (["devices", str(toml)], ["analyze", "jax.numpy:sin", "--input", "f32[4]", "--save", str(fifo)]):
        assert CliRunner().invoke(main, command).exit_code == 2


def test_a_path_that_the_system_refuses_is_no_bug_of_costax(tmp_path):
    long = "x" * 5000
    for command in (["show", long], ["diff", long, long], ["analyze", long], ["analyze", f"{long}.py:f"]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert "costax itself failed" not in result.output


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_output_to_a_full_disk_is_told_as_what_it_is(tmp_path, record):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(record))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "costax", "show", str(file)], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"itself failed" not in done.stderr
    assert b"Traceback" not in done.stderr


HOSTILE_VALUES = ("true", '""', '"x"', "[]", "[1]", "{}", "[[1, 2]]", "nan", "inf", "1e308", "5e-324", "-1", "9" * 400)


def test_every_value_of_a_device_file_may_be_anything(tmp_path):
    """One message, or a device that can be shown and that predicts a finite time."""
    analysis = costax.analyze(lambda x: x @ x)(costax.spec("bf16[64,64]"))
    lines = (DEVICES / "h100-sxm.toml").read_text().splitlines()
    file, refused = tmp_path / "x.toml", 0
    values = [row for row, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    for row, value in itertools.product(values, HOSTILE_VALUES):
        changed = [*lines]
        changed[row] = f"{lines[row].partition('=')[0]}= {value}"
        file.write_text("\n".join(changed))
        try:
            device = read(file)
        except DeviceError:
            refused += 1
            continue
        assert plain(render(device))
        with contextlib.suppress(CostaxError):
            assert 0 <= costax.predict(analysis, device).seconds < float("inf"), (lines[row], value)
    assert refused > len(values) * 4
