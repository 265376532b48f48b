"""Comparison: the counts of a program by costax and by XLA, before and after optimisation, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.analysis.budgets import Budget, check_compiled
from costax.analysis.compiled_summary import CompiledSummary
from costax.compare import marks
from costax.compare.ahead_of_time import TIMEOUT, Machine
from costax.compare.attribution import attribute
from costax.compare.base_comparison import BaseComparison
from costax.compare.chain import Links, deltas
from costax.compare.compile import XlaStage, compile_stage, converted, lower, lowering
from costax.compare.compiled_module import as_module
from costax.compare.dumping import Flags, dump_folder, unreadable, written_flags
from costax.compare.emitted import emitted
from costax.compare.experiment import alone
from costax.compare.kernels import of_compiled
from costax.compare.lineage import Lineage
from costax.compare.owners import CallSiteIndex
from costax.compare.passes import AFTER, PassTrail, Steps, dumped_versions, passes_of
from costax.compare.repeated_work import replication
from costax.compare.replication import Replication
from costax.compare.stage_costs import StageCost
from costax.core.cost import Count
from costax.core.listing import listed, shown
from costax.core.open_symbols import check_numbers
from costax.hlo.cost_model import cost_model_for
from costax.hlo.gc_pause import gc_paused
from costax.hlo.loops import Loop
from costax.hlo.read import read_bytes
from costax.hlo.replay import Replay, replay_module
from costax.hlo.series import ModuleCost
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel
from costax.performance.protocols import MemoryUse
from costax.program.call_sites import CallSite, call_sites
from costax.program.trace import Program


@dataclass(frozen=True, repr=False)
class Comparison(BaseComparison[StageCost]):
    """The result of `compare`: the analysis, and two stages whose instructions are replayed and have their equations.

    passes: what each pass of the compiler did, from the lowered to the compiled module; None if that was not read.
    `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
    """

    passes: PassTrail | None = field(default=None, repr=False)

    @cached_property
    def replication(self) -> Replication | None:
        """What all devices execute over the program's own count, by layer; None for a program on one device."""
        if self.compiled.devices == 1:
            return None
        sites = {cost.call_site for cost in self.lowered.instruction_costs}
        sources = {site: self.jaxpr.source_of(site.node.equation) for site in sites if site is not None}
        return replication(self.lowered, self.compiled, self.jaxpr.total.flops, sources)

    @property
    def kernel_source(self) -> str:
        """Where the kernels come from: XLA."""
        loops = ", ".join(loop.name for loop in self.compiled.unknown_loops)
        once = f"; what runs in loops of unknown length ({loops}) counts once" if loops else ""
        once += "; of conditionals the branch with most work counts" if self.compiled.conditionals else ""
        return f"XLA's own, compiled for {self.target}{once}"

    @property
    def compiled_for(self) -> str:
        """The kind of machine that the program was compiled for: "cpu", "gpu" or "tpu"."""
        platform = self.target.partition(":")[0]
        return platform if platform in ("cpu", "tpu") else "gpu"

    @property
    def executed_flops(self) -> int | None:
        """FLOPs that one of several devices executes; None for a program on one device."""
        return self.compiled.executed.flops if self.compiled.devices > 1 else None

    @listed
    def kernels(self) -> list[Kernel]:
        """Return XLA's fusions and other instructions that run as one kernel each."""
        return of_compiled(self.compiled)

    @property
    def unknown_loops(self) -> tuple[Loop, ...]:
        """The loops of the compiled program without a known trip count."""
        return self.compiled.unknown_loops

    def compiled_counts(self) -> dict[str, Count]:
        """Return the counts of `costax.analysis.compiled_counts.COMPILED`, of one device."""
        executed, collectives = self.compiled.executed, self.compiled.collectives
        return {
            "executed_flops": executed.flops,
            "hbm_bytes": executed.bytes,
            "collective_bytes": sum((x.sent or 0) * x.executed for x in collectives),
            "temp_bytes": self.compiled.memory.get("temp", 0),
            "kernels": sum(kernel.times for kernel in self.kernels()),
        }

    @property
    def summary(self) -> CompiledSummary:
        """The counts of the compiled program by layer, as `costax.diff` compares them with those of a module."""
        return self._summary

    @cached_property
    def _summary(self) -> CompiledSummary:
        return as_module(self.compiled, self.target).summary

    def check(self, budget: Budget) -> None:
        """Raise BudgetError if the program costs more than a budget.

        `executed_flops`, `hbm_bytes`, `collective_bytes`, `temp_bytes` and `kernels` are those of the compiled program,
        of one device; the other fields are those of the analysis.

        Args:
            budget: The limits.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        check_compiled(self, budget, self.jaxpr)

    @property
    def name(self) -> str:
        """The name of the program."""
        return self.jaxpr.name

    def memory_use(self, device: Device | None = None) -> MemoryUse:
        """Return the bytes of memory that one device needs, by XLA's buffer assignment for `target`.

        Args:
            device: Not used: XLA's numbers are those of `target`.
        """
        sizes = {name: self.compiled.memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
        results = sizes["output"] - sizes["alias"]
        parts = {"arguments": sizes["argument"], "results": results, "temporaries": sizes["temp"]}
        # A program on one device keeps the interface of the analysis: XLA pads the arrays of a TPU.
        interface = sizes["argument"] + sizes["output"] if self.compiled.devices > 1 else None
        source = f"XLA for {self.target}"
        return MemoryUse(self.compiled.held, parts, source, results + sizes["temp"], interface=interface)


# A collection in between would walk all records and jax's objects again and again.
@gc_paused()
def compare_program(
    program: Program,
    analysis: Analysis,
    machine: Machine | None = None,
    timeout: float = TIMEOUT,
    *,
    passes: bool = True,
    xla_flags: Flags | None = None,
) -> Comparison:
    """Lower and compile a traced program, and explain every difference from the analysis.

    machine: the device to compile for ahead of time; None for the CPU of this machine. timeout: seconds that the
    compiler may take. passes: read what each pass of the compiler did; without it the deltas between the lowered and
    the compiled module have no cause. xla_flags: options of XLA. Raises TargetError if XLA does not compile the
    program, SymbolError if a shape has symbols.
    """
    why = "XLA compiles programs whose sizes are numbers, so it has no count to compare a formula with."
    check_numbers(analysis, why)
    live = analysis.live
    marked_program = marks.mark(live)
    lowered, lowered_replay, marked = _lowered(program, live, marked_program.jaxpr, machine)
    sites = tuple(call_sites(analysis.tree, marked_program.marks)) if analysis.tree else ()
    index, tpu = CallSiteIndex(sites), machine is not None and machine.platform == "tpu"
    first = ModuleCost.of(lowered_replay)
    flags = written_flags(xla_flags or {})
    steps, trail, note = None, None, ""
    with dump_folder() if passes else nullcontext("") as folder:
        compiled = compile_stage(lowered, program.name, machine, timeout, folder, flags, analysis.devices)
        note = unreadable(folder) if passes else ""
        if passes and not note:
            steps = Steps(first, index)
            trail = passes_of(dumped_versions(folder, tpu=tpu, own=True), steps)
    compiled_replay = replay_module(read_bytes(compiled.hlo), cost_model_for(tpu=tpu))
    last = ModuleCost.of(compiled_replay)
    if steps is not None:
        steps.add("", AFTER, last)
    before_origins, after_origins = _origins(first, last, index, steps)
    before = _stage_cost("lowered", lowered, lowered_replay, index, before_origins)
    after = _stage_cost("compiled", compiled, compiled_replay, index, after_origins, machine)
    stablehlo = None if steps is None else _emitted(lowered, index)

    def source(site: CallSite) -> str:
        return program.source_of(site.node.equation)

    links = Links(sites, stablehlo, before, after, steps, lambda chosen: alone(chosen, machine), source)
    found = deltas(links)
    after = replace(after, note=" ".join(filter(None, (after.note, note))))
    if after.devices > analysis.devices:
        share = analysis.total.divided(after.devices)
        analysis = replace(analysis, devices=after.devices, per_device=share, even_share=True)
    return Comparison(analysis, before, after, found, marked, machine.name if machine else "cpu", flags, trail)


def _origins(
    first: ModuleCost, last: ModuleCost, index: CallSiteIndex, steps: Steps | None
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the origins of the instructions before and after optimisation. steps: of the passes, if they were read."""
    if steps is not None:
        return steps.first_origins, steps.lineage.origins
    lineage = Lineage(first, index)
    origins = lineage.origins
    lineage.advance(last)
    return origins, lineage.origins


def _lowered(program: Program, plain: Any, marked: Any, machine: Machine | None) -> tuple[XlaStage, Replay, bool]:
    """Return the lowered program, its replay, and whether it has marks.

    It has none if the marks change its cost, which would make the marked program another one.
    """
    stage = lower(program.traced, marked, program.name, machine)
    marked_replay = replay_module(read_bytes(stage.hlo))
    # To lower the plain program too takes long, and is needed only if jax may make something else of it.
    if _jax.differ_in_names_alone(plain, marked):
        return stage, marked_replay, True
    plain_lowering = lowering(program.traced, plain, program.name, machine)
    # Equal StableHLO costs the same. It may differ in names alone: functions may be shared or numbered in another way.
    if _jax.stablehlo_text(plain_lowering.jax_stage) != _jax.stablehlo_text(stage.jax_stage):
        plain_stage = converted(plain_lowering, program.name, machine)
        plain_replay = replay_module(read_bytes(plain_stage.hlo))
        if plain_replay.total != marked_replay.total:
            return plain_stage, plain_replay, False
    return stage, marked_replay, True


def _emitted(lowered: XlaStage, index: CallSiteIndex) -> StageCost:
    """Return the costs of StableHLO as jax emitted it, with their equations."""
    replay = emitted(lowered.jax_stage)
    origins = Lineage(ModuleCost.of(replay), index).origins
    return _stage_cost("emitted", replace(lowered, xla=None), replay, index, origins)


def _stage_cost(
    name: str,
    stage: XlaStage,
    replay: Replay,
    index: CallSiteIndex,
    origins: Mapping[str, str],
    machine: Machine | None = None,
) -> StageCost:
    """Return the costs of a stage with their equations. origins: of its instructions, as `Lineage` has them."""
    costs, branches, loops, conditionals = attribute(replay, index, origins)
    return StageCost(
        name,
        replay,
        shown(costs),
        stage.xla,
        branches,
        stage.memory,
        stage.seconds,
        stage.meshes,
        stage.note,
        stage.devices,
        loops,
        conditionals,
        machine,
        stage.assignment,
    )
