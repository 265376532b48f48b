"""Difference: two analyses layer by layer, and what each field gains or loses.

Layers are matched by their scope path. Where all of a program lies in one outermost scope, and the two programs call
it differently, that scope is left out of the paths: `ResNet18/stem` is `stem` of `ResNet50`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from costax.analysis.analysis import Analysis
from costax.core.cost import FIELDS, ZERO, Cost, Count
from costax.core.display import Displayed
from costax.core.size import Size

SIZES: Final[Mapping[str, str]] = {"params": "elements of the parameters", "param_bytes": "bytes of the parameters (B)"}
"""The fields of a layer beside those of its cost."""


NO_SIZE: Final = Size()


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one layer: before, after, and what is between."""

    before: Count
    after: Count

    @property
    def delta(self) -> Count:
        """After minus before."""
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """After over before; None where there was nothing before."""
        return self.after / self.before if self.before else None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the two programs: its scope path, its costs and its parameters."""

    scope: str
    before: Cost = ZERO
    after: Cost = ZERO
    params_before: Size = NO_SIZE
    params_after: Size = NO_SIZE

    def change(self, field: str) -> Change:
        """Return the change of a field, one of `costax.core.cost.FIELDS` or `SIZES`."""
        if field in SIZES:
            of: Callable[[Size], Count] = (lambda s: s.elements) if field == "params" else (lambda s: s.nbytes)
            return Change(of(self.params_before), of(self.params_after))
        return Change(getattr(self.before, field), getattr(self.after, field))

    @property
    def changed(self) -> bool:
        """Say whether anything differs."""
        return self.before != self.after or self.params_before != self.params_after


@dataclass(frozen=True)
class Diff(Displayed):
    """Two analyses beside each other.

    The layers of one depth add up to the totals, in every field: what lies outside of all scopes is the layer "".
    """

    before: Analysis
    after: Analysis

    @property
    def total(self) -> Layer:
        """The whole programs as one layer."""
        return Layer("total", self.before.total, self.after.total, _params(self.before), _params(self.after))

    def layers(self, depth: int | None = None) -> list[Layer]:
        """Return the layers of both programs, in program order, their paths cut at `depth` parts."""
        first, second = self._paths
        costs = [_costs(a, cut, depth) for a, cut in ((self.before, first), (self.after, second))]
        sizes = [_sizes(a, cut, depth) for a, cut in ((self.before, first), (self.after, second))]
        scopes = _merged([*costs[0], *sizes[0]], [*costs[1], *sizes[1]])
        return [
            Layer(s, costs[0].get(s, ZERO), costs[1].get(s, ZERO), sizes[0].get(s, NO_SIZE), sizes[1].get(s, NO_SIZE))
            for s in scopes
        ]

    @cached_property
    def _paths(self) -> tuple[int, int]:
        """How many leading parts each program's paths lose: one where each has one outermost scope, of another name."""
        roots = [{row.scope[:1] for row in a.rows} - {()} for a in (self.before, self.after)]
        lone = all(len(found) == 1 for found in roots) and roots[0] != roots[1]
        return (1, 1) if lone else (0, 0)


def diff(before: Analysis, after: Analysis) -> Diff:
    """Return what changes from one analysis to another, layer by layer."""
    return Diff(before, after)


def fields() -> tuple[str, ...]:
    """Return the names of the fields that a layer has."""
    return (*FIELDS, *SIZES)


def _params(analysis: Analysis) -> Size:
    return sum((analysis.parameters or {}).values(), Size())


def _costs(analysis: Analysis, cut: int, depth: int | None) -> dict[str, Cost]:
    parts: dict[str, list[Cost]] = {}
    for row, cost in analysis.rows.items():
        parts.setdefault("/".join(row.scope[cut:][:depth]), []).append(cost)
    return {scope: Cost.sum(costs) for scope, costs in parts.items()}


def _sizes(analysis: Analysis, cut: int, depth: int | None) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    for (scope, _), size in (analysis.parameters or {}).items():
        key = "/".join(scope[cut:][:depth])
        sizes[key] = sizes.get(key, Size()) + size
    return sizes


def _merged(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return all names once: in the order of the first, each of the second's own behind what it follows there."""
    merged = list(dict.fromkeys(first))
    place = 0
    for name in dict.fromkeys(second):
        if name in merged:
            place = merged.index(name) + 1
        else:
            merged.insert(place, name)
            place += 1
    return merged
