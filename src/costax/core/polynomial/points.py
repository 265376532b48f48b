"""Values of symbols: checked before they are used."""

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
    """What the symbols of an analysis obey: how a difference relates to 0 (">=", "==", "!="), and the words for it."""

    text: str
    difference: Any
    relation: str = ">="

    def holds(self, values: Mapping[str, Any]) -> Any:
        """Say whether it holds at a point; an array for arrays."""
        value = self.difference.value(values) if isinstance(self.difference, Polynomial) else self.difference
        return value >= 0 if self.relation == ">=" else value == 0 if self.relation == "==" else value != 0


@operation
def checked(
    found: Polynomial | Iterable[Atom],
    *args: Mapping[str, Any],
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> dict[str, int]:
    """Return the value of every symbol as an integer.

    found: a polynomial, or symbols. known: further names that may be given. Raises SymbolError.
    """
    given = values_given(args, kwargs)
    atoms = atoms_by_name(found)
    check_names(given, atoms, known)
    values: dict[str, int] = {}
    for name, value in given.items():
        values[name] = _integer(name, value)
        least = atoms[name].least if name in atoms else 1
        if values[name] < least:
            raise too_small(name, values[name], least)
    for condition in conditions:
        if not condition.holds(values):
            raise broken(condition, values)
    return values


def values_given(args: tuple[Mapping[str, Any], ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of mappings and keywords together, by name."""
    given: dict[str, Any] = {}
    for mapping in args:
        if not isinstance(mapping, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SymbolError(
                f"{mapping!r} gives no symbol a value.",
                why="Values come by name.",
                cure='Write evaluate(b=8, s=2048), or evaluate({"solver/while": 40}, b=8).',
            )
        given.update(mapping)
    return {**given, **kwargs}


def atoms_by_name(found: Polynomial | Iterable[Atom]) -> dict[str, Atom]:
    """Return symbols by their names."""
    leaves = found.leaves() if isinstance(found, Polynomial) else found
    return {atom.text.strip('"'): atom for atom in leaves}


def check_names(given: Mapping[str, Any], atoms: Mapping[str, Atom], known: Iterable[str]) -> None:
    """Raise SymbolError for symbols without a value, and for names that are no symbols."""
    missing = sorted(set(atoms) - set(given))
    if missing:
        example = ", ".join(f"{name}=8" if name.isidentifier() else f"**{{{name!r}: 8}}" for name in missing)
        raise SymbolError(
            f"{_listed(missing)} {'has' if len(missing) == 1 else 'have'} no value.",
            where=f"symbols: {', '.join(sorted(atoms))}",
            why="A formula is a number only where each of its symbols is one.",
            cure=f"Give it: evaluate({example}).",
        )
    unknown = sorted(set(given) - set(atoms) - set(known))
    if unknown:
        names = sorted({*atoms, *known})
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise SymbolError(
            f"There is no symbol {_listed(unknown)}.",
            where=f"symbols: {', '.join(names) or 'none'}",
            why="Its value would change nothing.",
            cure=f"Did you mean {near[0]}?" if near else "Leave it out, or name one of these symbols.",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool | Polynomial) or not hasattr(value, "__index__"):
        raise no_integer(name, value)
    try:
        return operator.index(value)
    except TypeError as error:
        raise no_integer(name, value) from error


def no_integer(name: str, value: Any) -> SymbolError:
    """Return the error for a value that is no whole number."""
    return SymbolError(
        f"{name}={value!r} is not an integer.",
        why="Sizes and trip counts are whole numbers.",
        cure=f"Give a whole number, {name}=8, or for many points a list or array of them: `over` and `evaluate_many`.",
    )


def too_small(name: str, value: int, least: int) -> SymbolError:
    """Return the error for a value below the least that a symbol takes."""
    return SymbolError(
        f"{name}={value} is too small: it is at least {least}.",
        why="The formula is of a program in which it is."
        if least > 0
        else "A loop does not run less often than never.",
        cure=f"Give a value of at least {least}."
        + (" A program for less may be another one: analyse it." if least else ""),
    )


def broken(condition: Condition, values: Mapping[str, Any]) -> SymbolError:
    """Return the error for a point at which a condition does not hold."""
    point = ", ".join(f"{name}={value}" for name, value in values.items())
    return SymbolError(
        f"{condition.text} does not hold at {point}.",
        why="The formula is of a program in which it does.",
        cure="Give other values, or analyse the program at these sizes.",
    )


def as_number(value: Any) -> Any:
    """Return a value that came out of a polynomial as a number: an integer, or a Fraction where it is none."""
    return cast(Fraction, value.terms.get((), 0)) if isinstance(value, Polynomial) and not value.symbols else value
