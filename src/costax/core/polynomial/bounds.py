"""Order: what is known of a polynomial's values, whatever the values of its symbols are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from costax.core.polynomial.algebra import Polynomial, applied, operation
from costax.core.polynomial.atoms import Atom, Number
from costax.errors import Undecided


@operation
def maximum(*counts: Any) -> Any:
    """Return the largest: one of them where the order is the same everywhere, else a `max`."""
    return _extreme("max", counts)


@operation
def minimum(*counts: Any) -> Any:
    """Return the smallest: one of them where the order is the same everywhere, else a `min`."""
    return _extreme("min", counts)


def _extreme(function: str, counts: tuple[Any, ...]) -> Any:
    best = counts[0]
    for count in counts[1:]:
        order = _sign(count - best)
        if order is None:
            best = applied(function, *sorted((best, count), key=str))
        elif (order > 0) == (function == "max"):
            best = count
    return best


def at_least(count: Any, bound: int) -> bool:
    """Say whether a count is provably at least a number, whatever its symbols are."""
    if isinstance(count, int | Fraction):
        return count >= bound
    found = lower_bound(count)
    return found is not None and found >= bound


def lower_bound(count: Any) -> Number | None:
    """Return a number that a count is never below, or None where none is known. It need not be reached."""
    if not isinstance(count, Polynomial):
        return count
    found = _shifted_bound(count)
    if found is None and any(atom.function == "floordiv" for monomial in count.terms for atom, _ in monomial):
        relaxed = _without_divisions(count)
        found = _shifted_bound(relaxed) if isinstance(relaxed, Polynomial) else relaxed
    return found


def _sign(difference: Any) -> int | None:
    """Return 1 or -1 where a difference is >= 0 or <= 0 everywhere, else None."""
    if at_least(difference, 0):
        return 1
    return -1 if at_least(-difference, 0) else None


@operation
def decided(a: Any, b: Any, relation: str, *, swapped: bool = False) -> bool:
    """Say whether a >= b everywhere, or nowhere; raises Undecided where that depends on the symbols."""
    if not isinstance(a, Polynomial | int | Fraction) or not isinstance(b, Polynomial | int | Fraction):
        return NotImplemented
    difference = a - b
    if at_least(difference, 0):
        return True
    if at_least(-difference, 1):
        return False
    left, right = (b, a) if swapped else (a, b)
    raise Undecided(f"whether {left} {'<=' if swapped else relation} {right} depends on their symbols")


def _shifted_bound(count: Polynomial) -> Number | None:
    """Put `least + t` in the place of each atom: where no coefficient is negative then, the constant is the bound."""
    shifts: dict[Atom, Any] = {}
    for monomial in count.terms:
        for atom, _ in monomial:
            if atom not in shifts:
                least = _least(atom)
                if least is None:
                    return None
                shifts[atom] = Polynomial({((atom, 1),): 1}) + least if least else Polynomial({((atom, 1),): 1})
    if any(coefficient < 0 for coefficient in count.terms.values()):
        shifted: Any = 0
        for monomial, coefficient in count.terms.items():
            term: Any = coefficient
            for atom, exponent in monomial:
                term = term * shifts[atom] ** exponent
            shifted = shifted + term
        if not isinstance(shifted, Polynomial):
            return shifted
        if any(coefficient < 0 for monomial, coefficient in shifted.terms.items() if monomial):
            return None
        return shifted.terms.get((), 0)
    bound: Number = 0
    for monomial, coefficient in count.terms.items():
        term = coefficient
        for atom, exponent in monomial:
            term = term * cast(int, _least(atom)) ** exponent
        bound += term
    return bound


def _least(atom: Atom) -> Any:
    """Return a number >= 0 that an atom is never below, or None."""
    bounds = [lower_bound(operand) for operand in atom.operands]
    if not atom.function:
        return max(atom.least, 0)
    if any(bound is None for bound in bounds) and atom.function != "max":
        return None
    known = [bound for bound in bounds if bound is not None]
    least: Any
    if atom.function == "max":
        least = max(known, default=-1)
    elif atom.function == "min":
        least = min(known)
    elif atom.function == "floordiv":
        divisor = atom.operands[1]
        least = -1 if known[0] < 0 or known[1] < 1 else known[0] // divisor if isinstance(divisor, int) else 0
    else:
        least = 0
    return -(-least // 1) if least >= 0 else None


def _without_divisions(count: Polynomial) -> Any:
    """Return a lower estimate without rounded divisions by numbers: (a - k + 1)/k <= a // k <= a/k."""
    estimate: Any = 0
    for monomial, coefficient in count.terms.items():
        term: Any = coefficient
        for atom, exponent in monomial:
            factor: Any = Polynomial({((atom, 1),): 1})
            if atom.function == "floordiv" and isinstance(atom.operands[1], int) and _least(atom) is not None:
                k = atom.operands[1]
                factor = (atom.operands[0] - (k - 1 if coefficient > 0 else 0)) * Fraction(1, k)
                if coefficient > 0 and not at_least(factor, 0):
                    factor = 0
            term = term * factor**exponent
        estimate = estimate + term
    return estimate
