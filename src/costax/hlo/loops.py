"""What is known of the while loops and the conditionals of a module."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Loop:
    """A while loop: its instruction name, its scope, its source line, and its trip count, None where unknown."""

    name: str
    scope: str
    source: str
    trips: int | None

    def fits(self, pattern: str) -> bool:
        """Say whether a pattern, as of `--trips`, is the name or scope of the loop."""
        return any(pattern == name or fnmatchcase(name, pattern) for name in (self.name, self.scope))


@dataclass(frozen=True, slots=True)
class Conditional:
    """A conditional whose branches differ in cost: its instruction name, its scope and its source line."""

    name: str
    scope: str
    source: str
