"""Formulas through concrete analyses, for programs that cannot be traced with symbols.

A program may decide by its sizes how it is written: a scan over the steps of a sequence, a loop in Python, a reshape
that jax cannot prove. It is analysed then at enough concrete sizes, and each count of each group of equations (one
scope, direction, primitive and source line) is fitted by a quasi-polynomial in rational arithmetic: a polynomial for
each residue of a size modulo a period, if it needs one. Degrees and periods are found along each symbol on its own,
from finite differences; the fit through all of them together must then hold at sizes that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count as counting
from itertools import islice, pairwise, product
from math import prod
from typing import Any, Final

from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.core.polynomial import Polynomial, floordiv, symbol
from costax.core.polynomial.symbol_values import Condition
from costax.core.size import Size
from costax.errors import CostaxError, SymbolicError
from costax.program.tree import Row, Scope, Unknown

Point = tuple[int, ...]
# The smallest sizes that are tried, until the program accepts one. At 1, programs are often others.
_STARTS: Final = (2, 1, 4, 8, 16, 32, 64, 128, 256, 512)
_LONGEST: Final = (7, 13, 26)
_SPARE: Final = 3
_NODES: Final = 160
_REFUSED: Final = 4096
_DEGREE: Final = 5
# A key of one count: where it is, its kind and dtype.
_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """How counts go along one symbol: the sizes that were tried, and the degree and period that explain them."""

    name: str
    sizes: Sequence[int]
    degree: int = 0
    period: int = 1

    @property
    def nodes(self) -> Sequence[int]:
        """As many sizes as the fit needs."""
        return self.sizes[: (self.degree + 1) * self.period]


def interpolate(
    analysed: Callable[[Mapping[str, int]], Analysis],
    least: Mapping[str, int],
    conditions: Sequence[Condition],
    reason: str,
) -> Analysis:
    """Return the analysis as formulas of symbols, from analyses at points.

    analysed: the analysis at a point; raises CostaxError where the program does not accept the sizes.
    least: the symbols, and the least value of each. reason: why the program was not traced with symbols.
    Raises SymbolicError where no quasi-polynomial explains the counts.
    """
    table = _Table(analysed, least, conditions, reason)
    base = table.base()
    axes = [_explained(table, base, number) for number in range(len(table.names))]
    nodes = prod(len(axis.nodes) for axis in axes)
    if nodes > _NODES:
        raise table.failed(f"the fit would need {nodes} analyses at different sizes")
    found = _fit(table, axes)
    for point in table.held_out(axes):
        _verify(table, found, point)
    return _assembled(table, axes, found)


def sizes_of(name: str, start: int, conditions: Sequence[Condition]) -> Iterator[int]:
    """Yield the sizes that the conditions on a symbol alone leave, from a start on."""
    own = [c for c in conditions if getattr(c.difference, "symbols", ()) == (name,)]
    refused = 0
    for size in counting(start):
        if all(condition.holds({name: size}) for condition in own):
            refused = 0
            yield size
        else:
            refused += 1
            if refused > _REFUSED:
                return


class _Table:
    """The analyses at points, each made once."""

    def __init__(
        self,
        analysed: Callable[[Mapping[str, int]], Analysis],
        least: Mapping[str, int],
        conditions: Sequence[Condition],
        reason: str,
    ) -> None:
        self.names = tuple(sorted(least))
        self.least = least
        self.conditions = conditions
        self.reason = reason
        self._analysed = analysed
        self._made: dict[Point, Analysis | CostaxError] = {}
        self._counts: dict[Point, dict[_Key, Any]] = {}

    def values(self, point: Point) -> dict[str, int]:
        return dict(zip(self.names, point, strict=True))

    def admitted(self, point: Point) -> bool:
        values = self.values(point)
        return all(condition.holds(values) for condition in self.conditions)

    def analysis(self, point: Point) -> Analysis:
        if point not in self._made:
            try:
                self._made[point] = self._analysed(self.values(point))
            except CostaxError as error:
                self._made[point] = error
        found = self._made[point]
        if isinstance(found, CostaxError):
            raise found
        return found

    def counts(self, point: Point) -> dict[_Key, Any]:
        if point not in self._counts:
            self._counts[point] = _counts(self.analysis(point))
        return self._counts[point]

    def sizes(self, name: str, start: int) -> Iterator[int]:
        return sizes_of(name, max(start, self.least[name]), self.conditions)

    def base(self) -> Point:
        """Return the smallest sizes at which the program is accepted, and one step further too."""
        error: CostaxError | None = None
        for start in _STARTS:
            ranges = [list(islice(self.sizes(name, start), 2)) for name in self.names]
            corners = [tuple(sizes[i] for sizes in ranges if len(sizes) > i) for i in (0, 1)]
            if any(len(corner) < len(self.names) or not self.admitted(corner) for corner in corners):
                continue
            try:
                for corner in corners:
                    self.analysis(corner)
                return corners[0]
            except CostaxError as failure:
                error = failure
        if error is not None:
            # The program refuses numbers too: its own error says more than ours.
            raise error
        raise self.failed("no sizes fulfil its constraints")

    def failed(self, why: str) -> SymbolicError:
        names = ", ".join(self.names)
        return SymbolicError(
            f"The cost is no formula of {names} that costax can find: {why}.",
            why=f"It could not be had from one trace with symbols either: {self.reason}",
            cure='Constrain the symbols (costax.spec("i32[b,s]", "s >= 16", "mod(s, 8) == 0")), give fewer of them, '
            "or sweep over concrete sizes: costax.sweep.",
        )

    def held_out(self, axes: Sequence[_Axis]) -> Iterator[Point]:
        """Yield points that the fit has not seen: beyond its nodes, once with all sizes large."""
        offsets = ((1, 2, 3), (3, 1, 2), (17, 29, 23))
        for steps in offsets:
            point: list[int] = []
            for number, axis in enumerate(axes):
                skip = len(axis.nodes) + steps[number % 3]
                ahead = list(islice(self.sizes(axis.name, axis.sizes[0]), skip + 1))
                point.append(ahead[-1])
            if self.admitted(tuple(point)):
                yield tuple(point)


def _explained(table: _Table, base: Point, number: int) -> _Axis:
    """Return the least degree and period that explain the counts along one symbol, the others held."""
    name = table.names[number]
    sizes: list[int] = []
    rows: list[dict[_Key, Any]] = []
    ahead = table.sizes(name, base[number])
    for longest in _LONGEST:
        for size in islice(ahead, longest - len(sizes)):
            point = (*base[:number], size, *base[number + 1 :])
            if not table.admitted(point):
                break
            sizes.append(size)
            rows.append(table.counts(point))
        keys = {key for row in rows for key in row}
        sequences = {tuple(row.get(key, 0) for row in rows) for key in keys}
        _check_steps(table, name, sizes)
        for nodes in range(1, len(sizes) - _SPARE + 1):
            for period in range(1, nodes + 1):
                degree, left = nodes // period - 1, nodes % period
                if left or degree > _DEGREE:
                    continue
                if all(_vanishes(sequence, degree, period) for sequence in sequences):
                    return _Axis(name, sizes, degree, period)
    raise table.failed(
        f"along {name} = {sizes[0]} ... {sizes[-1]} no polynomial of degree {_DEGREE} or less explains every count, "
        f"nor one for each residue"
    )


def _check_steps(table: _Table, name: str, sizes: Sequence[int]) -> None:
    if len(sizes) < _SPARE + 1:
        raise table.failed(f"its constraints leave only {len(sizes)} sizes for {name}")
    if len({b - a for a, b in pairwise(sizes)}) > 1:
        raise table.failed(f"its constraints leave sizes for {name} that are not evenly spaced: {sizes[:5]} ...")


def _vanishes(sequence: Sequence[Any], degree: int, period: int) -> bool:
    """Say whether finite differences of a step of `period` vanish after degree + 1 of them."""
    left = list(sequence)
    for _ in range(degree + 1):
        left = [later - earlier for earlier, later in zip(left, left[period:], strict=False)]
    return all(difference == 0 for difference in left)


def _fit(table: _Table, axes: Sequence[_Axis]) -> dict[_Key, Any]:
    bases = [_basis(axis, table.least) for axis in axes]
    points = list(product(*(axis.nodes for axis in axes)))
    weights = [prod(parts) for parts in product(*bases)]
    rows = [table.counts(point) for point in points]
    fitted: dict[tuple[Any, ...], Any] = {}
    found: dict[_Key, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        sequence = tuple(row.get(key, 0) for row in rows)
        if sequence not in fitted:
            total: Any = 0
            for value, weight in zip(sequence, weights, strict=True):
                total = total + weight * value
            fitted[sequence] = total
        found[key] = fitted[sequence]
    return found


def _basis(axis: _Axis, least: Mapping[str, int]) -> list[Any]:
    """Return for each node the quasi-polynomial that is 1 there and 0 at the others."""
    size = symbol(axis.name, least[axis.name])
    step = axis.sizes[1] - axis.sizes[0]
    made: list[Any] = []
    for number, node in enumerate(axis.nodes):
        residue = number % axis.period
        alike = axis.nodes[residue :: axis.period]
        lagrange: Any = 1
        for other in alike:
            if other != node:
                lagrange = lagrange * (size - other) * Fraction(1, node - other)
        made.append(lagrange * _indicator(size - axis.sizes[0], step, residue, axis.period))
    return made


def _indicator(distance: Any, step: int, residue: int, period: int) -> Any:
    """Return 1 where distance / step is congruent to the residue modulo the period, else 0."""
    if period == 1:
        return 1
    whole = step * period
    # the last residue follows from the others, so that they sum to 1 everywhere
    return floordiv(distance + whole - step * residue, whole) - floordiv(distance + whole - step * (residue + 1), whole)


def _verify(table: _Table, found: Mapping[_Key, Any], point: Point) -> None:
    values = table.values(point)
    counts = table.counts(point)
    for key in {**found, **counts}:
        formula = found.get(key, 0)
        expected = counts.get(key, 0)
        # Loops of unknown length stay symbols.
        actual = formula.value({**_selves(formula), **values}) if isinstance(formula, Polynomial) else formula
        if actual != expected:
            at = ", ".join(f"{name}={value}" for name, value in values.items())
            raise table.failed(
                f"at {at} {_described(key)} is {expected}, and the fit through smaller sizes, {formula}, says {actual}"
            )


def _selves(formula: Polynomial) -> dict[str, Any]:
    return {atom.text.strip('"'): Polynomial({((atom, 1),): 1}) for atom in formula.leaves()}


def _described(key: _Key) -> str:
    what, *rest = key
    if what == "row":
        row, kind, dtype = rest
        return f"{kind} in {dtype} of {row.primitive} in {'/'.join(row.scope) or 'no scope'} ({row.source})"
    return " of ".join(map(str, (what, *rest)))


# From an analysis to its counts by key, and back.


def _counts(analysis: Analysis) -> dict[_Key, Any]:
    found: dict[_Key, Any] = {}
    for row, cost in analysis.rows.items():
        for (kind, dtype), count in cost.items():
            found["row", row, kind, dtype] = count
    for name, cost in (("one device", analysis.per_device), ("dead code", analysis.dead_code)):
        for (kind, dtype), count in cost.items():
            found[name, kind, dtype] = count
    for (scope, dtype), size in (analysis.parameters or {}).items():
        found["parameters", scope, dtype, "elements"] = size.elements
        found["parameters", scope, dtype, "bytes"] = size.nbytes
    return found


def _assembled(table: _Table, axes: Sequence[_Axis], found: Mapping[_Key, Any]) -> Analysis:
    first = table.analysis(tuple(axis.sizes[0] for axis in axes))
    rows: dict[Row, dict[tuple[str, str], Any]] = {row: {} for row in first.rows}
    costs: dict[str, dict[tuple[str, str], Any]] = {"one device": {}, "dead code": {}}
    sizes: dict[tuple[Scope, str], dict[str, Any]] = {}
    for (what, *rest), count in found.items():
        if what == "row":
            row, kind, dtype = rest
            rows.setdefault(row, {})[kind, dtype] = count
        elif what == "parameters":
            scope, dtype, field = rest
            sizes.setdefault((scope, dtype), {})[field] = count
        else:
            kind, dtype = rest
            costs[what][kind, dtype] = count
    made = {row: Cost(counts) for row, counts in rows.items()}
    dead = Cost(costs["dead code"])
    above = tuple(
        Condition(f"{axis.name} >= {axis.sizes[0]}, the least size of the fit,", symbol(axis.name) - axis.sizes[0])
        for axis in axes
        if axis.sizes[0] > table.least[axis.name]
    )
    return replace(
        first,
        total=Cost.sum(made.values()),
        parameters=None
        if first.parameters is None
        else {key: Size(s["elements"], s["bytes"]) for key, s in sizes.items()},
        unknowns=_unknowns(table, first),
        per_device=Cost(costs["one device"]),
        tree=None,
        program=None,
        live=None,
        dead_part=lambda: dead,
        saved_rows=made,
        extents=tuple(symbol(axis.name) for axis in axes),
        conditions=(*table.conditions, *above),
        exact_by="interpolation",
        reason=table.reason,
    )


def _unknowns(table: _Table, first: Analysis) -> tuple[Unknown, ...]:
    places = [unknown.place for unknown in first.unknowns]
    for point in table._counts:  # pyright: ignore[reportPrivateUsage]
        others = [unknown.place for unknown in table.analysis(point).unknowns]
        if others != places:
            differing = ", ".join(sorted({*places} ^ {*others}))
            raise table.failed(f"its loops of unknown length are not the same at all sizes: {differing}")
    return first.unknowns
