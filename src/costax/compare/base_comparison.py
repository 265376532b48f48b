"""BaseComparison: our analysis, what XLA says of two stages, and the deltas between them, as found or as saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from costax.analysis.analysis import Analysis
from costax.compare.causes import Delta
from costax.compare.causes import unexplained as without_cause
from costax.core.display import Displayed, reporter
from costax.hlo.collectives import Collective


class StageView(Protocol):
    """What XLA says of one stage, `lowered` or `compiled`, and what costax replayed of it."""

    @property
    def stage(self) -> str:
        """Its name."""
        ...

    @property
    def total(self) -> Any:
        """FLOPs, transcendentals and bytes as exact integers."""
        ...

    @property
    def float32(self) -> Any:
        """The same in XLA's float32 and order."""
        ...

    @property
    def executed(self) -> Any:
        """What the machine really does: loops as often as they run, library calls in full."""
        ...

    @property
    def xla(self) -> Mapping[str, float] | None:
        """XLA's own dictionary, None where the backend gives none."""
        ...

    @property
    def matches_xla(self) -> bool | None:
        """Whether the replay is XLA's dictionary bit for bit, None where there is none."""
        ...

    @property
    def attributed(self) -> float:
        """The share of the FLOPs that belong to an equation."""
        ...

    @property
    def opaque(self) -> Mapping[str, int]:
        """How many calls there are, by target, of which nothing tells the work."""
        ...

    @property
    def collectives(self) -> Sequence[Collective]:
        """What one device exchanges with others."""
        ...

    @property
    def devices(self) -> int:
        """How many devices the program is sharded over."""
        ...

    @property
    def memory(self) -> Mapping[str, int]:
        """XLA's memory analysis of one device, in bytes."""
        ...

    @property
    def held(self) -> int:
        """Bytes that one device holds at once."""
        ...

    @property
    def fits(self) -> bool | None:
        """Whether the program fits the memory of one device, None where that is not known."""
        ...

    @property
    def seconds(self) -> float:
        """How long the stage took to make."""
        ...

    @property
    def note(self) -> str:
        """What was done otherwise than usual to make it, or ""."""
        ...


S = TypeVar("S", bound=StageView, covariant=True)


@dataclass(frozen=True)
class BaseComparison(Displayed, Generic[S]):
    """A program in three ledgers: what it asks for, what XLA makes of it, what XLA says.

    jaxpr: our analysis. lowered, compiled: XLA's account before and after optimisation.
    deltas: `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for transcendentals.
    marked: False where marking the equations changed the program, so that the plain one was used, without marks.
    target: what the program was compiled for.
    """

    jaxpr: Analysis
    lowered: S
    compiled: S
    deltas: Sequence[Delta] = field(repr=False)
    marked: bool = True
    target: str = "cpu"

    @property
    def analysis(self) -> Analysis:
        """The analysis of the program, as `jaxpr`."""
        return self.jaxpr

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
        return all(stage.matches_xla is not False for stage in (self.lowered, self.compiled))

    def table(self) -> Any:
        """Return the account by equation, largest difference first."""
        return reporter("equations")(self)


def held(memory: Mapping[str, int]) -> int:
    """Return the bytes that one device holds at once, of XLA's parts.

    They are arguments, results that no argument lends its place, and temporaries.
    """
    found = {name: memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
    return found["argument"] + found["output"] + found["temp"] - found["alias"]
