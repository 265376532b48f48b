"""Formulas by interpolation, for programs that cannot be traced with symbols.

The structure of a program may depend on its sizes: a scan over the steps of a sequence, a loop in Python, a reshape
that jax cannot prove. Such a program is analysed at enough concrete sizes. Each count of each row (scope, direction,
primitive, source line) is then interpolated by a quasi-polynomial in rational arithmetic, which is one polynomial for
each residue of a size modulo a period. For example, ceil(n / 2) is n / 2 for even n and (n + 1) / 2 for odd n: period
2, degree 1. The degree and the period along each symbol follow from finite differences with the other symbols fixed.
The interpolation over all symbols together must then hold at sizes that it has not used.
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
# The first sizes to try, until the program accepts one. 2 comes before 1: at size 1 jax omits broadcasts.
_STARTS: Final = (2, 1, 4, 8, 16, 32, 64, 128, 256, 512)
# How many sizes along a symbol are analysed: 7 at first, more if 7 do not explain the counts.
_LONGEST: Final = (7, 13, 26)
# Sizes that the differences must explain beyond those that determine the polynomial.
_SPARE: Final = 3
# The largest number of analyses that determine a formula of several symbols.
_NODES: Final = 160
# Consecutive sizes that violate a constraint before the search for sizes ends.
_REFUSED: Final = 4096
_DEGREE: Final = 5
# The key of one count: the row (or "one device", "dead code", "parameters"), the kind and the dtype.
_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """The behaviour of all counts along one symbol: the analysed sizes, and the degree and period that explain them."""

    name: str
    sizes: Sequence[int]
    degree: int = 0
    period: int = 1

    @property
    def nodes(self) -> Sequence[int]:
        """The sizes that determine the interpolation: degree + 1 for each residue."""
        return self.sizes[: (self.degree + 1) * self.period]


def interpolate(
    analysed: Callable[[Mapping[str, int]], Analysis],
    least: Mapping[str, int],
    conditions: Sequence[Condition],
    reason: str,
) -> Analysis:
    """Return an analysis whose counts are polynomials, interpolated from analyses at concrete sizes.

    analysed: returns the analysis at a point, or raises CostaxError if the program does not accept the sizes.
    least: the least value of each symbol. conditions: constraints on the symbols. reason: why tracing with symbols
    failed. Raises SymbolicError if no quasi-polynomial explains the counts.
    """
    table = _Table(analysed, least, conditions, reason)
    base = table.base()
    axes = [_explained(table, base, number) for number in range(len(table.names))]
    nodes = prod(len(axis.nodes) for axis in axes)
    if nodes > _NODES:
        raise table.failed(f"the interpolation would need {nodes} analyses at different sizes")
    formulas = _fit(table, axes)
    for point in table.held_out(axes):
        _verify(table, formulas, point)
    return _assembled(table, axes, formulas)


def sizes_of(name: str, start: int, conditions: Sequence[Condition]) -> Iterator[int]:
    """Yield the sizes from `start` on that satisfy every condition on this symbol alone."""
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
    """The analyses at points, each computed once."""

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
        self._analyses: dict[Point, Analysis | CostaxError] = {}
        self._counts: dict[Point, dict[_Key, Any]] = {}

    def values(self, point: Point) -> dict[str, int]:
        return dict(zip(self.names, point, strict=True))

    def admitted(self, point: Point) -> bool:
        values = self.values(point)
        return all(condition.holds(values) for condition in self.conditions)

    def analysis(self, point: Point) -> Analysis:
        if point not in self._analyses:
            try:
                self._analyses[point] = self._analysed(self.values(point))
            except CostaxError as error:
                self._analyses[point] = error
        analysis = self._analyses[point]
        if isinstance(analysis, CostaxError):
            raise analysis
        return analysis

    def counts(self, point: Point) -> dict[_Key, Any]:
        if point not in self._counts:
            self._counts[point] = _counts(self.analysis(point))
        return self._counts[point]

    def sizes(self, name: str, start: int) -> Iterator[int]:
        return sizes_of(name, max(start, self.least[name]), self.conditions)

    def base(self) -> Point:
        """Return the smallest point that the program accepts, together with the next size of every symbol."""
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
            # The program does not accept concrete sizes either. Its own error tells more than a SymbolicError would.
            raise error
        raise self.failed("no sizes satisfy the constraints")

    def failed(self, why: str) -> SymbolicError:
        names = ", ".join(self.names)
        return SymbolicError(
            f"costax found no formula in {names} for the cost: {why}.",
            why=f"One trace with symbols did not give a formula either: {self.reason}",
            cure='Constrain the symbols (costax.spec("i32[b,s]", "s >= 16", "mod(s, 8) == 0")), use fewer symbols, '
            "or sweep over concrete sizes with costax.sweep.",
        )

    def held_out(self, axes: Sequence[_Axis]) -> Iterator[Point]:
        """Yield points that the interpolation has not used: sizes just beyond its nodes, and once sizes far beyond."""
        offsets = ((1, 2, 3), (3, 1, 2), (17, 29, 23))
        for steps in offsets:
            point: list[int] = []
            for number, axis in enumerate(axes):
                skip = len(axis.nodes) + steps[number % 3]
                larger = list(islice(self.sizes(axis.name, axis.sizes[0]), skip + 1))
                point.append(larger[-1])
            if self.admitted(tuple(point)):
                yield tuple(point)


def _explained(table: _Table, base: Point, number: int) -> _Axis:
    """Return the least degree and period that explain the counts along one symbol; the others stay at `base`."""
    name = table.names[number]
    sizes: list[int] = []
    rows: list[dict[_Key, Any]] = []
    remaining = table.sizes(name, base[number])
    for longest in _LONGEST:
        for size in islice(remaining, longest - len(sizes)):
            point = (*base[:number], size, *base[number + 1 :])
            if not table.admitted(point):
                break
            sizes.append(size)
            rows.append(table.counts(point))
        keys = {key for row in rows for key in row}
        sequences = {tuple(row.get(key, 0) for row in rows) for key in keys}
        _check_steps(table, name, sizes)
        # Fewest nodes first: a polynomial of degree 1 (2 nodes) wins over period 3 (3 nodes).
        for nodes in range(1, len(sizes) - _SPARE + 1):
            for period in range(1, nodes + 1):
                degree, remainder = nodes // period - 1, nodes % period
                if remainder or degree > _DEGREE:
                    continue
                if all(_vanishes(sequence, degree, period) for sequence in sequences):
                    return _Axis(name, sizes, degree, period)
    raise table.failed(
        f"for {name} = {sizes[0]} ... {sizes[-1]} no polynomial or quasi-polynomial of degree {_DEGREE} or less "
        f"explains every count"
    )


def _check_steps(table: _Table, name: str, sizes: Sequence[int]) -> None:
    if len(sizes) < _SPARE + 1:
        raise table.failed(f"the constraints allow only {len(sizes)} sizes for {name}")
    if len({b - a for a, b in pairwise(sizes)}) > 1:
        raise table.failed(f"the constraints allow sizes for {name} that are not evenly spaced: {sizes[:5]} ...")


def _vanishes(sequence: Sequence[Any], degree: int, period: int) -> bool:
    """Return whether the differences f(n + period) - f(n), taken degree + 1 times, are all 0.

    Then every residue class has a polynomial of this degree: 1, 1, 2, 2, 3, 3 has period 2 and degree 1.
    """
    differences = list(sequence)
    for _ in range(degree + 1):
        differences = [b - a for a, b in zip(differences, differences[period:], strict=False)]
    return all(difference == 0 for difference in differences)


def _fit(table: _Table, axes: Sequence[_Axis]) -> dict[_Key, Any]:
    """Return the formula of every count: the sum over the points of the grid of basis polynomial times count.

    Many rows have the same counts at all points, so that the sum is computed once for each distinct sequence.
    """
    bases = [_basis(axis, table.least) for axis in axes]
    points = list(product(*(axis.nodes for axis in axes)))
    weights = [prod(parts) for parts in product(*bases)]
    rows = [table.counts(point) for point in points]
    fitted: dict[tuple[Any, ...], Any] = {}
    formulas: dict[_Key, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        sequence = tuple(row.get(key, 0) for row in rows)
        if sequence not in fitted:
            total: Any = 0
            for value, weight in zip(sequence, weights, strict=True):
                total = total + weight * value
            fitted[sequence] = total
        formulas[key] = fitted[sequence]
    return formulas


def _basis(axis: _Axis, least: Mapping[str, int]) -> list[Any]:
    """Return for each node the quasi-polynomial that is 1 at this node and 0 at all others (Lagrange basis)."""
    size = symbol(axis.name, least[axis.name])
    step = axis.sizes[1] - axis.sizes[0]
    basis: list[Any] = []
    for number, node in enumerate(axis.nodes):
        residue = number % axis.period
        same_residue = axis.nodes[residue :: axis.period]
        lagrange: Any = 1
        for other in same_residue:
            if other != node:
                lagrange = lagrange * (size - other) * Fraction(1, node - other)
        basis.append(lagrange * _indicator(size - axis.sizes[0], step, residue, axis.period))
    return basis


def _indicator(distance: Any, step: int, residue: int, period: int) -> Any:
    """Return 1 where distance / step is congruent to the residue modulo the period, else 0."""
    if period == 1:
        return 1
    whole = step * period
    # A difference of two floor divisions. The indicators of all residues telescope, so that they sum to exactly 1.
    return floordiv(distance + whole - step * residue, whole) - floordiv(distance + whole - step * (residue + 1), whole)


def _verify(table: _Table, formulas: Mapping[_Key, Any], point: Point) -> None:
    """Raise SymbolicError if a formula is wrong at a point."""
    values = table.values(point)
    counts = table.counts(point)
    for key in {**formulas, **counts}:
        formula = formulas.get(key, 0)
        expected = counts.get(key, 0)
        # The trip counts of unknown loops stay symbols: each is replaced by itself.
        actual = formula.value({**_selves(formula), **values}) if isinstance(formula, Polynomial) else formula
        if actual != expected:
            at = ", ".join(f"{name}={value}" for name, value in values.items())
            raise table.failed(
                f"at {at} {_described(key)} is {expected}, but the formula from smaller sizes, {formula}, "
                f"gives {actual}"
            )


def _selves(formula: Polynomial) -> dict[str, Any]:
    return {atom.text.strip('"'): Polynomial({((atom, 1),): 1}) for atom in formula.leaves()}


def _described(key: _Key) -> str:
    what, *rest = key
    if what == "row":
        row, kind, dtype = rest
        return f"{kind} in {dtype} of {row.primitive} in {'/'.join(row.scope) or 'no scope'} ({row.source})"
    return " of ".join(map(str, (what, *rest)))


# Conversion between an analysis and its counts by key.


def _counts(analysis: Analysis) -> dict[_Key, Any]:
    counts: dict[_Key, Any] = {}
    for row, cost in analysis.rows.items():
        for (kind, dtype), count in cost.items():
            counts["row", row, kind, dtype] = count
    for name, cost in (("one device", analysis.per_device), ("dead code", analysis.dead_code)):
        for (kind, dtype), count in cost.items():
            counts[name, kind, dtype] = count
    for (scope, dtype), size in (analysis.parameters or {}).items():
        counts["parameters", scope, dtype, "elements"] = size.elements
        counts["parameters", scope, dtype, "bytes"] = size.nbytes
    return counts


def _assembled(table: _Table, axes: Sequence[_Axis], formulas: Mapping[_Key, Any]) -> Analysis:
    first = table.analysis(tuple(axis.sizes[0] for axis in axes))
    rows: dict[Row, dict[tuple[str, str], Any]] = {row: {} for row in first.rows}
    costs: dict[str, dict[tuple[str, str], Any]] = {"one device": {}, "dead code": {}}
    sizes: dict[tuple[Scope, str], dict[str, Any]] = {}
    for (what, *rest), count in formulas.items():
        if what == "row":
            row, kind, dtype = rest
            rows.setdefault(row, {})[kind, dtype] = count
        elif what == "parameters":
            scope, dtype, field = rest
            sizes.setdefault((scope, dtype), {})[field] = count
        else:
            kind, dtype = rest
            costs[what][kind, dtype] = count
    row_costs = {row: Cost(counts) for row, counts in rows.items()}
    dead = Cost(costs["dead code"])
    above = tuple(
        Condition(
            f"{axis.name} >= {axis.sizes[0]}, the least size that was analysed,", symbol(axis.name) - axis.sizes[0]
        )
        for axis in axes
        if axis.sizes[0] > table.least[axis.name]
    )
    return replace(
        first,
        total=Cost.sum(row_costs.values()),
        parameters=None
        if first.parameters is None
        else {key: Size(s["elements"], s["bytes"]) for key, s in sizes.items()},
        unknowns=_unknowns(table, first),
        per_device=Cost(costs["one device"]),
        tree=None,
        program=None,
        live=None,
        dead_part=lambda: dead,
        saved_rows=row_costs,
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
            raise table.failed(f"the loops of unknown length are not the same at all sizes: {differing}")
    return first.unknowns
