"""BaseComparison: an analysis, XLA's counts of two stages, and the deltas between them; of `compare` or of a record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from costax.analysis.analysis import Analysis
from costax.compare.causes import Delta, Pair
from costax.compare.causes import unexplained as without_cause
from costax.core.display import Displayed, reporter
from costax.core.listing import listed
from costax.hlo.collectives import Collective, by_layer
from costax.hlo.loops import Conditional, Loop
from costax.program.tree import Scope


class StageView(Protocol):
    """What XLA reports of one stage, `lowered` or `compiled`, and what costax computed from its module."""

    @property
    def stage(self) -> str:
        """The name of the stage."""
        ...

    @property
    def total(self) -> Any:
        """FLOPs, transcendentals and bytes as exact integers."""
        ...

    @property
    def float32(self) -> Any:
        """The totals as XLA prints them: added up in float32, in XLA's order."""
        ...

    @property
    def executed(self) -> Any:
        """What the device executes: loop bodies by trip count, library calls with the work of the library."""
        ...

    @property
    def xla(self) -> Mapping[str, float] | None:
        """XLA's own dictionary; None where the backend gives none."""
        ...

    @property
    def matches_xla(self) -> bool | None:
        """Whether the replay equals XLA's dictionary bit for bit; None where there is no dictionary."""
        ...

    @property
    def attributed(self) -> float:
        """The share of the FLOPs that belong to an equation."""
        ...

    @property
    def opaque(self) -> Mapping[str, int]:
        """The number of calls whose work is unknown, by target."""
        ...

    @property
    def unknown_loops(self) -> Sequence[Loop]:
        """The loops whose trip count is unknown; their bodies count once in `executed`."""
        ...

    @property
    def conditionals(self) -> Sequence[Conditional]:
        """The conditionals whose branches differ in work; the branch with most counts in `executed`."""
        ...

    @property
    def exact(self) -> bool:
        """Whether `executed` is exact."""
        ...

    @property
    def collectives(self) -> Sequence[Collective]:
        """The collectives of one device."""
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
        """Bytes of memory that one device needs."""
        ...

    @property
    def fits(self) -> bool | None:
        """Whether the program fits the memory of one device; None where the size of the memory is not known."""
        ...

    @property
    def seconds(self) -> float:
        """How long the stage took."""
        ...

    @property
    def note(self) -> str:
        """Which options the compiler needed beyond the usual ones, and why; or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Communication:
    """What one device sends in the collectives of a layer in one direction.

    opcode: of the collectives. axes: the mesh axes that they run along. link: the links that the bytes go over; "" if
    the machine is not known. count: of the collectives in the module. runs: of all of them together. sent: bytes that
    the device sends, if the algorithm is optimal in bandwidth.
    """

    scope: str
    direction: str
    opcode: str
    axes: tuple[str, ...]
    link: str
    count: int
    runs: int
    sent: int


def _runs(collectives: Sequence[Collective]) -> tuple[int, int]:
    """Return how often some collectives run, and the bytes that a device sends in all of these runs."""
    runs: Any = sum(x.executed for x in collectives)
    sent: Any = sum((x.sent or 0) * x.executed for x in collectives)
    return runs, sent


_Key = TypeVar("_Key", bound=Hashable)
S = TypeVar("S", bound=StageView, covariant=True)


@dataclass(frozen=True, repr=False)
class BaseComparison(Displayed, Generic[S]):
    """The counts of a program in three stages, and every difference between them.

    jaxpr: the analysis by costax. lowered, compiled: what XLA counts before and after optimisation.
    deltas: the differences: `jaxpr.total.flops + sum(d.flops for d in deltas) == xla["flops"]`, and the same for
    transcendentals. marked: False where the marks of the equations changed the program, so that the program without
    marks was used. target: the machine that the program was compiled for. xla_flags: the options of XLA that were set.
    """

    jaxpr: Analysis
    lowered: S
    compiled: S
    deltas: Sequence[Delta] = field(repr=False)
    marked: bool = True
    target: str = "cpu"
    xla_flags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def analysis(self) -> Analysis:
        """The analysis of the program, as `jaxpr`."""
        return self.jaxpr

    @property
    def exact(self) -> bool:
        """Whether every count of the program, and what the compiled program executes, is exact."""
        return self.jaxpr.exact and self.compiled.exact

    @property
    def xla(self) -> Mapping[str, float]:
        """XLA's dictionary for the compiled program; keys that XLA leaves out are 0."""
        return self.compiled.xla or {}

    @cached_property
    def unexplained(self) -> Sequence[Delta]:
        """The deltas that no evidence explains."""
        return without_cause(self.deltas)

    @listed
    def by_pass(self) -> dict[str, Pair]:
        """Return the FLOPs and transcendentals that each pass of the compiler changed, in the order of first runs."""
        return self._passed(lambda delta: delta.pass_name)

    @listed
    def by_pass_and_scope(self, depth: int | None = None) -> dict[tuple[str, Scope], Pair]:
        """Return what each pass changed in each scope.

        Args:
            depth: Levels of scopes; by default all.
        """
        return self._passed(lambda delta: (delta.pass_name, delta.scope[:depth]))

    def _passed(self, key: Callable[[Delta], _Key]) -> dict[_Key, Pair]:
        sums: dict[_Key, Pair] = {}
        for delta in sorted(self.deltas, key=lambda delta: delta.run):
            if delta.pass_name:
                part = (delta.flops, delta.transcendentals)
                sums[key(delta)] = Pair.sum((sums.get(key(delta), Pair()), part))
        return sums

    @listed
    def communication(self, depth: int | None = None) -> list[Communication]:
        """Return what one device sends, by layer, direction, kind of collective, mesh axes and link; most bytes first.

        Args:
            depth: Levels of scopes; by default all.
        """
        groups: dict[tuple[str, str, str, tuple[str, ...], str], list[Collective]] = {}
        for whole in self.compiled.collectives:
            for x in by_layer(whole):
                scope = "/".join(x.scope.split("/")[:depth])
                groups.setdefault((scope, x.direction, x.opcode, x.axes, x.link), []).append(x)
        sums = [Communication(*key, len(group), *_runs(group)) for key, group in groups.items()]
        return sorted(sums, key=lambda each: -each.sent)

    @property
    def matches_xla(self) -> bool:
        """Say whether the replay of both stages equals XLA's own numbers, bit for bit, where XLA gives any."""
        return all(stage.matches_xla is not False for stage in (self.lowered, self.compiled))

    def table(self) -> Any:
        """Return the differences by equation as a table, the largest first."""
        return reporter("equations")(self)


def required_bytes(memory: Mapping[str, int]) -> int:
    """Return the bytes that one device needs: arguments, temporaries, and results without the buffer of an argument."""
    sizes = {name: memory.get(name, 0) for name in ("argument", "output", "temp", "alias")}
    return sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
