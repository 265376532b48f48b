"""The tables of mappings and lists of results, and of one cost: a line for each entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from rich.table import Table

from costax.core import units
from costax.core.cost import FIELDS, Cost, Count
from costax.core.polynomial import Polynomial
from costax.core.size import Size
from costax.report.text import columns

_OF_COSTS = ("macs", "flops", "transcendentals", "ops", "bytes_unfused")
# What a table of rules and of devices shows; the other fields of these classes are code and sources.
_SHOWN: Mapping[str, tuple[str, ...]] = {"Rule": ("name", "file", "line", "higher_order", "free")}


def render(entries: Any) -> Table:
    """Return what rich prints: the keys of a mapping, and the fields of each entry."""
    if isinstance(entries, Cost):
        return _cost(entries)
    pairs: list[tuple[Any, Any]]
    if isinstance(entries, Mapping):
        pairs = list(cast("Mapping[Any, Any]", entries).items())
    else:
        pairs = [(None, value) for value in cast("Sequence[Any]", entries)]
    first = next((value for _, value in pairs), None)
    names = _names(first)
    keyed = isinstance(entries, Mapping) and "name" not in names
    heading = [*([""] if keyed else []), *(names or ["value"])]
    lines = [[*([_text(key)] if keyed else []), *_cells(value, names)] for key, value in pairs]
    return columns(heading, lines)


def _cost(cost: Cost) -> Table:
    parts = cost.by_dtype()
    lines = [
        [name.replace("_", " "), *(units.exact(getattr(part, name)) for part in (cost, *parts.values()))]
        for name in FIELDS
        if getattr(cost, name)
    ]
    return columns(["", "all dtypes", *parts], lines)


def _names(value: Any) -> Sequence[str]:
    if isinstance(value, Cost):
        return _OF_COSTS
    if isinstance(value, Size):
        return ("elements", "nbytes")
    known = next((_SHOWN[base.__name__] for base in type(value).__mro__ if base.__name__ in _SHOWN), None)
    if known is not None:
        return known
    if is_dataclass(value):
        return [field.name for field in fields(value) if field.repr]
    return getattr(value, "_fields", ())


def _cells(value: Any, names: Sequence[str]) -> list[str]:
    return [_text(getattr(value, name)) for name in names] if names else [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, int | Polynomial) and not isinstance(value, bool):
        return units.short(cast("Count", value))
    if isinstance(value, tuple):
        return "/".join(map(str, cast("tuple[Any, ...]", value)))
    return " ".join(str(value).split())
