"""Which module of a trace belongs to which module of a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from costax.errors import InputError, TraceError
from costax.hlo.module_analysis import ModuleAnalysis
from costax.hlo.records import Instruction, Module
from costax.measure.traces.records import Event, ModuleName

# Names such as `fusion.3` and `copy.1` occur in most modules: of two unrelated modules, a third of the names may agree.
# Of a module and its own trace nearly all do; some kernels of libraries have names of their own.
LEAST_MATCH: Final = 0.5
_HOLDERS: Final = ("while", "conditional", "call")


@dataclass(frozen=True)
class Candidate:
    """A module that a trace may belong to. origin: where it is from. load: counts it, with trip counts."""

    name: ModuleName
    origin: str
    load: Callable[..., ModuleAnalysis] = field(repr=False)

    @cached_property
    def analysis(self) -> ModuleAnalysis:
        """The analysis of the module."""
        return self.load()

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of its instructions."""
        return frozenset(names_of(self.analysis.replay.module))

    @cached_property
    def content(self) -> frozenset[tuple[str, str, str]]:
        """What its instructions are: name, opcode and shape."""
        return frozenset((ins.name, ins.opcode, str(ins.shape)) for ins in _instructions(self.analysis.replay.module))

    def match(self, events: Iterable[Event], own: Candidate | None = None) -> float:
        """Return the share of the instructions that events name and that this module has, by number or by time.

        The smaller share counts. own: the module that the trace embeds for these events; what is there another
        instruction of the same name does not count.
        """
        times: Counter[str] = Counter()
        for event in events:
            if event.instruction:
                times[event.instruction] += 0 if event.in_flight else event.duration
        has = self.names if own is None else {name for name, _, _ in self.content & own.content}
        found = times.keys() & has
        # A loop has the time of what runs in it.
        leaves = {name: time for name, time in times.items() if name not in self.holders}
        whole = sum(leaves.values())
        by_time = sum(leaves.get(name, 0) for name in found) / whole if whole else 1.0
        return min(len(found) / len(times), by_time) if times else 0.0

    @cached_property
    def holders(self) -> frozenset[str]:
        """The names of the instructions that run other ones."""
        return frozenset(ins.name for ins in _instructions(self.analysis.replay.module) if ins.opcode in _HOLDERS)


def _instructions(module: Module) -> Iterable[Instruction]:
    return (ins for computation in module.computations.values() for ins in computation.instructions)


def names_of(module: Module) -> set[str]:
    """Return the names of all instructions of a module."""
    return {ins.name for ins in _instructions(module)}


def chosen(
    candidates: Sequence[Candidate],
    embedded: Mapping[ModuleName, Candidate],
    groups: Mapping[ModuleName, list[Event]],
    wanted: str | None,
) -> tuple[Candidate, list[ModuleName]]:
    """Return the module to join, and the names under which the trace has it; several are those of other processes.

    candidates: the modules of the program; without any, those that the trace embeds. groups: the events by module.
    wanted: a part of the name of the module. Raises TraceError if nothing fits, or if it is not clear what does.
    """
    named = {name: events for name, events in groups.items() if any(event.instruction for event in events)}
    if not named:
        raise TraceError(
            "The trace has no event of an HLO instruction.",
            why="Only such events can be joined with a program."
            + (f" It has {sum(map(len, groups.values())):,} events of other kinds." if groups else ""),
            cure="Profile a call that is compiled and that runs while the profiler is on: wait for its results with "
            "jax.block_until_ready before the profiler stops.",
        )
    available = list(candidates or embedded.values())
    if not available:
        raise TraceError(
            "The trace holds no HLO module.",
            why="An instruction has a time in the trace, but its work stands in the HLO.",
            cure="Pass the program too: costax join PROGRAM --trace TRACE; PROGRAM may be a dumped HLO file or folder.",
        )
    if wanted is not None:
        named = {name: events for name, events in named.items() if wanted in str(name)} or named
        available = _wanted(available, wanted)
    ranked = sorted(named, key=lambda name: -_seconds(named[name]))
    # The module of the trace with the most time for which there is a program of its name, or else one that fits: what
    # XLA runs to tune a kernel has the names of one or two instructions of the program, and a name of its own.
    for by_name in (True, False):
        for name in ranked:
            fitting = _fitting(name, named[name], available, embedded.get(name), by_name=by_name)
            if fitting:
                candidate = _only(fitting, name, embedded)
                return candidate, [name, *_same(candidate, name, ranked, named, embedded)]
    raise _foreign(available, named, ranked, embedded)


