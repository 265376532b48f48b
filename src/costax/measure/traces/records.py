"""What a trace holds, whatever its format: events of instructions, runs of modules, and the modules themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from costax.core.printable import printable
from costax.errors import TraceError

# `jit_step(15)`: the name of a module and the number of its program.
_NUMBERED: Final = re.compile(r"(.*)\((\d{1,20})\)")
# int64 in picoseconds is 106 days; a longer time is a damaged number.
LONGEST: Final = 2**63


class ModuleName(NamedTuple):
    """The name of a module, and the number of its program in the process; "" where the trace has no number."""

    name: str
    program: str = ""

    def __str__(self) -> str:
        """Return the name as a profiler writes it: `jit_step(15)`."""
        return f"{self.name}({self.program})" if self.program else self.name


class Event(NamedTuple):
    """One execution of an instruction or a kernel.

    instruction: the name of the HLO instruction, "" where the trace has none. kernel: the name of the event. run: which
    run of the module, "" where the trace has none. device: process and device. line: the stream or thread. start,
    duration: in picoseconds. in_flight: the event is the time of an asynchronous operation, during which the device
    works on others; this time is not added to theirs.
    """

    module: ModuleName
    instruction: str
    kernel: str
    run: str
    device: str
    line: str
    start: int
    duration: int
    in_flight: bool = False


class ModuleRun(NamedTuple):
    """One run of a module on a device, from its first to its last kernel; start and duration in picoseconds."""

    module: ModuleName
    run: str
    device: str
    start: int
    duration: int


@dataclass(frozen=True)
class Trace:
    """The events of one or more files.

    form: the format, as a reader would call it. processes: how many files or ranks. modules: serialised HLO by name, as
    far as the trace has it. timed: the events have a start; a table of seconds has none, so that nothing is known of
    what ran at the same time. spreads: for a table, (fastest, slowest) of an instruction in picoseconds. notes: what
    was left out or combined, one sentence each.
    """

    form: str
    events: list[Event] = field(repr=False)
    module_runs: list[ModuleRun] = field(default_factory=list[ModuleRun], repr=False)
    modules: Mapping[ModuleName, bytes] = field(default_factory=dict[ModuleName, bytes], repr=False)
    processes: int = 1
    timed: bool = True
    spreads: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]], repr=False)
    notes: tuple[str, ...] = ()


def numbered(text: str, program: str = "") -> ModuleName:
    """Return the parts of a module's name.

    >>> numbered("jit_step(15)"), str(numbered("jit_step", "15"))
    (ModuleName(name='jit_step', program='15'), 'jit_step(15)')
    """
    match = _NUMBERED.fullmatch(text)
    return ModuleName(match[1], match[2]) if match else ModuleName(text, program)


def damaged(what: str, where: str, cure: str = "") -> TraceError:
    """Return the error for a trace that cannot be read."""
    return TraceError(
        printable(what),
        where=printable(where),
        why="The times of a damaged trace could be wrong without any sign of it.",
        cure=cure or "Write the trace again, for example with jax.profiler.trace(FOLDER).",
    )


def checked_times(start: int, duration: int, where: str) -> tuple[int, int]:
    """Return a start and a duration in picoseconds. Raises TraceError for a time that no trace has."""
    if duration < 0 or duration >= LONGEST or abs(start) >= LONGEST:
        raise damaged(f"An event lasts {duration} ps from {start} ps", where)
    return start, duration
