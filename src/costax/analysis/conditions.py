"""Conditions on a difference: `flops > +1%`, `params > +0`, `peak_bytes > 2 GiB`; what holds is a failure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from costax.analysis.budgets import UNITS, text
from costax.analysis.diff import Change, Diff, fields
from costax.core import units
from costax.core.cost import Count
from costax.errors import UnitError

_CONDITION: Final = re.compile(r"\s*(?P<field>\w+)\s*(?P<sign>[<>]=?)\s*(?P<relative>[+-]?)\s*(?P<limit>.+?)\s*")
_PERCENT: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    percent: a change in percent of what was there before; relative: a change; neither: the new count itself.
    limit: with its sign. above: it holds where the value is larger; or_equal: or the same.
    """

    written: str
    field: str
    limit: Fraction
    percent: bool
    relative: bool
    above: bool
    or_equal: bool

    def holds(self, change: Change) -> bool:
        """Say whether a change meets the condition."""
        value = self._value(change)
        if value is None:
            # From nothing to something is more than any share.
            return self.above and change.delta > 0
        if value == self.limit:
            return self.or_equal
        return (value > self.limit) == self.above

    def _value(self, change: Change) -> Fraction | Count | None:
        if self.percent:
            return Fraction(100 * change.delta, change.before) if change.before else None if change.delta else 0
        return change.delta if self.relative else change.after


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that holds, and the change that meets it."""

    condition: Condition
    change: Change

    def __str__(self) -> str:
        """Say what became of the field: `flops > +1%: 3.63 GFLOP -> 4.1 GFLOP (+12.9 %)`."""
        field, change = self.condition.field, self.change
        return f"{self.condition.written}: {described(field, change)}"


def described(field: str, change: Change) -> str:
    """Return a change in words: before, after, and by how much."""
    share = f" ({signed_percent(change)})" if change.before else ""
    return f"{text(field, change.before)} -> {text(field, change.after)}{share}"


def signed_percent(change: Change) -> str:
    """Return a change in percent of what was there before, with a sign and three digits; "new" from nothing."""
    if not change.before:
        return "new" if change.after else "same"
    if not change.after:
        return "gone"
    share = 100 * change.delta / change.before
    return f"{share:+.3g} %" if share else "same"


def parse(written: str) -> Condition:
    """Return the condition of a text such as `flops > +1%`, `macs > +2 MMAC` or `params > 12 M`. Raises UnitError."""
    found = _CONDITION.fullmatch(written)
    if found is None or found["field"] not in fields():
        raise UnitError(
            f"{written!r} is no condition.",
            why=f"A condition compares a field with a limit; the fields are {', '.join(fields())}.",
            cure="Write for example 'flops > +1%', 'params > +0' or 'bytes_unfused > 2 GiB'.",
        )
    percent = _PERCENT.fullmatch(found["limit"])
    field, relative = found["field"], bool(found["relative"])
    limit = Fraction(percent["number"]) if percent else Fraction(units.parse(found["limit"], UNITS.get(field, "B")))
    return Condition(
        written.strip(),
        field,
        -limit if found["relative"] == "-" else limit,
        percent is not None,
        relative,
        found["sign"][0] == ">",
        "=" in found["sign"],
    )


def failures(diff: Diff, conditions: list[Condition]) -> list[Failure]:
    """Return the conditions that hold for the whole programs."""
    changes = [(condition, diff.total.change(condition.field)) for condition in conditions]
    return [Failure(condition, change) for condition, change in changes if condition.holds(change)]
