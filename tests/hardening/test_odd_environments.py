"""Disks without room, directories that are gone, and signals at bad moments: one message, and no half-written file."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main
from costax.compare import dumping
from costax.core.unfinished_files import write
from costax.errors import DeviceError, RecordError, SweepError
from costax.measure.calibration import Calibration, _writable
from costax.sweep.conditions import conditions
from costax.sweep.journal import Journal

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="the limits, signals and directories of Linux"),
]
X = jax.ShapeDtypeStruct((8, 8), "float32")


@contextmanager
def room(nbytes):
    """Let no file grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def nowhere(tmp_path):
    """A current directory that is deleted."""
    before, gone = os.getcwd(), tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    yield
    os.chdir(before)


def make(n=1):
    return jnp.tanh, (X,)


def test_a_sweep_without_room_names_its_file_and_leaves_none(tmp_path):
    path = tmp_path / "results.jsonl"
    with room(10), pytest.raises(SweepError, match=r"results.jsonl' cannot be written"):
        Journal(path, conditions(make, {}))
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_loses_its_room_keeps_the_whole_lines(tmp_path):
    path = tmp_path / "results.jsonl"
    entry = {"point": {"n": 1}, "error": None}
    journal = Journal(path, conditions(make, {}))
    journal.add(entry)
    with room(path.stat().st_size + 5), pytest.raises(SweepError, match="Points in the file: 1"):
        journal.add({**entry, "point": {"n": 2}})
    journal.close(complete=False)
    again = Journal(path, conditions(make, {}))
    assert list(again.results.values()) == [entry]
    again.close(complete=False)


