"""Many points at once: polynomials of arrays.

numpy is imported when it is used: this module is part of every polynomial, and most programs need no arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from costax.core.polynomial import points
from costax.core.polynomial.algebra import Polynomial, operation
from costax.core.polynomial.atoms import FUNCTIONS, Atom
from costax.core.polynomial.points import Condition

# Points with a size of 1 among which the different ways are looked for.
_LOOKED_AT: Final = 4096


@operation
def over(
    count: Polynomial,
    *args: Mapping[str, Any],
    exact: bool = False,
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> Any:
    """Return the values of a polynomial at many points, as an array; see `Polynomial.over`."""
    arrays = checked_arrays(count, *args, exact=exact, conditions=conditions, known=known, **kwargs)
    return broadcast(count, arrays, exact=exact)


def broadcast(count: Any, arrays: Mapping[str, Any], *, exact: bool) -> Any:
    """Return the values of a count at points that are checked, in the shape that the points have together."""
    import numpy as np

    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    values = count.value(arrays) if isinstance(count, Polynomial) else count
    made = np.asarray(values, dtype=object if exact else np.float64)
    return np.broadcast_to(made, shape) if made.shape != shape else made


def checked_arrays(
    found: Polynomial | Iterable[Atom],
    *args: Mapping[str, Any],
    exact: bool = False,
    conditions: Iterable[Condition] = (),
    known: Iterable[str] = (),
    **kwargs: Any,
) -> dict[str, Any]:
    """Return the values of every symbol as an array: Python integers if exact, else doubles. Raises SymbolError."""
    import numpy as np

    given = points.values_given(args, kwargs)
    atoms = points.atoms_by_name(found)
    points.check_names(given, atoms, known)
    arrays: dict[str, Any] = {}
    for name, values in given.items():
        array: Any = np.asarray(values)
        if array.dtype.kind not in "iu" and not (array.dtype.kind == "O" and all(_is_integer(v) for v in array.flat)):
            raise points.no_integer(name, values)
        least = atoms[name].least if name in atoms else 1
        if array.size and array.min() < least:
            raise points.too_small(name, int(array.min()), least)
        arrays[name] = array.astype(object if exact else np.float64)
    for condition in conditions:
        held: Any = np.asarray(condition.holds(arrays))
        if not held.all():
            whole = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
            place = int(np.argmin(np.broadcast_to(held, next(iter(whole.values())).shape)))
            raise points.broken(condition, {name: int(array.flat[place]) for name, array in whole.items()})
    return arrays


def points_where(extent: Any, arrays: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return one point for each way in which an extent is 1: each set of the symbols that are 1 there."""
    import numpy as np

    if not isinstance(extent, Polynomial) or not arrays:
        return []
    held: Any = np.asarray(extent.value(arrays) == 1)
    whole: dict[str, Any] = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
    places: Any = np.flatnonzero(np.broadcast_to(held, next(iter(whole.values())).shape))
    found: dict[tuple[bool, ...], dict[str, int]] = {}
    for place in places[:_LOOKED_AT]:
        point = {name: int(array.flat[place]) for name, array in whole.items()}
        found.setdefault(tuple(value == 1 for value in point.values()), point)
    return list(found.values())


@operation
def elementwise(function: str, operands: list[Any]) -> Any:
    """Return a function of `polynomial.FUNCTIONS` of arrays, element by element."""
    import numpy as np

    arrays: list[Any] = [np.asarray(operand) for operand in operands]
    if function in _FAST and all(array.dtype != object for array in arrays):
        return getattr(np, _FAST[function])(*arrays)
    apply: Any = np.frompyfunc(lambda *values: FUNCTIONS[function](*map(int, values)), len(arrays), 1)
    made = apply(*arrays)
    return made if any(array.dtype == object for array in arrays) else np.asarray(made, dtype=np.float64)


# Functions that numpy has for arrays of machine numbers.
_FAST: Final[Mapping[str, str]] = {"floordiv": "floor_divide", "max": "maximum", "min": "minimum"}


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__")
