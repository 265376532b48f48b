"""The colours of plots and pages: one palette, and one colour for each unit that can bound a kernel."""

from __future__ import annotations

from typing import Final

# Okabe and Ito, "Color Universal Design", 2008.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
# What bounds a kernel has the same colour in every picture, whichever of them a program has.
_BOUNDS: Final = ("matmul unit", "memory", "vector unit", "transcendental unit", "link", "launch", "library call")


def hue(bound: str) -> int:
    """Return the position of the colour of what bounds a kernel; a name that is not known has the last one."""
    return _BOUNDS.index(bound) if bound in _BOUNDS else len(_BOUNDS) - 1
