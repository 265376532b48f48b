"""Values of symbols, checked before a polynomial is evaluated; the errors for wrong ones."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, cast

from costax.core.polynomial.algebra import Polynomial, operation
from costax.core.polynomial.atoms import Atom
from costax.errors import SymbolError


class Condition(NamedTuple):
    """A condition on the symbols of an analysis: the relation of a difference to 0 (">=", "==" or "!=").

    text: the condition as the user reads it, such as `s >= 2`.
    """

    text: str
    difference: Any
    relation: str = ">="

    def holds(self, values: Mapping[str, Any]) -> Any:
        """Say whether the condition holds at a point; an array of booleans if the values are arrays."""
        value = self.difference.value(values) if isinstance(self.difference, Polynomial) else self.difference
        return value >= 0 if self.relation == ">=" else value == 0 if self.relation == "==" else value != 0


@operation
def checked_values(
    symbols: Polynomial | Iterable[Atom],
    *args: Mapping[str, Any],
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> dict[str, int]:
    """Return the value of every symbol as an integer.

    symbols: a polynomial, or its symbols. conditions: must hold. known: further names that may have values. Raises
    SymbolError.
    """
    values_by_name = merged_values(args, kwargs)
    atoms = atoms_by_name(symbols)
    check_names(values_by_name, atoms, known)
    values: dict[str, int] = {}
    for name, value in values_by_name.items():
        values[name] = _integer(name, value)
        least = atoms[name].least if name in atoms else 1
        if values[name] < least:
            raise too_small(name, values[name], least)
    for condition in conditions:
        if not condition.holds(values):
            raise broken_condition(condition, values)
    return values


def merged_values(args: tuple[Mapping[str, Any], ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of mappings and of keywords in one dictionary, by name."""
    merged: dict[str, Any] = {}
    for mapping in args:
        if not isinstance(mapping, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SymbolError(
                f"Symbol values must be keyword arguments or a mapping, got {mapping!r}.",
                why="costax assigns each value to a symbol by its name.",
                cure='Write evaluate(b=8, s=2048), or evaluate({"solver/while": 40}, b=8).',
            )
        merged.update(mapping)
    return {**merged, **kwargs}


def atoms_by_name(symbols: Polynomial | Iterable[Atom]) -> dict[str, Atom]:
    """Return the symbols of a polynomial, or some symbols, by name."""
    leaves = symbols.leaves() if isinstance(symbols, Polynomial) else symbols
    return {atom.text.strip('"'): atom for atom in leaves}


def check_names(values: Mapping[str, Any], atoms: Mapping[str, Atom], known: Iterable[str]) -> None:
    """Raise SymbolError for symbols without a value, and for names that are neither symbols nor known."""
    missing = sorted(set(atoms) - set(values))
    if missing:
        example = ", ".join(f"{name}=8" if name.isidentifier() else f"**{{{name!r}: 8}}" for name in missing)
        raise SymbolError(
            f"{_listed(missing)} {'has' if len(missing) == 1 else 'have'} no value.",
            where=f"symbols: {', '.join(sorted(atoms))}",
            why="costax can evaluate a formula only if every symbol has a value.",
            cure=f"Add the missing values: evaluate({example}).",
        )
    unknown = sorted(set(values) - set(atoms) - set(known))
    if unknown:
        names = sorted({*atoms, *known})
        matches = difflib.get_close_matches(unknown[0], names, n=1)
        raise SymbolError(
            f"There is no symbol {_listed(unknown)}.",
            where=f"symbols: {', '.join(names) or 'none'}",
            why="The value would have no effect.",
            cure=f"Did you mean {matches[0]}?" if matches else "Leave it out, or name one of these symbols.",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool | Polynomial) or not hasattr(value, "__index__"):
        raise not_an_integer(name, value)
    try:
        return operator.index(value)
    except TypeError as error:
        raise not_an_integer(name, value) from error


def not_an_integer(name: str, value: Any) -> SymbolError:
    """Return the error for a value that is not an integer."""
    return SymbolError(
        f"{name}={value!r} is not an integer.",
        why="Sizes and trip counts are integers.",
        cure=f"Pass an integer, as in {name}=8; for many points at once, pass lists or arrays to `evaluate_many`.",
    )


def too_small(name: str, value: int, least: int) -> SymbolError:
    """Return the error for a value below the lower bound of a symbol."""
    return SymbolError(
        f"{name}={value} is too small: {name} must be at least {least}.",
        why=f"The formula comes from a trace in which {name} is at least {least}; smaller sizes may trace differently."
        if least > 0
        else "The trip count of a loop cannot be negative.",
        cure=f"Pass a value of at least {least}"
        + (f", or analyse the program again at {name}={value}." if value > 0 else "."),
    )


def broken_condition(condition: Condition, values: Mapping[str, Any]) -> SymbolError:
    """Return the error for a point at which a condition does not hold."""
    point = ", ".join(f"{name}={value}" for name, value in values.items())
    return SymbolError(
        f"The condition {condition.text} does not hold at {point}.",
        why="The formula comes from a trace in which the condition holds; the program may differ where it does not.",
        cure="Pass other values, or analyse the program again at these sizes.",
    )


def as_number(value: Any) -> Any:
    """Return the value of a polynomial as a number: an int, or a Fraction if it is not an integer."""
    return cast(Fraction, value.terms.get((), 0)) if isinstance(value, Polynomial) and not value.symbols else value
