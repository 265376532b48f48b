"""Parse the text of a polynomial; convert a polynomial to an expression of sympy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from costax.core.polynomial.algebra import Polynomial, apply_function, operation, rational, symbol
from costax.core.polynomial.atoms import FUNCTIONS
from costax.core.polynomial.bounds import maximum, minimum
from costax.core.polynomial.division import floordiv
from costax.errors import SymbolError

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9]+)|(?P<name>[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)|\"(?P<quoted>[^\"]+)\"|(?P<sign>\*\*|//|[-+*/%^(),]))",
    re.ASCII,
)


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
        self.token: tuple[str, str] | None = None
        self.advance()

    def error(self, reason: str) -> SymbolError:
        return SymbolError(
            f"{self.text!r} is not a formula: {reason}.",
            why="A formula is a sum of products of integers and names, with floor division and powers.",
            cure="Write for example b*h, s + 1, s//2, 3*s^2 or max(s, 8).",
        )

    def advance(self) -> None:
        rest = self.text[self.position :]
        match = _TOKEN.match(rest)
        if rest.strip() and not match:
            raise self.error(f"{rest.strip()[0]!r} is not a sign of formulas")
        self.token = None
        if match and match.lastgroup:
            self.token = match.lastgroup, match[match.lastgroup]
            self.position += match.end()

    def accept(self, *signs: str) -> str:
        if self.token is not None and self.token[0] == "sign" and self.token[1] in signs:
            sign = self.token[1]
            self.advance()
            return sign
        return ""

    def sum(self) -> Any:
        total = self.term()
        while sign := self.accept("+", "-"):
            term = self.term()
            total = total + term if sign == "+" else total - term
        return total

    def term(self) -> Any:
        if self.accept("-"):
            return -self.term()
        product = self.power()
        while sign := self.accept("*", "//", "%", "/"):
            factor = self.power()
            if sign == "*":
                product = product * factor
            elif sign == "//":
                product = floordiv(product, factor)
            elif sign == "%":
                product = product - factor * floordiv(product, factor)
            elif isinstance(factor, int):
                product = product * rational(Fraction(1, factor))
            else:
                raise self.error("/ needs a number on its right; // divides by a formula and rounds down")
        return product

    def power(self) -> Any:
        base = self.atom()
        if self.accept("^", "**"):
            exponent = self.atom()
            if not isinstance(exponent, int) or exponent < 0:
                raise self.error("an exponent must be a non-negative integer")
            return base**exponent
        return base

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
            return int(word)
        if kind == "name" and self.accept("("):
            return self.call(word)
        return symbol(word, self.least.get(word, 1))

    def call(self, name: str) -> Any:
        if name not in FUNCTIONS and name not in _CALLS:
            raise self.error(f"there is no function {name!r}")
        operands = [self.sum()]
        while self.accept(","):
            operands.append(self.sum())
        self.close_parenthesis()
        return _CALLS[name](*operands) if name in _CALLS else apply_function(name, *operands)

    def close_parenthesis(self) -> None:
        if not self.accept(")"):
            raise self.error("a closing parenthesis is missing")


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
            cure="pip install 'costax[sympy]'",
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
