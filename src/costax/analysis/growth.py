"""How costs grow with a symbol: degrees, the scopes that lead, and where one scope overtakes another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from costax.analysis.symbols import check_field, check_symbol, field_of, formula
from costax.core.cost import Cost
from costax.core.polynomial import (
    Atom,
    Polynomial,
    as_polynomial,
    at_least,
    magnitude,
    polynomial,
    symbol,
    symbol_values,
)
from costax.errors import SymbolError

if TYPE_CHECKING:
    from costax.analysis.counts import Counts

# Beyond this no size of a program lies; up to the other one, every value is tried.
_FAR: Final = 1 << 80
_SCANNED: Final = 1 << 14


class Leading(NamedTuple):
    """How a scope grows with a symbol: the highest power, its coefficient, and from where it outweighs the rest."""

    degree: int
    coefficient: Any
    dominates_from: int | None


def degree(analysis: Counts, name: str, field: str) -> int:
    """Return the highest power of a symbol in a field; see `Analysis.degree`."""
    check_symbol(analysis, name)
    return formula(analysis, field, None, None).degree(name) if field_of(analysis, field) else 0


def leading(analysis: Counts, name: str, field: str, depth: int | None) -> dict[str, Leading]:
    """Return how each scope grows with a symbol; see `Analysis.leading`."""
    check_symbol(analysis, name)
    found: dict[str, Leading] = {}
    for scope, count in formula(analysis, field, "scope", depth).items():
        if count.terms:
            power = count.degree(name)
            found[scope] = Leading(power, coefficient(count, name, power), _dominates_from(count, name, power))
    return dict(sorted(found.items(), key=lambda item: (-item[1].degree, -magnitude(item[1].coefficient))))


def coefficient(count: Polynomial, name: str, power: int) -> Any:
    """Return what stands before a power of a symbol, where only whole powers of it do."""
    terms: dict[Any, Any] = {}
    for monomial, factor in count.terms.items():
        own = [(atom, exponent) for atom, exponent in monomial if name in _names(atom)]
        if sum(Polynomial({((atom, 1),): 1}).degree(name) * exponent for atom, exponent in own) == power:
            rest = tuple(part for part in monomial if part not in own)
            # floordiv(s, 2)^2 grows as s^2 / 4
            for atom, exponent in own:
                factor = factor * _growth(atom) ** exponent
            terms[rest] = terms.get(rest, 0) + factor
    return polynomial(terms)


def _names(atom: Atom) -> tuple[str, ...]:
    return Polynomial({((atom, 1),): 1}).symbols


def _growth(atom: Atom) -> Fraction:
    """Return the factor by which a division by a number grows as its dividend does, else 1."""
    if atom.function == "floordiv" and isinstance(atom.operands[1], int):
        return Fraction(1, atom.operands[1])
    return Fraction(1)


def _dominates_from(count: Polynomial, name: str, power: int) -> Any:
    """Return the least value of a symbol from which its highest power outweighs the rest; None if others decide."""
    if power == 0:
        return None
    whole = symbol(name)
    highest = coefficient(count, name, power) * whole**power
    return first_from(highest - (count - highest), name)


Scopes = str | Sequence[str]


def crossover(analysis: Counts, one: Scopes, other: Scopes, name: str, field: str, at: Mapping[str, int]) -> int | None:
    """Return the least value of a symbol from which one scope costs more than another; see `Analysis.crossover`."""
    check_symbol(analysis, name)
    check_field(field)
    costs = [_scope_cost(analysis, (scope,) if isinstance(scope, str) else scope, field) for scope in (one, other)]
    difference = costs[0] - costs[1]
    values = {n: symbol(n) for n in getattr(difference, "symbols", ())}
    difference = difference.value({**values, **at}) if isinstance(difference, Polynomial) else difference
    return first_from(difference, name, above=True)


def _scope_cost(analysis: Counts, scopes: Sequence[str], field: str) -> Any:
    """Return the cost of all places that scope names, paths or patterns mean, those below them included."""
    wanted = [tuple(scope.split("/")) for scope in scopes]
    for scope, parts in zip(scopes, wanted, strict=True):
        _check_scope(analysis, scope, parts)
    rows = analysis.rows.items()
    return getattr(Cost.sum(c for row, c in rows if any(_lies_in(row.scope, parts) for parts in wanted)), field)


def _check_scope(analysis: Counts, scope: str, parts: Sequence[str]) -> None:
    if not any(_lies_in(row.scope, parts) for row in analysis.rows):
        names = sorted({"/".join(row.scope[: i + 1]) for row in analysis.rows for i in range(len(row.scope))})
        last = sorted({name.rpartition("/")[2] for name in names})
        near = difflib.get_close_matches(scope, [*names, *last], n=1, cutoff=0.5)
        raise SymbolError(
            f"No scope is called {scope!r}.",
            why="A crossover is where the cost of one scope passes that of another.",
            cure=f"Did you mean {near[0]!r}?" if near else f"Scopes are for example: {', '.join(last[:8]) or 'none'}.",
        )


def _lies_in(path: Sequence[str], parts: Sequence[str]) -> bool:
    """Say whether a run of the path's parts matches; patterns as of file names are allowed."""
    return any(
        all(fnmatchcase(have, want) for have, want in zip(path[start:], parts, strict=False))
        for start in range(len(path) - len(parts) + 1)
    )


