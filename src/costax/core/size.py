"""Size: elements and bytes of parameters or activations."""

from __future__ import annotations

from dataclasses import dataclass

from costax.core.cost import Count


@dataclass(frozen=True, slots=True)
class Size:
    """How many elements and how many bytes; sizes add."""

    elements: Count = 0
    nbytes: Count = 0

    def __add__(self, other: Size) -> Size:
        """Add elements and bytes."""
        return Size(self.elements + other.elements, self.nbytes + other.nbytes)
