"""Address: the call-site path of an equation."""

from __future__ import annotations

Address = tuple[int, ...]
"""The marks of the equations that call each other on the way to an equation, outermost first; its own mark is last."""
