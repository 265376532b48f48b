"""Polynomials as text, and back; and as expressions of sympy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from costax.core.polynomial.algebra import Polynomial, applied, operation, rational, symbol
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


def parsed(text: str, least: Mapping[str, int] | None = None) -> Any:
    """Return the polynomial, or the integer, that a text such as `b*h`, `s//2` or `3*s^2 + floordiv(s, 2)` names.

    least: the least value of symbols for which that is not 1. Raises SymbolError where it does not parse.

    >>> parsed("2*s^2 + s*(s - 1)//2"), parsed("7"), parsed('40*solver/while + "a b"')
    (5/2*s^2 - 1/2*s, 7, "a b" + 40*solver/while)
    """
    reader = _Reader(text, least or {})
    try:
        found = reader.sum()
    except (ZeroDivisionError, TypeError) as error:
        raise reader.wrong(str(error)) from error
    if reader.token is not None:
        raise reader.wrong(f"{reader.token[1]!r} is not expected there")
    return found


class _Reader:
    def __init__(self, text: str, least: Mapping[str, int]) -> None:
        self.text, self.least, self.position = text, least, 0
        self.token: tuple[str, str] | None = None
        self.advance()

    def wrong(self, reason: str) -> SymbolError:
        return SymbolError(
            f"{self.text!r} is no formula: {reason}.",
            why="costax reads sums and products of integers and names, floor division and powers.",
            cure="Write for example b*h, s + 1, s//2, 3*s^2 or max(s, 8).",
        )

    def advance(self) -> None:
        rest = self.text[self.position :]
        found = _TOKEN.match(rest)
        if rest.strip() and not found:
            raise self.wrong(f"{rest.strip()[0]!r} has no meaning there")
        self.token = None
        if found and found.lastgroup:
            self.token = found.lastgroup, found[found.lastgroup]
            self.position += found.end()

    def takes(self, *signs: str) -> str:
        if self.token is not None and self.token[0] == "sign" and self.token[1] in signs:
            sign = self.token[1]
            self.advance()
            return sign
        return ""

    def sum(self) -> Any:
        total = self.term()
        while sign := self.takes("+", "-"):
            term = self.term()
            total = total + term if sign == "+" else total - term
        return total

    def term(self) -> Any:
        if self.takes("-"):
            return -self.term()
        product = self.power()
        while sign := self.takes("*", "//", "%", "/"):
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
                raise self.wrong("only a number divides exactly; // divides and rounds down")
        return product

    def power(self) -> Any:
        base = self.atom()
        if self.takes("^", "**"):
            exponent = self.atom()
            if not isinstance(exponent, int) or exponent < 0:
                raise self.wrong("an exponent is a non-negative integer")
            return base**exponent
        return base

    def atom(self) -> Any:
        if self.takes("("):
            inner = self.sum()
            self.closed()
            return inner
        if self.token is None or self.token[0] == "sign":
            raise self.wrong("it ends too early" if self.token is None else f"{self.token[1]!r} is not expected there")
        kind, word = self.token
        self.advance()
        if kind == "number":
            return int(word)
        if kind == "name" and self.takes("("):
            return self.call(word)
        return symbol(word, self.least.get(word, 1))

    def call(self, name: str) -> Any:
        if name not in FUNCTIONS and name not in _CALLS:
            raise self.wrong(f"there is no function {name!r}")
        operands = [self.sum()]
        while self.takes(","):
            operands.append(self.sum())
        self.closed()
        return _CALLS[name](*operands) if name in _CALLS else applied(name, *operands)

    def closed(self) -> None:
        if not self.takes(")"):
            raise self.wrong("a parenthesis is not closed")


@operation
def to_sympy(count: Polynomial) -> Any:
    """Return a polynomial as a sympy expression; its symbols are integers, and positive where theirs are."""
    try:
        import sympy  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise SymbolError(
            "sympy is not installed.",
            why="to_sympy() makes an expression of that library.",
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

    def made(part: Any) -> Any:
        if not isinstance(part, Polynomial):
            return api.Integer(part)
        total: Any = api.Integer(0)
        for monomial, coefficient in part.terms.items():
            term: Any = api.Rational(coefficient.numerator, coefficient.denominator)
            for atom, exponent in monomial:
                if atom.function:
                    factor: Any = functions[atom.function](*map(made, atom.operands))
                else:
                    bound = {"positive": True} if atom.least > 0 else {"nonnegative": True}
                    factor = api.Symbol(atom.text.strip('"'), integer=True, **bound)
                term *= factor**exponent
            total += term
        return total

    return made(count)
