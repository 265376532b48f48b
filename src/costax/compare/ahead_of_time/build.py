"""Compiling for another machine in a process of its own, and telling what went wrong in it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from costax import _jax
from costax.compare.ahead_of_time.machines import Machine
from costax.errors import DeviceMemoryError, TargetError

TIMEOUT: Final = 1800.0
"""Seconds that a compiler may take, unless one says otherwise."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a compiler made for a machine: the optimised HLO, and what it says of it.

    memory: in bytes, per device. cost: the compiler's own dictionary, None where it has none (GPU). seconds: of the
    compilation, without starting the process. note: what the compiler was told beyond the usual, and why.
    """

    hlo: bytes = field(repr=False)
    memory: Mapping[str, int]
    cost: Mapping[str, float] | None
    seconds: float
    note: str = ""


# For each platform the extra, the module that it brings, and what its plugin has to be told by the environment.
_EXTRAS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "tpu": ("costax[tpu]", ("libtpu",)),
    "cuda": ("costax[cuda]", ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")),
}
_ENVIRONMENT: Final[Mapping[str, str]] = {
    # jax is to start the CPU alone; a plugin is only asked to describe and to compile.
    "JAX_PLATFORMS": "cpu",
    # Without it libtpu asks the cloud's metadata server for minutes.
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu locks the machine for one process, for the sake of a TPU that is not there.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    # The CUDA plugin looks for CUDA's libraries when it is loaded; to describe and compile it needs none.
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    # Any valid value silences a warning.
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


def missing(platform: str) -> str:
    """Return the extra that a platform needs and that is not installed, or ""."""
    extra, modules = _EXTRAS[platform]
    return "" if any(map(_is_installed, modules)) else extra


def compile_in_child(lowered: Any, machine: Machine, name: str, timeout: float = TIMEOUT) -> Built:
    """Compile a program, lowered for the machine's platform, ahead of time.

    name: of the program, for messages. Raises TargetError where the plugin is missing, the shape of the machine does
    not fit, or the compiler fails; DeviceMemoryError where the compiler says that the program does not fit the memory.
    """
    _check(machine, _jax.partitions(lowered), name)
    program, how = _jax.portable_program(lowered)
    request = {"platform": machine.platform, "topology": machine.topology, "options": machine.options, "how": how}
    with tempfile.TemporaryDirectory(prefix="costax-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        (folder / "program.mlir").write_bytes(program)
        (folder / "request.json").write_text(json.dumps(request))
        ended, log = _run(folder, machine, name, timeout)
        if not (folder / "answer.json").exists():
            _crashed(machine, name, ended, log)
        answer = json.loads((folder / "answer.json").read_text())
        if "error" in answer:
            _refused(machine, name, answer["error"])
        found = (answer[key] for key in ("memory", "cost", "seconds", "note"))
        return Built((folder / "hlo.pb").read_bytes(), *found)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check(machine: Machine, devices: int, name: str) -> None:
    extra = missing(machine.platform)
    if extra:
        raise TargetError(
            f"The compiler for {machine.name!r} is not installed.",
            why="costax asks the machine's own compiler, which runs on any CPU.",
            cure=f"pip install '{extra}'",
        )
    if devices > machine.devices:
        raise TargetError(
            f"`{name}` runs on {devices} devices, and {machine.name!r} has {machine.devices}.",
            why="The compiler has to know how the devices are connected.",
            cure=f"Name a machine of {devices}: {_example(machine.name, devices)}.",
        )


def _example(name: str, devices: int) -> str:
    platform, model, *_ = name.split(":")
    if platform == "cuda":
        return f"cuda:{model}:{devices}"
    side = next(n for n in range(int(devices**0.5), 0, -1) if devices % n == 0)
    third = "x1" if model in ("v4", "v5p", "v7x") else ""
    return f"tpu:{model}:{side}x{devices // side}{third}"


def _run(folder: Path, machine: Machine, name: str, timeout: float) -> tuple[int, str]:
    """Run the process; return its exit status and what it wrote."""
    # The parent's search path: the child must find this costax, and run the same jax.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}
    log = folder / "log"
    with log.open("wb") as written:
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "costax.compare.ahead_of_time.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"The compiler for {machine.name!r} took more than {timeout:g} s for `{name}`.",
                why="It was stopped; nothing of its work is left.",
                cure="Give it longer with timeout= (--timeout), or compare a smaller program: fewer layers, or a scan.",
            ) from error
    return ended, log.read_text(errors="replace")


def _crashed(machine: Machine, name: str, status: int, log: str) -> NoReturn:
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise TargetError(
        f"The compiler for {machine.name!r} {how} on `{name}` and gave no answer.",
        why=f"Its last words: {_last_words(log)}",
        cure=f"Compare for another machine, or for the CPU. If a smaller program crashes too, the plugin may not fit "
        f"this jax: pip install --upgrade '{_EXTRAS[machine.platform][0]}'",
    )


def _last_words(log: str) -> str:
    """Return what a process wrote last, a fatal line of the compiler's before anything else."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} |Fatal|Check failed", line)]
    return " ".join((fatal or lines[-3:])[:3])[:800] or "none"


_MEMORY: Final = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


def _refused(machine: Machine, name: str, error: str) -> NoReturn:
    message = error.split("\n\n")[0].strip()
    if _MEMORY.search(message):
        raise DeviceMemoryError(
            f"`{name}` does not fit the memory of {machine.name!r}.",
            why=f"Its compiler says: {message[:600]}",
            cure="Shard the program over more chips, use a smaller batch, or rematerialise with jax.checkpoint.",
        )
    raise TargetError(
        f"The compiler for {machine.name!r} does not compile `{name}`.",
        why=f"It says: {message[:600]}",
        cure="Name a shape that such machines have, or use costax analyze, which needs no compiler.",
    )
