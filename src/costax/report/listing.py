"""The tables of mappings and lists of results, and of one cost: a line for each entry."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, cast

from rich.table import Table
from rich.text import Text

from costax.core import units
from costax.core.cost import FIELDS, Cost, Count
from costax.core.polynomial import Polynomial
from costax.core.size import Size
from costax.report.text import columns

# Fields that are bytes.
_BYTES = frozenset({"bytes", "nbytes", "bytes_unfused", "needed", "read", "room", "sent", "written"})
_OF_COSTS = ("macs", "flops", "transcendentals", "ops", "bytes_unfused")
# The columns of a table of values whose other fields are code, sources or details.
_SHOWN: Mapping[str, tuple[str, ...]] = {
    "AttributedCost": ("instruction.name", "flops", "transcendentals", "bytes", "executed", "evidence"),
    "HloCost": ("counted.flops", "executed.flops", "counted.bytes", "executed.bytes"),
    "InstructionCost": ("instruction.name", "computation.name", "cost.counted.flops", "cost.executed.flops"),
    "JoinRow": ("name", "opcode", "place.scope", "place.direction", "seconds", "cost.flops", "cost.bytes"),
    "Kernel": ("name", "scope", "direction", "times", "flops", "read", "written"),
    "KernelTime": ("kernel.name", "kernel.scope", "kernel.times", "seconds", "timing.bound"),
    "Layer": ("scope", "before.macs", "after.macs", "before.flops", "after.flops"),
    "PassStep": ("name", "cost.flops", "cost.transcendentals", "cost.bytes"),
    "Sum": ("seconds", "executions", "cost.flops", "cost.bytes", "roofline"),
    "Collective": ("opcode", "scope", "direction", "axes", "link", "executed", "sent"),
    "Rule": ("name", "file", "line", "higher_order", "free"),
}
# The words of the tables of what one device sends.
_OF_COLLECTIVES: Mapping[str, str] = {
    "opcode": "collective",
    "scope": "layer",
    "axes": "mesh axes",
    "executed": "runs",
}


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
    if type(first).__name__ == "Communication":
        from costax.report.sharding import sent_by_one

        return sent_by_one([value for _, value in pairs])
    names = _names(first)
    keyed = isinstance(entries, Mapping) and "name" not in names
    heading = [*([""] if keyed else []), *(_headings(names) or ["value"])]
    if type(first).__name__ == "Collective":
        heading = [_OF_COLLECTIVES.get(name, name) for name in heading]
    lines = [[*([_text(key)] if keyed else []), *_cells(value, names)] for key, value in pairs]
    return columns(heading, lines)


def of_fields(value: Any) -> Table:
    """Return what rich prints of one value: a line for each field that has one."""
    names = _names(value)
    known = [(name, attrgetter(name)(value)) for name in names]
    lines = [[name.replace("_", " "), _text(field, name)] for name, field in known if field not in (None, "")]
    return columns(["", ""], lines)


def of_profile(profile: Any) -> Table:
    """Return what rich prints of a memory profile: its two peaks, and the parts of the estimate."""
    sizes = {"framework peak": profile.framework_peak, "fused estimate": profile.fused_estimate}
    parts = {f"  {name}": size for name, size in profile.parts.items()}
    return columns(["", "bytes"], [[name, units.exact(size)] for name, size in (sizes | parts).items()])


def of_reading(reading: Any) -> Table:
    """Return what rich prints of a reading of a meter: its numbers that are known."""
    lines = [[name.replace("_", " "), f"{number:,.4g}"] for name, number in reading.scalars().items()]
    return columns(["", f"step {reading.step}"], lines)


def of_meter(meter: Any) -> Table:
    """Return what rich prints of a meter: the work of one step."""
    return of_fields(meter.work)


def of_explanation(found: Any) -> Text:
    """Return what rich prints of the explanation of a primitive: its rule, the formula and worked examples."""
    from costax.analysis.explain import kind

    rule = found.rule
    head = f"{rule.name}: {kind(rule)} rule, {rule.file}:{rule.line}"
    law = f"Free: {rule.free}" if rule.free else rule.law
    examples = [f"Example {i}\n{textwrap.indent(str(x), '  ')}" for i, x in enumerate(found.examples, 1)]
    return Text("\n\n".join([head, law, *(examples or ["No worked example has only this primitive."])]))


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


def _headings(names: Sequence[str]) -> list[str]:
    """Return `flops` for `cost.flops`, and `counted flops` where another column ends alike."""
    ends = [name.rpartition(".")[2] for name in names]
    return [name.replace(".", " ") if ends.count(end) > 1 else end for name, end in zip(names, ends, strict=True)]


def _cells(value: Any, names: Sequence[str]) -> list[str]:
    return [_text(attrgetter(name)(value), name.rpartition(".")[2]) for name in names] if names else [_text(value)]


def _text(value: Any, name: str = "") -> str:
    """Return a cell. name: of the field, which says what a number counts."""
    if isinstance(value, int | Polynomial) and not isinstance(value, bool) and name in _BYTES:
        return units.short_bytes(cast("Count", value))
    if isinstance(value, int | Polynomial) and not isinstance(value, bool):
        return units.short(cast("Count", value))
    if value is None:
        return ""
    if isinstance(value, float):
        return units.seconds(value) if name.endswith("seconds") else f"{value:.4g}"
    if isinstance(value, tuple):
        return "/".join(map(str, cast("tuple[Any, ...]", value)))
    return " ".join(str(value).split())