def test_a_table_without_room_keeps_the_lines(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "results.parquet"
    journal = Journal(path, conditions(make, {}))
    journal.add({"point": {"n": 1}, "error": None})
    with room(100), pytest.raises(SweepError, match=r"results.parquet' cannot be written"):
        journal.close(complete=True)
    assert [file.name for file in tmp_path.iterdir()] == ["results.parquet.jsonl"]


def test_a_calibration_without_room_keeps_the_device_file(tmp_path, monkeypatch):
    path = tmp_path / "cpu.toml"
    path.write_text("before")
    with room(10), pytest.raises(DeviceError, match="cannot be written"):
        _writable(path)
    calibration = sys.modules[Calibration.__module__]
    monkeypatch.setattr(calibration, "rates_of", lambda points: {})
    monkeypatch.setattr(calibration, "_file", lambda rates: "after" * 100)
    monkeypatch.setattr(calibration, "all_trials", lambda quick: [])
    with room(10), pytest.raises(DeviceError, match="cannot be written"):
        Calibration().write(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_calibration_leaves_no_device_file(tmp_path):
    _writable(tmp_path / "new" / "cpu.toml")
    assert not list((tmp_path / "new").iterdir())


def test_a_compile_whose_modules_do_not_fit_the_disk_says_so(monkeypatch):
    def fn(x):
        return jnp.tanh(x @ x) * 1 + x

    whole = costax.compare(fn, X)
    monkeypatch.setattr(dumping, "_LEAST_ROOM", 2**70)
    found = costax.compare(fn, X)
    assert found.passes is None
    assert "has no room" in found.compiled.note
    assert found.compiled.replay.total == whole.compiled.replay.total


def test_a_result_that_cannot_be_saved_is_printed_all_the_same(tmp_path):
    record = tmp_path / "record.json"
    costax.analyze(jnp.tanh, X).save(record)
    with room(10):
        done = CliRunner().invoke(main, ["show", str(record), "--save", str(tmp_path / "out.html")])
    assert done.exit_code == 2
    assert "out.html' cannot be written" in done.stderr
    assert "transcendentals" in done.stdout
    assert list(tmp_path.iterdir()) == [record]


@pytest.mark.parametrize("target", ["jax.numpy:tanh", "program.py:tanh"])
def test_a_current_directory_that_is_gone_is_named(nowhere, target):
    done = CliRunner().invoke(main, ["analyze", target, "--input", "f32[4]"])
    assert done.exit_code == 2
    assert done.stderr.startswith("The current directory does not exist any more.")


def test_memory_that_is_used_up_is_no_bug_of_costax(tmp_path):
    (tmp_path / "program.py").write_text("def fn(x):\n    raise MemoryError\n")
    done = CliRunner().invoke(main, ["analyze", f"{tmp_path / 'program.py'}:fn", "--input", "f32[4]"])
    assert (done.exit_code, "bug of costax" in done.stderr) == (2, False)


def test_memory_that_is_used_up_inside_of_costax_is_told_as_that(monkeypatch):
    def used_up(*_, **__):
        raise MemoryError

    monkeypatch.setattr(main.commands["rules"], "invoke", used_up)
    done = CliRunner().invoke(main, ["rules"])
    assert done.exit_code == 2
    assert done.stderr.startswith("The memory of this machine")


def test_a_file_in_a_directory_that_is_gone_cannot_be_written(nowhere):
    with pytest.raises(RecordError, match=r"'out.json' cannot be written"):
        write("out.json", "{}")


DUMPS = "--xla_dump_hlo_module_re=none --xla_dump_hlo_pipeline_re=none --xla_dump_max_hlo_modules=1 "
DUMPS += "--xla_dump_compress_protos --xla_dump_hlo_as_text --xla_dump_hlo_pass_re=none"


def test_dumps_that_the_user_asks_xla_for_take_no_pass_away(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={tmp_path} {DUMPS}")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    code = """
import costax, jax, jax.numpy as jnp
found = costax.compare(lambda x: jnp.tanh(x @ x) * 1 + x, jax.ShapeDtypeStruct((8, 8), "float32"))
print(len(found.passes.steps), found.compiled.note, not found.unexplained)
"""
    done = command(code=code)
    assert done.stdout.split()[1:] == ["True"], done.stderr
    assert int(done.stdout.split()[0]) > 1


# A command that sends signals to itself; it needs no jax.
COMMAND = """
import os, signal, sys, tempfile, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import click
from costax.cli import terminal

@click.group(cls=terminal.Commands)
def main(): pass

@main.command()
def twice():
    echo = click.echo
    def interrupted(*args, **extra):
        signal.raise_signal(signal.SIGINT)
        echo(*args, **extra)
    click.echo = interrupted
    signal.raise_signal(signal.SIGINT)

@main.command()
def ended():
    with tempfile.TemporaryDirectory(dir=sys.argv[2]):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        time.sleep(1)
    print("done")

sys.argv, arguments = sys.argv, sys.argv[1:2]
main(arguments, prog_name="costax")
"""
INTERRUPTED = "Interrupted: the command did not finish. Nothing was written.\n"


def command(*arguments, code=COMMAND, prefix=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_interrupt_changes_neither_the_message_nor_the_exit_code():
    done = command("twice")
    assert (done.returncode, done.stderr) == (130, INTERRUPTED)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_ends_a_command_leaves_no_temporary_folder(tmp_path, name):
    done = command("ended", tmp_path, name)
    assert (done.returncode, done.stderr) == (128 + getattr(signal, name), INTERRUPTED)
    assert not list(tmp_path.iterdir())


def shell(text):
    """Run a shell command in which $COSTAX is the command line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COSTAX": f"{sys.executable} -m costax"}
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", ["--help", "--version", "show --help", "devices"])
def test_an_output_that_cannot_be_written_is_one_message_for_every_command(arguments):
    done = shell(f"$COSTAX {arguments} > /dev/full; echo $?; set -o pipefail; $COSTAX {arguments} | true; echo $?")
    assert done.stderr.startswith("The output cannot be read or written: No space left on device.")
    assert "Traceback" not in done.stderr
    # A pipe holds what is shorter than its buffer.
    assert done.stdout.split() in (["2", "141"], ["2", "0"])


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2> >(true)"])
def test_a_standard_error_that_is_gone_changes_no_exit_code(where):
    done = shell(f"$COSTAX show absent.json {where}; echo $?")
    assert done.stdout == "2\n"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [None, Full()])
def test_a_sweep_goes_on_without_a_place_for_its_progress(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert len(costax.sweep(make, {"n": [1, 2]}, workers=1)) == 2


def test_nohup_keeps_a_command_running(tmp_path):
    done = command("ended", tmp_path, "SIGHUP", prefix=("nohup",))
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize("module", ["costax.cli.app", "costax.cli.options", "rich"])
def test_an_interrupt_of_the_imports_is_one_line(module):
    code = f"""
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
sys.argv = ["costax", "devices"]
from costax.__main__ import run
run()
"""
    done = command(code=code)
    assert (done.returncode, done.stderr) == (130, INTERRUPTED)


IN_JAXLIB = """
import signal, sys, time
from costax.cli import terminal
from costax.core.interrupts import noted

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, terminal._end)
module = {"__name__": "jaxlib.mlir"}
try:
    with noted():
        exec(f"import signal; signal.raise_signal(signal.{sys.argv[1]}); passed = True", module)
        time.sleep(5)
except (KeyboardInterrupt, SystemExit) as end:
    print(type(end).__name__, module.get("passed"))
"""


@pytest.mark.parametrize(("name", "raised"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "Terminated")])
def test_a_signal_in_the_import_of_jaxlib_acts_after_it(name, raised):
    assert command(name, code=IN_JAXLIB).stdout == f"{raised} True\n"
