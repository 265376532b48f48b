"""Polynomial: an exact count that depends on symbols, such as `55296*b*s^2 + 370596096*b*s`.

A polynomial is a sum of monomials with integer or rational coefficients. Its atoms are symbols (a batch size `b`, the
trip count of a loop `solver/while`) and functions of polynomials that are not polynomials themselves: `floordiv`,
`max`, `min`, and logarithms rounded up. A polynomial adds, multiplies and divides like an integer. An operation whose
result does not depend on a symbol returns a plain integer, never a `Polynomial`. Equal polynomials have equal texts,
and `parse.parse_polynomial` reads a text back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import lcm
from typing import Any, Final, TypeVar

from costax.core.polynomial import texts
from costax.core.polynomial.atoms import (
    FUNCTIONS,
    Atom,
    Monomial,
    Number,
    Terms,
    quoted,
    unquoted,
)
from costax.errors import Undecided

_F = TypeVar("_F", bound=Callable[..., Any])

# Operations of `Polynomial` whose code needs polynomials: division, comparison, evaluation at many points. Their
# modules import this one and register the functions in this table; an import in the other direction would be circular.
# The package's __init__ imports all of these modules.
_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {}


def operation(function: _F) -> _F:
    """Register an operation of `Polynomial` under its own name."""
    _OPERATIONS[function.__name__] = function
    return function


class Polynomial:
    """An immutable polynomial in the sizes and trip counts of a program. Calling it gives its value: p(b=8, s=2048).

    terms: the coefficient of each monomial, none of them 0.

    >>> b, s = symbol("b"), symbol("s")
    >>> 3 * s * (s + 1) * b - s * b, (s * s + s) // 2, s // 2, -(-s // 8)
    (3*b*s^2 + 2*b*s, 1/2*s^2 + 1/2*s, floordiv(s, 2), floordiv(s + 7, 8))
    """

    __slots__ = ("_hash", "_text", "terms")
    terms: Mapping[Monomial, Number]

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        """Take terms without zero coefficients; the function `polynomial` drops those."""
        self.terms = terms
        self._hash: int | None = None
        self._text: str | None = None

    # Algebra. Operands are polynomials, integers and fractions; for anything else the result is NotImplemented.

    def __add__(self, other: Any) -> Any:
        """Add term by term."""
        if isinstance(other, Polynomial):
            small, large = (
                (self.terms, other.terms) if len(self.terms) < len(other.terms) else (other.terms, self.terms)
            )
            terms = dict(large)
            for monomial, coefficient in small.items():
                terms[monomial] = terms.get(monomial, 0) + coefficient
            return polynomial(terms)
        if isinstance(other, int | Fraction):
            return polynomial({**self.terms, (): self.terms.get((), 0) + other}) if other else self
        return NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Any:
        """Change every sign."""
        return Polynomial({monomial: -coefficient for monomial, coefficient in self.terms.items()})

    def __pos__(self) -> Polynomial:
        """Return itself."""
        return self

    def __sub__(self, other: Any) -> Any:
        """Subtract term by term."""
        return self + -other if isinstance(other, Polynomial | int | Fraction) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        """Subtract from a number."""
        return -self + other if isinstance(other, int | Fraction) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        """Multiply every term with every term."""
        if isinstance(other, Polynomial):
            terms: Terms = {}
            for left, a in self.terms.items():
                for right, b in other.terms.items():
                    monomial = _joined(left, right)
                    terms[monomial] = terms.get(monomial, 0) + a * b
            return polynomial(terms)
        if isinstance(other, int | Fraction):
            if other == 1:
                return self
            return polynomial({monomial: coefficient * other for monomial, coefficient in self.terms.items()})
        return NotImplemented

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Any:
        """Multiply with itself."""
        if not isinstance(exponent, int) or exponent < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        result: Any = 1
        for _ in range(exponent):
            result = result * self
        return result

    def __floordiv__(self, other: Any) -> Any:
        """Divide and round down, as Python does."""
        return _OPERATIONS["floordiv"](self, other) if isinstance(other, Polynomial | int) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        """Divide a number and round down."""
        return _OPERATIONS["floordiv"](other, self) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        """Return the remainder as a - b * (a // b): there is no function `mod`, so that each value has one form."""
        return (
            self - other * _OPERATIONS["floordiv"](self, other)
            if isinstance(other, Polynomial | int)
            else NotImplemented
        )

    def __rmod__(self, other: Any) -> Any:
        """Return the remainder of a number divided by this polynomial."""
        return other - self * _OPERATIONS["floordiv"](other, self) if isinstance(other, int) else NotImplemented

    # Comparison: a < b holds if it holds for all values of the symbols.

    def __eq__(self, other: object) -> bool:
        """Compare the terms: polynomials are equal if they are equal for all values of the symbols."""
        return self is other or (isinstance(other, Polynomial) and self.terms == other.terms)

    def __hash__(self) -> int:
        """Hash the terms."""
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        """Return True: an operation whose result is 0 returns the integer 0."""
        return True

    def __lt__(self, other: Any) -> bool:
        """Say whether it is less for all values of the symbols (True) or for none (False); else raise Undecided."""
        return not self >= other

    def __gt__(self, other: Any) -> bool:
        """Say whether it is greater for all values of the symbols (True) or for none (False); else raise Undecided."""
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        """Say whether it is at least `other` for all values of the symbols or for none; else raise Undecided."""
        return _OPERATIONS["decided"](self, other, ">=")

    def __le__(self, other: Any) -> bool:
        """Say whether it is at most `other` for all values of the symbols or for none; else raise Undecided."""
        return _OPERATIONS["decided"](other, self, ">=", swapped=True)

    def __int__(self) -> int:
        """Raise Undecided: the value depends on the symbols."""
        raise Undecided(f"{self} has no integer value until its symbols have values")

    __index__ = __int__

    def bit_length(self) -> Any:
        """Return the bits of the value, as `int.bit_length` does: ceil(log2(value + 1)).

        >>> (symbol("s") - 1).bit_length()
        ceil_log2(s)
        """
        return apply_function("ceil_log2", self + 1)

    # Symbols and values.

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols, sorted."""
        return tuple(sorted({atom.text.strip('"') for atom in self.leaves()}))

    def leaves(self) -> Iterator[Atom]:
        """Yield the symbols, those in the operands of functions included; a symbol may come more than once."""
        for monomial in self.terms:
            for atom, _ in monomial:
                if not atom.function:
                    yield atom
                for operand in atom.operands:
                    if isinstance(operand, Polynomial):
                        yield from operand.leaves()

    def value(self, values: Mapping[str, Any]) -> Any:
        """Substitute a value for each symbol: an integer, an array, or another polynomial. Values are not checked.

        Args:
            values: The value of each symbol.

        Raises KeyError for a symbol without a value.
        """
        # Divide by the common denominator at the end: integers stay integers, and arrays need no fractions.
        denominator = lcm(*(coefficient.denominator for coefficient in self.terms.values()))
        total: Any = 0
        for monomial, coefficient in self.terms.items():
            term: Any = int(coefficient * denominator)
            for atom, exponent in monomial:
                term = term * _value(atom, values) ** exponent
            total = total + term
        if denominator == 1:
            return total
        if isinstance(total, int | Polynomial):
            return _plain(total * Fraction(1, denominator))
        quotient = total // denominator
        return quotient if bool((quotient * denominator == total).all()) else total / denominator

    def __call__(self, *args: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return the exact value at a point: `p(b=8, s=2048)`, or `p({"solver/while": 40})`.

        Raises SymbolError for a symbol without a value, an unknown symbol, or a value outside a symbol's range.
        """
        return self.value(_OPERATIONS["checked_values"](self, *args, **kwargs))

    def evaluate_many(self, *args: Mapping[str, Any], exact: bool = False, **kwargs: Any) -> Any:
        """Return the values at many points, as a numpy array: `p.evaluate_many(b=[1, 8], s=[512, 1024])`.

        The values of the symbols broadcast against each other.

        Args:
            args: Mappings from symbols to arrays, for names that are not identifiers.
            exact: Return Python integers of any size; by default doubles, which are exact up to 2^53.
            kwargs: An array of integers for each other symbol.

        Raises SymbolError as a call does.
        """
        return _OPERATIONS["evaluate_many"](self, *args, exact=exact, **kwargs)

    def over(self, *args: Mapping[str, Any], exact: bool = False, **kwargs: Any) -> Any:
        """Return the values at many points: the former name of `evaluate_many`, deprecated."""
        warnings.warn("Polynomial.over is now called Polynomial.evaluate_many.", DeprecationWarning, stacklevel=2)
        return self.evaluate_many(*args, exact=exact, **kwargs)

    def degree(self, name: str) -> int:
        """Return the degree in a symbol: floordiv(p, q) has the degree of p / q, a logarithm has degree 0.

        Args:
            name: The symbol.

        >>> (symbol("s") ** 2 * symbol("b") + symbol("s") // 2).degree("s")
        2
        """
        return max(sum(_degree(atom, name) * exponent for atom, exponent in monomial) for monomial in self.terms)

    def to_sympy(self) -> Any:
        """Return the polynomial as a sympy expression of integer symbols (needs costax[sympy])."""
        return _OPERATIONS["to_sympy"](self)

    def __str__(self) -> str:
        """Return the canonical text: highest powers first."""
        if self._text is None:
            self._text = texts.text(self.terms, str)
        return self._text

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        """Format as text; `,` separates the thousands of the coefficients."""
        return texts.text(self.terms, texts.grouped) if spec == "," else format(str(self), spec)

    def text(self, number: Callable[[Any], str]) -> str:
        """Return the text; `number` formats the absolute value of each coefficient.

        Args:
            number: Formats the absolute value of a coefficient.
        """
        return texts.text(self.terms, number)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the terms."""
        return Polynomial, (self.terms,)


Count = int | Polynomial


def symbol(name: str, least: int = 1) -> Any:
    """Return a symbol whose values are the integers from `least` on."""
    return Polynomial({((Atom(quoted(name), least), 1),): 1})


def polynomial(terms: Mapping[Monomial, Number]) -> Any:
    """Return the polynomial of some terms; a plain integer if it does not depend on a symbol."""
    kept = {monomial: _plain(coefficient) for monomial, coefficient in terms.items() if coefficient}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept and isinstance(kept[()], int):
        return kept[()]
    return Polynomial(kept)


def rational(value: Fraction | int) -> Any:
    """Return a fraction as a polynomial without symbols, or as an integer if its denominator is 1.

    >>> rational(Fraction(4, 2)), rational(Fraction(1, 3)) * 6, rational(Fraction(1, 3))
    (2, 2, 1/3)
    """
    return polynomial({(): value})


def as_polynomial(count: Any) -> Polynomial:
    """Return a count as a Polynomial, also if it is a plain integer."""
    return count if isinstance(count, Polynomial) else Polynomial({(): count} if count else {})


def apply_function(function: str, *operands: Any) -> Any:
    """Apply a function of `FUNCTIONS`: its value if all operands are integers, else an atom of that function."""
    if all(isinstance(operand, int) for operand in operands):
        return FUNCTIONS[function](*operands)
    text = f"{function}({', '.join(map(str, operands))})"
    return Polynomial({((Atom(text, 0, function, operands), 1),): 1})


def magnitude(count: Any) -> Any:
    """Return a number to sort counts by: the value at the point where every symbol is 1024."""
    if not isinstance(count, Polynomial):
        return count
    return Fraction(as_polynomial(count.value(dict.fromkeys(count.symbols, 1024))).terms.get((), 0))


def _joined(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for atom, exponent in right:
        powers[atom] = powers.get(atom, 0) + exponent
    return tuple(sorted(powers.items(), key=_by_text))


def _by_text(power: tuple[Atom, int]) -> str:
    return power[0].text


def _plain(coefficient: Any) -> Any:
    if isinstance(coefficient, Fraction) and coefficient.denominator == 1:
        return coefficient.numerator
    return coefficient


def _value(atom: Atom, values: Mapping[str, Any]) -> Any:
    if not atom.function:
        return values[unquoted(atom.text)]
    operands = [o.value(values) if isinstance(o, Polynomial) else o for o in atom.operands]
    if all(isinstance(operand, int) for operand in operands):
        return FUNCTIONS[atom.function](*operands)
    if any(isinstance(operand, Polynomial) for operand in operands):
        exact = _OPERATIONS.get({"max": "maximum", "min": "minimum"}.get(atom.function, atom.function))
        return exact(*operands) if exact else apply_function(atom.function, *operands)
    return _OPERATIONS["elementwise"](atom.function, operands)


def _degree(atom: Atom, name: str) -> int:
    if not atom.function:
        return int(unquoted(atom.text) == name)
    degrees = [o.degree(name) if isinstance(o, Polynomial) else 0 for o in atom.operands]
    if atom.function == "floordiv":
        return max(degrees[0] - degrees[1], 0)
    return max(degrees) if atom.function in ("max", "min") else 0
