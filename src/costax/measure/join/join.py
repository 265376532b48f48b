"""Join a trace with the module that ran: which instruction took how long, and how much work it did meanwhile."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from costax.analysis.compiled_module import of_analysis
from costax.core import units
from costax.core.listing import shown
from costax.core.printable import printable
from costax.errors import InputError
from costax.hlo.module_analysis import ModuleAnalysis, analyze_replay
from costax.measure.join.candidates import candidates_of, embedded_in
from costax.measure.join.executions import Executions, executions_in
from costax.measure.join.instructions import InstructionIndex
from costax.measure.join.matching import chosen
from costax.measure.join.result import Join, JoinRow, Measured, OtherModule, Spread, Unjoined
from costax.measure.traces import Event, Trace, read_traces
from costax.measure.traces.own_time import own_times, union
from costax.measure.traces.records import ModuleName
from costax.measure.traces.runs import TraceRun, by_module, runs_of
from costax.performance.hardware import Device
from costax.performance.hardware import device as load_device
from costax.performance.prediction import predict

_SECOND: Final = 1e12
# A profiler makes runs slower: without it a step may take a bit less than the busy time of the trace.
_PROFILED: Final = 0.9
_PLANE: Final = re.compile(r"/(?:host|device):(CPU|GPU|TPU)\b")


def join(
    program: Any,
    trace: Trace | str | Path | Sequence[str | Path],
    *,
    module: str | None = None,
    device: str | Device | None = None,
    step: float | None = None,
    trips: Mapping[str, int] | None = None,
) -> Join:
    """Return the measured time of each instruction of a program, beside the work that it does.

    Args:
        program: A ModuleAnalysis, a Comparison, a jax.stages.Compiled, an Analysis (it is compiled here), the path
            of an HLO file or of a folder that XLA dumped into, or None for the modules that the trace embeds.
        trace: A path of a trace, several for several processes, or a Trace.
        module: A part of the name of the module, if the trace has several; by default the one with the most time.
        device: Whose peaks the shares of the roofline, MFU and HFU use.
        step: Seconds of a run that were measured otherwise, for MFU and HFU.
        trips: Trip counts of loops for which the module has none.

    Raises TraceError for a damaged trace and for one of another program, HloError for a damaged module.
    """
    if step is not None and not 0 < step < float("inf"):
        raise InputError(
            f"step must be a positive number of seconds, got {step}.",
            why="MFU and HFU divide by it.",
            cure="Pass the seconds of one run, for example step=0.1275, or leave it out.",
        )
    if not isinstance(trace, Trace):
        trace = read_traces([trace] if isinstance(trace, str | Path) else trace)
    hardware = load_device(device) if device is not None else None
    embedded = embedded_in(trace)
    groups = by_module(trace.events)
    candidate, names = chosen(candidates_of(program), embedded, groups, module)
    analysis = candidate.load(trips) if trips else candidate.analysis
    return _Joiner(analysis, trace, names, hardware, step).join(groups)


class _Joiner:
    """Sums the times of a module's instructions over the runs of a trace."""

    def __init__(
        self,
        analysis: ModuleAnalysis,
        trace: Trace,
        names: Sequence[ModuleName],
        device: Device | None,
        step: float | None,
    ) -> None:
        self.analysis = analysis
        self.trace = trace
        self.names = names
        self.device = device
        self.given_step = step
        self.index = InstructionIndex(analysis)
        self.notes: list[str] = list(trace.notes)

    def join(self, groups: Mapping[ModuleName, list[Event]]) -> Join:
        events = [self._named(event) for name in self.names for event in groups[name]]
        fusions = self.index.fusions_of({event.instruction for event in events})
        if fusions:
            events = [e._replace(instruction=fusions.get(e.instruction, e.instruction)) for e in events]
        module_runs = [run for run in self.trace.module_runs if run.module in self.names]
        entry = {ins.name for ins in self.analysis.replay.module.entry.instructions}
        runs = runs_of(events, module_runs, entry, self.index.always(), timed=self.trace.timed)
        whole = self._whole(runs)
        busy = [_busy(run) for run in whole] if self.trace.timed else []
        middle = _middle(busy)
        executions = executions_in(self.analysis, whole if self.trace.timed else ())
        if executions.differ:
            # Time and work must be of the same run.
            middle = middle[:1]
        if executions.reached:
            self._set_executions(executions, middle[0])
        measured, in_flight = self._times(runs, middle)
        index = self.index
        index.roll_up(measured)
        rows = [
            JoinRow(
                ins.name,
                index.opcode(ins),
                computation.name,
                computation is self.analysis.replay.module.entry,
                index.place(computation, ins),
                index.source(ins),
                index.cost(ins),
                measured.get(ins.name),
                in_flight.get(ins.name),
            )
            for computation, ins in index.instructions(measured)
            if ins.name in measured or ins.name in in_flight or any(index.cost(ins))
        ]
        expected, untimed, waiting = self._coverage(measured, in_flight)
        steps = [run.span / _SECOND for run in whole if run.span is not None]
        step = Spread.of(steps) if steps else None
        if step is not None and executions.differ:
            step = step._replace(median=steps[middle[0]])
        if self.given_step is not None:
            step = Spread(self.given_step, self.given_step, self.given_step)
        joined = self._with_hardware(
            Join(
                self.analysis,
                shown(rows),
                runs=len(whole),
                devices=len({run.device for run in whole}),
                processes=self.trace.processes,
                step=step,
                busy=Spread.of(busy)._replace(median=fmean(busy[i] for i in middle)) if busy else None,
                unjoined=shown(self._unjoined(events, groups)),
                untimed=shown(untimed),
                waiting=shown(waiting),
                joined=expected - len(untimed) - len(waiting),
                expected=expected,
                others=self._others(groups),
                form=self.trace.form,
                notes=self.notes,
                kind=_kind(whole),
            )
        )
        if self.given_step is not None:
            _check_step(self.given_step, joined)
        return joined

    def _set_executions(self, executions: Executions, run: int) -> None:
        """Give loops of unknown length the trip counts, and conditionals the branches, that a run of the trace has."""
        replayed, hlo = self.analysis.replay, self.analysis.hlo
        of_run = {name: values[run] for name, values in executions.trips.items()}
        # Of an execution in 2.3 trips or 0.3 of one, none is lost.
        trips = {name: max(round(n), n > 0) for name, n in of_run.items() if n is not None}
        branches = {name: counts for name, values in executions.branches.items() if (counts := values[run]) is not None}
        unknown = {loop.name for loop in analyze_replay(replayed, hlo).unknown_loops}
        told = {x.name: x.trips for x in self.analysis.loops if x.name in unknown and x.trips is not None}
        means = {name: n for name in trips if not executions.same_trips(name) and (n := of_run[name]) is not None}
        analysis = analyze_replay(replayed, hlo, {**told, **trips}, branches, means)
        differing = [x.name for x in analysis.conditionals if x.name in branches]
        mixed = {name: branches[name] for name in differing if not executions.same_branch(name)}
        self.analysis = replace(
            analysis,
            xla=self.analysis.xla,
            conditionals=tuple(x for x in analysis.conditionals if x.name not in branches),
            mixed_branches=mixed,
        )
        self.index = InstructionIndex(self.analysis)
        self.notes += [_trips_note(name, means.get(name, count), executions) for name, count in trips.items()]
        for name in differing:
            if name not in mixed and any(branches[name]):
                taken = branches[name].index(max(branches[name]))
                self.notes.append(f"The branch of the conditional {printable(name)} is that of the trace: {taken}.")

    def _named(self, event: Event) -> Event:
        """Return an event with the instruction of its kernel where the trace names only the kernel."""
        if event.instruction:
            return event
        return event._replace(instruction=self.index.by_kernel.get(kernel_name(event.kernel), ""))

    def _whole(self, runs: Sequence[TraceRun]) -> list[TraceRun]:
        whole = [run for run in runs if run.whole]
        if len(whole) < len(runs):
            cut = len(runs) - len(whole)
            self.notes.append(f"Left out, because the trace begins or ends inside of them: {cut} of {len(runs)} runs.")
        return whole

    def _times(self, runs: Sequence[TraceRun], middle: Sequence[int]) -> tuple[dict[str, Measured], dict[str, Spread]]:
        """Return the times of instructions, and those of asynchronous operations.

        middle: which of the whole runs are in the middle; empty for a table, where their sums decide.
        """
        own: list[Mapping[str, int]] = []
        beside: list[Mapping[str, int]] = []
        executions: dict[str, int] = defaultdict(int)
        totals: dict[str, int] = defaultdict(int)
        for run in runs:
            sums: dict[str, int] = defaultdict(int)
            flights: dict[str, int] = defaultdict(int)
            times = own_times(run.events, self.index.inside) if self.trace.timed else self._without_holders(run.events)
            for event, time in zip(run.events, times, strict=True):
                if event.in_flight:
                    flights[event.instruction] += event.duration
                else:
                    sums[event.instruction] += time
                    executions[event.instruction] += 1
            for name, time in sums.items():
                totals[name] += time
            if not run.whole:
                continue
            own.append(sums)
            beside.append(flights)
        middle = middle or _middle([sum(sums.values()) for sums in own])
        measured = {
            name: Measured(self._spread(name, own, middle), total / _SECOND, executions[name])
            for name, total in totals.items()
            if name in self.index
        }
        flying = dict.fromkeys(name for flights in beside for name in flights)
        in_flight = {name: self._spread(name, beside, middle) for name in flying if name in self.index}
        return measured, in_flight

    def _spread(self, name: str, runs: Sequence[Mapping[str, int]], middle: Sequence[int]) -> Spread:
        """Return the seconds of an instruction in the median run, and in the runs where it is fastest and slowest."""
        seconds = [sums.get(name, 0) / _SECOND for sums in runs]
        median = fmean(seconds[i] for i in middle)
        if name in self.trace.spreads and len(seconds) == 1:
            fastest, slowest = self.trace.spreads[name]
            return Spread(median, fastest / _SECOND, slowest / _SECOND)
        return Spread(median, min(seconds), max(seconds))

    def _without_holders(self, events: Sequence[Event]) -> list[int]:
        """Return the times of a table, where an instruction that runs timed ones has their time and none of its own."""
        timed = {event.instruction for event in events}
        return [
            0 if not timed.isdisjoint(self.index.inside.get(event.instruction, ())) else event.duration
            for event in events
        ]

    def _coverage(
        self, measured: Mapping[str, Measured], in_flight: Mapping[str, Spread]
    ) -> tuple[int, list[JoinRow], list[JoinRow]]:
        """Return how many instructions of the entry run, those without a time, and those that only wait."""
        timed = measured.keys() | in_flight.keys()
        runs, untimed, waiting = 0, list[JoinRow](), list[JoinRow]()
        entry = self.analysis.replay.module.entry
        for ins in entry.instructions:
            if not self.index.runs(ins):
                continue
            runs += 1
            if ins.name in timed or not timed.isdisjoint(self.index.inside.get(ins.name, ())):
                continue
            row = JoinRow(
                *(ins.name, self.index.opcode(ins), entry.name, True),
                *(self.index.place(entry, ins), self.index.source(ins), self.index.cost(ins)),
            )
            (waiting if ins.opcode.endswith("-done") else untimed).append(row)
        return runs, untimed, waiting

    def _unjoined(self, events: Iterable[Event], groups: Mapping[ModuleName, list[Event]]) -> list[Unjoined]:
        """Return the time without an instruction, the longest first."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        devices = {event.device for event in events}
        for event in events:
            if event.instruction not in self.index and not event.in_flight:
                reason = "not in the module" if event.instruction else "the trace names no instruction"
                found[event.instruction or event.kernel, reason].append(event.duration)
        for event in groups.get(ModuleName(""), []) if ModuleName("") not in self.names else ():
            if event.device in devices and not event.in_flight:
                found[event.instruction or event.kernel, "outside of every module"].append(event.duration)
        listed = [Unjoined(name, sum(d) / _SECOND, len(d), reason) for (name, reason), d in found.items()]
        return sorted(listed, key=lambda item: -item.seconds)

    def _others(self, groups: Mapping[ModuleName, list[Event]]) -> list[OtherModule]:
        others = [
            OtherModule(name, sum(e.duration for e in events if not e.in_flight) / _SECOND, len(events))
            for name, events in groups.items()
            if name not in self.names and name.name
        ]
        return sorted(others, key=lambda other: -other.seconds)

    def _with_hardware(self, found: Join) -> Join:
        """Return the join with the seconds that a device needs at its peaks, and those that `predict` expects."""
        if self.device is None:
            return found
        program: Any = of_analysis(self.analysis)
        prediction = predict(program, self.device)
        bounds: dict[str, float] = defaultdict(float)
        predicted: dict[str, float] = defaultdict(float)
        for part in prediction.parts:
            name = part.kernel.instruction
            bounds[name] += part.timing.best * float(part.kernel.times)
            # The kernel lasts as long as it lasts, also where others hide it: the trace has all of its time.
            predicted[name] += part.timing.expected * float(part.kernel.times)
        rows = [
            replace(row, bound=bounds[row.name], predicted=predicted[row.name]) if row.name in predicted else row
            for row in found.rows
        ]
        expected = float(prediction.seconds)
        return replace(found, rows=rows, device=self.device, peak=prediction.peak, expected_step=expected)


def _trips_note(loop: str, count: float, executions: Executions) -> str:
    """Return the sentence on the trip count of a loop that a trace tells."""
    if executions.same_trips(loop):
        return f"The trip count of {printable(loop)} is that of the trace: {int(count):,}."
    seen = [n for n in executions.seen(loop) if isinstance(n, float)]
    several = f"; the runs of the trace have {min(seen):,.4g} to {max(seen):,.4g}" if len(seen) > 1 else ""
    shown = f"{count:,.4g}{several}"
    return f"The trip count of {printable(loop)} is that of the median run, whose time is shown: {shown}."


def _busy(run: TraceRun) -> float:
    """Return the seconds of a run in which at least one instruction ran."""
    spans = sorted((e.start, e.start + e.duration) for e in run.events if not e.in_flight)
    return union(spans) / _SECOND


def _kind(runs: Sequence[TraceRun]) -> str:
    """Return the kind of device that made the runs, as a profiler names it: /host:CPU:0, /device:GPU:3."""
    kinds = {match[1].lower() for run in runs if (match := _PLANE.search(run.device))}
    return kinds.pop() if len(kinds) == 1 else ""


def _check_step(step: float, joined: Join) -> None:
    """Raise InputError for a step in which the instructions of the trace have no time to run."""
    longest = max((row for row in joined.rows if row.measured), key=lambda row: row.seconds, default=None)
    if longest is not None and step < longest.seconds:
        reason = f"`{longest.name}` alone takes {units.seconds(longest.seconds)} in the trace"
    elif joined.busy is not None and step < _PROFILED * joined.busy.fastest:
        reason = f"in the trace a run keeps the device busy for {units.seconds(joined.busy.fastest)} or longer"
    elif joined.hfu is not None and joined.hfu > 1 and joined.peak is not None:
        peak = units.rate(joined.peak[1], "FLOP/s")
        reason = f"{units.exact(joined.achieved_flops)} FLOPs in it are {joined.hfu:.0%} of the peak of {peak}"
    else:
        return
    raise InputError(
        f"A step of {units.seconds(step)} is impossible: {reason}.",
        why="MFU and HFU divide by the step, and would be too high.",
        cure="Pass the seconds of one run, for example --step 0.1275, or leave it out.",
    )


def _middle(times: Sequence[float]) -> Sequence[int]:
    """Return the position of the median time, or the two around it: medians of parts would not add up to a run.

    >>> _middle([5.0, 9.0, 7.0]), _middle([5.0, 9.0, 7.0, 1.0])
    ([2], [0, 2])
    """
    ordered = sorted(range(len(times)), key=lambda i: times[i])
    half = len(ordered) // 2
    return ordered[half : half + 1] if len(ordered) % 2 else ordered[half - 1 : half + 1]


def kernel_name(name: str) -> str:
    """Return the name that XLA gives to the kernel of an instruction: without signs that a linker forbids.

    >>> kernel_name("loop_fusion.3"), kernel_name("loop_fusion_3.kd")
    ('loop_fusion_3', 'loop_fusion_3')
    """
    return re.sub(r"\W", "_", name.removesuffix(".kd"))
