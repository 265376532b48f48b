"""Numbers as text, and back: "3.6 GFLOP", "1.81 GMAC", "24 GiB".

Only this module turns numbers into text for people, and such text into numbers. People read three significant digits;
`exact` gives every digit, with thousands separators.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

from costax.core.cost import Count
from costax.core.polynomial import Polynomial
from costax.errors import UnitError

_DECIMAL: Final = ("", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q")
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi", "Ri", "Qi")
_FACTORS: Final = {
    **{prefix: 1000**power for power, prefix in enumerate(_DECIMAL)},
    **{prefix: 1024**power for power, prefix in enumerate(_BINARY)},
    "K": 1000,
}
_THREE_DIGITS: Final = Context(prec=3)
# Numbers have at most 100 characters and exponents three digits: 1e9999999 must not fill the memory, and Python prints
# no integer of more than 4,300 digits.
_LONGEST: Final = 100
_NUMBER: Final = re.compile(r"(?P<number>\d[\d_,]*(?:\.\d+)?(?:e[+-]?\d{1,3})?)\s*(?P<suffix>[A-Za-z]*)", re.ASCII)


def exact(count: Count, unit: str = "") -> str:
    """Return every digit, in groups of three.

    >>> exact(1814073344), exact(-1200, "B")
    ('1,814,073,344', '-1,200 B')
    """
    if isinstance(count, Polynomial) and len(count.terms) > 1 and unit:
        return f"({count:,}) {unit}"
    return f"{count:,} {unit}".rstrip()


def short(count: Count, unit: str = "") -> str:
    """Return three significant digits with a decimal prefix.

    >>> short(1814073344, "MAC"), short(999_999), short(0, "FLOP"), short(-1500)
    ('1.81 GMAC', '1 M', '0 FLOP', '-1.5 k')

    A formula keeps its form, and three digits of each coefficient: `55.3k*b*s^2 + 371M*b*s`.
    """
    return _scaled(count, unit, 1000, _DECIMAL)


def signed(count: Count) -> str:
    """Return three significant digits with a sign; an empty text for 0.

    >>> signed(1500), signed(-2_000_000), signed(0)
    ('+1.5 k', '-2 M', '')
    """
    if isinstance(count, Polynomial):
        return short(count)
    return f"{'+' if count > 0 else ''}{short(count)}" if count else ""


def short_bytes(count: Count) -> str:
    """Return three significant digits of bytes with a binary prefix.

    >>> short_bytes(24 * 1024**3), short_bytes(1000), short_bytes(999)
    ('24 GiB', '0.977 KiB', '999 B')
    """
    return _scaled(count, "B", 1024, _BINARY)


def seconds(value: float) -> str:
    """Return three significant digits of seconds, with a unit that people read.

    >>> seconds(0.00123), seconds(90.0), seconds(2.5e-7), seconds(7200), seconds(0)
    ('1.23 ms', '90 s', '250 ns', '2 h', '0 s')
    """
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if abs(value) >= size * (2 if unit == "d" else 1):
            return f"{float(f'{value / size:.3g}'):,.10g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0 s"


def rate(value: float, unit: str = "") -> str:
    """Return three significant digits of a rate with a decimal prefix.

    >>> rate(989.4e12, "FLOP/s"), rate(12345.6), rate(0.25)
    ('989 TFLOP/s', '12.3 k', '0.25')
    """
    return f"{float(f'{value:.3g}'):g} {unit}".rstrip() if abs(value) < 1000 else short(round(value), unit)


def percent(part: float) -> str:
    """Return a share in percent with two decimals; of a smaller one two digits.

    >>> percent(0.2781), percent(0.000107), percent(0)
    ('27.81%', '0.011%', '0.00%')
    """
    digits = f"{100 * part:.2g}"
    # Not `1.2e-07`, which nobody compares with a percentage.
    return f"{part:.2%}" if abs(part) >= 1e-3 or not part else f"{Decimal(digits):f}%"


def share(part: Count, whole: Count) -> str:
    """Return a part as a percentage of the whole with one decimal; "-" of nothing.

    >>> share(1, 3), share(3, 3), share(1, 10**6), share(1, 0)
    ('33.3', '100.0', '0.0', '-')

    Of a formula, the percentage that it is everywhere; "-" where that depends on the symbols.
    """
    if not whole:
        return "-"
    if isinstance(whole, Polynomial):
        ratio = _ratio(part, whole)
        if ratio is None:
            return "-"
        part, whole = ratio.numerator, ratio.denominator
    elif isinstance(part, Polynomial):
        return "-"
    tenths = (abs(part) * 2000 + abs(whole)) // (2 * abs(whole))
    sign = "-" if (part < 0) != (whole < 0) and tenths else ""
    return f"{sign}{tenths // 10}.{tenths % 10}"


def parse(text: str, unit: str) -> int:
    """Return the count that a text such as "4 GFLOP", "2 GiB" or "1,000" stands for, rounded to an integer.

    Otherwise as `parse_exact`.

    >>> parse("3.6 GFLOP", "FLOP"), parse("2 GiB", "B"), parse("1.5k", "MAC"), parse("4 GFLOPs", "FLOP")
    (3600000000, 2147483648, 1500, 4000000000)
    """
    return round(parse_exact(text, unit))


def parse_exact(text: str, unit: str) -> Fraction:
    """Return the number that a text such as "4 GFLOP", "2 GiB" or "1,000" stands for.

    unit: "FLOP", "MAC", "OP" or "B"; it is optional in the text, and may have a plural s.
    Raises UnitError if the text is not a number of this unit.

    >>> parse_exact("1.5k", ""), parse_exact("1.5", "")
    (Fraction(1500, 1), Fraction(3, 2))
    """
    stripped = text.strip()
    negative = stripped.startswith("-")
    match = _NUMBER.fullmatch(stripped.removeprefix("-")) if len(stripped) <= _LONGEST else None
    factor = _factor(match["suffix"], unit) if match else None
    if match is None or factor is None:
        raise UnitError(
            f"{text[:_LONGEST]!r} is not a number{unit and f' of {unit}'}.",
            why=f"costax reads a number and a prefix (k M G T ... or Ki Mi Gi ...){unit and f', and {unit}'}.",
            cure=f'Write for example "4 G{unit}", "2.5 M{unit}" or "1,000".',
        )
    number = Fraction(Decimal(match["number"].replace(",", "").replace("_", ""))) * factor
    return -number if negative else number


def _factor(suffix: str, unit: str) -> int | None:
    if suffix in _FACTORS:
        return _FACTORS[suffix]
    for ending in (f"{unit}s", unit) if unit else ():
        if suffix.endswith(ending):
            return _FACTORS.get(suffix.removesuffix(ending))
    return None


def _ratio(part: Count, whole: Polynomial) -> Fraction | None:
    """Return part / whole if the ratio is the same for all values of the symbols, else None."""
    if not isinstance(part, Polynomial):
        return Fraction(0) if part == 0 else None
    first = next(iter(whole.terms))
    ratio = Fraction(part.terms.get(first, 0)) / whole.terms[first]
    return ratio if whole * ratio == part else None


def _formula(count: Polynomial, unit: str, base: int, prefixes: tuple[str, ...]) -> str:
    scaled = count.text(lambda coefficient: _scaled(coefficient, "", base, prefixes).replace(" ", ""))
    return f"({scaled}) {unit}" if unit and len(count.terms) > 1 else f"{scaled} {unit}".rstrip()


def _scaled(count: Count, unit: str, base: int, prefixes: tuple[str, ...]) -> str:
    if isinstance(count, Polynomial):
        return _formula(count, unit, base, prefixes)
    if isinstance(count, Fraction):
        return str(count)
    # 999,999 rounds to 1 M and not to 1000 k: the prefix follows the rounded number.
    for power, prefix in enumerate(prefixes):
        rounded = _THREE_DIGITS.divide(Decimal(count), Decimal(base**power))
        if power == 0 and abs(count) < 1000:
            return f"{count} {unit}".rstrip()
        if power and abs(rounded) < 1000:
            return f"{rounded.normalize():f} {prefix}{unit}".rstrip()
    plain = _THREE_DIGITS.plus(Decimal(count)).normalize()
    return f"{plain:e} {unit}".replace("e+", "e").rstrip()
