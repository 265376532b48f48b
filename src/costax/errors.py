"""Every error class of costax. A message says what happened, where, why it matters, and what to do.

Each class also derives from the fitting built-in exception: `except TypeError` catches InputError.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


class CostaxError(Exception):
    """An error with a message of four parts: `what`, `where`, `why`, `cure`; `str()` joins those that are not empty."""

    def __init__(self, what: str, *, where: str = "", why: str = "", cure: str = "") -> None:
        """Take the parts: what happened, where (a file and line, a list of names), why it matters, what to do."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.cure = cure

    def __str__(self) -> str:
        """Return the message, with one part on each line; `where` follows `what` in parentheses."""
        head = f"{self.what} ({self.where})" if self.where else self.what
        return "\n".join(part for part in (head, self.why, self.cure) if part)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all parts, so that a worker process can send its error to the main process."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[CostaxError], args: tuple[Any, ...], state: dict[str, Any]) -> CostaxError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class Uncountable(Exception):
    """Raised by a rule for an equation whose cost it cannot know.

    The message is the reason, a sentence without its subject: "communicates over the axis 'x', whose size is not in the
    program". The equation counts as one without a rule: `on_missing="raise"` raises MissingRuleError, and
    `on_missing="warn"` lists the equation as uncounted.
    """


class Foreign(Uncountable):
    """Raised by a rule for code outside of the program, such as a callback: only its author knows its work.

    The equation is listed as uncounted and never an error; the bytes of its operands and results are counted.
    """


class Undecided(ArithmeticError):
    """Raised by a polynomial if the result of a comparison depends on the values of its symbols."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An uncounted primitive: it has no rule, or its rule raised Uncountable with a reason.

    where: the source line of its first use, and its scope. inputs, outputs, params: of that use, as text. count: the
    number of equations. reason: that of Uncountable, "" without a rule.
    """

    primitive: str
    where: str
    inputs: str
    outputs: str
    params: str
    count: int = 1
    reason: str = ""


class MissingRuleError(CostaxError, KeyError):
    """Primitives without a rule; one error lists all of a program."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        """Take all uncounted primitives of the program, at least one."""
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
            why="Without a rule its cost would silently count as 0.",
            cure=f'Write a rule with @costax.cost_rule("{names[0]}"{override}), or pass on_missing="warn" '
            "(--on-missing warn) to list it as not counted.",
        )


class RuleCollisionError(CostaxError, ValueError):
    """A second rule for a primitive that has one."""

    def __init__(self, name: str, *, first: str, second: str) -> None:
        """Take the name of the primitive, and the `file:line` of the first and of the second rule."""
        super().__init__(
            f"The primitive `{name}` already has a rule: {first}.",
            where=second,
            why="Two rules for one primitive would make the count depend on the order of imports.",
            cure=f'Pass override=True to replace the first rule: @costax.cost_rule("{name}", override=True).',
        )


class RuleError(CostaxError, ValueError):
    """A rule that raised an exception, or whose result is not a Cost (for a body rule: not a list of Body)."""


class TargetError(CostaxError, ValueError):
    """A target that cannot be found, imported or analysed."""


class DeviceMemoryError(CostaxError, MemoryError):
    """A program that does not fit the memory of the device that it is compiled for, as the compiler reports."""


class DeviceError(CostaxError, LookupError):
    """An unknown device, an invalid device file, or a missing figure of a device."""


class InputError(CostaxError, TypeError):
    """Arguments or options that do not fit the function, which may raise for them, or a spec that does not parse."""


class RecordError(CostaxError, ValueError):
    """A record that cannot be read or written."""


class UnitError(CostaxError, ValueError):
    """A text that is not a number of the expected unit."""


class CheckError(CostaxError, AssertionError):
    """A failed check, such as `--strict`; the command line exits with code 1."""


class BudgetError(CheckError):
    """A program that exceeds its budget, or that differs from its golden record."""


class TripsError(CostaxError, ValueError):
    """A trip count for a loop that the program does not have, or one that is not a non-negative integer.

    unmatched: the names that are those of no loop. loops: the names of the loops of unknown length.
    """

    unmatched: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()


def install_command(extra: str) -> str:
    """Return the line that adds an extra to costax from where this costax was installed: an index, a clone, a URL.

    pip notes the origin of a package that is not from an index in `direct_url.json` (PEP 610).
    """
    origin: dict[str, Any]
    try:
        origin = json.loads(metadata.distribution("costax").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    url: str = origin.get("url", "")
    vcs: dict[str, str] = origin.get("vcs_info", {})
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}'{url2pathname(urlsplit(url).path)}[{extra}]'"
    if not url:
        return f"pip install 'costax[{extra}]'"
    revision = f"@{vcs['requested_revision']}" if vcs.get("requested_revision") else ""
    return f"pip install 'costax[{extra}] @ {vcs['vcs'] + '+' if vcs else ''}{url}{revision}'"


class ExtraError(CostaxError, ImportError):
    """A missing package that one of costax's extras installs."""

    def __init__(self, package: str, what: str, extra: str = "") -> None:
        """Take the package, the feature that needs it, and the extra with the package, by default of the same name."""
        super().__init__(
            f"{what} needs {package}, which is not installed.",
            why=f"costax installs {package} only with an extra, because counting does not need it.",
            cure=install_command(extra or package),
        )


class BranchError(CostaxError, ValueError):
    """A choice of a branch for a conditional that the program does not have, or of a branch that does not exist."""


class HloError(CostaxError, ValueError):
    """An HLO module that cannot be read, or an instruction that XLA's cost model cannot count."""


class TraceError(CostaxError, ValueError):
    """A trace of a profiler that cannot be read, or that does not fit the program it is joined with."""


class SymbolError(CostaxError, ValueError):
    """A symbol without a value, a value outside its range, an unknown symbol, or a text that is not a formula."""


class SymbolicError(CostaxError, ValueError):
    """A program for whose cost costax finds no formula in the symbols."""


class SweepError(CostaxError, ValueError):
    """A sweep that cannot start or continue; its file keeps the rows that are computed."""


class SweepInterrupted(KeyboardInterrupt):
    """An interrupt of a sweep; its message says what is kept."""

    def __init__(self, done: int, points: int, path: object) -> None:
        """Take the number of points that are done, that of all points, and the file of the results or None."""
        lost = "no point is kept, because the results have no file"
        kept = f"{done} of {points} points are in {str(path)!r}; run the same sweep again to go on"
        super().__init__(f"{kept if path else lost}.")
