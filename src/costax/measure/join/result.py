"""Join: the measured time of each instruction of a module, beside the work that it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import ClassVar, Final, NamedTuple

from costax.core.display import Displayed
from costax.core.listing import listed
from costax.hlo.module_analysis import ModuleAnalysis
from costax.hlo.replay import Properties
from costax.measure.join.places import ProgramPlace
from costax.measure.traces.records import ModuleName
from costax.performance.hardware import Device
from costax.program.tree import RECOMPUTE

BY: Final = ("scope", "direction", "primitive", "source", "opcode", "instruction")
"""What the lines of a table may be: the choices of `--by`."""

_NONE: Final = Properties()
# A step whose instructions without a time have less of the work than this is timed as a whole.
_NEARLY_ALL: Final = 0.99


class Spread(NamedTuple):
    """The median of several runs in seconds, with the fastest and the slowest.

    For an instruction the first figure is its time in the median run, so that the times of instructions add up.
    """

    median: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Spread:
        """Return the spread of a sample, which is not empty."""
        return cls(median(sample), min(sample), max(sample))


class Measured(NamedTuple):
    """The measured time of one instruction: seconds of a run, seconds of all runs together, and executions in all."""

    run: Spread
    total: float
    executions: int


@dataclass(frozen=True, slots=True)
class JoinRow:
    """An instruction with its work and its time.

    computation: of which computation it is part. entry: that is the entry computation. cost: FLOPs, transcendentals and
    bytes that one run of the module executes in it, for a fusion those inside it. measured: its own time, without the
    time of instructions that it runs; None where the trace has none. in_flight: seconds of an asynchronous operation,
    beside other instructions. bound: seconds that it needs at the peaks of the device. predicted: expected seconds of
    its own kernel, also where other kernels hide it.
    """

    name: str
    opcode: str
    computation: str
    entry: bool
    place: ProgramPlace
    source: str
    cost: Properties
    measured: Measured | None = None
    in_flight: Spread | None = None
    bound: float | None = None
    predicted: float | None = None

    @property
    def seconds(self) -> float:
        """The seconds in the median run; 0 where the trace has none."""
        return self.measured.run.median if self.measured else 0.0


class Sum(NamedTuple):
    """The sum of some instructions: seconds of a run, work, seconds at the peaks of the device, expected seconds.

    bound, predicted: of the instructions that have a time; None if the device is not known. seconds_in_all, executions:
    of all runs on all devices together, and how many kernels or events they are. model_flops: without recomputed ones.
    timed, timed_model_flops: the work of the instructions that have a time, which is what rates divide.
    """

    seconds: float = 0.0
    cost: Properties = _NONE
    bound: float | None = None
    predicted: float | None = None
    instructions: int = 0
    seconds_in_all: float = 0.0
    executions: int = 0
    model_flops: int = 0
    timed: Properties = _NONE
    timed_model_flops: int = 0

    @property
    def flops_per_second(self) -> float | None:
        """FLOPs of the instructions with a time, divided by the measured seconds; None without a time."""
        return self.timed.flops / self.seconds if self.seconds else None

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes that the instructions with a time move, divided by the measured seconds; None without a time."""
        return self.timed.bytes / self.seconds if self.seconds else None

    @property
    def roofline(self) -> float | None:
        """The share of the roofline: seconds at the peaks of the device divided by the measured seconds."""
        return self.bound / self.seconds if self.bound is not None and self.seconds else None

    @property
    def gap(self) -> float | None:
        """The measured seconds divided by the expected ones."""
        return self.seconds / self.predicted if self.predicted else None

    def utilisation(self, flops: int, peak: tuple[str, float] | None) -> float | None:
        """Return the share of a peak of some FLOPs in the measured seconds; None without a peak or a time."""
        return flops / self.seconds / peak[1] if peak and self.seconds else None

    def joined(self, other: Sum) -> Sum:
        """Return the sum with that of other instructions."""
        bound, predicted = _added(self.bound, other.bound), _added(self.predicted, other.predicted)
        return Sum(
            self.seconds + other.seconds,
            self.cost.plus(other.cost),
            bound,
            predicted,
            self.instructions + other.instructions,
            self.seconds_in_all + other.seconds_in_all,
            self.executions + other.executions,
            self.model_flops + other.model_flops,
            self.timed.plus(other.timed),
            self.timed_model_flops + other.timed_model_flops,
        )

    def plus(self, row: JoinRow) -> Sum:
        """Return the sum with one more instruction."""
        measured = row.measured
        model = 0 if row.place.direction == RECOMPUTE else row.cost.flops
        if measured is None:
            return self.joined(Sum(cost=row.cost, instructions=1, model_flops=model))
        known = Sum(row.seconds, row.cost, None, None, 1, measured.total, measured.executions, model)
        if row.seconds:
            known = known._replace(bound=row.bound, predicted=row.predicted, timed=row.cost, timed_model_flops=model)
        return self.joined(known)