def first_from(difference: Any, name: str, *, above: bool = False) -> int | None:
    """Return the least n from which on a difference is never negative (`above`: is positive) for n, n + 1, ...

    None where it is negative again and again. Factors that the other symbols make (a batch size before every term)
    fall out. Raises SymbolError where the answer depends on other symbols.
    """
    if not isinstance(difference, Polynomial):
        return 1 if difference >= int(above) else None
    others = [other for other in difference.symbols if other != name]
    if others:
        difference = _without_common(difference, others)
        others = [other for other in getattr(difference, "symbols", ()) if other != name]
    if others:
        raise SymbolError(
            f"Where it is depends on {', '.join(others)} too: the difference is {difference}.",
            why="A crossover is one value of one symbol.",
            cure=f"Put numbers in their place: crossover(..., {', '.join(f'{other}=8' for other in others)}).",
        )
    if above:
        whole = lcm(*(factor.denominator for factor in as_polynomial(difference).terms.values()))
        difference = difference * whole - 1
    if not isinstance(difference, Polynomial):
        return 1 if difference >= 0 else None
    low = max((atom.least for atom in difference.leaves()), default=1)
    if weight_at(difference, name, _FAR) < 0:
        return None
    # Beyond `far` the sign is the highest power's; below it the last negative value is searched for.
    far = low
    while not at_least(_moved_by(difference, name, far), 0):
        far *= 2
        if far > _FAR:
            return None
    values = (n for n in range(far, low - 1, -1) if weight_at(difference, name, n) < 0) if far < _SCANNED else None
    if values is not None:
        return next(values, low - 1) + 1
    return _bisected(difference, name, far)


def weight_at(difference: Polynomial, name: str, value: int) -> Any:
    """Return the exact value with a number in the place of the only symbol."""
    return symbol_values.as_number(difference.value({name: value}))


def _moved_by(difference: Polynomial, name: str, start: int) -> Any:
    return difference.value({name: symbol(name, 0) + start})


def _bisected(difference: Polynomial, name: str, far: int) -> int:
    """Return the first of the values up to `far` from which all are non-negative: their last change of sign."""
    low = 1
    while low < far:
        middle = (low + far) // 2
        if at_least(_moved_by(difference, name, middle), 0):
            far = middle
        else:
            low = middle + 1
    return far


def _without_common(difference: Polynomial, others: Sequence[str]) -> Any:
    """Divide by the powers of other symbols that every term has."""
    for other in others:
        powers = [
            sum(exponent for atom, exponent in monomial if atom.text.strip('"') == other and not atom.function)
            for monomial in difference.terms
        ]
        common = min(powers)
        if common:
            divided: Any = difference // symbol(other) ** common
            if not isinstance(divided, Polynomial):
                return divided
            difference = divided
    return difference
