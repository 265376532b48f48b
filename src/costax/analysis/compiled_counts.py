"""The counts of a compiled program that budgets and thresholds name: executed FLOPs, bytes, temporaries, kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from costax.core.cost import Count
from costax.core.printable import printable
from costax.errors import BudgetError
from costax.hlo.loops import Loop

COMPILED: Final[Mapping[str, str]] = {
    "executed_flops": "FLOPs that one device executes, loop bodies as often as they run, as XLA counts (FLOP)",
    "hbm_bytes": "bytes that its kernels read and write (B)",
    "collective_bytes": "bytes that it sends in collectives (B)",
    "temp_bytes": "bytes of temporaries (B)",
    "kernels": "kernels that it runs",
}
"""The fields of a compiled program, of one device, and what they count."""

_SHOWN: Final = 5


@runtime_checkable
class Compiled(Protocol):
    """A compiled program: a module, or a comparison."""

    @property
    def name(self) -> str:
        """The name of the program."""
        ...

    @property
    def unknown_loops(self) -> Sequence[Loop]:
        """The loops without a known trip count; what runs in them counts once."""
        ...

    def compiled_counts(self) -> Mapping[str, Count]:
        """Return the count of each field of `COMPILED`."""
        ...


def counted_once(loops: Sequence[Loop]) -> list[str]:
    """Return sentences, without a full stop, that name loops without a known trip count."""
    sentences = [f"the loop {_named(loop)} has no known trip count and counts once" for loop in loops[:_SHOWN]]
    return [*sentences, *([f"so do {len(loops) - _SHOWN} more loops"] if len(loops) > _SHOWN else [])]


def check_known(program: Compiled, names: Sequence[str]) -> None:
    """Raise BudgetError if a field of `COMPILED` that is to be checked depends on a loop without a known trip count."""
    loops = program.unknown_loops
    unknown = [name for name in names if name in COMPILED and name != "temp_bytes"] if loops else []
    if unknown:
        name = printable(loops[0].name)
        raise BudgetError(
            f"The {', '.join(unknown)} of `{printable(program.name)}` are unknown: they depend on how often loops run.",
            why="\n".join(f"  {sentence}" for sentence in counted_once(loops)),
            cure=f"Give the loops lengths that the program fixes, or set those of a module: --trips {name}=N, or "
            f"costax.analyze(path, trips={{{name!r}: N}})().",
        )


def _named(loop: Loop) -> str:
    place = ", ".join(filter(None, (loop.scope, loop.source)))
    return printable(f"{loop.name} ({place})" if place else loop.name)
