"""Asymptotics: the degree of a cost in a symbol, leading terms, and the size from which one scope costs more."""

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

# No size of a program is larger than _FAR. Up to _SCANNED the search tests every value; beyond it bisects.
_FAR: Final = 1 << 80
_SCANNED: Final = 1 << 14


class Leading(NamedTuple):
    """The leading term of a scope in one symbol: its power, its coefficient, and the least value where it dominates.

    dominates_from: the least value of the symbol from which the leading term is at least the sum of all other terms;
    None if the degree is 0 or if there is no such value.
    """

    degree: int
    coefficient: Any
    dominates_from: int | None


def degree(analysis: Counts, name: str, field: str) -> int:
    """Return the highest power of a symbol in a field; see `Analysis.degree`."""
    check_symbol(analysis, name)
    return formula(analysis, field, None, None).degree(name) if field_of(analysis, field) else 0


def leading(analysis: Counts, name: str, field: str, depth: int | None) -> dict[str, Leading]:
    """Return the leading term of each scope in a symbol; see `Analysis.leading`."""
    check_symbol(analysis, name)
    terms: dict[str, Leading] = {}
    for scope, count in formula(analysis, field, "scope", depth).items():
        if count.terms:
            power = count.degree(name)
            terms[scope] = Leading(power, coefficient(count, name, power), _dominates_from(count, name, power))
    return dict(sorted(terms.items(), key=lambda item: (-item[1].degree, -magnitude(item[1].coefficient))))


def coefficient(count: Polynomial, name: str, power: int) -> Any:
    """Return the coefficient of a power of a symbol: 3*b for power 2 of s in 3*b*s^2 + s."""
    terms: dict[Any, Any] = {}
    for monomial, factor in count.terms.items():
        own = [(atom, exponent) for atom, exponent in monomial if name in _names(atom)]
        if sum(Polynomial({((atom, 1),): 1}).degree(name) * exponent for atom, exponent in own) == power:
            rest = tuple(part for part in monomial if part not in own)
            # A term with floordiv(s, 2)^2 grows like s^2 / 4, so its coefficient takes the factor 1/4.
            for atom, exponent in own:
                factor = factor * _growth(atom) ** exponent
            terms[rest] = terms.get(rest, 0) + factor
    return polynomial(terms)


def _names(atom: Atom) -> tuple[str, ...]:
    return Polynomial({((atom, 1),): 1}).symbols


def _growth(atom: Atom) -> Fraction:
    """Return the growth of an atom relative to its operand: 1/n for floordiv(x, n), else 1."""
    if atom.function == "floordiv" and isinstance(atom.operands[1], int):
        return Fraction(1, atom.operands[1])
    return Fraction(1)


def _dominates_from(count: Polynomial, name: str, power: int) -> Any:
    """Return the least value of a symbol from which its highest power is at least the rest; None for power 0."""
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
    """Return the cost of all scopes that match names, paths or patterns, with everything below them."""
    patterns = [tuple(scope.split("/")) for scope in scopes]
    for scope, parts in zip(scopes, patterns, strict=True):
        _check_scope(analysis, scope, parts)
    rows = analysis.rows.items()
    return getattr(Cost.sum(c for row, c in rows if any(_lies_in(row.scope, parts) for parts in patterns)), field)


def _check_scope(analysis: Counts, scope: str, parts: Sequence[str]) -> None:
    if not any(_lies_in(row.scope, parts) for row in analysis.rows):
        names = sorted({"/".join(row.scope[: i + 1]) for row in analysis.rows for i in range(len(row.scope))})
        last = sorted({name.rpartition("/")[2] for name in names})
        matches = difflib.get_close_matches(scope, [*names, *last], n=1, cutoff=0.5)
        raise SymbolError(
            f"No scope matches {scope!r}.",
            why="A crossover compares the costs of two scopes.",
            cure=f"Did you mean {matches[0]!r}?" if matches else f"Some scopes: {', '.join(last[:8]) or 'none'}.",
        )


def _lies_in(path: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether consecutive parts of a path match the given parts, which may be patterns such as `block_*`."""
    return any(
        all(fnmatchcase(name, pattern) for name, pattern in zip(path[start:], parts, strict=False))
        for start in range(len(path) - len(parts) + 1)
    )


def first_from(difference: Any, name: str, *, above: bool = False) -> int | None:
    """Return the least n such that a difference is non-negative for every value n, n + 1, ... of a symbol.

    Return None if no n has this property. above: the difference must be positive, not only non-negative. If all terms
    share a factor of other symbols, such as a batch size, the factor is ignored. Raises SymbolError if n depends on
    other symbols.
    """
    if not isinstance(difference, Polynomial):
        return 1 if difference >= int(above) else None
    others = [other for other in difference.symbols if other != name]
    if others:
        difference = _without_common(difference, others)
        others = [other for other in getattr(difference, "symbols", ()) if other != name]
    if others:
        raise SymbolError(
            f"The crossover depends on {', '.join(others)} too: the difference is {difference}.",
            why="A crossover is one value of one symbol.",
            cure=f"Set the other symbols: crossover(..., {', '.join(f'{other}=8' for other in others)}).",
        )
    if above:
        # The difference takes integer values once its coefficients are integers, so `> 0` is the same as `- 1 >= 0`.
        whole = lcm(*(factor.denominator for factor in as_polynomial(difference).terms.values()))
        difference = difference * whole - 1
    if not isinstance(difference, Polynomial):
        return 1 if difference >= 0 else None
    low = max((atom.least for atom in difference.leaves()), default=1)
    if weight_at(difference, name, _FAR) < 0:
        return None
    # Double `far` until the difference is provably non-negative for every value >= far. The answer is at most `far`.
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
    """Return the exact value of a difference at a value of its only symbol."""
    return symbol_values.as_number(difference.value({name: value}))


def _moved_by(difference: Polynomial, name: str, start: int) -> Any:
    return difference.value({name: symbol(name, 0) + start})


def _bisected(difference: Polynomial, name: str, far: int) -> int:
    """Return the least value from which the difference is provably non-negative, by bisection of [1, far]."""
    low = 1
    while low < far:
        middle = (low + far) // 2
        if at_least(_moved_by(difference, name, middle), 0):
            far = middle
        else:
            low = middle + 1
    return far


def _without_common(difference: Polynomial, others: Sequence[str]) -> Any:
    """Divide by the powers of other symbols that all terms share: b*s^2 - 4*b*s becomes s^2 - 4*s."""
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
