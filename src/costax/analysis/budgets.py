"""Budgets: what a program may cost at most, checked by a script, a test or a decorator.

a.check(costax.Budget(flops="4 GFLOP", peak_bytes="2 GiB", uncounted=0))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, ParamSpec, TypeVar

from costax.analysis.counts import Counts
from costax.core import units
from costax.core.cost import Cost, Count
from costax.core.polynomial import Polynomial
from costax.errors import BudgetError

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Field -> unit of its texts.
UNITS: Final[Mapping[str, str]] = {
    "macs": "MAC",
    "flops": "FLOP",
    "transcendentals": "",
    "ops": "OP",
    "bytes_unfused": "B",
    "collective_bytes": "B",
    "params": "",
    "param_bytes": "B",
    "peak_bytes": "B",
    "uncounted": "",
}
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a program may cost: a number, or a text such as "4 GFLOP" or "2 GiB"; None is no limit.

    uncounted: equations without a rule, and loops of unknown length. peak_bytes: the framework peak.
    """

    macs: int | str | None = None
    flops: int | str | None = None
    transcendentals: int | str | None = None
    ops: int | str | None = None
    bytes_unfused: int | str | None = None
    collective_bytes: int | str | None = None
    params: int | str | None = None
    param_bytes: int | str | None = None
    peak_bytes: int | str | None = None
    uncounted: int | str | None = None

    def limits(self) -> dict[str, int]:
        """Return the limits that are set, as numbers. Raises UnitError for a text that is none."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: units.parse(limit, UNITS[name]) if isinstance(limit, str) else limit
            for name, limit in given.items()
            if limit is not None
        }


def found(analysis: Counts, field: str) -> Count:
    """Return what a program costs of a field of a budget. Raises BudgetError where that is not known."""
    if field == "uncounted":
        return sum(m.count for m in analysis.uncounted) + sum(not u.answered for u in analysis.unknowns)
    owner = analysis if field in ("params", "param_bytes", "peak_bytes") else analysis.total
    value = getattr(owner, field)
    if value is None:
        raise BudgetError(
            f"`{analysis.name}` has no {field}: nobody said which inputs are parameters.",
            why="The budget could not be checked.",
            cure="Pass params_argnums to costax.analyze, or leave the limit out.",
        )
    return value


def check(analysis: Counts, budget: Budget) -> None:
    """Raise BudgetError if a program costs more than its budget; the message names the layers that cost most."""
    __tracebackhide__ = True  # pytest shows the line of the test instead
    limits = budget.limits()
    costs = {name: found(analysis, name) for name in limits}
    unsettled = [name for name in limits if isinstance(costs[name], Polynomial)]
    if unsettled:
        raise BudgetError(
            f"`{analysis.name}` has formulas and no numbers for {', '.join(unsettled)}: {costs[unsettled[0]]}.",
            why="Whether it is within its budget depends on its symbols.",
            cure="Give them values first: analysis.evaluate(b=8, s=2048).check(...).",
        )
    broken = [name for name in limits if costs[name] > limits[name]]
    if broken:
        raise BudgetError(
            f"`{analysis.name}` is over its budget in {', '.join(broken)}.",
            why="\n".join(line for name in broken for line in _breach(analysis, name, costs[name], limits[name])),
            cure="Make it cheaper, or raise the budget.",
        )


def _breach(analysis: Counts, field: str, count: Count, limit: Count) -> list[str]:
    over = f", {units.share(count - limit, limit)} % over" if limit else ""
    lines = [f"  {field} {text(field, count)} of {text(field, limit)}{over}: {count:,} of {limit:,}"]
    if field == "uncounted":
        lines += [f"    {m.primitive} ({m.where})" for m in analysis.uncounted[:_SHOWN]]
        lines += [f"    {u.place} ({u.source})" for u in analysis.unknowns if not u.answered][:_SHOWN]
    elif hasattr(Cost, field):
        from costax.analysis.views import merged

        by_scope = sorted(merged(analysis).by_scope().items(), key=lambda item: -getattr(item[1], field))[:_SHOWN]
        for scope, cost in by_scope:
            part = getattr(cost, field)
            if part:
                lines.append(f"    {units.share(part, count):>5} %  {text(field, part):>10}  {scope or '(no scope)'}")
    return lines


def text(field: str, count: Count) -> str:
    """Return a count of a field as people read it."""
    return units.short_bytes(count) if "bytes" in field else units.short(count, UNITS.get(field, ""))
