"""Polynomial: an exact count that depends on symbols, such as `55296*b*s^2 + 370596096*b*s`.

A polynomial is a sum of monomials with integer or rational coefficients. Its atoms are symbols (a batch size `b`, the
length of a loop `solver/while`) and functions of polynomials that are none themselves: `floordiv`, `max`, `min` and
logarithms that are rounded up. It adds, multiplies and divides as an integer does; an operation whose result is a
plain integer returns one, so that `Polynomial` is only ever what depends on something. Equal polynomials have equal
texts, and a text reads back (`parse.parsed`).
"""

from __future__ import annotations

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

# Operations of `Polynomial` that are themselves written with polynomials: division, order, evaluation at many points.
# Their modules import this one and register themselves here; importing them from here would be a circle. The package's
# __init__ imports all of them.
_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {}


def operation(function: _F) -> _F:
    """Register an operation of `Polynomial` under its own name."""
    _OPERATIONS[function.__name__] = function
    return function


class Polynomial:
    """A polynomial, immutable; see the module's words.

    >>> b, s = symbol("b"), symbol("s")
    >>> 3 * s * (s + 1) * b - s * b, (s * s + s) // 2, s // 2, -(-s // 8)
    (3*b*s^2 + 2*b*s, 1/2*s^2 + 1/2*s, floordiv(s, 2), floordiv(s + 7, 8))
    """

    __slots__ = ("_hash", "_text", "terms")
    terms: Mapping[Monomial, Number]

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        """Take terms that hold no zero; `polynomial` makes them so."""
        self.terms = terms
        self._hash: int | None = None
        self._text: str | None = None

    # Algebra. What is no integer and no polynomial is not an operand.

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
        """Return what a division leaves: a - b * (a // b), the only form in which a remainder is kept."""
        return (
            self - other * _OPERATIONS["floordiv"](self, other)
            if isinstance(other, Polynomial | int)
            else NotImplemented
        )

    def __rmod__(self, other: Any) -> Any:
        """Return what the division of a number leaves."""
        return other - self * _OPERATIONS["floordiv"](other, self) if isinstance(other, int) else NotImplemented

    # Comparison. Order is that of values, for every value that the symbols take.

    def __eq__(self, other: object) -> bool:
        """Compare the terms: equal polynomials are equal everywhere."""
        return self is other or (isinstance(other, Polynomial) and self.terms == other.terms)

    def __hash__(self) -> int:
        """Hash the terms."""
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        """Say that it is not the number 0."""
        return True

    def __lt__(self, other: Any) -> bool:
        """Say whether it is below everywhere, or nowhere; raises Undecided where that depends on the symbols."""
        return not self >= other

    def __gt__(self, other: Any) -> bool:
        """Say whether it is above everywhere, or nowhere; raises Undecided where that depends on the symbols."""
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        """Say whether it is at least as large everywhere, or nowhere; raises Undecided otherwise."""
        return _OPERATIONS["decided"](self, other, ">=")

    def __le__(self, other: Any) -> bool:
        """Say whether it is at most as large everywhere, or nowhere; raises Undecided otherwise."""
        return _OPERATIONS["decided"](other, self, ">=", swapped=True)

    def __int__(self) -> int:
        """Refuse: there is no one number."""
        raise Undecided(f"{self} is no number until its symbols are")

    __index__ = __int__

    def bit_length(self) -> Any:
        """Return the bits of the value, as `int.bit_length` does: ceil(log2(value + 1)).

        >>> (symbol("s") - 1).bit_length()
        ceil_log2(s)
        """
        return applied("ceil_log2", self + 1)

    # What it is made of.

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of its symbols, sorted."""
        return tuple(sorted({atom.text.strip('"') for atom in self.leaves()}))

    def leaves(self) -> Iterator[Atom]:
        """Yield the symbols, those inside functions too, some maybe more than once."""
        for monomial in self.terms:
            for atom, _ in monomial:
                if not atom.function:
                    yield atom
                for operand in atom.operands:
                    if isinstance(operand, Polynomial):
                        yield from operand.leaves()

    def value(self, values: Mapping[str, Any]) -> Any:
        """Return the value with something in the place of each symbol: integers, arrays, other polynomials.

        Raises KeyError for a symbol that has no value.
        """
        # Common denominator last, so that integers stay integers and arrays need no fractions.
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

        Raises SymbolError for a symbol without a value, an unknown one, or a value that it cannot take.
        """
        return self.value(_OPERATIONS["checked"](self, *args, **kwargs))

    def over(self, *args: Mapping[str, Any], exact: bool = False, **kwargs: Any) -> Any:
        """Return the values at many points, as a numpy array: `p.over(b=[1, 8], s=[512, 1024])`.

        Values broadcast against each other. exact: as Python integers; else in double precision, 53 bits.
        """
        return _OPERATIONS["over"](self, *args, exact=exact, **kwargs)

    def degree(self, name: str) -> int:
        """Return the highest power of a symbol; a rounded division counts as the division, a logarithm as 0.

        >>> (symbol("s") ** 2 * symbol("b") + symbol("s") // 2).degree("s")
        2
        """
        return max(sum(_degree(atom, name) * exponent for atom, exponent in monomial) for monomial in self.terms)

    def to_sympy(self) -> Any:
        """Return the same as a sympy expression of positive integers (needs costax[sympy])."""
        return _OPERATIONS["to_sympy"](self)

    def __str__(self) -> str:
        """Return the canonical text: highest powers first."""
        if self._text is None:
            self._text = texts.text(self.terms, str)
        return self._text

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        """Format as text; `,` groups the digits of the coefficients."""
        return texts.text(self.terms, texts.grouped) if spec == "," else format(str(self), spec)

    def text(self, number: Callable[[Any], str]) -> str:
        """Return the text with its coefficients (their sizes, without signs) as a function writes them."""
        return texts.text(self.terms, number)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the terms."""
        return Polynomial, (self.terms,)


Count = int | Polynomial


def symbol(name: str, least: int = 1) -> Any:
    """Return a symbol whose value is at least `least`."""
    return Polynomial({((Atom(quoted(name), least), 1),): 1})


def polynomial(terms: Mapping[Monomial, Number]) -> Any:
    """Return the polynomial of some terms, or an integer where that is all that it is."""
    kept = {monomial: _plain(coefficient) for monomial, coefficient in terms.items() if coefficient}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept and isinstance(kept[()], int):
        return kept[()]
    return Polynomial(kept)


def rational(value: Fraction | int) -> Any:
    """Return a fraction as a polynomial without symbols, or an integer where it is one.

    >>> rational(Fraction(4, 2)), rational(Fraction(1, 3)) * 6, rational(Fraction(1, 3))
    (2, 2, 1/3)
    """
    return polynomial({(): value})


def wrapped(count: Any) -> Polynomial:
    """Return a count as a Polynomial even where it is a number."""
    return count if isinstance(count, Polynomial) else Polynomial({(): count} if count else {})


def applied(function: str, *operands: Any) -> Any:
    """Return a function of operands: worked out where all of them are integers, else an atom."""
    if all(isinstance(operand, int) for operand in operands):
        return FUNCTIONS[function](*operands)
    text = f"{function}({', '.join(map(str, operands))})"
    return Polynomial({((Atom(text, 0, function, operands), 1),): 1})


def weight(count: Any) -> Any:
    """Return a number to sort counts by: the value where every symbol is 1024."""
    if not isinstance(count, Polynomial):
        return count
    return Fraction(wrapped(count.value(dict.fromkeys(count.symbols, 1024))).terms.get((), 0))


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
        return exact(*operands) if exact else applied(atom.function, *operands)
    return _OPERATIONS["elementwise"](atom.function, operands)


def _degree(atom: Atom, name: str) -> int:
    if not atom.function:
        return int(unquoted(atom.text) == name)
    degrees = [o.degree(name) if isinstance(o, Polynomial) else 0 for o in atom.operands]
    if atom.function == "floordiv":
        return max(degrees[0] - degrees[1], 0)
    return max(degrees) if atom.function in ("max", "min") else 0
