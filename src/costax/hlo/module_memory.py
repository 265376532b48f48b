"""The memory of a compiled module on one device: the bytes by kind of buffer, and the buffers alive at the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from costax.core.display import Printed
from costax.hlo.records import Computation, Instruction

ARGUMENTS: Final[str] = "arguments"
RESULTS: Final[str] = "results"
CONSTANTS: Final[str] = "constants"
TEMPORARIES: Final[str] = "temporaries"
THREAD_LOCAL: Final[str] = "thread-local"
KINDS: Final[Sequence[str]] = (ARGUMENTS, RESULTS, CONSTANTS, TEMPORARIES, THREAD_LOCAL)


@dataclass(frozen=True, slots=True)
class LiveBuffer:
    """A buffer that is alive at the peak.

    nbytes: its size. kind: one of `KINDS`. name: of the instruction whose result it holds. shape: of that result, as
    HLO text writes it. instruction, computation: None where the module has no instruction of that name. part: which
    part of a tuple, such as (2,); () for all of it.
    """

    nbytes: int
    kind: str
    name: str
    shape: str = ""
    instruction: Instruction | None = field(default=None, repr=False)
    computation: Computation | None = field(default=None, repr=False)
    part: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """The name, with the part of a tuple as HLO writes it: `tuple.3{2}`."""
        return f"{self.name}{{{','.join(map(str, self.part))}}}" if self.part else self.name


@dataclass(frozen=True, slots=True)
class Moment:
    """An instruction of the schedule, and the bytes of temporaries that are alive while it runs."""

    name: str
    nbytes: int


@dataclass(frozen=True)
class ModuleMemory(Printed):
    """The bytes of memory that one device needs for a module.

    source: the origin of the numbers, such as "XLA's buffer assignment". is_estimate: they are not XLA's. parts: bytes
    by kind of buffer; results do not include those that lie in the buffer of a donated argument, which are `aliased`.
    allocations: how many allocations XLA made; None where XLA's number is not known. alive: the buffers alive at the
    peak, the largest first; empty where the source does not say. live_temporaries: the bytes of the temporaries among
    them; None where the source does not say. timeline: the temporaries in the order of the schedule. alive_source: the
    origin of `alive` and of the timeline where that is not `source`.
    """

    source: str
    is_estimate: bool
    parts: Mapping[str, int]
    aliased: int = 0
    allocations: int | None = None
    alive: Sequence[LiveBuffer] = field(default=(), repr=False)
    live_temporaries: int | None = None
    timeline: Sequence[Moment] = field(default=(), repr=False)
    alive_source: str = ""

    @property
    def needed(self) -> int:
        """The bytes at the peak, of all kinds."""
        return sum(self.parts.values())

    @property
    def temporaries(self) -> int:
        """The bytes of temporaries."""
        return self.parts.get(TEMPORARIES, 0)

    @property
    def unnamed(self) -> int:
        """The bytes at the peak beyond the buffers that are alive: padding, and what the source gives no buffer for.

        Negative where buffers share memory that `alive` has for each of them.
        """
        return self.needed - sum(buffer.nbytes for buffer in self.alive)

    @property
    def padding(self) -> int | None:
        """The bytes of temporaries in which no buffer is alive at the peak: alignment and fragmentation.

        None where the source does not say which buffers are alive.
        """
        return None if self.live_temporaries is None else self.temporaries - self.live_temporaries