def _added(first: float | None, second: float | None) -> float | None:
    return first if second is None else second if first is None else first + second


class Unjoined(NamedTuple):
    """Time of the trace that belongs to no instruction: name, seconds in all, number of executions, and the reason."""

    name: str
    seconds: float
    executions: int
    reason: str


class OtherModule(NamedTuple):
    """A module of the trace that the join is not about: seconds of its events in all, and their number."""

    name: ModuleName
    seconds: float
    executions: int


@dataclass(frozen=True, repr=False)
class Join(Displayed):
    """The measured times of a module, and its counted work. Everything is of one device and one run of the module.

    analysis: of the module. rows: its instructions that have a time or work. runs, devices, processes: how many the
    trace has. step: seconds of a run, from its first to its last kernel; None for a table of times. busy: seconds in
    which at least one instruction ran. unjoined: time without an instruction. untimed: instructions of the entry that
    run and have no time. waiting: instructions that only wait for the end of an asynchronous operation. others: modules
    of the trace that are left out. device: whose peaks `bound` and MFU use. peak: (unit, FLOP/s) of MFU and HFU.
    form: the format of the trace. notes: what to know about the numbers, one sentence each. expected_step: seconds that
    `costax predict` expects of a run, where kernels hide collectives. kind: "cpu", "gpu" or "tpu", of the traced
    device; "" where the trace does not say it.
    """

    internals: ClassVar[frozenset[str]] = Displayed.internals | {"tables"}

    analysis: ModuleAnalysis
    rows: Sequence[JoinRow] = field(repr=False)
    runs: int
    devices: int
    processes: int
    step: Spread | None
    busy: Spread | None
    unjoined: Sequence[Unjoined] = field(repr=False)
    untimed: Sequence[JoinRow] = field(repr=False)
    waiting: Sequence[JoinRow] = field(repr=False)
    joined: int
    expected: int
    others: Sequence[OtherModule] = field(repr=False)
    form: str
    device: Device | None = None
    peak: tuple[str, float] | None = None
    notes: Sequence[str] = ()
    expected_step: float | None = None
    kind: str = ""

    @property
    def name(self) -> str:
        """The name of the module."""
        return self.analysis.name

    @cached_property
    def total(self) -> Sum:
        """The sum of all instructions; their seconds may be more than those of a run, because some run side by side."""
        return self._sum(self.rows)

    @cached_property
    def entry(self) -> Sum:
        """The sum of the instructions of the entry computation, without those of computations that they run."""
        return self._sum([row for row in self.rows if row.entry])

    @property
    def coverage(self) -> float:
        """The share of the entry's instructions that run and are joined with a time."""
        return self.joined / self.expected if self.expected else 1.0

    @property
    def seconds(self) -> float:
        """The seconds that MFU and HFU divide by: of a run, else the sum of all instructions."""
        return self.step.median if self.step is not None else self.total.seconds

    @property
    def flops(self) -> int:
        """Hardware FLOPs that one device executes in a run, recomputed ones included."""
        return self.total.cost.flops

    @property
    def model_flops(self) -> int:
        """FLOPs of one device without those of equations that a rematerialised function computes again."""
        return self.total.model_flops

    @property
    def timed_share(self) -> float:
        """The share of the FLOPs whose instructions have a time."""
        return self.total.timed.flops / self.flops if self.flops else 1.0

    @property
    def achieved_flops(self) -> int:
        """The FLOPs that were executed in `seconds`: those of the run if nearly all are timed, else the timed ones."""
        return self.flops if self._is_whole else self.total.timed.flops

    @property
    def achieved_bytes(self) -> int:
        """The bytes that were moved in `seconds`: those of the run if nearly all are timed, else the timed ones."""
        whole, timed = self.total.cost.bytes, self.total.timed.bytes
        return whole if self.step is not None and timed >= _NEARLY_ALL * whole else timed

    @property
    def _is_whole(self) -> bool:
        return self.step is not None and self.timed_share >= _NEARLY_ALL

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: model FLOPs per second divided by the peak; None if the peak is not known.

        Where less than 99 % of the FLOPs have a time, or the trace has no clock, only those with a time count.
        """
        return self._share(self.model_flops if self._is_whole else self.total.timed_model_flops)

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs utilisation: as `mfu`, recomputed FLOPs included."""
        return self._share(self.achieved_flops)

    def _share(self, flops: int) -> float | None:
        return flops / self.seconds / self.peak[1] if self.peak and self.seconds else None

    @listed
    def by_scope(self, depth: int | None = None) -> dict[str, Sum]:
        """Return the sum of each scope path of at most `depth` parts; "" is for instructions without a scope.

        Args:
            depth: Levels of scopes; by default all.
        """
        return self._by(lambda row: "/".join(row.place.scope[:depth]))

    @listed
    def by_direction(self) -> dict[str, Sum]:
        """Return the sum of each direction: forward, backward, recompute; "" is outside of a gradient."""
        return self._by(lambda row: row.place.direction)

    @listed
    def by_primitive(self) -> dict[str, Sum]:
        """Return the sum of each primitive of jax; "" is for instructions without a name of jax."""
        return self._by(lambda row: row.place.primitive)

    @listed
    def by_source(self) -> dict[str, Sum]:
        """Return the sum of each source line, `file:line`; "" is for instructions without a source line."""
        return self._by(lambda row: row.source)

    @listed
    def by_opcode(self) -> dict[str, Sum]:
        """Return the sum of each opcode; a custom call is named by its target."""
        return self._by(lambda row: row.opcode)

    @listed
    def by_instruction(self) -> dict[str, Sum]:
        """Return the sum of each instruction name, which is unique in a compiled module."""
        return self._by(lambda row: row.name)

    def _by(self, key: Callable[[JoinRow], str]) -> dict[str, Sum]:
        sums: dict[str, Sum] = {}
        for row in self.rows:
            sums[key(row)] = sums.get(key(row), Sum()).plus(row)
        return dict(sorted(sums.items(), key=lambda item: (-item[1].seconds, -item[1].cost.flops)))

    @staticmethod
    def _sum(rows: Sequence[JoinRow]) -> Sum:
        whole = Sum()
        for row in rows:
            whole = whole.plus(row)
        return whole

    @listed
    def by_scope_and_direction(self, depth: int | None = None) -> dict[str, dict[str, Sum]]:
        """Return the sums of each scope path of at most `depth` parts, by direction.

        Args:
            depth: Levels of scopes; by default all.
        """
        sums: dict[str, dict[str, Sum]] = {scope: {} for scope in self.by_scope(depth)}
        for row in self.rows:
            parts, direction = sums["/".join(row.place.scope[:depth])], row.place.direction
            parts[direction] = parts.get(direction, Sum()).plus(row)
        return sums

    @property
    def tables(self) -> Mapping[str, Callable[[], dict[str, Sum]]]:
        """The sums by each of `BY`."""
        return {by: getattr(self, f"by_{by}") for by in BY}
