"""Address: the call-site path of an equation."""

from __future__ import annotations

Address = tuple[int, ...]
"""The marks of the equations that lead to an equation, outermost first, its own last."""
