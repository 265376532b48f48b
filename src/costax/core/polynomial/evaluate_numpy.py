"""Evaluation of polynomials at many points at once, with numpy.

The functions import numpy when they run: every polynomial loads this module, and few programs evaluate at many points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from costax.core.polynomial import symbol_values
from costax.core.polynomial.algebra import Polynomial, operation
from costax.core.polynomial.atoms import FUNCTIONS, Atom
from costax.core.polynomial.symbol_values import Condition

# At most so many points of an extent of 1 are searched for distinct sets of symbols that are 1.
_MOST_POINTS: Final = 4096


@operation
def evaluate_many(
    count: Polynomial,
    *args: Mapping[str, Any],
    exact: bool = False,
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> Any:
    """Return the values of a polynomial at many points, as an array; see `Polynomial.evaluate_many`."""
    arrays = checked_arrays(count, *args, exact=exact, conditions=conditions, known=known, **kwargs)
    return evaluate_arrays(count, arrays, exact=exact)


def evaluate_arrays(count: Any, arrays: Mapping[str, Any], *, exact: bool) -> Any:
    """Return the values of a count, in the common shape of the symbols' arrays, which `checked_arrays` returned."""
    import numpy as np

    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    values = count.value(arrays) if isinstance(count, Polynomial) else count
    evaluated = np.asarray(values, dtype=object if exact else np.float64)
    return np.broadcast_to(evaluated, shape) if evaluated.shape != shape else evaluated


def checked_arrays(
    symbols: Polynomial | Iterable[Atom],
    *args: Mapping[str, Any],
    exact: bool = False,
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> dict[str, Any]:
    """Return the values of every symbol as an array: of Python integers if exact, else of doubles.

    The arguments are those of `checked_values`, with arrays for numbers. Raises SymbolError.
    """
    import numpy as np

    values_by_name = symbol_values.merged_values(args, kwargs)
    atoms = symbol_values.atoms_by_name(symbols)
    symbol_values.check_names(values_by_name, atoms, known)
    arrays: dict[str, Any] = {}
    for name, values in values_by_name.items():
        array: Any = np.asarray(values)
        if array.dtype.kind not in "iu" and not (array.dtype.kind == "O" and all(_is_integer(v) for v in array.flat)):
            raise symbol_values.not_an_integer(name, values)
        least = atoms[name].least if name in atoms else 1
        if array.size and array.min() < least:
            raise symbol_values.too_small(name, int(array.min()), least)
        arrays[name] = array.astype(object if exact else np.float64)
    for condition in conditions:
        satisfied: Any = np.asarray(condition.holds(arrays))
        if not satisfied.all():
            whole = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
            first = int(np.argmin(np.broadcast_to(satisfied, next(iter(whole.values())).shape)))
            raise symbol_values.broken_condition(
                condition, {name: int(array.flat[first]) for name, array in whole.items()}
            )
    return arrays


def points_where_one(extent: Any, arrays: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return points at which an extent is 1: one point for each distinct set of symbols that are 1 at such a point."""
    import numpy as np

    if not isinstance(extent, Polynomial) or not arrays:
        return []
    is_one: Any = np.asarray(extent.value(arrays) == 1)
    whole: dict[str, Any] = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
    positions: Any = np.flatnonzero(np.broadcast_to(is_one, next(iter(whole.values())).shape))
    points_by_pattern: dict[tuple[bool, ...], dict[str, int]] = {}
    for position in positions[:_MOST_POINTS]:
        point = {name: int(array.flat[position]) for name, array in whole.items()}
        points_by_pattern.setdefault(tuple(value == 1 for value in point.values()), point)
    return list(points_by_pattern.values())


def extreme_points(arrays: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the points whose values have the least and the greatest product."""
    import numpy as np

    whole = dict(zip(arrays, map(np.ravel, np.broadcast_arrays(*arrays.values())), strict=True))
    size = sum(np.log(array.astype(np.float64) + 1) for array in whole.values())
    positions = sorted({int(np.argmin(size)), int(np.argmax(size))}) if np.size(size) else []
    return [{name: int(array[position]) for name, array in whole.items()} for position in positions]


@operation
def elementwise(function: str, operands: list[Any]) -> Any:
    """Apply a function of `polynomial.FUNCTIONS` to arrays, element by element."""
    import numpy as np

    arrays: list[Any] = [np.asarray(operand) for operand in operands]
    if function in _FAST and all(array.dtype != object for array in arrays):
        return getattr(np, _FAST[function])(*arrays)
    apply: Any = np.frompyfunc(lambda *values: FUNCTIONS[function](*map(int, values)), len(arrays), 1)
    result = apply(*arrays)
    return result if any(array.dtype == object for array in arrays) else np.asarray(result, dtype=np.float64)


# numpy's names of these functions, which work on arrays of machine numbers.
_FAST: Final[Mapping[str, str]] = {"floordiv": "floor_divide", "max": "maximum", "min": "minimum"}


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__")
