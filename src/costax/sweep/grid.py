"""Grids: the points of a sweep, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, cast

from costax.errors import SweepError

Point = dict[str, Any]


def points_of(grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the points of a dict of lists, the last name fastest, or of an iterable of dicts; repeats come once.

    Raises SweepError for a grid that is empty, or values that a file of results cannot hold.
    """
    found = list(_crossed(cast("Mapping[str, Any]", grid)) if isinstance(grid, Mapping) else _listed(grid))
    distinct: dict[str, Point] = {}
    for point in found:
        distinct.setdefault(key_of(point), point)
    if not distinct:
        raise SweepError(
            "The grid is empty.",
            why="There is no point to analyse.",
            cure='Give values for each name: {"depth": [2, 4, 8], "width": [256, 512]}.',
        )
    return list(distinct.values())


def key_of(point: Mapping[str, Any]) -> str:
    """Return the text that names a point in a file of results. Raises SweepError for values that are no JSON."""
    try:
        return json.dumps(dict(point), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SweepError(
            f"The point {dict(point)!r} cannot be written down: {error}.",
            why="Results are kept by their points, in a file too, so that a sweep can go on where it was.",
            cure="Use numbers, strings, booleans, None and lists of them; make configurations from these in `make`.",
        ) from error


def _crossed(grid: Mapping[str, Sequence[Any]]) -> Iterable[Point]:
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SweepError(
                f"The grid gives {name!r} the value {values!r}, not a list of values.",
                why="Every combination of the values is a point.",
                cure=f"Write {{{name!r}: [{values!r}]}}.",
            )
    lists = [[_plain(value) for value in values] for values in grid.values()]
    if not lists:
        return
    for combination in product(*lists):
        yield dict(zip(grid, combination, strict=True))


def _listed(grid: Iterable[Mapping[str, Any]]) -> Iterable[Point]:
    for point in grid:
        if not isinstance(point, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SweepError(
                f"{point!r} is no point.",
                why="A grid is a dict of lists, or an iterable of dicts of arguments.",
                cure='Write for example [{"depth": 2, "width": 256}, {"depth": 4, "width": 128}].',
            )
        yield {name: _plain(value) for name, value in point.items()}


def _plain(value: Any) -> Any:
    """Return Python's own number for one of numpy's."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "ndim", None) == 0 else value