def _shown(name: ModuleName) -> str:
    return str(name) or "without a name"


def _seconds(events: Iterable[Event]) -> int:
    return sum(event.duration for event in events if not event.in_flight)


def _wanted(available: list[Candidate], wanted: str) -> list[Candidate]:
    exact = [candidate for candidate in available if wanted in (str(candidate.name), candidate.name.name)]
    found = exact or [candidate for candidate in available if wanted in str(candidate.name)]
    if not found:
        names = ", ".join(dict.fromkeys(str(candidate.name) for candidate in available))
        raise InputError(
            f"There is no module {wanted!r}.", why=f"The modules are {names[:1000]}.", cure="Pass one of these names."
        )
    return found


def _fitting(
    name: ModuleName, events: list[Event], available: Sequence[Candidate], own: Candidate | None, *, by_name: bool
) -> list[Candidate]:
    """Return the candidates for a module of the trace: of the same program, else of the same name, or any.

    own: the module that the trace embeds for it.
    """
    program = [c for c in available if name.program and c.name == name]
    same = [c for c in available if c.name.name == name.name and not (name.program and c.name.program)]
    for group in (program, same) if by_name else (list(available),):
        matches = {id(c): c.match(events, own) for c in group}
        best = max(matches.values(), default=0.0)
        if best >= LEAST_MATCH:
            return [c for c in group if matches[id(c)] == best]
    return []


def _only(fitting: Sequence[Candidate], name: ModuleName, embedded: Mapping[ModuleName, Candidate]) -> Candidate:
    """Return the candidate of a module of the trace. Raises TraceError if several different ones fit as well."""
    own = embedded.get(name)
    if len(fitting) > 1 and own is not None:
        fitting = [c for c in fitting if c.content == own.content] or fitting
    first, *others = fitting
    different = [c for c in others if c.content != first.content]
    if different:
        listed = "\n".join(f"  {c.origin}" for c in (first, *different[:9]))
        raise TraceError(
            f"{len(different) + 1} different modules fit the module {_shown(name)} of the trace:\n{listed}",
            why="They have the same instruction names, and the trace does not say which of them ran.",
            cure="Pass one file instead of the folder, or --module with the number of the program: jit_step(15).",
        )
    return first


def _same(
    candidate: Candidate,
    name: ModuleName,
    ranked: Sequence[ModuleName],
    named: Mapping[ModuleName, list[Event]],
    embedded: Mapping[ModuleName, Candidate],
) -> list[ModuleName]:
    """Return further names of the module in the trace: another process may give it another number."""
    devices = {event.device for event in named[name]}
    more: list[ModuleName] = []
    for other in ranked:
        own = embedded.get(other)
        apart = devices.isdisjoint(event.device for event in named[other])
        if other == name or other.name != name.name or not (apart or own is not None):
            continue
        if own.content == candidate.content if own is not None else candidate.match(named[other]) == 1.0:
            more.append(other)
            devices |= {event.device for event in named[other]}
    return more


def _foreign(
    available: Sequence[Candidate],
    named: Mapping[ModuleName, list[Event]],
    ranked: Sequence[ModuleName],
    embedded: Mapping[ModuleName, Candidate],
) -> TraceError:
    matches = ((c.match(named[name], embedded.get(name)), c, name) for name in ranked[:20] for c in available)
    best = max(matches, key=lambda item: item[0])
    share, candidate, name = best
    traced = ", ".join(map(_shown, ranked[:5]))
    names = Counter(event.instruction for event in named[name] if event.instruction not in candidate.names)
    missing = ", ".join(instruction for instruction, _ in names.most_common(5))
    missing = f"; not in the program: {missing}" if missing else "; the names agree, and the instructions do not"
    return TraceError(
        f"The trace is of another program: `{candidate.name}` has {share:.0%} of the instructions of the nearest "
        f"module of the trace, {_shown(name)}, by number or by time.",
        where=f"modules of the trace: {traced}{' ...' if len(ranked) > 5 else ''}{missing}",
        why="Names such as fusion.3 occur in most modules; costax joins only if "
        f"{LEAST_MATCH:.0%} of the instructions agree.",
        cure="Pass the module that ran: dump it in the profiled process with XLA_FLAGS=--xla_dump_to=DIR "
        "--xla_dump_hlo_as_proto, and pass its file ...after_optimizations.hlo.pb.",
    )
