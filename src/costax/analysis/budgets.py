"""Budgets: upper limits for the costs of a program, checked by a script, a test or a decorator.

a.check(costax.Budget(flops="4 GFLOP", peak_bytes="2 GiB", uncounted=0))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, ParamSpec, TypeVar

from costax.analysis.compiled_counts import COMPILED, Compiled, check_known
from costax.analysis.counts import Counts
from costax.core import units
from costax.core.cost import Cost, Count
from costax.core.display import Printed
from costax.core.polynomial import Polynomial
from costax.errors import BudgetError, UnitError

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Field -> unit that a text of the field ends with: flops="4 GFLOP".
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
    "executed_flops": "FLOP",
    "hbm_bytes": "B",
    "temp_bytes": "B",
    "kernels": "",
}
_SHOWN: Final = 5
# A limit has at most so many bits; Python prints no integer of more than 4,300 digits.
_MOST_BITS: Final = 4096


@dataclass(frozen=True, kw_only=True, repr=False)
class Budget(Printed):
    """Upper limits for the costs of a program, each a number, a text such as "4 GFLOP" or "2 GiB", or None.

    A program at its limit is within its budget. The last four are of one device, of a compiled program: a module or a
    comparison.

    Args:
        macs: Multiply-accumulates, those on padding included.
        flops: Floating-point operations, 2 for a MAC.
        transcendentals: Elements of exp, log, tanh, pow ...
        ops: Operations on all dtypes.
        bytes_unfused: Bytes read and written if every equation goes to memory.
        collective_bytes: Bytes that devices send in collectives.
        params: Elements of the parameters.
        param_bytes: Bytes of the parameters.
        peak_bytes: The framework peak, in bytes.
        uncounted: Equations without a rule, plus loops of unknown length.
        executed_flops: FLOPs that run, loops by their trip counts.
        hbm_bytes: Bytes that the kernels read and write.
        temp_bytes: Bytes of temporaries.
        kernels: Kernels, each counted as often as it runs.
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
    executed_flops: int | str | None = None
    hbm_bytes: int | str | None = None
    temp_bytes: int | str | None = None
    kernels: int | str | None = None

    def __repr__(self) -> str:
        """Return the limits that are set."""
        limits = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Budget({', '.join(f'{name}={limit!r}' for name, limit in limits if limit is not None)})"

    def limits(self) -> dict[str, int]:
        """Return the limits that are set, as numbers. Raises UnitError for a text that is not a number with a unit."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, limit in settings.items():
            if isinstance(limit, int) and limit.bit_length() > _MOST_BITS:
                raise UnitError(
                    f"The limit on {name} is an integer of {limit.bit_length():,} bits.",
                    why="No program costs so much.",
                    cure='Write for example flops="4 GFLOP".',
                )
        return {
            name: units.parse(limit, UNITS[name]) if isinstance(limit, str) else limit
            for name, limit in settings.items()
            if limit is not None
        }


def field_value(analysis: Counts, field: str) -> Count:
    """Return the cost of a program in a field of a budget. Raises BudgetError if the parameters are not known."""
    if field == "uncounted":
        return sum(m.count for m in analysis.uncounted) + sum(not u.answered for u in analysis.unknowns)
    if field in COMPILED and not hasattr(Cost, field):
        raise BudgetError(
            f"The {field} of `{analysis.name}` are unknown: the program is not compiled.",
            why="What is executed, and how many kernels run, is known of a compiled program alone.",
            cure="Check a comparison, costax.compare(fn)(*args), or a module, costax.analyze(path)().",
        )
    owner = analysis if field in ("params", "param_bytes", "peak_bytes") else analysis.total
    value = getattr(owner, field)
    if value is None:
        raise BudgetError(
            f"The {field} of `{analysis.name}` are unknown: costax was not told which inputs are parameters.",
            why=f"The limit on {field} cannot be checked.",
            cure="Pass params_argnums to costax.analyze, or remove the limit.",
        )
    return value


def check(analysis: Counts, budget: Budget) -> None:
    """Raise BudgetError if a program costs more than its budget. The message names the costliest layers."""
    __tracebackhide__ = True  # pytest then shows the line of the test
    limits = budget.limits()
    costs = {name: field_value(analysis, name) for name in limits}
    symbolic = [name for name in limits if isinstance(costs[name], Polynomial)]
    if symbolic:
        raise BudgetError(
            f"The {', '.join(symbolic)} of `{analysis.name}` contain symbols: {costs[symbolic[0]]}.",
            why="Whether the program is within its budget depends on the values of the symbols.",
            cure="Set the symbols first: analysis.evaluate(b=8, s=2048).check(...).",
        )
    exceeded = [name for name in limits if costs[name] > limits[name]]
    if exceeded:
        raise BudgetError(
            f"`{analysis.name}` is over its budget in {', '.join(exceeded)}.",
            why="\n".join(line for name in exceeded for line in _breach(analysis, name, costs[name], limits[name])),
            cure="Reduce the cost of the program, or raise the budget.",
        )


def check_compiled(program: Compiled, budget: Budget, others: Counts | None = None) -> None:
    """Raise BudgetError if a compiled program costs more than its budget, or if that depends on unknown trip counts.

    others: the analysis that has the counts which the compiled program does not have.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    limits, counts = budget.limits(), program.compiled_counts()
    if others is None and (unknown := [name for name in limits if name not in counts]):
        raise BudgetError(
            f"The {', '.join(unknown)} of `{program.name}` are unknown: it is a module.",
            why=f"A module has {', '.join(counts)}.",
            cure="Limit these, or check the program itself: costax.analyze(fn)(*args).check(...).",
        )
    check_known(program, list(limits))
    exceeded = [name for name in limits if name in counts and counts[name] > limits[name]]
    if exceeded:
        raise BudgetError(
            f"`{program.name}` is over its budget in {', '.join(exceeded)}.",
            why="\n".join(_line(name, counts[name], limits[name]) for name in exceeded),
            cure="Reduce the cost of the program, or raise the budget.",
        )
    rest = {name: limit for name, limit in limits.items() if name not in counts}
    if others is not None and rest:
        check(others, Budget(**rest))


def _line(field: str, count: Count, limit: Count) -> str:
    over = f", {units.share(count - limit, limit)} % over" if limit else ""
    return f"  {field} {text(field, count)} of {text(field, limit)}{over}: {count:,} of {limit:,}"


def _breach(analysis: Counts, field: str, count: Count, limit: Count) -> list[str]:
    lines = [_line(field, count, limit)]
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
    """Return a count with three digits, a prefix and the unit of its field: `3.63 GFLOP`."""
    return units.short_bytes(count) if "bytes" in field else units.short(count, UNITS.get(field, ""))
