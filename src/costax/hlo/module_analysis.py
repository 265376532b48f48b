"""The analysis of an HLO module on its own: XLA's cost analysis replayed over a file.

Without the program there is no jaxpr to reconcile with. The module gives what XLA counts for each instruction, the
scope and source line in the instruction's metadata, and the work that the machine executes if trip counts are known.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, TypeVar

from costax.core.display import Displayed
from costax.core.listing import listed, shown
from costax.errors import HloError, TripsError
from costax.hlo.cost_model import cost_model_for
from costax.hlo.dense_ids import with_dense_ids
from costax.hlo.errors import malformed, too_large_for_xla
from costax.hlo.files import module_of
from costax.hlo.library_calls import is_opaque, true_cost
from costax.hlo.loops import Conditional, Loop
from costax.hlo.metadata import Scopes, Site, Sources
from costax.hlo.read import read_bytes
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Call, Float32, Properties, Replay, replay_module
from costax.hlo.trip_counts import TripCounts
from costax.rules import leaf

# Imported for its effect: it registers the rules by which `library_calls` counts factorisations and transforms.
_REGISTERED = leaf

BY: Final = ("scope", "opcode", "source", "computation")
"""What the lines of a table may be: the choices of `--by`."""

# What jax lowers the entrance to `shard_map` to, by partitioner.
_MANUAL: Final = ("xla.sdy.GlobalToLocalShape", "SPMDFullToShardShape")

_M = TypeVar("_M", bound="ModuleAnalysis")
_NONE: Final = Properties()
_ONCE: Final = Properties(1, 1, 1)
# XLA analyses a computation again at each call. A real module takes millions of steps. In a damaged file, n nested
# computations that each call the next one twice take 2^n.
_MAX_STEPS: Final = 10**8
# Deeply nested loops of a damaged file can multiply trip counts without bound. float64 ends at 2^1024.
_LARGEST: Final = 2**1024


class HloCost(NamedTuple):
    """What XLA counts, and what the machine executes.

    Executed work repeats loop bodies by their trip counts, and has library calls at their true cost.
    """

    counted: Properties = _NONE
    executed: Properties = _NONE

    @property
    def charged(self) -> Properties:
        """The former name of `counted`, deprecated."""
        warnings.warn("The field `charged` is now called `counted`.", DeprecationWarning, stacklevel=2)
        return self.counted

    def plus(self, other: HloCost) -> HloCost:
        """Return the sum."""
        return HloCost(self.counted.plus(other.counted), self.executed.plus(other.executed))


class SiteTimes(NamedTuple):
    """How often a computation counts, and how often it runs, at one of its call sites; for each property."""

    site: Site
    counted: Properties
    executed: Properties


class InstructionCost(NamedTuple):
    """The cost of one instruction, over all call sites.

    opaque: it is a library call whose work is unknown. runs: how often it runs. each: the cost of one run. sites: the
    call sites of its computation, if there are several.
    """

    computation: Computation
    instruction: Instruction
    cost: HloCost
    opaque: bool
    runs: int = 1
    each: HloCost = HloCost()
    sites: tuple[SiteTimes, ...] = ()

    def by_site(self) -> Iterator[tuple[Site | None, InstructionCost]]:
        """Yield the cost at each call site of the computation; itself, with None, if there is one call site alone."""
        if not self.sites:
            yield None, self
        for site, counted, executed in self.sites:
            cost = HloCost(self.each.counted.scaled(counted), self.each.executed.scaled(executed))
            if any(executed) or cost != HloCost():
                yield site, self._replace(cost=cost, runs=max(executed), sites=())


@dataclass(frozen=True, repr=False)
class ModuleAnalysis(Displayed):
    """The analysis of one HLO module.

    name: the name of the module. replay: the replay of XLA's cost analysis. instruction_costs: each instruction with a
    cost. loops: every while loop that runs. hlo: the serialised module. xla: XLA's own cost dictionary, None unless
    `costax.compare` made the analysis. versions: of jaxlib, whose cost model counts, and of costax. conditionals: those
    whose branches differ in executed work; of each property the branch with most counts. mean_trips: loops that ran
    differently often in a trace: the mean over their executions in the median run, of which `trips` is the rounded
    number. mixed_branches: conditionals that took different branches in a trace: how often each ran in the median run.
    """

    internals: ClassVar[frozenset[str]] = Displayed.internals | {
        *("analysis", "assignment", "executed_instructions", "hlo", "kernel_source", "lines", "memory_use", "replay"),
    }

    name: str
    replay: Replay = field(repr=False)
    instruction_costs: tuple[InstructionCost, ...] = field(repr=False)
    loops: tuple[Loop, ...] = field(repr=False)
    hlo: bytes = field(repr=False)
    xla: Mapping[str, float] | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    conditionals: tuple[Conditional, ...] = field(default=(), repr=False)
    mean_trips: Mapping[str, float] = field(default_factory=dict[str, float], repr=False)
    mixed_branches: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]], repr=False)

    @property
    def total(self) -> Properties:
        """FLOPs, transcendentals and bytes as exact integers."""
        return self.replay.total

    @property
    def float32(self) -> Float32:
        """The same sums in XLA's float32 and order: what XLA reports."""
        return self.replay.float32

    @cached_property
    def executed(self) -> Properties:
        """The work that the machine executes: loop bodies by trip count, library calls at their true cost.

        A loop with an unknown trip count counts once, and a call with unknown work adds 0.
        """
        return Properties(*(sum(entry.cost.executed[i] for entry in self.instruction_costs) for i in range(3)))

    @property
    def matches_xla(self) -> bool | None:
        """Say whether the replay equals XLA's dictionary bit for bit; None without XLA's dictionary."""
        return None if self.xla is None else self.replay.matches(self.xla)

    @property
    def unknown_loops(self) -> tuple[Loop, ...]:
        """The loops without a known trip count."""
        return tuple(loop for loop in self.loops if loop.trips is None)

    @cached_property
    def opaque(self) -> dict[str, int]:
        """The number of library calls whose work is unknown, by target."""
        return dict(Counter(entry.instruction.custom_call_target for entry in self.instruction_costs if entry.opaque))

    @property
    def exact(self) -> bool:
        """Say whether `executed` is exact.

        Every trip count and the work of every library call are known, no trip count is of one run out of several that
        differ, and no conditional has branches that differ.
        """
        return not (self.unknown_loops or self.mean_trips or self.opaque or self.conditionals or self.mixed_branches)

    @property
    def is_optimized(self) -> bool:
        """Say whether XLA has optimised the module: it has fusions, or a schedule."""
        module = self.replay.module
        return module.is_scheduled or any(
            x.opcode == "fusion" for c in module.computations.values() for x in c.instructions
        )

    @property
    def unsplit(self) -> int:
        """The devices of a module that XLA has not split over them yet; its figures are for all. 0 otherwise."""
        module = self.replay.module
        split = module.run_on.partitioned or self.is_optimized
        return module.devices if module.devices > 1 and not split else 0

    @property
    def extent(self) -> str:
        """What the figures are of: "one device", "one of 8 devices", or the whole program before XLA splits it."""
        run_on = self.replay.module.run_on
        if self.unsplit:
            manual = ", with the work inside shard_map as one of them does it" if self._has_manual_regions else ""
            return f"the whole program ({run_on.count} devices), which XLA has not split yet{manual}"
        if run_on.count is None:
            return "one device; the module does not say how many run it"
        return f"one of {run_on.count} devices" if run_on.count > 1 else "one device"

    @property
    def _has_manual_regions(self) -> bool:
        instructions = (x for c in self.replay.module.computations.values() for x in c.instructions)
        return any(x.custom_call_target in _MANUAL for x in instructions if x.opcode == "custom-call")

    @property
    def computations(self) -> int:
        """How many computations the module has."""
        return len(self.replay.module.computations)

    @property
    def instructions(self) -> int:
        """How many instructions the module has."""
        return sum(len(computation.instructions) for computation in self.replay.module.computations.values())

    @cached_property
    def merged(self) -> tuple[str, ...]:
        """The functions whose work has the scope that all their calls share, because their calls are too many."""
        return tuple(x.name for x in self._scopes.merged.values()) if not self.is_optimized else ()

    @cached_property
    def _scopes(self) -> Scopes:
        return Scopes(self.replay.module)

    @property
    def lines(self) -> tuple[InstructionCost, ...]:
        """The former name of `instruction_costs`, deprecated."""
        warnings.warn("ModuleAnalysis.lines is now called instruction_costs.", DeprecationWarning, stacklevel=2)
        return self.instruction_costs

    @listed
    def by_opcode(self) -> dict[str, HloCost]:
        """Return the cost of each opcode; a custom call is named by its target."""
        return self._by(lambda entry: _opcode(entry.instruction))

    @listed
    def by_scope(self, depth: int | None = None) -> dict[str, HloCost]:
        """Return the cost of each scope of the user; "" is for instructions without a name or a scope.

        Transformations, functions and control flow, which jax's operation names contain too, are left out.

        Args:
            depth: Levels of scopes; by default all.
        """
        sums: dict[str, HloCost] = {}
        for scope, cost in self._by_layer.items():
            name = "/".join(scope[:depth])
            sums[name] = sums[name].plus(cost) if name in sums else cost
        return sums

    @cached_property
    def _by_layer(self) -> dict[tuple[str, ...], HloCost]:
        scopes, sums = self._scopes, dict[tuple[str, ...], HloCost]()
        for entry in self.instruction_costs:
            for site, part in entry.by_site():
                scope, _ = scopes.layer(part.computation, part.instruction, site)
                sums[scope] = sums[scope].plus(part.cost) if scope in sums else part.cost
        return sums

    @listed
    def by_source(self) -> dict[str, HloCost]:
        """Return the cost of each source line, `file:line`; "" is for instructions without a source line."""
        sources = Sources(self.replay.module)
        return self._by(lambda entry: sources.of(entry.instruction))

    @listed
    def by_computation(self) -> dict[str, HloCost]:
        """Return the cost of each computation, without the computations that it runs."""
        return self._by(lambda entry: entry.computation.name)

    def _by(self, key: Callable[[InstructionCost], str]) -> dict[str, HloCost]:
        sums: dict[str, HloCost] = {}
        for entry in self.instruction_costs:
            name = key(entry)
            sums[name] = sums[name].plus(entry.cost) if name in sums else entry.cost
        return sums


