"""What a program must offer to be predicted and to be held against the memory of a device.

An analysis, a comparison with XLA and a what-if offer it; they are defined above this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from costax.core.cost import Cost, Count
from costax.core.equation import Operand

if TYPE_CHECKING:
    from costax.core.size import Size
    from costax.errors import Missing
    from costax.performance.hardware import Device
    from costax.performance.kernels import Kernel
    from costax.performance.memory import MemoryProfile
    from costax.performance.roofline import KernelTime
    from costax.program.tree import Scope


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The bytes that one device needs to run a program.

    needed: all of them at the peak. parts: the same by what they hold. source: who says so. allocated: results and
    temporaries, which a run has to allocate. doubts: primitives whose workspace the source does not model.
    """

    needed: Count
    parts: Mapping[str, Count]
    source: str
    allocated: Count
    doubts: Sequence[str] = field(default=())


class Counted(Protocol):
    """The counts of a program: an analysis."""

    @property
    def name(self) -> str:
        """What the program is called."""
        ...

    @property
    def inputs(self) -> Sequence[tuple[str, Operand]]:
        """The arguments by name."""
        ...

    @property
    def total(self) -> Cost:
        """The cost of the whole program, all devices together."""
        ...

    @property
    def per_device(self) -> Cost:
        """The cost of one device."""
        ...

    @property
    def exact(self) -> bool:
        """Whether every number is exact."""
        ...

    @property
    def uncounted(self) -> Sequence[Missing]:
        """Primitives without a rule."""
        ...

    @property
    def parameters(self) -> Mapping[tuple[Scope, str], Size] | None:
        """The parameters by scope and dtype; None where it is not known which inputs are parameters."""
        ...

    @property
    def memory(self) -> MemoryProfile:
        """Live ranges, without fusion and with it."""
        ...

    @property
    def peak_bytes(self) -> Count:
        """Bytes alive at once if every equation has its result in a buffer of its own."""
        ...

    def by_direction(self) -> Mapping[str, Cost]:
        """Return the cost of the forward, backward and recomputed part and of the update."""
        ...


class Predictable(Protocol):
    """A program with its kernels and its memory."""

    @property
    def analysis(self) -> Counted:
        """The counts of the program."""
        ...

    @property
    def kernel_source(self) -> str:
        """What made the kernels: a rule of costax, or XLA."""
        ...

    def kernels(self) -> Sequence[Kernel]:
        """Return the pieces that run as one kernel each."""
        ...

    def memory_use(self) -> MemoryUse:
        """Return the bytes that one device needs."""
        ...


class Predicted(Protocol):
    """A prediction, as far as its energy needs it."""

    @property
    def analysis(self) -> Counted:
        """The counts of the program."""
        ...

    @property
    def device(self) -> Device:
        """The device."""
        ...

    @property
    def parts(self) -> Sequence[KernelTime]:
        """The kernels with their times."""
        ...

    @property
    def seconds(self) -> float:
        """The expected seconds of one call."""
        ...

    @property
    def range(self) -> tuple[float, float, float]:
        """Seconds [best, expected, worst]."""
        ...

    @property
    def tokens(self) -> int | None:
        """Tokens in one call."""
        ...

    @property
    def examples(self) -> int | None:
        """Examples in one call."""
        ...
