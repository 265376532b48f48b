"""How often the loops and branches that depend on data ran, from a trace: loops their trips, conditionals their branch.

Instructions of a computation run once in each of its executions, so that their events say how often it ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from costax.hlo.module_analysis import ModuleAnalysis
from costax.hlo.records import Computation, Instruction
from costax.measure.traces.runs import TraceRun


class Executions(NamedTuple):
    """What depends on data in each run of a trace, by the name of the instruction; None where the trace does not say.

    trips: of a loop, the mean over its executions in a run. branches: of a conditional, how often each branch ran.
    reached: whether the run executes the loop or the conditional at all.
    """

    trips: Mapping[str, Sequence[float | None]]
    branches: Mapping[str, Sequence[tuple[int, ...] | None]]
    reached: Mapping[str, Sequence[bool]]

    @property
    def differ(self) -> bool:
        """Say whether the runs do not all execute the same."""
        return any(len(set(values)) > 1 for values in chain(self.trips.values(), self.branches.values()))

    def seen(self, name: str) -> set[float | tuple[int, ...] | None]:
        """Return the different values of the runs that execute a loop or a conditional."""
        values = self.trips.get(name) or self.branches[name]
        return {value for value, reached in zip(values, self.reached[name], strict=True) if reached}

    def same_trips(self, name: str) -> bool:
        """Say whether a loop has the same trip count in all of its executions."""
        seen = self.seen(name) - {None}
        return len(seen) <= 1 and all(isinstance(trips, float) and trips.is_integer() for trips in seen)

    def same_branch(self, name: str) -> bool:
        """Say whether a conditional takes the same branch in all of its executions."""
        seen = self.seen(name)
        taken = {tuple(n > 0 for n in counts) for counts in seen if isinstance(counts, tuple)}
        return None not in seen and len(taken) <= 1 and all(sum(branches) == 1 for branches in taken)


def executions_in(analysis: ModuleAnalysis, runs: Sequence[TraceRun]) -> Executions:
    """Return how often the loops of unknown length and the conditionals ran in each of the whole runs of a trace."""
    unknown = {loop.name for loop in analysis.unknown_loops}
    module = analysis.replay.module
    dependent = {
        computation.id
        for computation in module.computations.values()
        if any(ins.opcode == "conditional" or ins.name in unknown for ins in computation.instructions)
    }
    if not dependent or not runs:
        return Executions({}, {}, {})
    events = [Counter(e.instruction for e in run.events if not e.in_flight) for run in runs]
    callers = Counter(
        callee.id for c in module.computations.values() for ins in c.instructions for callee in ins.called
    )
    trips: dict[str, list[float | None]] = {}
    branches: dict[str, list[tuple[int, ...] | None]] = {}
    reached_by: dict[str, list[bool]] = {}
    reached: dict[int, list[bool]] = {module.entry.id: [True] * len(runs)}
    # A module lists callees before callers.
    for computation in reversed(list(module.computations.values())):
        here = reached.get(computation.id)
        if here is None:
            continue
        around = [1] * len(runs)
        if computation is not module.entry and computation.id in dependent:
            around = _executions(computation, events)
        for ins in computation.instructions:
            inside = [here] * len(ins.called)
            if ins.opcode == "while" and ins.name in unknown:
                each = _trips(ins, here, around, events)
                if any(x is not None for x in each):
                    trips[ins.name], reached_by[ins.name] = each, here
                    inside[0] = [in_run and n != 0 for in_run, n in zip(here, each, strict=True)]
            elif ins.opcode == "conditional" and all(callers[callee.id] == 1 for callee in ins.called):
                taken = list(_branches(ins, here, around, events))
                if any(x is not None for x in taken):
                    branches[ins.name], reached_by[ins.name] = taken, here
                    inside = [
                        [in_run and (n is None or n[j] > 0) for in_run, n in zip(here, taken, strict=True)]
                        for j in range(len(ins.called))
                    ]
            if ins.opcode in ("while", "conditional", "call", "async-start"):
                for callee, new in zip(ins.called, inside, strict=True):
                    known = reached.get(callee.id, [False] * len(runs))
                    reached[callee.id] = [a or b for a, b in zip(known, new, strict=True)]
    return Executions(trips, branches, reached_by)


def _trips(
    loop: Instruction, here: Sequence[bool], around: Sequence[int], events: Sequence[Counter[str]]
) -> list[float | None]:
    """Return the mean trip count of a loop in each run: 0 if it is not reached, None if the trace does not say it.

    A loop whose body has no event in the trace has the trips that its condition tells: it runs once more than the body.
    """
    # The body comes before the condition.
    ran, once_more = _executions(loop.callee(0), events), 0
    if not any(ran):
        ran, once_more = _executions(loop.callee(1), events), 1
    found: list[float | None] = []
    for in_run, times, count in zip(here, around, ran, strict=True):
        known = times and any(ran) and count >= once_more * times
        found.append(0.0 if not in_run else count / times - once_more if known else None)
    return found


def _branches(
    conditional: Instruction, here: Sequence[bool], around: Sequence[int], events: Sequence[Counter[str]]
) -> Iterator[tuple[int, ...] | None]:
    """Yield how often each branch of a conditional ran in each run, None if the trace does not say it.

    A branch that only hands on its operands has no event: it ran where none of the others did.
    """
    ran = [_executions(branch, events) for branch in conditional.called]
    names = [_names(branch) for branch in conditional.called]
    silent = [j for j, own in enumerate(names) if not any(counts[name] for counts in events for name in own)]
    for run, counts in enumerate(events):
        if not here[run]:
            yield (0,) * len(ran)
            continue
        found = [times[run] for times in ran]
        for j, own in enumerate(names):
            if not found[j] and around[run] == 1 and any(counts[name] for name in own):
                # All that the branch runs is in a loop or a call.
                found[j] = 1
        rest = around[run] - sum(found)
        if rest and len(silent) == 1 and len(ran) > 1:
            found[silent[0]] = rest
        known = around[run] and len(silent) < len(ran) and min(found) >= 0 and sum(found) == around[run]
        yield tuple(found) if known else None


def _names(computation: Computation) -> set[str]:
    """Return the names of the instructions of a computation, at every depth."""
    names: set[str] = set()
    reached, pending = {computation.id}, [computation]
    while pending:
        for ins in pending.pop().instructions:
            names.add(ins.name)
            pending += [callee for callee in ins.called if callee.id not in reached]
            reached |= {callee.id for callee in ins.called}
    return names


def _executions(computation: Computation, events: Sequence[Counter[str]]) -> list[int]:
    """Return how often a computation ran in each run: as often as most of its instructions with events."""
    executions: list[int] = []
    for counts in events:
        seen = Counter(counts[ins.name] for ins in computation.instructions if counts[ins.name])
        # Of equally common numbers the smallest: a fusion may launch several kernels.
        executions.append(min(seen, key=lambda n: (-seen[n], n), default=0))
    return executions
