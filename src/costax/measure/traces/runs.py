"""Runs of a module: which events of a trace belong to the same execution.

A trace says so with the id of a run (TPU, CPU) or with an event around the run (nsys-jax). The traces of GPUs do
neither. There a run begins where an instruction that every run executes once is executed again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from costax.measure.traces.records import Event, ModuleName, ModuleRun


@dataclass(frozen=True)
class TraceRun:
    """One execution of a module on one device.

    events: of its instructions, in order of their start. span: picoseconds from its first to its last event, or of the
    run as the trace states it; None for a table of times. whole: the trace has all of it.
    """

    device: str
    name: str
    events: Sequence[Event] = field(repr=False)
    span: int | None
    whole: bool = True


def runs_of(
    events: Iterable[Event],
    module_runs: Iterable[ModuleRun],
    entry: Collection[str] = (),
    always: Collection[str] = (),
    *,
    timed: bool = True,
) -> list[TraceRun]:
    """Return the runs of a module by device and time.

    events, module_runs: of this module only. entry: the instructions of its entry, which are outside of loops. always:
    the instructions that every run executes, whatever its data: those outside of loops and of branches. timed: the
    events have a start.
    """
    by_device: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_device[event.device].append(event)
    spans = {(run.device, run.run): run.duration for run in module_runs}
    found: list[TraceRun] = []
    for device, own in by_device.items():
        own.sort(key=lambda event: (event.start, -event.duration))
        groups = _by_id(own) if any(event.run for event in own) else _by_recurrence(own, entry)
        runs = [TraceRun(device, name, group, _span(group, spans.get((device, name)), timed)) for name, group in groups]
        found += _marked(runs, frozenset(always)) if timed else runs
    return found


def _span(events: Sequence[Event], stated: int | None, timed: bool) -> int | None:
    if stated is not None or not timed:
        return stated
    busy = [event for event in events if not event.in_flight] or events
    return max(event.start + event.duration for event in busy) - min(event.start for event in busy)


def _by_id(events: Sequence[Event]) -> list[tuple[str, list[Event]]]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.run].append(event)
    return list(groups.items())


def _by_recurrence(events: Sequence[Event], entry: Collection[str]) -> list[tuple[str, list[Event]]]:
    """Split the events of one device where the first kernel that every run executes once is executed again.

    An instruction may launch several kernels, so that kernels count, not instructions. Most kernels of the entry run
    once in each run; the number of their executions is the number of runs.
    """
    named = [event for event in events if event.instruction and not event.in_flight]
    outside = [event for event in named if event.instruction in entry] or named
    kernels = Counter((event.instruction, event.kernel) for event in outside)
    if not kernels:
        return [("0", list(events))]
    times = Counter(kernels.values())
    runs = max(times, key=lambda count: (times[count], count))
    first = next(key for event in outside if kernels[key := (event.instruction, event.kernel)] == runs)
    groups: list[list[Event]] = [[]]
    begun = False
    for event in events:
        if (event.instruction, event.kernel) == first:
            if begun:
                groups.append([])
            begun = True
        groups[-1].append(event)
    return [(str(number), group) for number, group in enumerate(groups)]


def _marked(runs: list[TraceRun], always: Collection[str]) -> list[TraceRun]:
    """Return the runs of a device, where the first and the last say whether the trace has all of them.

    The trace begins inside of the first run if the run lacks what the fullest run begins with, and it ends inside of
    the last one if the run lacks what the fullest run ends with. always: the instructions that every run executes. The
    number of all instructions tells nothing, because runs may take other branches, or no trip of a loop.
    """
    if len(runs) < 2:
        return runs
    spans = [_spans(run, always) for run in runs]
    fullest = max(spans, key=len)
    if not fullest:
        return runs
    cut: set[int] = set()
    begins = min(fullest, key=lambda name: fullest[name][0])
    ends = max(fullest, key=lambda name: fullest[name][1])
    if begins not in spans[0]:
        cut.add(0)
    if ends not in spans[-1]:
        cut.add(len(runs) - 1)
    return [replace(run, whole=i not in cut) for i, run in enumerate(runs)]


def _spans(run: TraceRun, always: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return the first start and the last end of the instructions that every run executes."""
    spans: dict[str, tuple[int, int]] = {}
    for event in run.events:
        if event.instruction in always:
            start, end = spans.get(event.instruction, (event.start, event.start))
            spans[event.instruction] = (min(start, event.start), max(end, event.start + event.duration))
    return spans


def by_module(events: Iterable[Event]) -> Mapping[ModuleName, list[Event]]:
    """Return the events of each module."""
    groups: dict[ModuleName, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.module].append(event)
    return groups
