"""Analyses with symbols: by one trace with symbolic shapes that is checked at a point, or through points alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analysis import Analysis
from costax.analysis.interpolation import interpolate, sizes_of
from costax.analysis.symbols import ones
from costax.core.polynomial import Polynomial
from costax.core.polynomial.symbol_values import Condition
from costax.errors import CostaxError, MissingRuleError, TripsError, Undecided
from costax.program.trace import Target, conditions_of, in_one_scope

# Which of the admitted sizes of each symbol a formula is checked at: one place a symbol, different ones, none small.
_CHECKED: Final = ((6, 10, 12, 8, 9), (15, 22, 31, 18, 27), (3, 4, 5, 6, 7))

# Sizes among which those are looked for at which a comparison of the program comes out otherwise.
_TRIED: Final = 66


@dataclass(frozen=True, slots=True)
class Arguments:
    """A target and its arguments, some of whose sizes are symbols."""

    fn: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    least: Mapping[str, int]
    conditions: tuple[Condition, ...]

    def at(self, values: Mapping[str, int]) -> tuple[Any, Sequence[Any], Mapping[str, Any]]:
        """Return the target and its arguments with integers in the place of symbols."""
        leaves, tree = pytrees.flatten((tuple(self.args), dict(self.kwargs)))
        args, kwargs = pytrees.unflatten(tree, [_jax.dimensions_at(leaf, values) for leaf in leaves])
        if isinstance(self.fn, Target):
            return replace(self.fn, args=args, kwargs=kwargs), (), {}
        return self.fn, args, kwargs


def symbolic_arguments(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments | None:
    """Return the target with arguments whose sizes are symbols, or None where all of them are numbers.

    Raises InputError where two arguments bound one symbol differently.
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


def analyze_symbols(
    given: Arguments, analysed: Callable[[Any, Sequence[Any], Mapping[str, Any]], Analysis]
) -> Analysis:
    """Return the analysis with formulas: traced with symbols where that gives the counts of a concrete analysis.

    Raises SymbolicError where no formula is found, and what `analysed` raises where numbers do not help either.
    """

    def concrete(values: Mapping[str, int]) -> Analysis:
        with warnings.catch_warnings():
            # What is not counted has been said, or will be, for the program with symbols.
            warnings.simplefilter("ignore")
            return analysed(*given.at(values))

    try:
        traced = (
            analysed(given.fn, given.args, given.kwargs)
            if not isinstance(given.fn, Target)
            else analysed(replace(given.fn, args=given.args, kwargs=given.kwargs), (), {})
        )
    except (MissingRuleError, TripsError):
        raise
    except Undecided as error:
        reason = f"{error}."
    except CostaxError as error:
        reason = error.what
    else:
        checked = _Check(traced, given, concrete)
        reason = checked.at_some_sizes() or checked.where_undecided()
        if not reason:
            return replace(traced, conditions=(*traced.conditions, *checked.unequal), concrete=concrete)
    found = interpolate(concrete, given.least, given.conditions, " ".join(reason.split()))
    return replace(found, concrete=concrete)


class _Check:
    """Formulas held against concrete analyses."""

    def __init__(self, traced: Analysis, given: Arguments, concrete: Callable[[Mapping[str, int]], Analysis]) -> None:
        self.traced, self.given, self.concrete = traced, given, concrete
        # What holds where formulas do: comparisons of the program that come out otherwise at a few sizes only.
        self.unequal: list[Condition] = []

    def at_some_sizes(self) -> str:
        """Return how the counts of a program of plain sizes differ; "" where they do not."""
        for places in _CHECKED:
            values = self._sizes(places)
            if self._admitted(values) and not self._equalities(values):
                found = self._compared(values)
                if found is not None:
                    return found
        return ""

    def where_undecided(self) -> str:
        """Return how the counts differ where a comparison that was taken for unequal is equal; "" for few sizes."""
        values = self._sizes(_CHECKED[0])
        for difference in self._undecided:
            name = next((n for n in difference.symbols if n in values), None)
            if name is None:
                continue
            # Where a size is 1, `evaluate` analyses the program itself.
            sizes = [n for n in range(self.given.least[name], _TRIED) if not ones(self.traced, {**values, name: n})]
            zeros = [n for n in sizes if not difference.value({**values, name: n})]
            admitted = [n for n in zeros if self._admitted({**values, name: n})]
            found = self._compared({**values, name: admitted[0]}) if admitted else None
            if found and len(zeros) > 1:
                return found
            if found or (found is None and zeros and not admitted):
                self.unequal.append(Condition(f"{difference} != 0, which the program asks about,", difference, "!="))
        return ""

    @property
    def _undecided(self) -> Sequence[Polynomial]:
        return self.traced.program.undecided if self.traced.program else ()

    def _equalities(self, values: Mapping[str, int]) -> list[Polynomial]:
        """Return the comparisons of the program that come out equal at a point."""
        return [difference for difference in self._undecided if not difference.value(values)]

    def _sizes(self, places: Sequence[int]) -> dict[str, int]:
        values: dict[str, int] = {}
        for number, (name, least) in enumerate(sorted(self.given.least.items())):
            sizes = islice(sizes_of(name, least, self.traced.conditions), places[number % len(places)] + 1)
            values[name] = (list(sizes) or [least])[-1]
        return values

    def _admitted(self, values: Mapping[str, int]) -> bool:
        known = [c for c in self.traced.conditions if set(getattr(c.difference, "symbols", ())) <= set(values)]
        return all(condition.holds(values) for condition in known)

    def _compared(self, values: Mapping[str, int]) -> str | None:
        try:
            exact = self.concrete(values)
        except CostaxError:
            return None
        return _rows_that_differ(self.traced, exact, values)


def _rows_that_differ(traced: Analysis, exact: Analysis, values: Mapping[str, int]) -> str:
    at = ", ".join(f"{name}={value}" for name, value in values.items())
    for row in {**traced.rows, **exact.rows}:
        formula, counted = traced.rows.get(row), exact.rows.get(row)
        kinds = {key for cost in (formula, counted) if cost is not None for key, _ in cost.items()}
        for key in sorted(kinds):
            found = 0 if formula is None else dict(formula.items()).get(key, 0)
            there = 0 if counted is None else dict(counted.items()).get(key, 0)
            if isinstance(found, Polynomial):
                loops = {u.place: u.assumed for u in traced.unknowns}
                found = found.value({**loops, **values})
            if found != there:
                place = "/".join(row.scope) or "no scope"
                return (
                    f"traced with symbols, {key[0]} in {key[1]} of {row.primitive} in {place} is {found} at {at}, "
                    f"and {there} in the program of these sizes."
                )
    return ""
