"""Questions to an analysis with symbols: formulas, and values at one point or at many."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
    """Return a count by name: one of `FIELDS`, `params` or `param_bytes`. Raises SymbolError for another name."""
    if field in _PARAMETERS:
        return getattr(analysis, field) or 0
    check_field(field)
    return getattr(analysis.total, field)


def check_field(field: str) -> None:
    """Raise SymbolError for a name that is not a field of a cost."""
    if field not in FIELDS:
        names = (*FIELDS, *_PARAMETERS)
        matches = difflib.get_close_matches(field, names, n=1)
        raise SymbolError(
            f"An analysis has no field {field!r}.",
            why=f"The fields are {', '.join(names)}.",
            cure=f"Did you mean {matches[0]!r}?" if matches else 'Use, for example, "flops".',
        )


def formula(analysis: Counts, field: str, by: str | None, depth: int | None) -> Any:
    """Return a field as a polynomial, or a polynomial for each line of a table; see `Analysis.formula`."""
    if by is None:
        return as_polynomial(field_of(analysis, field))
    check_field(field)
    if by not in _BY:
        raise SymbolError(
            f"by must be one of {', '.join(map(repr, _BY))}, got {by!r}.",
            why="`by` chooses the table whose lines have formulas.",
            cure='Pass, for example, by="scope".',
        )
    table = analysis.by_scope(depth) if by == "scope" else getattr(analysis, f"by_{by}")()
    return {label: as_polynomial(getattr(cost, field)) for label, cost in cast("dict[str, Cost]", table).items()}


def evaluate(analysis: C, *args: Mapping[str, Any], **kwargs: Any) -> C:
    """Return the analysis with integers for its symbols; see `Analysis.evaluate`."""
    values = symbol_values.checked_values(
        analysis.atoms.values(), *args, conditions=analysis.conditions, known=analysis.symbols, **kwargs
    )
    small = ones(analysis, values)
    # An interpolated formula is checked at some sizes; elsewhere the program may differ, as `if n > 100` does.
    if not small and not (analysis.exact_by == "interpolation" and analysis.concrete):
        return at(analysis, values)
    if analysis.concrete is None:
        raise SymbolError(
            f"At {_listed(values)} the size {small[0]} is 1, where the formulas may not hold.",
            why="jax omits broadcasts along a size of 1, so the program there has other counts. costax would trace the "
            "program at these sizes, but this analysis comes from a record or from a program traced with symbols.",
            cure="Analyse the original function at these sizes.",
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
    """Return the analysis with values (integers or polynomials) for its symbols; the values are not checked."""
    if not analysis.symbols:
        return analysis
    memo: dict[int, Cost] = {}
    # An id is unique only while its object lives, so every Cost whose id is a key of `memo` is kept alive.
    alive: list[Cost] = []

    def value(count: Any) -> Any:
        return count.value(values) if isinstance(count, Polynomial) else count

    def cost(symbolic: Cost) -> Cost:
        if id(symbolic) not in memo:
            memo[id(symbolic)] = Cost({key: value(count) for key, count in symbolic.items()})
            alive.append(symbolic)
        return memo[id(symbolic)]

    def size(symbolic: Size) -> Size:
        return type(symbolic)(value(symbolic.elements), value(symbolic.nbytes))

    return replace(
        analysis,
        total=cost(analysis.total),
        inputs=tuple((path, Operand(tuple(map(value, x.shape)), x.dtype)) for path, x in analysis.inputs),
        unknowns=tuple(Unknown(u.place, u.source, value(u.assumed), answered=True) for u in analysis.unknowns),
        parameters=None
        if analysis.parameters is None
        else {key: size(symbolic) for key, symbolic in analysis.parameters.items()},
        per_device=cost(analysis.per_device),
        tree=None,
        dead_part=lambda: cost(analysis.dead_code),
        saved_rows={row: cost(symbolic) for row, symbolic in analysis.rows.items()},
        conditions=(),
        extents=(),
        concrete=None,
        retrace=None if analysis.retrace is None else partial(_again, analysis.retrace, values),
        point={**dict(analysis.point), **values},
    )


def _again(retrace: Callable[[Mapping[str, Any]], Any], values: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
    return retrace({**values, **more})


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
    if analysis.exact_by == "interpolation" and analysis.concrete:
        for point in evaluate_numpy.extreme_points(values) if values else ():
            _check_point(analysis, counts, point)
    return {field: evaluate_numpy.evaluate_arrays(count, values, exact=exact) for field, count in counts.items()}


def _check_ones(analysis: Counts, counts: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise SymbolError if the formulas do not hold at a point where a size is 1.

    Each combination of sizes that are 1 is checked at one point, against the program traced there.
    """
    from costax.core.polynomial import evaluate_numpy

    checked: set[frozenset[str]] = set()
    for extent in analysis.extents:
        for point in evaluate_numpy.points_where_one(extent, values):
            small = frozenset(ones(analysis, point))
            if small in checked:
                continue
            checked.add(small)
            _check_point(analysis, counts, point, extent)


def _check_point(analysis: Counts, counts: Mapping[str, Any], point: Mapping[str, int], one: Any = None) -> None:
    """Raise SymbolError if a formula does not hold at a point. one: an extent that is 1 there."""
    exact_analysis = evaluate(analysis, point)
    for field, count in counts.items():
        by_formula = count.value(point) if isinstance(count, Polynomial) else count
        exact = field_of(exact_analysis, field)
        if by_formula != exact:
            raise SymbolError(
                f"At {_listed(point)} {'' if one is None else f'the size {one} is 1 and '}the formula does not hold: "
                f"the {field} of the program are {exact}, not {by_formula}.",
                why="The formula comes from analyses at other sizes, between which the program changes."
                if one is None
                else "jax omits broadcasts along a size of 1, so the program there has other counts.",
                cure="Leave out such points, or use evaluate() for each: it traces the program at the point.",
            )


def check_symbol(analysis: Counts, name: str) -> None:
    """Raise SymbolError for a symbol that an analysis does not have."""
    if name not in analysis.symbols:
        matches = difflib.get_close_matches(name, analysis.symbols, n=1)
        raise SymbolError(
            f"There is no symbol `{name}`.",
            where=f"symbols: {', '.join(analysis.symbols) or 'none'}",
            why="A degree or a crossover belongs to one symbol of the analysis.",
            cure=f"Did you mean {matches[0]}?" if matches else 'Name sizes in a spec: costax.spec("i32[b,s]").',
        )
