"""What an analysis with symbols answers: formulas, values, degrees, and where one scope overtakes another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from costax.core.cost import FIELDS, Cost
from costax.core.equation import Operand
from costax.core.polynomial import Polynomial, as_polynomial, symbol, symbol_values
from costax.errors import SymbolError
from costax.program.tree import Unknown

if TYPE_CHECKING:
    from costax.analysis.counts import Counts
    from costax.core.size import Size

C = TypeVar("C", bound="Counts")
_BY: Final = ("scope", "primitive", "source", "dtype", "direction")
_PARAMETERS: Final = ("params", "param_bytes")


def field_of(analysis: Counts, field: str) -> Any:
    """Return the count that a field names: one of `FIELDS`, or `params` and `param_bytes`. Raises SymbolError."""
    if field in _PARAMETERS:
        return getattr(analysis, field) or 0
    check_field(field)
    return getattr(analysis.total, field)


def check_field(field: str) -> None:
    """Raise SymbolError for a field that no cost has."""
    if field not in FIELDS:
        names = (*FIELDS, *_PARAMETERS)
        near = difflib.get_close_matches(field, names, n=1)
        raise SymbolError(
            f"{field!r} names no field.",
            why=f"An analysis has: {', '.join(names)}.",
            cure=f"Did you mean {near[0]!r}?" if near else 'Ask for example for "flops".',
        )


def formula(analysis: Counts, field: str, by: str | None, depth: int | None) -> Any:
    """Return a field as a polynomial, or one for each line of a table; see `Analysis.formula`."""
    if by is None:
        return as_polynomial(field_of(analysis, field))
    check_field(field)
    if by not in _BY:
        raise SymbolError(
            f"by={by!r} names no table.", why=f"There are tables by: {', '.join(_BY)}.", cure='Pass by="scope".'
        )
    table = analysis.by_scope(depth) if by == "scope" else getattr(analysis, f"by_{by}")()
    return {label: as_polynomial(getattr(cost, field)) for label, cost in cast("dict[str, Cost]", table).items()}


def evaluate(analysis: C, *args: Mapping[str, Any], **kwargs: Any) -> C:
    """Return the analysis at a point, where every count is an integer; see `Analysis.evaluate`."""
    values = symbol_values.checked_values(
        analysis.atoms.values(), *args, conditions=analysis.conditions, known=analysis.symbols, **kwargs
    )
    small = ones(analysis, values)
    if not small:
        return at(analysis, values)
    if analysis.concrete is None:
        raise SymbolError(
            f"At {_listed(values)} {small[0]} is 1, and the program may be another one there.",
            why="jax leaves out what broadcasts nothing, so that programs with a size of 1 have formulas of their own; "
            "a record has no program to analyse, nor has one that was traced with symbols already.",
            cure="Analyse the program at these sizes.",
        )
    exact = analysis.concrete({name: value for name, value in values.items() if name not in _loops(analysis)})
    return replace(at(exact, values), point=values)


def ones(analysis: Counts, values: Mapping[str, int]) -> list[str]:
    """Return the sizes of the program that are 1 at a point."""
    loops = {name: symbol(name) for name in _loops(analysis)}
    sizes = (x for x in analysis.extents if isinstance(x, Polynomial))
    return [str(x) for x in sizes if x.value({**loops, **values}) == 1]


def _loops(analysis: Counts) -> set[str]:
    return {unknown.place for unknown in analysis.unknowns}


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def at(analysis: C, values: Mapping[str, Any]) -> C:
    """Return the analysis with something in the place of its symbols; the values are not checked."""
    if not analysis.symbols:
        return analysis
    memo: dict[int, Cost] = {}
    alive: list[Cost] = []

    def of(count: Any) -> Any:
        return count.value(values) if isinstance(count, Polynomial) else count

    def cost(found: Cost) -> Cost:
        if id(found) not in memo:
            memo[id(found)] = Cost({key: of(count) for key, count in found.items()})
            alive.append(found)
        return memo[id(found)]

    def size(found: Size) -> Size:
        return type(found)(of(found.elements), of(found.nbytes))

    return replace(
        analysis,
        total=cost(analysis.total),
        inputs=tuple((path, Operand(tuple(map(of, x.shape)), x.dtype)) for path, x in analysis.inputs),
        unknowns=tuple(Unknown(u.place, u.source, of(u.assumed), answered=True) for u in analysis.unknowns),
        parameters=None
        if analysis.parameters is None
        else {key: size(found) for key, found in analysis.parameters.items()},
        per_device=cost(analysis.per_device),
        tree=None,
        dead_part=lambda: cost(analysis.dead_code),
        saved_rows={row: cost(found) for row, found in analysis.rows.items()},
        conditions=(),
        extents=(),
        concrete=None,
        point={**dict(analysis.point), **values},
    )


def evaluate_many(
    analysis: Counts, fields: Sequence[str], *args: Mapping[str, Any], exact: bool, **kwargs: Any
) -> dict[str, Any]:
    """Return arrays of fields at many points; see `Analysis.evaluate_many`."""
    from costax.core.polynomial import evaluate_numpy

    counts = {field: field_of(analysis, field) for field in fields}
    values = evaluate_numpy.checked_arrays(
        analysis.atoms.values(),
        *args,
        exact=exact,
        conditions=analysis.conditions,
        known=analysis.symbols,
        **kwargs,
    )
    _check_ones(analysis, counts, values)
    return {field: evaluate_numpy.evaluate_arrays(count, values, exact=exact) for field, count in counts.items()}


def _check_ones(analysis: Counts, counts: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise SymbolError where, at points with a size of 1, the program is not the one that the formulas are of."""
    from costax.core.polynomial import evaluate_numpy

    looked: set[frozenset[str]] = set()
    for extent in analysis.extents:
        for point in evaluate_numpy.points_where_one(extent, values):
            small = frozenset(ones(analysis, point))
            if small in looked:
                continue
            looked.add(small)
            there = evaluate(analysis, point)
            for field, count in counts.items():
                found = count.value(point) if isinstance(count, Polynomial) else count
                if found != field_of(there, field):
                    raise SymbolError(
                        f"At {_listed(point)} {extent} is 1, and the program another one: its {field} are "
                        f"{field_of(there, field)}, not {found}.",
                        why="jax leaves out what broadcasts nothing: programs with a size of 1 have other formulas.",
                        cure="Leave such points out, or evaluate() them one by one: that analyses the program itself.",
                    )


def check_symbol(analysis: Counts, name: str) -> None:
    """Raise SymbolError for a symbol that an analysis does not have."""
    if name not in analysis.symbols:
        near = difflib.get_close_matches(name, analysis.symbols, n=1)
        raise SymbolError(
            f"There is no symbol `{name}`.",
            where=f"symbols: {', '.join(analysis.symbols) or 'none'}",
            why="Degrees and crossovers are those of one symbol.",
            cure=f"Did you mean {near[0]}?" if near else 'Name one in a spec: costax.spec("i32[b,s]").',
        )
