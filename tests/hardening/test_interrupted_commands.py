"""Real processes and real signals: a command ends soon, says what is kept, and leaves no folder, file or process."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc to find processes"),
]

# XLA compiles this for a minute or more, in one call of the compiler without a Python instruction.
PROGRAM = """
import jax, jax.numpy as jnp

def long(n=400):
    def fn(x):
        for i in range(n):
            x = jnp.sort(jnp.tanh(x @ x.T) + i, axis=i % 2)
        return x
    return fn, (jax.ShapeDtypeStruct((64, 64), "float32"),)

def short():
    return (lambda x: jnp.tanh(x @ x.T)), (jax.ShapeDtypeStruct((64, 64), "float32"),)
"""


def started(command, folder, program="long"):
    """Start a command, with a folder of its own for temporary files, and return the process."""
    file = folder / "program.py"
    file.write_text(PROGRAM)
    (folder / "tmp").mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(folder / "tmp"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    arguments = [sys.executable, "-m", "costax", command, f"{file}:{program}", "--save", str(folder / "out.json")]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def dumps(process):
    """Return the folders of dumped modules of a process."""
    return [path for root in (Path("/dev/shm"), Path("/tmp")) for path in root.glob(f"costax-passes-{process.pid}-*")]


def processor_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compiling(process, folder, seconds=120):
    """Wait until XLA writes the modules of its passes; say whether it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        places = [*dumps(process), *(folder / "tmp").glob("costax-passes-*")]
        if any(open_folder(place) for place in places):
            return True
        time.sleep(0.02)
    return False


def open_folder(place):
    try:
        return any(place.iterdir())
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_xla_compiles_ends_the_command(number, tmp_path):
    process = started("compare", tmp_path)
    assert compiling(process, tmp_path), "XLA compiles the program"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Interrupted: the command did not finish" in errors
    assert "Traceback" not in errors
    assert "Fatal" not in errors
    assert not dumps(process)
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "out.json").exists()
    assert not list(tmp_path.glob(".*"))


def test_signals_at_many_moments_never_crash_a_command(tmp_path):
    rng = random.Random(0)
    for i in range(8):
        folder = tmp_path / str(i)
        folder.mkdir()
        process = started("compare", folder, program="short")
        number = rng.choice((signal.SIGINT, signal.SIGTERM))
        # The command has its handlers when it has imported jax, which takes a second of processor time or so.
        target, deadline = rng.uniform(1.5, 4.0), time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline and processor_seconds(process) < target:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        # 0: the command was done. Before a command begins, and after its end, a signal ends Python as it always does.
        assert process.returncode in (0, 128 + number, -number), errors
        assert not dumps(process)
        saved = (folder / "out.json").exists()
        assert saved or process.returncode, "a command that succeeds has saved its file"
        assert not list(folder.glob(".*.tmp"))
        assert not list((folder / "tmp").iterdir())
