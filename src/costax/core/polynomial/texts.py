"""Polynomials as canonical text: highest powers first, then by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from costax.core.polynomial.atoms import Monomial, Number


def text(terms: Mapping[Monomial, Number], number: Callable[[Any], str]) -> str:
    """Return the text of some terms; `number` formats the absolute value of each coefficient."""
    ordered = sorted(terms, key=lambda m: (-sum(e for _, e in m), _monomial_text(m)))
    parts: list[str] = []
    for monomial in ordered:
        coefficient = terms[monomial]
        size = abs(coefficient)
        digits = number(size)
        name = _monomial_text(monomial)
        term = digits if not name else name if size == 1 else f"{digits}*{name}"
        if parts:
            parts.append(f"{'-' if coefficient < 0 else '+'} {term}")
        else:
            parts.append(f"-{term}" if coefficient < 0 else term)
    return " ".join(parts) or "0"


def grouped(coefficient: Number) -> str:
    """Return a number with thousands separators."""
    return f"{coefficient:,}" if isinstance(coefficient, int) else str(coefficient)


def _monomial_text(monomial: Monomial) -> str:
    return "*".join(atom.text if exponent == 1 else f"{atom.text}^{exponent}" for atom, exponent in monomial)
