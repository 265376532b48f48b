"""Thresholds for a difference: `flops > +1%`, `params > +0`, `bytes_unfused > 2 GiB`. A crossed threshold fails."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

from costax.analysis.budgets import UNITS, text
from costax.analysis.changes import Change
from costax.analysis.diff import fields
from costax.core import units
from costax.core.cost import Count
from costax.core.open_symbols import given
from costax.errors import SymbolError, UnitError
from costax.program.branches import nearest

_THRESHOLD: Final = re.compile(r"\s*(?P<field>\w+)\s*(?P<sign>[<>]=?)\s*(?P<relative>[+-]?)\s*(?P<limit>.+?)\s*")
_PERCENT: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*%")


class HasChanges(Protocol):
    """A layer of two programs."""

    def change(self, field: str) -> Change:
        """Return the change of a field."""
        ...


class HasTotal(Protocol):
    """Two programs, compared."""

    @property
    def total(self) -> HasChanges:
        """The whole programs as one layer."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison of one field of a difference with a limit.

    written: the text of the user. percent: the limit is a change in percent of the count before. relative: the limit
    is a change of the count. With neither, the limit is for the count after. limit: with its sign; `flops > -10%` has
    -10. above: the threshold is crossed where the value is larger than the limit, else where the value is smaller.
    or_equal: the limit itself crosses the threshold too.
    """

    written: str
    field: str
    limit: Fraction
    percent: bool
    relative: bool
    above: bool
    or_equal: bool

    def holds(self, change: Change) -> bool:
        """Return whether a change crosses the threshold."""
        value = self._value(change)
        if value is None:
            # A count that was 0 before and is not now has grown by more than any percentage.
            return self.above and change.delta > 0
        if value == self.limit:
            return self.or_equal
        return (value > self.limit) == self.above

    def _value(self, change: Change) -> Fraction | Count | None:
        """Return the number to compare with the limit; None for an infinite percentage, from 0 to anything."""
        if change.symbolic:
            raise SymbolError(
                f"The threshold {self.written!r} asks for a number, and `{self.field}` depends on symbols.",
                why=f"It is {change.before} before and {change.after} after.",
                cure=f"Give the symbols values: {given(symbols_of(change))}.",
            )
        if self.percent:
            return Fraction(100 * change.delta, change.before) if change.before else None if change.delta else 0
        return change.delta if self.relative else change.after


@dataclass(frozen=True, slots=True)
class Failure:
    """A crossed threshold and the change that crosses it."""

    threshold: Threshold
    change: Change

    def __str__(self) -> str:
        """Return the threshold and the change: `flops > +1%: 3.63 GFLOP -> 4.1 GFLOP (+12.9 %)`."""
        field, change = self.threshold.field, self.change
        return f"{self.threshold.written}: {described(field, change)}"


def described(field: str, change: Change) -> str:
    """Return a change as text: before, after and the percentage."""
    share = f" ({signed_percent(change)})" if change.before else ""
    return f"{text(field, change.before)} -> {text(field, change.after)}{share}"


def symbols_of(change: Change) -> list[str]:
    """Return the symbols of a change, sorted."""
    return sorted({name for count in (change.before, change.after) for name in getattr(count, "symbols", ())})


def signed_percent(change: Change) -> str:
    """Return a change in percent of the count before: a sign and three digits, or "new", "gone" or "same"."""
    if not change.before:
        return "new" if change.after else "same"
    if not change.after:
        return "gone"
    if change.symbolic:
        return "same" if change.before == change.after else f"{share} %" if (share := _everywhere(change)) else "-"
    share = 100 * change.delta / change.before
    return f"{share:+.3g} %" if share else "same"


def _everywhere(change: Change) -> str:
    """Return the change in percent if it is the same for all values of the symbols, else ""."""
    share = units.share(change.delta, change.before)
    return "" if share == "-" else share if share.startswith("-") else f"+{share}"


def parse(written: str, names: Sequence[str] | None = None) -> Threshold:
    """Parse a threshold such as `flops > +1%`, `macs > +2 MMAC` or `params > 12 M`.

    names: of the fields; by default those of a `Diff`. Raises UnitError if the text is not a threshold, the field does
    not exist or the unit does not fit the field.
    """
    match, known = _THRESHOLD.fullmatch(written), names or fields()
    if match is None or match["field"] not in known:
        raise UnitError(
            f"{written!r} is not a threshold.",
            why=f"A threshold compares a field with a limit. The fields are {', '.join(known)}.",
            cure=(nearest(match["field"], known) if match else "") or f"Write, for example, {_examples(known)}.",
        )
    percent = _PERCENT.fullmatch(match["limit"])
    field, relative = match["field"], bool(match["relative"])
    limit = Fraction(percent["number"]) if percent else units.parse_exact(match["limit"], UNITS.get(field, "B"))
    return Threshold(
        written.strip(),
        field,
        -limit if match["relative"] == "-" else limit,
        percent is not None,
        relative,
        match["sign"][0] == ">",
        "=" in match["sign"],
    )


def _examples(names: Sequence[str]) -> str:
    if "flops" in names:
        return "'flops > +1%', 'params > +0' or 'bytes_unfused > 2 GiB'"
    return "'executed_flops > +1%', 'kernels > +0' or 'temp_bytes > 2 GiB'"


def failures(diff: HasTotal, thresholds: list[Threshold]) -> list[Failure]:
    """Return the thresholds that the totals of the two programs cross."""
    changes = [(threshold, diff.total.change(threshold.field)) for threshold in thresholds]
    return [Failure(threshold, change) for threshold, change in changes if threshold.holds(change)]
