"""Bounds and comparison: what holds for all values of the symbols of a polynomial."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from costax.core.polynomial.algebra import Polynomial, apply_function, operation
from costax.core.polynomial.atoms import NOT_COMPUTED, Atom, Number
from costax.errors import Undecided


@operation
def maximum(*counts: Any) -> Any:
    """Return the largest count: one of the counts if one is always the largest, else an atom `max`."""
    return _extreme("max", counts)


@operation
def minimum(*counts: Any) -> Any:
    """Return the smallest count: one of the counts if one is always the smallest, else an atom `min`."""
    return _extreme("min", counts)


def _extreme(function: str, counts: tuple[Any, ...]) -> Any:
    best = counts[0]
    for count in counts[1:]:
        order = _sign(count - best)
        if order is None:
            best = apply_function(function, *sorted((best, count), key=str))
        elif (order > 0) == (function == "max"):
            best = count
    return best


def at_least(count: Any, bound: int) -> bool:
    """Say whether a count is provably at least a number for all values of its symbols."""
    if isinstance(count, int | Fraction):
        return count >= bound
    lower = lower_bound(count)
    return lower is not None and lower >= bound


def lower_bound(count: Any) -> Number | None:
    """Return a lower bound of a count, or None where none is known. The count need not reach the bound."""
    if not isinstance(count, Polynomial):
        return count
    bound = _shifted_bound(count)
    if bound is None and any(atom.function == "floordiv" for monomial in count.terms for atom, _ in monomial):
        relaxed = _without_divisions(count)
        bound = _shifted_bound(relaxed) if isinstance(relaxed, Polynomial) else relaxed
    if bound is not None and all(isinstance(coefficient, int) for coefficient in count.terms.values()):
        # The count is an integer: floordiv(s, 16) - floordiv(s + 15, 16) is at least -15/8, so at least -1.
        return -(-bound // 1)
    return bound


def _sign(difference: Any) -> int | None:
    """Return 1 if a difference is always >= 0, -1 if it is always <= 0, else None."""
    if at_least(difference, 0):
        return 1
    return -1 if at_least(-difference, 0) else None


@operation
def decided(a: Any, b: Any, relation: str, *, swapped: bool = False) -> bool:
    """Say whether a >= b for all values of the symbols (True) or for none (False); else raise Undecided.

    swapped: the caller compared b <= a, and the message of Undecided must say so.
    """
    if not isinstance(a, Polynomial | int | Fraction) or not isinstance(b, Polynomial | int | Fraction):
        return NotImplemented
    difference = a - b
    if at_least(difference, 0):
        return True
    if at_least(-difference, 1):
        return False
    left, right = (b, a) if swapped else (a, b)
    raise Undecided(f"whether {left} {'<=' if swapped else relation} {right} depends on the values of the symbols")


def _shifted_bound(count: Polynomial) -> Number | None:
    """Substitute `least + t` for each atom; if no coefficient of a power of t is negative, the constant is a bound.

    Example: s^2 - s with s >= 1 becomes (t + 1)^2 - (t + 1) = t^2 + t, whose bound is 0. None where this shows nothing.
    """
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
    """Return a lower bound >= 0 of an atom, or None.

    The bound is kept in the atom: each level of a nested max or min asks several times for the bound of the level
    inside it, so without that the time would double with each level. A table by atom would be wrong: atoms with equal
    texts are equal, also if their symbols have different lower bounds.
    """
    if atom.bound is NOT_COMPUTED:
        atom.bound = _computed_least(atom)
    return atom.bound


def _computed_least(atom: Atom) -> Any:
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
    """Return a lower estimate without `floordiv` by numbers.

    (a - k + 1) / k <= a // k <= a / k: the left side replaces a division with a positive coefficient, the right side
    one with a negative coefficient.
    """
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
