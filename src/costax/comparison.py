"""Comparison: a program's own account beside XLA's, before and after compilation, and every difference named."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from costax import _jax, provenance
from costax.analysis import Analysis
from costax.errors import TargetError
from costax.attribution import Atlas, attribute, rehomed
from costax.hlo.read import read_bytes
from costax.hlo.replay import Replay, replay
from costax.ledger import Charge, Ledger
from costax.provenance import Place
from costax.reconcile import Delta, reconcile
from costax.reconcile import unexplained as without_cause
from costax.trace import Program

_KEYS = ("flops", "transcendentals", "bytes accessed")


@dataclass(frozen=True)
class Comparison:
    """A program in three ledgers: what it asks for, what XLA makes of it, what XLA says.

    jaxpr: our analysis. lowered, compiled: XLA's account before and after optimisation, replayed and attributed.
    deltas: `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
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
        return {key: (self.compiled.xla or {}).get(key, 0.0) for key in _KEYS} | dict(self.compiled.xla or {})

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

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.waterfall import render

        return render(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)


def compare_program(program: Program, analysis: Analysis) -> Comparison:
    """Lower and compile a traced program for this machine's CPU, and account for every difference from the analysis.

    Raises TargetError where XLA does not compile the program.
    """
    live = analysis.live
    start = time.perf_counter()
    plain = _jax.lower(program.traced, live)
    lowering = time.perf_counter() - start
    marks = provenance.mark(live)
    lowered = _jax.lower(program.traced, marks.jaxpr)
    account = replay(read_bytes(_jax.hlo_of(lowered)))
    marked = account.total == replay(read_bytes(_jax.hlo_of(plain))).total
    if not marked:
        lowered, account = plain, replay(read_bytes(_jax.hlo_of(plain)))
    start = time.perf_counter()
    compiled = _compiled(lowered, program.name)
    compiling = time.perf_counter() - start
    found = tuple(provenance.places(analysis.tree, live, marks.marks)) if analysis.tree else ()
    atlas = Atlas(found)
    before = _ledger("lowered", lowered, account, atlas, lowering)
    after = _ledger("compiled", compiled, replay(read_bytes(_jax.hlo_of(compiled))), atlas, compiling, before.charges)
    deltas = reconcile(found, before, after, _source)
    return Comparison(analysis, before, after, deltas, marked)


def _compiled(lowered: Any, name: str) -> Any:
    try:
        return lowered.compile()
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise TargetError(
            f"XLA does not compile `{name}`: {str(error).strip().splitlines()[0]}",
            why="Without a compiled program there is nothing to compare with.",
            cure="Use costax analyze for the count of the jaxpr, which needs no compiler.",
        ) from error


def _ledger(
    stage: str, made: Any, account: Replay, atlas: Atlas, seconds: float, before: Sequence[Charge] | None = None
) -> Ledger:
    found, branches, hidden = attribute(account, atlas)
    if before is not None:
        found = rehomed(found, before, atlas)
    xla = _dictionary(made.cost_analysis())
    return Ledger(stage, account, found, xla, branches, hidden, _jax.memory(made), seconds)


def _dictionary(found: Mapping[str, float] | Sequence[Mapping[str, float]] | None) -> Mapping[str, float] | None:
    # jax returned a list of one before 0.4.38, and may again for programs of several modules.
    return found if found is None or isinstance(found, Mapping) else found[0]


def _source(place: Place) -> str:
    return _jax.source(place.node.equation)