def analyze_module(path: str | Path, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """Return the analysis of the HLO module in a file, serialised or text; nothing is compiled or executed.

    trips: trip counts of loops for which the module has none, by instruction name, scope or pattern. Raises HloError
    for a file without a well-formed module, and TripsError for a trip count that fits no such loop.
    """
    with named_after(path):
        return analyze_bytes(module_of(path), trips)


@contextmanager
def named_after(path: str | Path) -> Generator[None]:
    """Let an HloError of the block name the file."""
    try:
        yield
    except HloError as fault:
        if str(path) not in fault.where:
            fault.where = f"{path}: {fault.where}" if fault.where else str(path)
        raise


def analyze_bytes(hlo: bytes, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """Return the analysis of a serialised HLO module; the arguments are those of `analyze_module`."""
    return analyze_replay(replay_module(read_bytes(hlo), cost_model_for()), hlo, trips)


def analyze_replay(
    replayed: Replay,
    hlo: bytes,
    trips: Mapping[str, int] | None = None,
    branches: Mapping[str, Sequence[int]] | None = None,
    mean_trips: Mapping[str, float] | None = None,
) -> ModuleAnalysis:
    """Return the analysis of a replayed module.

    hlo: the serialised module. trips: as for `analyze_module`. branches: how often each branch of a conditional ran, by
    the name of the conditional; the shares decide its executed work. mean_trips: of loops in `trips` whose executions
    differ, the mean of which `trips` has the rounded number.
    """
    module = replayed.module
    scopes = Scopes(module)
    loops = _Loops(replayed, trips or {}, scopes)
    known = _Executions(loops, branches or {}, mean_trips or {})
    instruction_costs = shown(tuple(_instruction_costs(replayed, known, scopes)))
    versions = {name: importlib.metadata.version(name) for name in ("jaxlib", "costax")}
    return ModuleAnalysis(
        module.name,
        replayed,
        instruction_costs,
        tuple(loops.by_instruction.values()),
        hlo,
        None,
        versions,
        tuple(open_conditionals(replayed, loops.trips)),
        mean_trips or {},
    )


def compare_module(path: str | Path, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """As `analyze_module`, together with XLA's own cost dictionary, from jax's CPU client.

    Raises HloError also for a module that XLA rejects.
    """
    return with_xla(analyze_module(path, trips), path)


def with_xla(analysis: _M, path: str | Path) -> _M:
    """Return the analysis of a module together with XLA's own cost dictionary. path: of its file, for errors."""
    from costax import _jax

    _check_steps(analysis.replay)
    try:
        return replace(analysis, xla=_jax.xla_cost_of_untrusted(with_dense_ids(analysis.hlo)))
    except _jax.XlaError as fault:
        if _jax.out_of_memory(fault):
            raise too_large_for_xla(len(analysis.hlo), str(path)) from fault
        raise malformed(f"XLA rejects the module: {str(fault)[:400]}", where=str(path)) from fault


def _check_steps(replayed: Replay) -> None:
    """Raise HloError for a module that XLA would take too long to analyse."""
    steps: dict[int, int] = {}
    for key, computation_cost in replayed.computation_costs.items():
        called = sum(
            steps[callee.id] for ins in replayed.module.computations[key].instructions for callee in ins.called
        )
        steps[key] = min(len(computation_cost.own) + 1 + called, 2 * _MAX_STEPS)
    if steps[replayed.module.entry.id] > _MAX_STEPS:
        raise malformed("With repeated calls, XLA's own analysis would visit more than 10^8 instructions")


def _instruction_costs(replayed: Replay, known: _Executions, scopes: Scopes) -> Iterator[InstructionCost]:
    """Yield the cost of each instruction, callers before callees."""
    entry = Site()
    found: dict[int, dict[Site, SiteTimes]] = {replayed.module.entry.id: {entry: SiteTimes(entry, _ONCE, _ONCE)}}
    for key in reversed(list(replayed.computation_costs)):
        sites = tuple(found.pop(key, {}).values())
        executions, times = _sum(x.executed for x in sites), replayed.times.get(key, _NONE)
        several = sites if len(sites) > 1 else ()
        if max(executions) > _LARGEST:
            raise malformed("The trip counts multiply to more than float64 can hold", where=_named(replayed, key))
        computation_cost = replayed.computation_costs[key]
        for instruction, own in computation_cost.own:
            once = _once(instruction, own, replayed)
            opaque = once is None
            executed = (once or _NONE).scaled(executions)
            cost = HloCost(own.scaled(times), executed)
            if opaque or cost != HloCost():
                unknown = opaque and any(executions)
                computation, each = replayed.module.computations[key], HloCost(own, once or _NONE)
                yield InstructionCost(computation, instruction, cost, unknown, max(executions), each, several)
        for call in computation_cost.calls:
            inside = found.setdefault(call.callee.id, {})
            places = scopes.inside([x.site for x in sites], call.instruction, call.callee)
            for around, site in zip(sites, places, strict=True):
                before = inside.get(site, SiteTimes(site, _NONE, _NONE))
                runs, counted = known.of(call, around.executed), call.times.scaled(around.counted)
                inside[site] = SiteTimes(site, before.counted.plus(counted), before.executed.plus(runs))


def _sum(properties: Iterable[Properties]) -> Properties:
    total = _NONE
    for x in properties:
        total = total.plus(x)
    return total


class _Executions(NamedTuple):
    """How often computations run: the trip counts of loops, and what a trace has of conditionals and of means."""

    loops: _Loops
    branches: Mapping[str, Sequence[int]]
    mean_trips: Mapping[str, float]

    def of(self, call: Call, executions: Properties) -> Properties:
        """Return how often a called computation runs. executions: of the instruction that calls it."""
        name, opcode = call.instruction.name, call.instruction.opcode
        if opcode == "while" and name in self.mean_trips:
            # Four executions of 1.5 trips each are 6 trips, and not 8.
            return Properties(*(round(n * self.mean_trips[name]) for n in call.times.scaled(executions)))
        if opcode == "conditional" and name in self.branches:
            return _of_branch(call, self.branches[name], executions)
        trips = self.loops.trips(call.instruction) if opcode == "while" else 1
        return call.times.scaled(executions).scaled(Properties(trips, trips, trips))


def _of_branch(call: Call, counts: Sequence[int], executions: Properties) -> Properties:
    """Return the executions of a branch: its share of those of the conditional, rounded; none if no branch ran."""
    whole = sum(counts) or 1
    own = sum(n for n, branch in zip(counts, call.instruction.called, strict=True) if branch is call.callee)
    return Properties(*((2 * n * own + whole) // (2 * whole) for n in executions))


def open_conditionals(replayed: Replay, trip_count: Callable[[Instruction], int]) -> Iterator[Conditional]:
    """Yield the conditionals whose branches differ in the work that one execution of them does.

    trip_count: of a while loop, 1 where it is not known.
    """
    module = replayed.module
    costs = replayed.computation_costs
    if not any(call.instruction.opcode == "conditional" for cost in costs.values() for call in cost.calls):
        return
    scopes, sources = Scopes(module), Sources(module)
    executed: dict[int, Properties] = {}
    for key, cost in costs.items():
        total = _NONE
        for instruction, own in cost.own:
            total = total.plus(_once(instruction, own, replayed) or _NONE)
        branches: dict[int, tuple[Instruction, set[Properties]]] = {}
        for call in cost.calls:
            once = executed[call.callee.id]
            if call.instruction.opcode == "conditional":
                branches.setdefault(id(call.instruction), (call.instruction, set()))[1].add(once)
            trips = trip_count(call.instruction) if call.instruction.opcode == "while" else 1
            total = total.plus(once.scaled(call.times).scaled(Properties(trips, trips, trips)))
        executed[key] = total
        for conditional, works in branches.values():
            if len(works) > 1:
                scope = "/".join(scopes.of(module.computations[key], conditional))
                yield Conditional(conditional.name, scope, sources.of(conditional))


def _once(instruction: Instruction, own: Properties, replayed: Replay) -> Properties | None:
    """Return the work of one execution of an instruction; None for a library call whose work is unknown."""
    if instruction.opcode not in ("custom-call", "fft", "sort"):
        return own
    try:
        if is_opaque(instruction, replayed.cost_model):
            return None
        library = true_cost(instruction, replayed.cost_model)
    except HloError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as fault:
        # The file may hold any bytes as a configuration.
        what = f"The configuration of `{_opcode(instruction)[:100]}` cannot be read"
        raise malformed(what, where=instruction.name) from fault
    return own if library is None else library


def _named(replayed: Replay, key: int) -> str:
    return replayed.module.computations[key].name


class _Loops:
    """The while loops of a module, and the trip counts that the user gave for loops of unknown length."""

    def __init__(self, replayed: Replay, trips_by_pattern: Mapping[str, int], scopes: Scopes) -> None:
        module = replayed.module
        sources, trip_counts = Sources(module), TripCounts(module)
        self.by_instruction: dict[int, Loop] = {}
        used: set[str] = set()
        for key in reversed(list(replayed.computation_costs)):
            for call in replayed.computation_costs[key].calls:
                loop = call.instruction
                if loop.opcode != "while" or id(loop) in self.by_instruction:
                    continue
                scope = "/".join(scopes.of(module.computations[key], loop))
                known = trip_counts.of(loop)
                found = Loop(loop.name, scope, sources.of(loop), known)
                matching = [p for p in trips_by_pattern if known is None and found.fits(p)]
                used.update(matching)
                self.by_instruction[id(loop)] = (
                    replace(found, trips=trips_by_pattern[matching[0]]) if matching else found
                )
        unused = sorted(trips_by_pattern.keys() - used)
        if unused:
            names = [loop.name for loop in self.by_instruction.values() if loop.trips is None]
            raise TripsError(
                f"No loop of unknown length is called {', '.join(map(repr, unused))}.",
                where=f"loops of unknown length: {', '.join(names) or 'none'}",
                why="The trip count would have no effect.",
                cure="Pass the name of a loop of that list, its scope, or a pattern such as '*'.",
            )

    def trips(self, loop: Instruction) -> int:
        trips = self.by_instruction[id(loop)].trips
        return 1 if trips is None else trips


def _opcode(ins: Instruction) -> str:
    return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode
