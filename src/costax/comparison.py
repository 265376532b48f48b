"""Comparison: a program's own account beside XLA's, before and after compilation, and every difference named."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from costax import _jax, provenance
from costax.adoption import rehomed
from costax.ahead import TIMEOUT, Machine
from costax.analysis import Analysis
from costax.attribution import Atlas, attribute
from costax.deltas import Delta
from costax.deltas import unexplained as without_cause
from costax.errors import SymbolError
from costax.hlo.laws import law_of
from costax.hlo.pause import uncollected
from costax.hlo.read import read_bytes
from costax.hlo.replay import Replay, replay
from costax.ledger import Charge, Ledger
from costax.lower import Stage, compile_stage, converted, lower, lowering
from costax.places import Place, places
from costax.provenance import Address
from costax.reconcile import reconcile
from costax.trace import Program
from costax.witness import Witnesses


@dataclass(frozen=True)
class Comparison:
    """A program in three ledgers: what it asks for, what XLA makes of it, what XLA says.

    jaxpr: our analysis. lowered, compiled: XLA's account before and after optimisation, replayed and attributed.
    deltas: `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
    target: what the program was compiled for.
    marked: False where marking the equations changed the program, so that the plain one was used, without marks.
    """

    jaxpr: Analysis
    lowered: Ledger
    compiled: Ledger
    deltas: Sequence[Delta] = field(repr=False)
    marked: bool = True
    target: str = "cpu"

    @property
    def xla(self) -> Mapping[str, float]:
        """XLA's dictionary for the compiled program; keys that XLA leaves out are 0."""
        return self.compiled.xla or {}

    @cached_property
    def unexplained(self) -> Sequence[Delta]:
        """The deltas that no evidence explains."""
        return without_cause(self.deltas)

    @property
    def matches_xla(self) -> bool:
        """Say whether the replay of both stages equals XLA's own numbers, bit for bit, where XLA gives any."""
        return all(ledger.matches_xla is not False for ledger in (self.lowered, self.compiled))

    def table(self) -> Any:
        """Return the account by equation, largest difference first."""
        from costax.report.waterfall import equations

        return equations(self)

    def save(self, path: str | Path) -> None:
        """Write the comparison to a file; the suffix names the format. Raises RecordError for a suffix nobody knows."""
        from costax.report import save

        save(self, path)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.waterfall import render

        return render(self)

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        from costax.report.notebook import as_html

        return as_html(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)


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
    with uncollected():
        marks = provenance.mark(live)
        lowered, account, marked = _lowered(program, live, marks.jaxpr, machine)
    compiled = compile_stage(lowered, program.name, machine, timeout)
    law = law_of(tpu=machine is not None and machine.platform == "tpu")
    with uncollected():
        found = tuple(places(analysis.tree, live, marks.marks)) if analysis.tree else ()
        atlas = Atlas(found)
        before = _ledger("lowered", lowered, account, atlas)
        after = _ledger("compiled", compiled, replay(read_bytes(compiled.hlo), law), atlas, before.charges)
        witness = Witnesses(analysis.tree, live, marks.marks, machine) if analysis.tree else _no_witness
        deltas = reconcile(found, before, after, _source, witness)
    return Comparison(analysis, before, after, deltas, marked, machine.name if machine else "cpu")


def _lowered(program: Program, plain: Any, marked: Any, machine: Machine | None) -> tuple[Stage, Replay, bool]:
    """Return the lowered program with its cost, and whether it is the marked one: the two must cost the same."""
    without = lowering(program.traced, plain, program.name, machine)
    stage = lower(program.traced, marked, program.name, machine)
    account = replay(read_bytes(stage.hlo))
    if _jax.stablehlo_text(without.made) != _jax.stablehlo_text(stage.made):
        # Functions may be shared or numbered in another way, which costs nothing.
        other = converted(without, program.name, machine)
        unmarked = replay(read_bytes(other.hlo))
        if unmarked.total != account.total:
            return other, unmarked, False
    return stage, account, True


def _ledger(stage: str, made: Stage, account: Replay, atlas: Atlas, before: Sequence[Charge] | None = None) -> Ledger:
    found, branches, hidden, borders = attribute(account, atlas)
    if before is not None:
        found = rehomed(found, before, atlas, borders)
    return Ledger(stage, account, found, made.xla, branches, hidden, made.memory, made.seconds, made.meshes)


def _no_witness(place: Place, stage: str, left: Container[Address]) -> str:
    return ""


def _source(place: Place) -> str:
    return _jax.source(place.node.equation)
