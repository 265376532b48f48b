"""Comparison: our count of a program beside XLA's, before and after compilation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.analysis import Analysis
from costax.conventions import XlaCounts
from costax.errors import TargetError
from costax.reconcile import Delta, expected, known_deltas
from costax.trace import Program


@dataclass(frozen=True, slots=True)
class XlaReport:
    """What XLA's cost analysis says of one stage; keys that XLA leaves out are 0.

    counted is False where the backend gives no analysis at all. seconds: how long the stage took to make.
    """

    stage: str
    flops: float = 0
    transcendentals: float = 0
    bytes_accessed: float = 0
    counted: bool = True
    seconds: float = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A program's own account and XLA's two: `lowered`, before the compiler changes it, and `compiled`, after.

    deltas: named causes of the difference between `jaxpr.total` and `lowered`. expected: what they lead to.
    """

    jaxpr: Analysis
    lowered: XlaReport
    compiled: XlaReport
    deltas: Sequence[Delta]

    @property
    def expected(self) -> XlaCounts:
        """Our counts with every named cause applied: what XLA's rules make of the jaxpr."""
        return expected(self.jaxpr, self.deltas)

    def rest(self, report: XlaReport) -> XlaCounts:
        """Return what a stage reports beyond the named causes: rewriting by lowering and the compiler, and rounding."""
        ours = self.expected
        return XlaCounts(int(report.flops) - ours.flops, int(report.transcendentals) - ours.transcendentals)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.waterfall import render

        return render(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)


def compare_program(program: Program, analysis: Analysis) -> Comparison:
    """Lower and compile a traced program for this machine's CPU, and set XLA's counts beside the analysis."""
    start = time.perf_counter()
    lowered = _jax.lower(program.jaxpr if program.traced is None else program.traced)
    lowering = time.perf_counter() - start
    try:
        compiled = lowered.compile()
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise TargetError(
            f"XLA does not compile `{program.name}`: {str(error).strip().splitlines()[0]}",
            why="Without a compiled program there is nothing to compare with.",
            cure="Use costax analyze for the count of the jaxpr, which needs no compiler.",
        ) from error
    compiling = time.perf_counter() - start - lowering
    return Comparison(
        analysis,
        _report("lowered", lowered.cost_analysis(), lowering),
        _report("compiled", compiled.cost_analysis(), compiling),
        known_deltas(analysis),
    )


def _report(stage: str, found: Mapping[str, float] | Sequence[Mapping[str, float]] | None, seconds: float) -> XlaReport:
    if found is None:
        return XlaReport(stage, counted=False, seconds=seconds)
    # jax returned a list of one before 0.4.38, and may again for programs of several modules.
    properties = found if isinstance(found, Mapping) else found[0]
    return XlaReport(
        stage,
        properties.get("flops", 0),
        properties.get("transcendentals", 0),
        properties.get("bytes accessed", 0),
        seconds=seconds,
    )
