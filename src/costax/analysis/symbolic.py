"""Analyses with symbols: one trace with symbolic shapes, checked at concrete sizes; interpolation if that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analysis import Analysis
from costax.analysis.interpolation import interpolate, sizes_of
from costax.analysis.symbols import ones
from costax.core.open_symbols import given
from costax.core.polynomial import Polynomial
from costax.core.polynomial.symbol_values import Condition, broken_condition, too_small
from costax.errors import CostaxError, MissingRuleError, SymbolError, TripsError, Undecided
from costax.program.branches import nearest
from costax.program.trace import Target, conditions_of, in_one_scope

# The three points at which formulas are checked, as indices into the allowed sizes of each symbol. The first symbol
# takes index 6, then 15, then 3; the second symbol 10, 22, 4. The symbols differ, so that a formula with two symbols
# swapped fails, and no size is so small that another formula could agree by chance.
_CHECKED: Final = ((6, 10, 12, 8, 9), (15, 22, 31, 18, 27), (3, 4, 5, 6, 7))

# Where no point of these is admitted, the first one is taken so many times larger.
_FACTORS: Final = (4, 16, 64)

# The largest size at which a comparison of the program is tested for another outcome.
_TRIED: Final = 66
# If it has no other outcome there, the largest size at which it is computed whether it has one.
_FARTHEST: Final = 4100


@dataclass(frozen=True, slots=True)
class Arguments:
    """A target and its arguments, whose sizes may be symbols. least: the least value of each symbol."""

    fn: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    least: Mapping[str, int]
    conditions: tuple[Condition, ...]

    def at(self, values: Mapping[str, int]) -> tuple[Any, Sequence[Any], Mapping[str, Any]]:
        """Return the target and its arguments with integers for the symbols."""
        leaves, tree = pytrees.flatten((tuple(self.args), dict(self.kwargs)))
        args, kwargs = pytrees.unflatten(tree, [_jax.dimensions_at(leaf, values) for leaf in leaves])
        if isinstance(self.fn, Target):
            return replace(self.fn, args=args, kwargs=kwargs), (), {}
        return self.fn, args, kwargs


def symbolic_arguments(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments | None:
    """Return the target and its arguments if a size is a symbol, or None if all sizes are numbers.

    Raises InputError if two arguments constrain one symbol differently.
    """
    if isinstance(fn, Target):
        args, kwargs = fn.args, fn.kwargs
    args, kwargs, scope = in_one_scope(args, kwargs)
    if scope is None:
        return None
    least: dict[str, int] = {}
    for leaf in pytrees.leaves((tuple(args), dict(kwargs))):
        for extent in getattr(leaf, "shape", None) or ():
            count = _jax.count(extent)
            if isinstance(count, Polynomial):
                least.update({atom.text: max(atom.least, least.get(atom.text, 1)) for atom in count.leaves()})
    return Arguments(fn, args, kwargs, least, conditions_of(scope))


def target_at(target: Target, values: Mapping[str, Any]) -> tuple[Target, dict[str, Any]]:
    """Return a target with numbers for the sizes that have names, and the values that belong to no size.

    Raises SymbolError if some sizes have values and others none, or if a value breaks a condition.
    """
    symbolic = symbolic_arguments(target, (), {})
    sizes = {name: value for name, value in values.items() if symbolic and name in symbolic.least}
    if symbolic is None or not sizes:
        return target, dict(values)
    missing = sorted(set(symbolic.least) - set(sizes))
    others = ", ".join(repr(name) for name in values if name not in sizes)
    if missing:
        raise SymbolError(
            f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value.",
            where=f"sizes: {', '.join(sorted(symbolic.least))}",
            why="The program is traced with numbers for all of its sizes, or with names for all of them."
            + (f" None of its sizes has the name {others}." if others else ""),
            cure=f"Give all of them values: {given(sorted(symbolic.least))}.",
        )
    for name, value in sizes.items():
        if value < symbolic.least[name]:
            raise too_small(name, value, symbolic.least[name])
    for condition in symbolic.conditions:
        if not condition.holds(sizes):
            raise broken_condition(condition, sizes)
    return symbolic.at(sizes)[0], {name: value for name, value in values.items() if name not in sizes}


def unmatched(error: TripsError, target: Target) -> TripsError:
    """Return the error for values that belong neither to a size of a target nor to a loop of it.

    error: that of the analysis, which knows the loops only.
    """
    if not error.unmatched:
        return error
    symbolic = symbolic_arguments(target, (), {})
    sizes = sorted(symbolic.least) if symbolic else []
    return TripsError(
        f"No loop of unknown length and no size matches {', '.join(map(repr, error.unmatched))}.",
        where=f"sizes with names: {', '.join(sizes) or 'none'}; "
        f"loops of unknown length: {', '.join(error.loops) or 'none'}",
        why="The value would have no effect.",
        cure=nearest(error.unmatched[0], (*sizes, *error.loops))
        or ("Use one of these names." if sizes or error.loops else "Leave it out, or name sizes in specs: f32[b,s]."),
    )


def analyze_symbols(
    symbolic: Arguments, analysed: Callable[[Any, Sequence[Any], Mapping[str, Any]], Analysis]
) -> Analysis:
    """Return an analysis whose counts are polynomials.

    The program is traced with symbols. If that fails, or gives other counts than an analysis at concrete sizes, the
    polynomials are interpolated. Raises SymbolicError if no formula is found, and the error of `analysed` if the
    program does not accept concrete sizes either.
    """

    def concrete(values: Mapping[str, int]) -> Analysis:
        with warnings.catch_warnings():
            # The analysis of the program with symbols gives the same warnings.
            warnings.simplefilter("ignore")
            return analysed(*symbolic.at(values))

    try:
        traced = (
            analysed(symbolic.fn, symbolic.args, symbolic.kwargs)
            if not isinstance(symbolic.fn, Target)
            else analysed(replace(symbolic.fn, args=symbolic.args, kwargs=symbolic.kwargs), (), {})
        )
    except (MissingRuleError, TripsError):
        raise
    except Undecided as error:
        reason = f"{error}."
    except CostaxError as error:
        reason = error.what
    else:
        check = _Check(traced, symbolic, concrete)
        reason = check.at_some_sizes() or check.where_undecided()
        if not reason:
            return replace(traced, conditions=(*traced.conditions, *check.unequal), concrete=concrete)
    interpolated = interpolate(concrete, symbolic.least, symbolic.conditions, " ".join(reason.split()))
    return replace(interpolated, concrete=concrete)


class _Check:
    """A comparison of the formulas of a traced program with analyses at concrete sizes."""

    def __init__(
        self, traced: Analysis, symbolic: Arguments, concrete: Callable[[Mapping[str, int]], Analysis]
    ) -> None:
        self.traced, self.symbolic, self.concrete = traced, symbolic, concrete
        # Conditions for the formulas: comparisons that the trace took for unequal and that are equal at single sizes.
        self.unequal: list[Condition] = []

    def at_some_sizes(self) -> str:
        """Return how the counts at concrete sizes differ from the formulas, or "" if they agree."""
        admitted = [v for v in map(self._sizes, _CHECKED) if self._admitted(v)]
        # Where a condition compares symbols, or one with a number, it may hold at larger sizes only.
        larger = ([n * factor for n in _CHECKED[0]] for factor in _FACTORS)
        points = admitted or [v for v in map(self._sizes, larger) if self._admitted(v)]
        for values in points:
            difference = None if self._equalities(values) else self._compared(values)
            if difference is not None:
                return difference
        return ""

    def where_undecided(self) -> str:
        """Return how the counts differ at sizes where a comparison that the trace took for unequal is equal.

        If the sizes at which it is equal are too few or too large to find a formula from (`if n == 8`, `if n % 128 ==
        0`), or the program does not run there, the result is "" and a condition excludes them.
        """
        values = self._sizes(_CHECKED[0])
        for difference in self._undecided:
            name = next((n for n in difference.symbols if n in values), None)
            if name is None:
                continue
            # Points where a size is 1 need no check: `evaluate` traces the program again there.
            sizes = [n for n in range(self.symbolic.least[name], _TRIED) if not ones(self.traced, {**values, name: n})]
            zeros = [n for n in sizes if not difference.value({**values, name: n})]
            points = [{**values, name: n} for n in zeros or _larger_zeros(difference, values, name)]
            if not points and ones(self.traced, {**values, name: 1}) and not difference.value({**values, name: 1}):
                continue
            admitted = next(filter(self._admitted, points), None)
            differs = self._compared(admitted) if admitted else None
            if differs and len(zeros) > 1:
                return differs
            if differs != "":
                self.unequal.append(Condition(f"{difference} != 0, which the program tests,", difference, "!="))
        return ""

    @property
    def _undecided(self) -> Sequence[Polynomial]:
        return self.traced.program.undecided if self.traced.program else ()

    def _equalities(self, values: Mapping[str, int]) -> list[Polynomial]:
        """Return the comparisons of the program that are equal at a point, although the trace took them for unequal."""
        return [difference for difference in self._undecided if not difference.value(values)]

    def _sizes(self, indices: Sequence[int]) -> dict[str, int]:
        values: dict[str, int] = {}
        for number, (name, least) in enumerate(sorted(self.symbolic.least.items())):
            sizes = islice(sizes_of(name, least, self.traced.conditions), indices[number % len(indices)] + 1)
            values[name] = (list(sizes) or [least])[-1]
        return values

    def _admitted(self, values: Mapping[str, int]) -> bool:
        known = [c for c in self.traced.conditions if set(getattr(c.difference, "symbols", ())) <= set(values)]
        return all(condition.holds(values) for condition in known)

    def _compared(self, values: Mapping[str, int]) -> str | None:
        """Return the first count that differs at a point, "" if none does, None if the program does not run there."""
        try:
            exact = self.concrete(values)
        except CostaxError:
            return None
        return _rows_that_differ(self.traced, exact, values)


def _larger_zeros(difference: Polynomial, values: Mapping[str, int], name: str) -> Iterator[int]:
    """Yield sizes beyond those tried one by one at which a difference is 0, the least of them first."""
    at = {size: difference.value({**values, name: size}) for size in (0, 1, 2)}
    slope = at[1] - at[0]
    if at[2] - at[1] == slope and slope and -at[0] % slope == 0 and -at[0] // slope >= _TRIED:
        root = int(-at[0] // slope)
        if not difference.value({**values, name: root}):
            yield root
            return
    yield from (n for n in range(_TRIED, _FARTHEST) if not difference.value({**values, name: n}))


def _rows_that_differ(traced: Analysis, exact: Analysis, values: Mapping[str, int]) -> str:
    at = ", ".join(f"{name}={value}" for name, value in values.items())
    for row in {**traced.rows, **exact.rows}:
        formula, counted = traced.rows.get(row), exact.rows.get(row)
        kinds = {key for cost in (formula, counted) if cost is not None for key, _ in cost.items()}
        for key in sorted(kinds):
            by_formula = 0 if formula is None else dict(formula.items()).get(key, 0)
            expected = 0 if counted is None else dict(counted.items()).get(key, 0)
            if isinstance(by_formula, Polynomial):
                loops = {u.place: u.assumed for u in traced.unknowns}
                by_formula = by_formula.value({**loops, **values})
            if by_formula != expected:
                scope = "/".join(row.scope) or "no scope"
                return (
                    f"traced with symbols, {key[0]} in {key[1]} of {row.primitive} in {scope} is {by_formula} at {at}, "
                    f"but {expected} in the program traced at these sizes."
                )
    return ""
