"""Comparison: the counts of a program by costax and by XLA, before and after optimisation, and their differences."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.compare import marks
from costax.compare.adoption import rehomed
from costax.compare.ahead_of_time import TIMEOUT, Machine
from costax.compare.attribution import CallSiteIndex, attribute
from costax.compare.base_comparison import BaseComparison
from costax.compare.compile import XlaStage, compile_stage, converted, lower, lowering
from costax.compare.dumping import check_size, dump_folder
from costax.compare.kernels import of_compiled
from costax.compare.passes import PassTrail, Scope, read_passes
from costax.compare.reconciliation import reconcile
from costax.compare.stage_costs import AttributedCost, StageCost
from costax.compare.witness import Witnesses
from costax.core.address import Address
from costax.errors import SymbolError
from costax.hlo.cost_model import cost_model_for
from costax.hlo.gc_pause import gc_paused
from costax.hlo.read import read_bytes
from costax.hlo.replay import Replay, replay_module
from costax.performance.kernels import Kernel
from costax.performance.protocols import MemoryUse
from costax.program.call_sites import CallSite, call_sites
from costax.program.trace import Program


@dataclass(frozen=True)
class Comparison(BaseComparison[StageCost]):
    """The result of `compare`: the analysis, and two stages whose instructions are replayed and have their equations.

    passes: what each pass of the compiler did, from the lowered to the compiled module; None unless it was asked for.
    `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
    """

    passes: PassTrail | None = field(default=None, repr=False)

    @property
    def kernel_source(self) -> str:
        """Where the kernels come from: XLA."""
        return f"XLA's own, compiled for {self.target}"

    def kernels(self) -> list[Kernel]:
        """Return XLA's fusions and other instructions that run as one kernel each."""
        return of_compiled(self.compiled)

    def memory_use(self) -> MemoryUse:
        """Return the bytes of memory that one device needs, by XLA's buffer assignment."""
        sizes = {name: self.compiled.memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
        results = sizes["output"] - sizes["alias"]
        parts = {"arguments": sizes["argument"], "results": results, "temporaries": sizes["temp"]}
        return MemoryUse(self.compiled.held, parts, f"XLA for {self.target}", results + sizes["temp"])


def compare_program(
    program: Program,
    analysis: Analysis,
    machine: Machine | None = None,
    timeout: float = TIMEOUT,
    *,
    passes: bool = False,
) -> Comparison:
    """Lower and compile a traced program, and explain every difference from the analysis.

    machine: the device to compile for ahead of time; None for the CPU of this machine. timeout: seconds that the
    compiler may take. passes: also read what each pass of the compiler did. Raises TargetError if XLA does not compile
    the program, SymbolError if a shape has symbols.
    """
    if analysis.symbols:
        raise SymbolError(
            f"The shapes of `{program.name}` depend on symbols ({', '.join(analysis.symbols)}).",
            why="XLA compiles programs whose shapes are numbers, so it has no count to compare a formula with.",
            cure="Compare with numbers in place of the symbols; the formulas hold for them too.",
        )
    live = analysis.live
    with gc_paused():
        marked_program = marks.mark(live)
        lowered, lowered_replay, marked = _lowered(program, live, marked_program.jaxpr, machine)
    sites = tuple(call_sites(analysis.tree, live, marked_program.marks)) if analysis.tree else ()
    trail = None
    with dump_folder() if passes else nullcontext("") as folder:
        compiled = compile_stage(lowered, program.name, machine, timeout, folder)
        if passes:
            check_size(folder, program.name)
            trail = read_passes(folder, scopes_of=_scopes(sites), tpu=machine is not None and machine.platform == "tpu")
    cost_model = cost_model_for(tpu=machine is not None and machine.platform == "tpu")
    with gc_paused():
        index = CallSiteIndex(sites)
        before = _stage_cost("lowered", lowered, lowered_replay, index)
        compiled_replay = replay_module(read_bytes(compiled.hlo), cost_model)
        after = _stage_cost("compiled", compiled, compiled_replay, index, before.instruction_costs)
        witness = Witnesses(analysis.tree, live, marked_program.marks, machine) if analysis.tree else _no_witness
        deltas = reconcile(sites, before, after, _source, witness)
    return Comparison(analysis, before, after, deltas, marked, machine.name if machine else "cpu", trail)


def _lowered(program: Program, plain: Any, marked: Any, machine: Machine | None) -> tuple[XlaStage, Replay, bool]:
    """Return the lowered program, its replay, and whether it has marks.

    It has none if the marks change its cost, which would make the marked program another one.
    """
    plain_lowering = lowering(program.traced, plain, program.name, machine)
    stage = lower(program.traced, marked, program.name, machine)
    marked_replay = replay_module(read_bytes(stage.hlo))
    # Equal StableHLO costs the same. It may differ in names alone: functions may be shared or numbered in another way.
    # Only then is the plain program converted to HLO too, which takes long.
    if _jax.stablehlo_text(plain_lowering.jax_stage) != _jax.stablehlo_text(stage.jax_stage):
        plain_stage = converted(plain_lowering, program.name, machine)
        plain_replay = replay_module(read_bytes(plain_stage.hlo))
        if plain_replay.total != marked_replay.total:
            return plain_stage, plain_replay, False
    return stage, marked_replay, True


def _stage_cost(
    name: str,
    stage: XlaStage,
    replay: Replay,
    index: CallSiteIndex,
    before: Sequence[AttributedCost] | None = None,
) -> StageCost:
    """Return the costs of a stage with their equations. before: of the compiled stage, the costs of the lowered one."""
    costs, branches, uncosted, frontiers = attribute(replay, index)
    if before is not None:
        costs = rehomed(costs, before, index, frontiers)
    return StageCost(
        name, replay, costs, stage.xla, branches, uncosted, stage.memory, stage.seconds, stage.meshes, stage.note
    )


def _scopes(sites: Sequence[CallSite]) -> Callable[[str], Sequence[Scope]]:
    """Return a function that gives the scopes of an instruction from the marks in its jax name.

    The name tells one call site, except inside a function that is not inlined yet: there its marks are relative to the
    call, and it belongs to every call site of the equation.
    """
    by_address = {site.address: (site.scope,) for site in sites}
    by_mark: dict[int, tuple[Scope, ...]] = {}
    for site in sites:
        by_mark[site.address[-1]] = (*by_mark.get(site.address[-1], ()), site.scope)

    def scopes_of(op_name: str) -> Sequence[Scope]:
        address = marks.address(op_name, ())
        return by_address.get(address) or by_mark.get(address[-1] if address else 0, ())

    return scopes_of


def _no_witness(call_site: CallSite, stage: str, left: Container[Address]) -> str:
    return ""


def _source(call_site: CallSite) -> str:
    return _jax.source(call_site.node.equation)
