"""Profile some runs of a program on this machine, and join their measured time with the compiled program."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.hlo.module_analysis import analyze_bytes
from costax.measure.join.join import join
from costax.measure.join.result import Join
from costax.performance.hardware import Device


def profiled(analysis: Analysis, values: Sequence[Any], runs: int = 3, device: Device | None = None) -> Join:
    """Run the program of an analysis under jax's profiler and return the time of its instructions.

    values: an array for each input. device: whose peaks the shares of the roofline use. Raises TraceError if the
    profiler of the platform names no instructions.
    """
    program = analysis.program
    executable = _jax.Executable(program.traced, program.jaxpr)
    inputs = list(values)[len(values) - executable.arguments :]

    def arguments() -> list[Any]:
        return _jax.block_until_ready(
            [_jax.copy_of(x) if donated else x for x, donated in zip(inputs, executable.donated, strict=True)]
        )

    _jax.block_until_ready(executable(arguments()))
    copies = [arguments() for _ in range(runs)]

    def run() -> None:
        for copy in copies:
            _jax.block_until_ready(executable(copy))

    with tempfile.TemporaryDirectory(prefix="costax-") as folder:
        _jax.profile(run, folder)
        return join(analyze_bytes(executable.hlo), folder, device=device)
