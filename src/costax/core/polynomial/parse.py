"""Parse the text of a polynomial; convert a polynomial to an expression of sympy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from costax.core.polynomial.algebra import Polynomial, apply_function, operation, polynomial, rational, symbol
from costax.core.polynomial.atoms import FUNCTIONS, Terms
from costax.core.polynomial.bounds import maximum, minimum
from costax.core.polynomial.division import floordiv
from costax.errors import SymbolError, install_command

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9]+)|(?P<name>[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)|\"(?P<quoted>[^\"]+)\"|(?P<sign>\*\*|//|[-+*/%^(),]))",
    re.ASCII,
)

# Limits, so that a short text of a hostile record or spec cannot take seconds or gigabytes: (b + 1)^100000 has 100,001
# terms, and ((9^9999)^9999)^9999 has a million million digits. Formulas of programs stay far below them.
_LONGEST: Final = 100_000
_DEEPEST: Final = 100
_LARGEST_EXPONENT: Final = 1000
_MOST_BITS: Final = 10_000
_MOST_DIGITS: Final = 3000
# Multiplications of two terms. (b + 1)^300 takes 90,000.
_MOST_PRODUCTS: Final = 100_000
# Longer texts are cut in messages.
_LONGEST_QUOTE: Final = 80


def _remainder(a: Any, b: Any) -> Any:
    return a - b * floordiv(a, b)


_CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "floordiv": floordiv,
    "mod": _remainder,
    "max": maximum,
    "min": minimum,
}


def parse_polynomial(text: str, least: Mapping[str, int] | None = None) -> Any:
    """Return the polynomial, or integer, that a text such as `b*h`, `s//2` or `3*s^2 + floordiv(s, 2)` describes.

    least: lower bounds of symbols, by name; 1 by default. Raises SymbolError if the text does not parse.

    >>> parse_polynomial("2*s^2 + s*(s - 1)//2"), parse_polynomial("7"), parse_polynomial('40*solver/while + "a b"')
    (5/2*s^2 - 1/2*s, 7, "a b" + 40*solver/while)
    """
    parser = _Parser(text, least or {})
    try:
        result = parser.sum()
    except (ZeroDivisionError, TypeError) as error:
        raise parser.error(str(error)) from error
    if parser.token is not None:
        raise parser.error(f"{parser.token[1]!r} is not expected after a complete formula")
    return result


class _Parser:
    def __init__(self, text: str, least: Mapping[str, int]) -> None:
        self.text, self.least, self.position = text, least, 0
        self.depth = 0
        # A factor of a text multiplies single terms, so a long text may multiply as often as it has characters.
        self.products_left = _MOST_PRODUCTS + len(text)
        self.token: tuple[str, str] | None = None
        if len(text) > _LONGEST:
            raise self.error(f"it has {len(text):,} characters, and {_LONGEST:,} is the limit")
        self.advance()

    def error(self, reason: str) -> SymbolError:
        text = self.text if len(self.text) <= _LONGEST_QUOTE else f"{self.text[:_LONGEST_QUOTE]}..."
        return SymbolError(
            f"{text!r} is not a formula: {reason}.",
            why="A formula is a sum of products of integers and names, with floor division and powers.",
            cure="Write for example b*h, s + 1, s//2, 3*s^2 or max(s, 8).",
        )

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.position)
        self.token = None
        if match and match.lastgroup:
            self.token = match.lastgroup, match[match.lastgroup]
            self.position = match.end()
        elif rest := self.text[self.position :].strip():
            raise self.error(f"{rest[0]!r} is not a sign of formulas")

    def accept(self, *signs: str) -> str:
        if self.token is not None and self.token[0] == "sign" and self.token[1] in signs:
            sign = self.token[1]
            self.advance()
            return sign
        return ""

    def sum(self) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error(f"it is nested too deeply, in more than {_DEEPEST} parentheses")
        total = self.term()
        if self.token is not None and self.token[1] in ("+", "-"):
            # All terms are added in one dictionary: adding polynomials pair by pair would copy the sum for each term.
            terms: Terms = {}
            _add(terms, total, 1)
            while sign := self.accept("+", "-"):
                _add(terms, self.term(), 1 if sign == "+" else -1)
            total = polynomial(terms)
        self.depth -= 1
        return total

    def term(self) -> Any:
        negative = False
        while self.accept("-"):
            negative = not negative
        product = self.power()
        while sign := self.accept("*", "//", "%", "/"):
            factor = self.power()
            if sign == "*":
                product = self.product(product, factor)
            elif sign == "//":
                product = floordiv(self.short(product), self.short(factor))
            elif sign == "%":
                product = product - self.product(factor, floordiv(self.short(product), self.short(factor)))
            elif isinstance(factor, int):
                product = product * rational(Fraction(1, factor))
            else:
                raise self.error("/ needs a number on its right; // divides by a formula and rounds down")
        return -product if negative else product

    def power(self) -> Any:
        base = self.atom()
        if self.accept("^", "**"):
            exponent = self.atom()
            if not isinstance(exponent, int) or exponent < 0:
                raise self.error("an exponent must be a non-negative integer")
            if exponent * max(_degree(base), 1) > _LARGEST_EXPONENT:
                raise self.error(f"an exponent is larger than {_LARGEST_EXPONENT:,}")
            if not isinstance(base, Polynomial) and exponent * _bits(base) > _MOST_BITS:
                raise self.error(f"a number has more than {_MOST_DIGITS:,} digits")
            result: Any = 1
            for _ in range(exponent):
                result = self.product(result, base)
            return result
        return base

    def product(self, left: Any, right: Any) -> Any:
        """Return the product of two polynomials or numbers. Raises SymbolError if it is too large."""
        self.products_left -= _length(left) * _length(right)
        if self.products_left < 0:
            raise self.error("it has too many terms when its products and powers are multiplied out")
        if _bits(left) + _bits(right) > _MOST_BITS:
            raise self.error(f"a number has more than {_MOST_DIGITS:,} digits")
        return left * right

    def short(self, operand: Any) -> Any:
        """Return an operand of a division or another function. Raises SymbolError if its text is too long.

        The text of floordiv(x*s - x, 2) has the text of x twice: a formula of 30 such divisions would take gigabytes.
        """
        if _text_length(operand) > _LONGEST:
            raise self.error(f"it has more than {_LONGEST:,} characters when its products are multiplied out")
        return operand

    def atom(self) -> Any:
        if self.accept("("):
            inner = self.sum()
            self.close_parenthesis()
            return inner
        if self.token is None or self.token[0] == "sign":
            raise self.error(
                "an operand is missing at the end"
                if self.token is None
                else f"an operand is missing before {self.token[1]!r}"
            )
        kind, word = self.token
        self.advance()
        if kind == "number":
            if len(word) > _MOST_DIGITS:
                raise self.error(f"a number has more than {_MOST_DIGITS:,} digits")
            return int(word)
        if kind == "name" and self.accept("("):
            return self.call(word)
        return symbol(word, self.least.get(word, 1))

    def call(self, name: str) -> Any:
        if name not in FUNCTIONS and name not in _CALLS:
            raise self.error(f"there is no function {name!r}")
        operands = [self.short(self.sum())]
        while self.accept(","):
            operands.append(self.short(self.sum()))
        self.close_parenthesis()
        return _CALLS[name](*operands) if name in _CALLS else apply_function(name, *operands)

    def close_parenthesis(self) -> None:
        if not self.accept(")"):
            raise self.error("a closing parenthesis is missing")


def _add(terms: Terms, part: Any, sign: int) -> None:
    """Add a polynomial or a number, times a sign, to a dictionary of terms."""
    for monomial, coefficient in (part.terms if isinstance(part, Polynomial) else {(): part}).items():
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient


def _length(part: Any) -> int:
    return len(part.terms) if isinstance(part, Polynomial) else 1


def _text_length(part: Any) -> int:
    """Return about how many characters the text of a polynomial has."""
    monomials = part.terms if isinstance(part, Polynomial) else ()
    return sum(len(atom.text) for monomial in monomials for atom, _ in monomial)


def _degree(part: Any) -> int:
    monomials = part.terms if isinstance(part, Polynomial) else ()
    return max((sum(exponent for _, exponent in monomial) for monomial in monomials), default=0)


def _bits(part: Any) -> int:
    """Return the bits of the largest number in a polynomial."""
    numbers = part.terms.values() if isinstance(part, Polynomial) else (part,)
    return max((max(n.numerator.bit_length(), n.denominator.bit_length()) for n in numbers), default=0)


@operation
def to_sympy(count: Polynomial) -> Any:
    """Return a polynomial as a sympy expression. The symbols are integers, positive or nonnegative as their bounds say.

    Raises SymbolError where sympy is not installed.
    """
    try:
        import sympy  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise SymbolError(
            "sympy is not installed.",
            why="to_sympy() returns an expression of sympy.",
            cure=install_command("sympy"),
        ) from error
    api: Any = sympy

    def floor(a: Any, b: Any) -> Any:
        return api.floor(a / b)

    def ceil_log2(n: Any, numerator: Any = 1, denominator: Any = 1) -> Any:
        return api.ceiling(numerator * api.log(n, 2) / denominator)

    functions: Mapping[str, Callable[..., Any]] = {
        "floordiv": floor,
        "max": api.Max,
        "min": api.Min,
        "ceil_log2": ceil_log2,
        "ceil_log2_of_power": ceil_log2,
    }

    def converted(part: Any) -> Any:
        if not isinstance(part, Polynomial):
            return api.Integer(part)
        total: Any = api.Integer(0)
        for monomial, coefficient in part.terms.items():
            term: Any = api.Rational(coefficient.numerator, coefficient.denominator)
            for atom, exponent in monomial:
                if atom.function:
                    factor: Any = functions[atom.function](*map(converted, atom.operands))
                else:
                    bound = {"positive": True} if atom.least > 0 else {"nonnegative": True}
                    factor = api.Symbol(atom.text.strip('"'), integer=True, **bound)
                term *= factor**exponent
            total += term
        return total

    return converted(count)
