"""Compile for another machine in a child process, and turn its failures into errors."""

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
from costax.compare.ahead_of_time.machines import Machine, of_size
from costax.compare.dumping import environment_flags
from costax.core.guards import guarded
from costax.errors import DeviceMemoryError, InputError, TargetError, install_command

TIMEOUT: Final = 1800.0
"""The default time limit of a compiler, in seconds."""


@dataclass(frozen=True, slots=True)
class Built:
    """The output of a compiler for a machine.

    hlo: the optimised module, serialized. memory: bytes of one device, by category. cost: the compiler's own
    dictionary, None where it has none (GPU). seconds: of the compilation, without the start of the process. note: which
    options the compiler needed beyond the usual ones, and why.
    """

    hlo: bytes = field(repr=False)
    memory: Mapping[str, int]
    cost: Mapping[str, float] | None
    seconds: float
    note: str = ""


# For each platform: the extra of costax, and the modules that it may install.
_EXTRAS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "tpu": ("tpu", ("libtpu",)),
    "cuda": ("cuda", ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")),
}
_ENVIRONMENT: Final[Mapping[str, str]] = {
    # jax shall start the CPU backend only; the plugin is used to describe a machine and to compile.
    "JAX_PLATFORMS": "cpu",
    # Without it libtpu asks the cloud's metadata server for minutes.
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu allows one process at a time, to protect a TPU, which is not used here.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    # The CUDA plugin checks for the libraries of CUDA when it is loaded; to describe and compile it needs none.
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    # Any valid value silences a warning.
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


def missing(platform: str) -> str:
    """Return the extra that must be installed for a platform; "" if it is installed."""
    extra, modules = _EXTRAS[platform]
    return "" if any(map(_is_installed, modules)) else extra


def compile_in_child(
    lowered: Any,
    machine: Machine,
    name: str,
    timeout: float = TIMEOUT,
    dump: str = "",
    flags: Mapping[str, str] | None = None,
) -> Built:
    """Compile a program, lowered for the platform of the machine, ahead of time.

    name: of the program, for messages. timeout: in seconds. dump: a folder where XLA writes the module after every
    pass; "" for none. flags: options of XLA. Raises TargetError if the plugin is missing, the machine
    has too few devices, the time limit is reached, or the compiler fails; DeviceMemoryError if the compiler reports
    that the program does not fit the memory.
    """
    _check(machine, _jax.partitions(lowered), name)
    program, compile_options = _jax.portable_program(lowered)
    request = {
        "platform": machine.platform,
        "topology": machine.topology,
        "options": machine.options,
        "compile_options": compile_options,
        "dumped": dump,
    }
    with (
        tempfile.TemporaryDirectory(prefix="costax-", ignore_cleanup_errors=True) as directory,
        guarded(directory),
    ):
        folder = Path(directory)
        (folder / "program.mlir").write_bytes(program)
        (folder / "request.json").write_text(json.dumps(request))
        status, log = _run(folder, machine, name, timeout, environment_flags(dump, flags or {}))
        if not (folder / "answer.json").exists():
            _raise_crashed(machine, name, status, log)
        answer = json.loads((folder / "answer.json").read_text())
        if "error" in answer:
            _raise_failed(machine, name, answer["error"])
        fields = (answer[key] for key in ("memory", "cost", "seconds", "note"))
        return Built((folder / "hlo.pb").read_bytes(), *fields)


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
            why="costax compiles with the compiler of that machine, which runs on any CPU.",
            cure=install_command(extra),
        )
    if devices > machine.devices:
        raise TargetError(
            f"`{name}` runs on {devices} devices, and {machine.name!r} has {machine.devices}.",
            why="The compiler needs a machine with at least as many devices as the program runs on.",
            cure=f"Use a machine with {devices} devices: {of_size(machine.name, devices)}.",
        )


def _run(folder: Path, machine: Machine, name: str, timeout: float, flags: str) -> tuple[int, str]:
    """Run the child process; return its exit status and its output. flags: XLA_FLAGS for it."""
    # The search path of this process, so that the child imports the same costax and the same jax.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}
    if flags:
        environment["XLA_FLAGS"] = flags
    log = folder / "log"
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                [sys.executable, "-m", "costax.compare.ahead_of_time.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"The compiler for {machine.name!r} took more than {timeout:g} s for `{name}`.",
                why="costax stopped it, without a result.",
                cure="Set a longer limit with timeout= (--timeout), or compare a smaller program: fewer layers, scan.",
            ) from error
    return status, log.read_text(errors="replace")


def _raise_crashed(machine: Machine, name: str, status: int, log: str) -> NoReturn:
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: *(.*)", log)
    if unknown:
        raise InputError(
            f"The compiler for {machine.name!r} has no option {unknown[1].strip()}.",
            why="Each compiler has options of its own, and their names change between versions.",
            cure="Leave the option out, or correct its name in xla_flags or in the environment variable XLA_FLAGS.",
        )
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    raise TargetError(
        f"The compiler for {machine.name!r} {how} while it compiled `{name}`.",
        why=f"Its last output: {_last_output(log)}",
        cure=f"Compare for another machine, or for the CPU. If a smaller program crashes too, the plugin may not match "
        f"this jax: {install_command(_EXTRAS[machine.platform][0]).replace('install', 'install --upgrade', 1)}",
    )


def _last_output(log: str) -> str:
    """Return the fatal lines of a compiler's output, else its last lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} |Fatal|Check failed", line)]
    return " ".join((fatal or lines[-3:])[:3])[:800] or "none"


_MEMORY: Final = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


def _raise_failed(machine: Machine, name: str, error: str) -> NoReturn:
    message = error.split("\n\n")[0].strip()
    if _MEMORY.search(message):
        raise DeviceMemoryError(
            f"`{name}` does not fit the memory of {machine.name!r}.",
            why=f"The compiler reports: {message[:600]}",
            cure="Shard the program over more chips, use a smaller batch, or rematerialise with jax.checkpoint.",
        )
    raise TargetError(
        f"The compiler for {machine.name!r} does not compile `{name}`.",
        why=f"The compiler reports: {message[:600]}",
        cure="Use a shape that such machines have, or use costax analyze, which needs no compiler.",
    )
