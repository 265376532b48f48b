"""The trip counts of loops that depend on data, from a trace: how often the instructions of a body ran in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from costax.hlo.module_analysis import ModuleAnalysis
from costax.hlo.records import Computation
from costax.measure.traces.runs import TraceRun


class MeasuredTrips(NamedTuple):
    """The trip count of a loop in a trace: its name, the mean over its executions, whether all have the same."""

    loop: str
    trips: float
    constant: bool


def measured_trips(analysis: ModuleAnalysis, runs: Sequence[TraceRun]) -> list[MeasuredTrips]:
    """Return the trip counts of the loops of unknown length whose bodies have instructions in the trace.

    An instruction of a body runs once in each trip. The body and the computation around the loop are counted alike: by
    the number of events that most of their instructions have. runs: the whole runs.
    """
    unknown = {loop.name for loop in analysis.unknown_loops}
    if not unknown or not runs:
        return []
    events = [Counter(e.instruction for e in run.events if not e.in_flight) for run in runs]
    module = analysis.replay.module
    found: list[MeasuredTrips] = []
    for computation in module.computations.values():
        for ins in computation.instructions:
            if ins.opcode != "while" or ins.name not in unknown:
                continue
            around = [1] * len(runs) if computation is module.entry else _executions(computation, events)
            # The body comes before the condition.
            inside = _executions(ins.callee(0), events)
            # A run in which the loop is not reached, or whose body has no event, tells nothing.
            each = [trips / times for trips, times in zip(inside, around, strict=True) if times]
            if any(inside) and each:
                found.append(MeasuredTrips(ins.name, fmean(each), len(set(each)) == 1 and each[0].is_integer()))
    return found


def _executions(computation: Computation, events: Sequence[Counter[str]]) -> list[int]:
    """Return how often a computation ran in each run: as often as most of its instructions with events."""
    executions: list[int] = []
    for counts in events:
        seen = Counter(counts[ins.name] for ins in computation.instructions if counts[ins.name])
        # Of equally common numbers the smallest: a fusion may launch several kernels.
        executions.append(min(seen, key=lambda n: (-seen[n], n), default=0))
    return executions
