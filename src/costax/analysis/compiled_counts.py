"""The counts of a compiled program that budgets and thresholds name: executed FLOPs, bytes, temporaries, kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from costax.core.cost import Count

COMPILED: Final[Mapping[str, str]] = {
    "executed_flops": "FLOPs that one device executes, loop bodies as often as they run, as XLA counts (FLOP)",
    "hbm_bytes": "bytes that its kernels read and write (B)",
    "collective_bytes": "bytes that it sends in collectives (B)",
    "temp_bytes": "bytes of temporaries (B)",
    "kernels": "kernels that it runs",
}
"""The fields of a compiled program, of one device, and what they count."""


@runtime_checkable
class Compiled(Protocol):
    """A compiled program: a module, or a comparison."""

    @property
    def name(self) -> str:
        """The name of the program."""
        ...

    def compiled_counts(self) -> Mapping[str, Count]:
        """Return the count of each field of `COMPILED`."""
        ...
