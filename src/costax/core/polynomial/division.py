"""Floor division of polynomials: exact where the divisor divides, else with an atom `floordiv` for the rest.

Examples: (s^2 + s) // 2 is 1/2*s^2 + 1/2*s, since 2 divides s*(s + 1) for every s; (4*s + 3) // 2 is 2*s + 1;
(2*s + b) // 2 is s + floordiv(b, 2).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import gcd, lcm
from typing import Any, Final, cast

from costax.core.polynomial.algebra import Polynomial, apply_function, operation, polynomial
from costax.core.polynomial.atoms import Atom, Monomial, Terms

# The most points that are tried to decide whether a number divides a polynomial for all values of its symbols.
_RESIDUES: Final = 4096


@operation
def floordiv(a: Any, b: Any) -> Any:
    """Return a // b: without `floordiv` if b divides a for all values of the symbols. Raises ZeroDivisionError."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 0:
        raise ZeroDivisionError("integer division by zero")
    if isinstance(b, int):
        return _by_number(cast(Polynomial, a), b)
    if a == 0:
        return 0
    if isinstance(a, Polynomial):
        quotient = _exact_quotient(a, b)
        if quotient is not None:
            return quotient
    return apply_function("floordiv", a, b)


def _by_number(a: Polynomial, b: int) -> Any:
    if b < 0:
        return floordiv(-a, -b)
    if _divides_everywhere(a, b):
        return a * Fraction(1, b)
    # Split a into whole * b + rest, where the coefficients of the rest lie between -b/2 and b/2: floor(a / b) is then
    # whole + floor(rest / b). Equal quotients must get equal texts, so the leading coefficient of the rest is made
    # positive: floor(-x / b) is -floor((x + b - 1) / b).
    whole: Terms = {}
    rest: Terms = {}
    for monomial, coefficient in a.terms.items():
        if isinstance(coefficient, Fraction):
            rest[monomial] = coefficient
        else:
            multiple = coefficient // b if not monomial else (abs(coefficient) + (b - 1) // 2) // b
            whole[monomial] = multiple if coefficient > 0 or not monomial else -multiple
            rest[monomial] = coefficient - whole[monomial] * b
    left = polynomial(rest)
    outside = polynomial(whole)
    if not isinstance(left, Polynomial):
        return outside + left // b
    if not any(left.terms):
        # A fraction without symbols, such as 21/2.
        return outside + left.terms[()] // b
    if left.terms[max((m for m in left.terms if m), key=_order)] < 0:
        return outside - _rounded_down(b - 1 - left, b)
    return outside + _rounded_down(left, b)


def _rounded_down(left: Any, b: int) -> Any:
    constant = left.terms.get((), 0)
    inner = _only_division(left)
    if inner is not None and isinstance(constant, int):
        # floor((floor(a/k) + c) / b) is floor((a + c*k) / (b*k))
        a, k = inner.operands
        return floordiv(a + constant * k, b * k)
    if _is_integral(left):
        common = gcd(b, *(c for m, c in left.terms.items() if m))
        if common > 1:
            # floor((g*p + r) / (g*k)) is floor((p + r // g) / k)
            left = (left - constant) * Fraction(1, common) + constant // common
            return left if b == common else _rounded_down(left, b // common)
        # Whole multiples of b come out.
        return apply_function("floordiv", left - constant + constant % b, b) + constant // b
    return apply_function("floordiv", left, b)


def _only_division(p: Polynomial) -> Atom | None:
    """Return the atom of `floordiv(a, k) + c`, where k is a number; None for any other polynomial."""
    others = [monomial for monomial in p.terms if monomial]
    if len(others) != 1 or len(others[0]) != 1 or p.terms[others[0]] != 1:
        return None
    atom, exponent = others[0][0]
    divides = exponent == 1 and atom.function == "floordiv" and isinstance(atom.operands[1], int)
    return atom if divides else None


def _is_integral(p: Polynomial) -> bool:
    return all(isinstance(coefficient, int) for coefficient in p.terms.values())


def _divides_everywhere(p: Polynomial, k: int) -> bool:
    """Say whether k divides p for all integer values of its atoms.

    With q the common denominator of p, the values of q * p modulo k * q repeat when an atom grows by k * q: it is
    enough to try k * q values of each atom. False if that would take more than `_RESIDUES` points.
    """
    if _is_integral(p):
        if all(cast(int, coefficient) % k == 0 for coefficient in p.terms.values()):
            return True
        if all(len(monomial) <= 1 and all(e == 1 for _, e in monomial) for monomial in p.terms):
            return False
    atoms = sorted({atom for monomial in p.terms for atom, _ in monomial}, key=lambda atom: atom.text)
    denominator = lcm(*(coefficient.denominator for coefficient in p.terms.values()))
    period = k * denominator
    if period ** len(atoms) > _RESIDUES:
        return False
    terms = [(int(coefficient * denominator), monomial) for monomial, coefficient in p.terms.items()]
    for values in product(range(period), repeat=len(atoms)):
        at = dict(zip(atoms, values, strict=True))
        total = 0
        for coefficient, monomial in terms:
            for atom, exponent in monomial:
                coefficient *= at[atom] ** exponent
            total += coefficient
        if total % period:
            return False
    return True


def _exact_quotient(a: Polynomial, b: Polynomial) -> Any:
    """Return a / b if it is a polynomial with integer coefficients, else None, by long division of leading terms."""
    leading = max(b.terms, key=_order)
    quotient: Any = 0
    rest: Any = a
    while isinstance(rest, Polynomial):
        top = max(rest.terms, key=_order)
        monomial = _divided(top, leading)
        coefficient = Fraction(rest.terms[top]) / b.terms[leading]
        if monomial is None or coefficient.denominator != 1:
            return None
        step = polynomial({monomial: int(coefficient)})
        quotient = quotient + step
        rest = rest - step * b
    return quotient if rest == 0 else None


def _order(monomial: Monomial) -> tuple[int, list[tuple[str, int]]]:
    # A monomial order, as long division needs: total degree first, then the atoms in the order of their names.
    powers = sorted((atom.text, exponent) for atom, exponent in monomial)
    return sum(exponent for _, exponent in monomial), [(_Reversed(text), exponent) for text, exponent in powers]  # type: ignore[misc]


class _Reversed(str):
    """A text that sorts in reverse, so that `max` picks the first name."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


def _divided(top: Monomial, bottom: Monomial) -> Monomial | None:
    powers = dict(top)
    for atom, exponent in bottom:
        left = powers.get(atom, 0) - exponent
        if left < 0:
            return None
        powers[atom] = left
    return tuple((atom, exponent) for atom, exponent in powers.items() if exponent)
