"""Polynomial: an exact count that depends on symbols, such as `55296*b*s^2 + 370596096*b*s`.

A polynomial is a sum of monomials with integer or rational coefficients. Its atoms are symbols (a batch size `b`, the
length of a loop `solver/while`) and functions of polynomials that are none themselves: `floordiv`, `max`, `min` and
logarithms that are rounded up. It adds, multiplies and divides as an integer does; an operation whose result is a
plain integer returns one, so that `Polynomial` is only ever what depends on something. Equal polynomials have equal
texts, and a text reads back (`costax.expressions.parsed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import product
from math import gcd, lcm
from typing import Any, Final, cast

from costax import logarithms
from costax.errors import Undecided

Number = int | Fraction
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/")
# Residues that are tried to see whether a polynomial is divisible everywhere.
_RESIDUES: Final = 4096

FUNCTIONS: Final[Mapping[str, Callable[..., int]]] = {
    "floordiv": lambda a, b: a // b,
    "max": max,
    "min": min,
    "ceil_log2": logarithms.ceil_log2,
    "ceil_log2_of_power": logarithms.ceil_log2_of_power,
}


class Atom:
    """A symbol with the least value that it takes, or a function of operands. Atoms of one text are equal."""

    __slots__ = ("_hash", "function", "least", "operands", "text")

    def __init__(self, text: str, least: int = 1, function: str = "", operands: tuple[Any, ...] = ()) -> None:
        """Take what `symbol` and `applied` worked out."""
        self.text = text
        self.least = least
        self.function = function
        self.operands = operands
        self._hash = hash(text)

    def __hash__(self) -> int:
        """Hash the text."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return self is other or (isinstance(other, Atom) and self.text == other.text)

    def __repr__(self) -> str:
        """Show the text."""
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the parts."""
        return Atom, (self.text, self.least, self.function, self.operands)


Monomial = tuple[tuple[Atom, int], ...]
Terms = dict[Monomial, Number]


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
        return floordiv(self, other) if isinstance(other, Polynomial | int) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        """Divide a number and round down."""
        return floordiv(other, self) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        """Return what a division leaves: a - b * (a // b), the only form in which a remainder is kept."""
        return self - other * floordiv(self, other) if isinstance(other, Polynomial | int) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        """Return what the division of a number leaves."""
        return other - self * floordiv(other, self) if isinstance(other, int) else NotImplemented

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
        return _decided(self, other, ">=")

    def __le__(self, other: Any) -> bool:
        """Say whether it is at most as large everywhere, or nowhere; raises Undecided otherwise."""
        return _decided(other, self, ">=", swapped=True)

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
        from costax.points import checked

        return self.value(checked(self, *args, **kwargs))

    def over(self, *args: Mapping[str, Any], exact: bool = False, **kwargs: Any) -> Any:
        """Return the values at many points, as a numpy array: `p.over(b=[1, 8], s=[512, 1024])`.

        Values broadcast against each other. exact: as Python integers; else in double precision, 53 bits.
        """
        from costax.arrays import over

        return over(self, *args, exact=exact, **kwargs)

    def degree(self, name: str) -> int:
        """Return the highest power of a symbol; a rounded division counts as the division, a logarithm as 0.

        >>> (symbol("s") ** 2 * symbol("b") + symbol("s") // 2).degree("s")
        2
        """
        return max(sum(_degree(atom, name) * exponent for atom, exponent in monomial) for monomial in self.terms)

    def to_sympy(self) -> Any:
        """Return the same as a sympy expression of positive integers (needs costax[sympy])."""
        from costax.expressions import to_sympy

        return to_sympy(self)

    def __str__(self) -> str:
        """Return the canonical text: highest powers first."""
        if self._text is None:
            self._text = _text(self, str)
        return self._text

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        """Format as text; `,` groups the digits of the coefficients."""
        return _text(self, _grouped) if spec == "," else format(str(self), spec)

    def text(self, number: Callable[[Any], str]) -> str:
        """Return the text with its coefficients (their sizes, without signs) as a function writes them."""
        return _text(self, number)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the terms."""
        return Polynomial, (self.terms,)


Count = int | Polynomial


def symbol(name: str, least: int = 1) -> Any:
    """Return a symbol whose value is at least `least`."""
    return Polynomial({((Atom(_quoted(name), least), 1),): 1})


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


def floordiv(a: Any, b: Any) -> Any:
    """Return a // b: exactly where b divides a everywhere, else with a `floordiv` of what does not divide."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 0:
        raise ZeroDivisionError("integer division by zero")
    if isinstance(b, int):
        return _by_number(a, b)
    if a == 0:
        return 0
    if isinstance(a, Polynomial):
        quotient = _exact_quotient(a, b)
        if quotient is not None:
            return quotient
    return applied("floordiv", a, b)


def maximum(*counts: Any) -> Any:
    """Return the largest: one of them where the order is the same everywhere, else a `max`."""
    return _extreme("max", counts)


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


def _decided(a: Any, b: Any, relation: str, *, swapped: bool = False) -> bool:
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


def _by_number(a: Polynomial, b: int) -> Any:
    if b < 0:
        return floordiv(-a, -b)
    if _divides_everywhere(a, b):
        return a * Fraction(1, b)
    # Whole multiples of b come out, and what is left has coefficients from -b/2 to b/2, the first one positive.
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
        # floor((g*p + r) / (g*k)) is floor((p + r // g) / k), and whole multiples of k come out
        left = (left - constant) * Fraction(1, common)
        constant, b = constant // common, b // common
        return left + constant if b == 1 else applied("floordiv", left + constant % b, b) + constant // b
    return applied("floordiv", left, b)


def _only_division(p: Polynomial) -> Atom | None:
    """Return the division of `floordiv(a, k) + c` where k is a number, else None."""
    others = [monomial for monomial in p.terms if monomial]
    if len(others) != 1 or len(others[0]) != 1 or p.terms[others[0]] != 1:
        return None
    atom, exponent = others[0][0]
    divides = exponent == 1 and atom.function == "floordiv" and isinstance(atom.operands[1], int)
    return atom if divides else None


def _is_integral(p: Polynomial) -> bool:
    return all(isinstance(coefficient, int) for coefficient in p.terms.values())


def _divides_everywhere(p: Polynomial, k: int) -> bool:
    """Say whether k divides every value of p, its atoms being any integers: p is periodic modulo k (times q)."""
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
    """Return a / b where that is a polynomial with integer coefficients, else None: long division by leading terms."""
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
    # A monomial order: total degree, then the powers of the atoms in the order of their names.
    powers = sorted((atom.text, exponent) for atom, exponent in monomial)
    return sum(exponent for _, exponent in monomial), [(_Reversed(text), exponent) for text, exponent in powers]  # type: ignore[misc]


class _Reversed(str):
    """A text that sorts backwards: the first of the names leads."""

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
        return values[_unquoted(atom.text)]
    operands = [o.value(values) if isinstance(o, Polynomial) else o for o in atom.operands]
    if all(isinstance(operand, int) for operand in operands):
        return FUNCTIONS[atom.function](*operands)
    if any(isinstance(operand, Polynomial) for operand in operands):
        made: Mapping[str, Callable[..., Any]] = {"floordiv": floordiv, "max": maximum, "min": minimum}
        return made.get(atom.function, lambda *o: applied(atom.function, *o))(*operands)
    from costax.arrays import elementwise

    return elementwise(atom.function, operands)


def _degree(atom: Atom, name: str) -> int:
    if not atom.function:
        return int(_unquoted(atom.text) == name)
    degrees = [o.degree(name) if isinstance(o, Polynomial) else 0 for o in atom.operands]
    if atom.function == "floordiv":
        return max(degrees[0] - degrees[1], 0)
    return max(degrees) if atom.function in ("max", "min") else 0


def _quoted(name: str) -> str:
    bare = name and not name[0].isdigit() and "//" not in name and set(name) <= _BARE and name not in FUNCTIONS
    return name if bare else f'"{name}"'


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith('"') else text


# Text.


def _grouped(coefficient: Number) -> str:
    return f"{coefficient:,}" if isinstance(coefficient, int) else str(coefficient)


def weight(count: Any) -> Any:
    """Return a number to sort counts by: the value where every symbol is 1024."""
    if not isinstance(count, Polynomial):
        return count
    return Fraction(wrapped(count.value(dict.fromkeys(count.symbols, 1024))).terms.get((), 0))


def _text(p: Polynomial, number: Callable[[Any], str]) -> str:
    ordered = sorted(p.terms, key=lambda m: (-sum(e for _, e in m), _monomial_text(m)))
    parts: list[str] = []
    for monomial in ordered:
        coefficient = p.terms[monomial]
        size = abs(coefficient)
        digits = number(size)
        name = _monomial_text(monomial)
        term = digits if not name else name if size == 1 else f"{digits}*{name}"
        if parts:
            parts.append(f"{'-' if coefficient < 0 else '+'} {term}")
        else:
            parts.append(f"-{term}" if coefficient < 0 else term)
    return " ".join(parts) or "0"


def _monomial_text(monomial: Monomial) -> str:
    return "*".join(atom.text if exponent == 1 else f"{atom.text}^{exponent}" for atom, exponent in monomial)
