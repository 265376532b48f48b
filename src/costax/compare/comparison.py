"""Comparison: a program's own account beside XLA's, before and after compilation, and every difference named."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.compare import marks
from costax.compare.adoption import rehomed
from costax.compare.ahead_of_time import TIMEOUT, Machine
from costax.compare.attribution import CallSiteIndex, attribute
from costax.compare.base_comparison import BaseComparison
from costax.compare.compile import XlaStage, compile_stage, converted, lower, lowering
from costax.compare.kernels import of_compiled
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


class Comparison(BaseComparison[StageCost]):
    """What `compare` finds: an account whose stages are ledgers, replayed and attributed to the equations.

    `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
    """

    @property
    def kernel_source(self) -> str:
        """What made the kernels: XLA."""
        return f"XLA's own, compiled for {self.target}"

    def kernels(self) -> list[Kernel]:
        """Return XLA's fusions and other instructions that run as one kernel each."""
        return of_compiled(self.compiled)

    def memory_use(self) -> MemoryUse:
        """Return the bytes that one device needs, by XLA's buffer assignment."""
        sizes = {name: self.compiled.memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
        results = sizes["output"] - sizes["alias"]
        parts = {"arguments": sizes["argument"], "results": results, "temporaries": sizes["temp"]}
        return MemoryUse(self.compiled.held, parts, f"XLA for {self.target}", results + sizes["temp"])


def compare_program(
    program: Program, analysis: Analysis, machine: Machine | None = None, timeout: float = TIMEOUT
) -> Comparison:
    """Lower and compile a traced program, and account for every difference from the analysis.

    machine: what to compile for, ahead of time; None for this machine's CPU. timeout: seconds that it may take.
    Raises TargetError where XLA does not compile the program.
    """
    if analysis.symbols:
        raise SymbolError(
            f"XLA compiles programs of plain sizes, and {', '.join(analysis.symbols)} is a symbol.",
            why="There is nothing of XLA's to compare a formula with.",
            cure="Compare at sizes of your choice; the formulas hold there too.",
        )
    live = analysis.live
    with gc_paused():
        marked_program = marks.mark(live)
        lowered, account, marked = _lowered(program, live, marked_program.jaxpr, machine)
    compiled = compile_stage(lowered, program.name, machine, timeout)
    cost_model = cost_model_for(tpu=machine is not None and machine.platform == "tpu")
    with gc_paused():
        found = tuple(call_sites(analysis.tree, live, marked_program.marks)) if analysis.tree else ()
        sites = CallSiteIndex(found)
        before = _ledger("lowered", lowered, account, sites)
        after = _ledger(
            "compiled", compiled, replay_module(read_bytes(compiled.hlo), cost_model), sites, before.charges
        )
        witness = Witnesses(analysis.tree, live, marked_program.marks, machine) if analysis.tree else _no_witness
        deltas = reconcile(found, before, after, _source, witness)
    return Comparison(analysis, before, after, deltas, marked, machine.name if machine else "cpu")


def _lowered(program: Program, plain: Any, marked: Any, machine: Machine | None) -> tuple[XlaStage, Replay, bool]:
    """Return the lowered program with its cost, and whether it is the marked one: the two must cost the same."""
    without = lowering(program.traced, plain, program.name, machine)
    stage = lower(program.traced, marked, program.name, machine)
    account = replay_module(read_bytes(stage.hlo))
    if _jax.stablehlo_text(without.made) != _jax.stablehlo_text(stage.made):
        # Functions may be shared or numbered in another way, which costs nothing.
        other = converted(without, program.name, machine)
        unmarked = replay_module(read_bytes(other.hlo))
        if unmarked.total != account.total:
            return other, unmarked, False
    return stage, account, True


def _ledger(
    stage: str, made: XlaStage, account: Replay, sites: CallSiteIndex, before: Sequence[AttributedCost] | None = None
) -> StageCost:
    found, branches, hidden, borders = attribute(account, sites)
    if before is not None:
        found = rehomed(found, before, sites, borders)
    return StageCost(
        stage, account, found, made.xla, branches, hidden, made.memory, made.seconds, made.meshes, made.note
    )


def _no_witness(place: CallSite, stage: str, left: Container[Address]) -> str:
    return ""


def _source(place: CallSite) -> str:
    return _jax.source(place.node.equation)
