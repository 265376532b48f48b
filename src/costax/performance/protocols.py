"""Protocols of the programs that can be predicted and fitted into the memory of a device.

`Analysis`, `Comparison` and `WhatIf` implement them; their packages stand above this one, which cannot import them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from costax.core.cost import Cost, Count
from costax.core.display import Printed
from costax.core.equation import Operand
from costax.errors import InputError

if TYPE_CHECKING:
    from costax.core.size import Size
    from costax.errors import Missing
    from costax.performance.hardware import Device
    from costax.performance.kernels import Kernel
    from costax.performance.memory import MemoryProfile
    from costax.performance.roofline import KernelTime
    from costax.program.tree import Scope


@dataclass(frozen=True, slots=True)
class MemoryUse(Printed):
    """The bytes that one device needs to run a program.

    needed: bytes at the peak. parts: `needed` by kind of buffer, such as "arguments". source: the origin of the
    numbers, such as "fused estimate". allocated: bytes of results and temporaries, which each call allocates.
    unmodelled: primitives whose workspace the source does not know. bounds: the least and the most bytes that the
    source leaves possible; None where the compiler itself says `needed`. interface: bytes of the arguments and the
    results of one device, those in the buffer of an argument too.
    """

    needed: Count
    parts: Mapping[str, Count]
    source: str
    allocated: Count
    unmodelled: Sequence[str] = field(default=())
    interface: Count | None = None
    bounds: tuple[Count, Count] | None = None


class Counted(Protocol):
    """The counts of a program, as an Analysis has them."""

    @property
    def name(self) -> str:
        """The name of the program."""
        ...

    @property
    def inputs(self) -> Sequence[tuple[str, Operand]]:
        """The arguments as (path, shape and dtype)."""
        ...

    @property
    def symbols(self) -> Sequence[str]:
        """The names of the symbols in counts and shapes."""
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
    def devices(self) -> int:
        """How many devices the program runs on."""
        ...

    @property
    def even_share(self) -> bool:
        """Whether `per_device` is an even share of `total`, because XLA's partitioner splits the program."""
        ...

    @property
    def exact(self) -> bool:
        """Whether every count is exact."""
        ...

    @property
    def uncounted(self) -> Sequence[Missing]:
        """Primitives without a rule."""
        ...

    @property
    def parameters(self) -> Mapping[tuple[Scope, str], Size] | None:
        """The parameters by scope and dtype; None if it is not known which inputs are parameters."""
        ...

    def is_parameter(self) -> Sequence[bool]:
        """Return for each input whether it is a parameter."""
        ...

    @property
    def hardware_flops(self) -> Count:
        """FLOPs that one device executes, recomputed work included."""
        ...

    @property
    def traffic(self) -> Mapping[str, Count]:
        """Bytes of one device that do not depend on kernels: "unfused" where it is known, and "compulsory"."""
        ...

    @property
    def memory(self) -> MemoryProfile | None:
        """The live ranges of all buffers, without and with fusion; None for a module, which has no equations."""
        ...

    @property
    def peak_bytes(self) -> Count:
        """The peak of live bytes if every equation writes its result to a buffer."""
        ...

    def by_direction(self) -> Mapping[str, Cost]:
        """Return the cost of each direction: forward, backward, recompute and update."""
        ...


class Predictable(Protocol):
    """A program with its counts, its kernels and its memory."""

    @property
    def analysis(self) -> Counted:
        """The counts of the program."""
        ...

    @property
    def kernel_source(self) -> str:
        """The origin of the kernels, as the end of a sentence "The kernels are ..."."""
        ...

    @property
    def compiled_for(self) -> str | None:
        """The kind of machine that XLA compiled the kernels for: "cpu", "gpu", "tpu", or "" if that is not known.

        None for kernels that XLA did not choose.
        """
        ...

    @property
    def executed_flops(self) -> Count | None:
        """FLOPs that one of several devices executes, where the compiled program says it; None for the counts."""
        ...

    def kernels(self) -> Sequence[Kernel]:
        """Return the kernels of the program."""
        ...

    def memory_use(self, device: Device | None = None) -> MemoryUse:
        """Return the bytes that one device needs. device: for whose compiler; None: XLA on an H100."""
        ...


def check_program(program: object, name: str) -> None:
    """Raise InputError for a value that is no program with counts. name: of the function that takes it."""
    if not hasattr(program, "memory_use"):
        kind = type(program).__name__
        raise InputError(
            f"costax.{name} takes the analysis of a program, not a value of the type {kind}.",
            why="It needs the counts of the program, which an analysis or a comparison has.",
            cure=f"Analyse it first: costax.{name}(costax.analyze(x)(*args), ...). A Lowered, a Compiled and the "
            "path of an HLO file need no arguments: costax.analyze(x)().",
        )


class Predicted(Protocol):
    """The part of a Prediction that its energy needs."""

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
        """The (best, expected, worst) seconds of one call."""
        ...

    @property
    def model_flops(self) -> Count:
        """FLOPs of one device in one call, without recomputed work."""
        ...

    @property
    def peak(self) -> tuple[str, float] | None:
        """(unit, FLOP/s) that MFU divides by; None if unknown."""
        ...

    @property
    def tokens(self) -> int | None:
        """Tokens that one call processes; None if unknown."""
        ...

    @property
    def examples(self) -> int | None:
        """Examples that one call processes; None if unknown."""
        ...
