"""Summaries: the `repr` of every result, a sentence with its answer or the start of its table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any, Final

from costax.report.headlines import headline

# A `repr` has at most so many lines of so many characters.
_LINES: Final = 5
_WIDTH: Final = 88


def summary(value: Any, plain: Callable[[Any], str]) -> str:
    """Return the `repr` of a result: its class, its headline, and how to see more; at most five lines.

    plain: returns the table of a result without a headline, whose first lines stand for one.
    """
    text = headline(value) or _first_lines(plain(value))
    lines = [wrapped for line in text.splitlines() for wrapped in textwrap.wrap(line, _WIDTH) or [""]]
    head = f"<costax.{type(value).__name__}> {lines[0]}" if lines else f"<costax.{type(value).__name__}>"
    lines = [*textwrap.wrap(head, _WIDTH + 24), *lines[1:]]
    if len(lines) >= _LINES:
        lines = [*lines[: _LINES - 2], lines[_LINES - 2] + " ..."]
    return "\n".join([*lines, "print() shows the tables."])


def _first_lines(table: str) -> str:
    lines = [" ".join(line.split()) for line in table.splitlines() if line.strip()]
    return "\n".join(lines[: _LINES - 2])
