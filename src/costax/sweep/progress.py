"""Progress of a sweep: a bar on a terminal, a line every ten seconds in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

# Seconds between two lines.
_INTERVAL: Final = 10.0


class Progress:
    """Shows the number of finished and failed points on standard error."""

    def __init__(self, total: int, done: int, *, shown: bool) -> None:
        """Prepare a bar or lines. total: the number of points. done: how many of them the file has already."""
        self.total: int = total
        self.done: int = done
        self.kept: int = done
        self.failed: int = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        # Python without a console has no standard error.
        shown = shown and bool(sys.stderr)
        self._lines = shown and not sys.stderr.isatty()
        if shown and not self._lines:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("sweep", total=total, completed=done)

    def __enter__(self) -> Self:
        """Show the bar, or print how many points the file has already."""
        if self._bar is not None:
            self._bar.start()
        elif self._lines and self.kept:
            self._say(f"{self.kept} of {self.total} points are in the file already")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar, or print the final state."""
        if self._bar is not None:
            self._bar.stop()
        elif self._lines:
            self._say(self._state())

    def advance(self, result: Mapping[str, Any]) -> None:
        """Count a result and update the display."""
        self.done += 1
        self.failed += result["error"] is not None
        if self._bar is not None:
            failed = f", {self.failed} failed" if self.failed else ""
            self._bar.update(self._task, advance=1, description=f"sweep{failed}")
        elif self._lines and time.monotonic() - self._last_line > _INTERVAL:
            self._last_line = time.monotonic()
            self._say(self._state())

    def _state(self) -> str:
        seconds = time.monotonic() - self._started
        rate = (self.done - self.kept) / seconds if seconds else 0.0
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} points{failed}, {rate:.3g} points/s"

    def _say(self, text: str) -> None:
        # A closed pipe or a full disk behind standard error must not end the sweep.
        with suppress(OSError):
            print(f"sweep: {text}", file=sys.stderr, flush=True)
