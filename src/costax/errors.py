"""Every error of costax: what happened, where, why it matters, what to do.

Each class derives from the natural built-in, so that `except TypeError` works as one expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class CostaxError(Exception):
    """An error in four parts; `str()` joins the parts that are there."""

    def __init__(self, what: str, *, where: str = "", why: str = "", cure: str = "") -> None:
        """Take the four parts as sentences."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.cure = cure

    def __str__(self) -> str:
        """Return the message: one part a line."""
        head = f"{self.what} ({self.where})" if self.where else self.what
        return "\n".join(part for part in (head, self.why, self.cure) if part)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the parts, so that an error of a worker process arrives whole."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[CostaxError], args: tuple[Any, ...], state: dict[str, Any]) -> CostaxError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class Uncountable(Exception):
    """What a rule raises for an equation whose work cannot be known: the reason, as a sentence without its subject.

    The equation is then treated as one without a rule: an error, or a listed entry with `on_missing="warn"`.
    """


class Undecided(ArithmeticError):
    """What a polynomial raises where an answer depends on the values of its symbols."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A primitive without a rule, or one whose rule says why it cannot know: where the program uses it, how often."""

    primitive: str
    where: str
    inputs: str
    outputs: str
    params: str
    count: int = 1
    reason: str = ""


class MissingRuleError(CostaxError, KeyError):
    """Primitives that no rule covers; all those of a program are gathered into one error."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        """Take every missing primitive of the program."""
        self.missing: tuple[Missing, ...] = tuple(missing)
        first = self.missing[0]
        names = sorted({m.primitive for m in self.missing})
        listed = "\n".join(
            f"  {m.primitive} ({m.where}{f', {m.count} equations' if m.count > 1 else ''})"
            f"{f': it {m.reason}' if m.reason else ''}"
            f"\n    in: {m.inputs}   out: {m.outputs}   params: {m.params}"
            for m in self.missing
        )
        what = (
            f"No rule says what `{names[0]}` costs"
            if len(names) == 1
            else f"No rule says what {len(names)} primitives cost: {', '.join(f'`{name}`' for name in names)}"
        )
        override = ", override=True" if any(m.reason for m in self.missing if m.primitive == names[0]) else ""
        super().__init__(
            f"{what} ({first.where}).\n{listed}",
            why="Counting it as nothing would be a silent zero.",
            cure=f'Give it one with @costax.cost_rule("{names[0]}"{override}), or pass on_missing="warn" '
            "(--on-missing warn): it will then stand in the list of things not counted.",
        )


class RuleCollisionError(CostaxError, ValueError):
    """A second rule for a primitive that has one."""

    def __init__(self, name: str, *, first: str, second: str) -> None:
        """Take the name and both places, as file:line."""
        super().__init__(
            f"`{name}` has a rule already: {first}.",
            where=second,
            why="Two rules for one primitive would make the count depend on the order of imports.",
            cure=f'Pass override=True to replace it: @costax.cost_rule("{name}", override=True).',
        )


class RuleError(CostaxError, ValueError):
    """A rule that raised, or returned something that is not a cost or not a list of bodies."""


class TargetError(CostaxError, ValueError):
    """A target that cannot be found, imported or analysed."""


class DeviceMemoryError(CostaxError, MemoryError):
    """A program that does not fit the memory of the machine that it is compiled for; the compiler says so."""


class DeviceError(CostaxError, LookupError):
    """A device that nobody knows, a file that describes none, or a figure that it lacks."""


class InputError(CostaxError, TypeError):
    """Arguments that do not fit the function, or a spec that does not parse."""


class RecordError(CostaxError, ValueError):
    """A record that cannot be read or written."""


class UnitError(CostaxError, ValueError):
    """A text that names no number of the unit that is asked for."""


class CheckError(CostaxError, AssertionError):
    """A check that did not hold, such as `--strict`; the command line exits 1."""


class BudgetError(CheckError):
    """A program that costs more than its budget, or that changed where it should not."""


class TripsError(CostaxError, ValueError):
    """An answer for a loop that the program does not have, or that is not a count."""


class ExtraError(CostaxError, ImportError):
    """A package that is not installed, of one of costax's extras."""

    def __init__(self, package: str, what: str, extra: str = "") -> None:
        """Take the package, what needs it, and the extra that brings it, by default of the same name."""
        super().__init__(
            f"{what} needs {package}, which is not installed.",
            why="costax itself needs only what it counts with.",
            cure=f"pip install 'costax[{extra or package}]'",
        )


class BranchError(CostaxError, ValueError):
    """An answer for branches that the program does not take, or that names none of them."""


class SymbolError(CostaxError, ValueError):
    """Symbols without values, values that a symbol cannot take, or a question about a symbol that is not there."""


class SymbolicError(CostaxError, ValueError):
    """A program whose cost is no formula of its symbols, as far as costax can find one."""


class SweepError(CostaxError, ValueError):
    """A sweep that cannot start, or cannot go on; what it had computed is in its file."""
