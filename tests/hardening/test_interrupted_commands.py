"""Real processes and real signals: a command ends soon, says what is kept, and leaves no folder, file or process."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from costax.core.unfinished_files import SAVED, write

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and the folders of dumped modules in /dev/shm"),
]

# XLA compiles the first for ten seconds or more, in one call of the compiler without a Python instruction; the second
# for seconds, so that a test can wait for the end.
PROGRAM = """
import jax, jax.numpy as jnp

def long(n=120):
    def fn(x):
        for i in range(n):
            x = jnp.sort(jnp.tanh(x @ x.T) + i, axis=i % 2)
        return x
    return fn, (jax.ShapeDtypeStruct((64, 64), "float32"),)

def seconds():
    return long(30)

def short():
    return (lambda x: jnp.tanh(x @ x.T)), (jax.ShapeDtypeStruct((64, 64), "float32"),)
"""
LIBRARY = """
import sys, costax
sys.path.insert(0, sys.argv[1])
import program
fn, args = program.seconds()
print("ready", flush=True)
try:
    costax.compare(fn, *args)
    print("compared")
except KeyboardInterrupt:
    print("KeyboardInterrupt")
print(costax.analyze(fn, *args).total.macs)
"""
IN_COLLECTOR = """
import gc, signal, sys, time
from contextlib import nullcontext
from costax.core.interrupts import noted

def callback(phase, info):
    if phase == "start" and not sent:
        sent.append(phase)
        signal.raise_signal(signal.SIGINT)

sent = []
gc.callbacks.append(callback)
try:
    with noted() if sys.argv[1] == "noted" else nullcontext():
        gc.collect()
        time.sleep(1)
    print("lost")
except KeyboardInterrupt:
    print("raised")
"""


@pytest.fixture(autouse=True)
def _interruptible():
    """A shell starts its processes in the background with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def started(arguments, folder):
    """Start Python with arguments, with the programs and an empty folder for temporary files in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(PROGRAM)
    (folder / "tmp").mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(folder / "tmp"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compare(folder, program="long"):
    target = f"{folder / 'program.py'}:{program}"
    return started(["-m", "costax", "compare", target, "--save", str(folder / "out.json")], folder)


def dumps(process, folder):
    """Return the folders of dumped modules of a process."""
    roots = (Path("/dev/shm"), folder / "tmp")
    return [path for root in roots for path in root.glob(f"costax-passes-{process.pid}-*")]


def is_compiling(process, folder):
    """Wait until XLA writes the modules of its passes; say whether it does."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if any(name for place in dumps(process, folder) for name in os.listdir(place)):
            return True
        time.sleep(0.01)
    return False


def guards(process):
    """Return the guards that a process left: their command line has the name of its folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = place.read_text()
        except OSError:
            continue
        if "costax-guard" in text and f"costax-passes-{process.pid}-" in text:
            found.append(text)
    return found


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    return condition()


def check_clean(process, folder):
    assert until(lambda: not guards(process)), "a guard is left"
    assert not dumps(process, folder)
    assert not list((folder / "tmp").iterdir())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "a half-written file is left"


def ended_in_compile(number, delay, folder):
    process = compare(folder)
    assert is_compiling(process, folder), process.communicate()
    time.sleep(delay)
    process.send_signal(number)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=100)
    return process, errors, time.monotonic() - sent


def test_signals_at_twelve_moments_of_a_compile_end_the_command_cleanly(tmp_path):
    rng = random.Random(0)
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL] * 4
    folders = [tmp_path / str(i) for i in range(12)]
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(ended_in_compile, numbers, [rng.uniform(0, 2) for _ in numbers], folders))
    for number, folder, (process, errors, seconds) in zip(numbers, folders, ended, strict=True):
        # A shell shows 128 + number for a process that a signal ended.
        assert process.returncode in (-number, 128 + number)
        assert errors == "Interrupted: the command did not finish. Nothing was written.\n"
        # A second, and what other processes of the machine take.
        assert seconds < 10
        assert not (folder / "out.json").exists()
        check_clean(process, folder)


def test_a_shell_sees_130_after_an_interrupt_of_a_compile(tmp_path):
    process, errors, _ = ended_in_compile(signal.SIGINT, 0.3, tmp_path / "first")
    assert process.returncode == -signal.SIGINT, errors
    shell = subprocess.run(["sh", "-c", "sh -c 'kill -INT $$'; echo $?"], capture_output=True, text=True, check=False)
    assert shell.stdout == "130\n"


def test_signals_at_any_moment_never_crash_a_command(tmp_path):
    rng = random.Random(1)
    for i in range(4):
        folder, number = tmp_path / str(i), (signal.SIGINT, signal.SIGTERM)[i % 2]
        process = compare(folder, "short")
        target = rng.uniform(1.0, 4.0)
        while process.poll() is None and processor_seconds(process) < target:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        # 0: the command was done.
        assert process.returncode in (0, 128 + number, -number), errors
        assert (folder / "out.json").exists() or process.returncode
        check_clean(process, folder)


def processor_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_command_that_finishes_leaves_no_guard_and_lets_its_pipe_go(tmp_path):
    process = compare(tmp_path, "short")
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "Interrupted" not in output + errors
    check_clean(process, tmp_path)


def test_an_interrupted_command_names_the_files_that_it_wrote(tmp_path):
    from costax.core.guards import interrupted_message

    SAVED.clear()
    assert interrupted_message().endswith("Nothing was written.")
    write(tmp_path / "a.json", "{}")
    assert interrupted_message().endswith(f"Written before: {str(tmp_path / 'a.json')!r}.")
    SAVED.clear()


def test_python_raises_the_interrupt_of_a_compile_when_the_compiler_returns(tmp_path):
    process = started(["-c", LIBRARY, str(tmp_path)], tmp_path)
    assert is_compiling(process, tmp_path), process.communicate()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert output.split() == ["ready", "KeyboardInterrupt", str(30 * 64**3)]
    check_clean(process, tmp_path)


@pytest.mark.parametrize(("how", "expected"), [("noted", "raised"), ("plain", "lost")])
def test_an_interrupt_in_a_callback_of_the_collector_is_raised_after_it(how, expected, tmp_path):
    process = started(["-c", IN_COLLECTOR, how], tmp_path)
    output, errors = process.communicate(timeout=100)
    assert output.split() == [expected], errors
