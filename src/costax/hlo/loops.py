"""Loop: what is known of a while loop of a module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loop:
    """A while loop: its instruction name, its scope, its source line, and its trip count, None where unknown."""

    name: str
    scope: str
    source: str
    trips: int | None
