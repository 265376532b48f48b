"""Grids: the distinct points of a sweep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, Final, cast

from costax.errors import SweepError

Point = dict[str, Any]
MOST_POINTS: Final = 10_000_000
"""The largest number of points of a grid; a point takes about a kilobyte of memory."""


def points_of(grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the distinct points of a grid in order.

    grid: a dict of lists, whose combinations are the points (the last name changes fastest), or an iterable of dicts.
    Raises SweepError for an empty grid, for one of too many points, or for values that JSON cannot store.
    """
    points = _crossed(cast("Mapping[str, Any]", grid)) if isinstance(grid, Mapping) else _listed(grid)
    distinct: dict[str, Point] = {}
    for number, point in enumerate(points):
        if number == MOST_POINTS:
            raise _too_large(f"more than {MOST_POINTS:,}")
        distinct.setdefault(key_of(point), point)
    if not distinct:
        raise SweepError(
            "The grid is empty.",
            why="A sweep needs at least one point.",
            cure='Pass values for each name: {"depth": [2, 4, 8], "width": [256, 512]}.',
        )
    return list(distinct.values())


def key_of(point: Mapping[str, Any]) -> str:
    """Return the JSON text that identifies a point in a file of results. Raises SweepError for other values."""
    try:
        return json.dumps(dict(point), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SweepError(
            f"The point {dict(point)!r} cannot be written as JSON: {error}.",
            why="A sweep finds the results of an earlier run in its file by the JSON text of their points.",
            cure="Use numbers, strings, booleans, None and lists of them, and build other values from them in `make`.",
        ) from error


def _too_large(points: str) -> SweepError:
    return SweepError(
        f"The grid has {points} points.",
        why=f"A sweep keeps every result in memory and takes at most {MOST_POINTS:,}.",
        cure="Use fewer values, or several sweeps.",
    )


def _crossed(grid: Mapping[str, Sequence[Any]]) -> Iterable[Point]:
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SweepError(
                f"The grid has the value {values!r} for {name!r} instead of a list of values.",
                why="Every combination of the values is a point.",
                cure=f"Write {{{name!r}: [{values!r}]}}.",
            )
    lists = [[_plain(value) for value in values] for values in grid.values()]
    if not lists:
        return
    count = prod(map(len, lists))
    if count > MOST_POINTS:
        raise _too_large(f"{count:,}")
    for combination in product(*lists):
        yield dict(zip(grid, combination, strict=True))


def _listed(grid: Iterable[Mapping[str, Any]]) -> Iterable[Point]:
    for point in grid:
        if not isinstance(point, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SweepError(
                f"{point!r} is not a point of a grid.",
                why="A grid is a dict of lists, or an iterable of dicts of arguments.",
                cure='Pass, for example, [{"depth": 2, "width": 256}, {"depth": 4, "width": 128}].',
            )
        yield {name: _plain(value) for name, value in point.items()}


def _plain(value: Any) -> Any:
    """Return a numpy scalar as a Python number, and any other value unchanged."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "ndim", None) == 0 else value
