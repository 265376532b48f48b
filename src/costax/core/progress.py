"""Progress: which stage of long work is under way, and for how long, on a terminal's standard error.

Stages are named where they are defined, `@stage("compiling")`; they are shown while `shown()` is open, and cost
nothing otherwise. Stages inside a stage take its line.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Final, ParamSpec, TextIO, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What takes less is over before one could read it.
_DELAY: Final = 0.4
_INTERVAL: Final = 0.1
_CLEAR: Final = "\r\x1b[K"


class _Line:
    """The line at the bottom of a terminal: the names and ages of the stages that are under way."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.stages: list[tuple[str, float]] = []
        self.begun = time.monotonic()
        self.written = False
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, name="costax progress", daemon=True)

    def _run(self) -> None:
        while not self.done.wait(_INTERVAL):
            stages, now = list(self.stages), time.monotonic()
            if stages and now - self.begun > _DELAY:
                text = ", ".join(f"{name} {now - begun:.1f} s" for name, begun in stages)
                self.stream.write(f"{_CLEAR}{text}")
                self.stream.flush()
                self.written = True

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        if self.written:
            self.stream.write(_CLEAR)
            self.stream.flush()


_LINE: ContextVar[_Line | None] = ContextVar("line", default=None)


@contextmanager
def shown(stream: TextIO | None = None) -> Generator[None]:
    """Show the stages that run in this context on a stream, standard error by default, if it is a terminal."""
    terminal = stream or sys.stderr
    # Under pythonw there is no standard error at all.
    if not (terminal and terminal.isatty()):  # pyright: ignore[reportUnnecessaryComparison]
        yield
        return
    line = _Line(terminal)
    token = _LINE.set(line)
    line.thread.start()
    try:
        yield
    finally:
        _LINE.reset(token)
        line.close()


def stage(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that says that a function is a stage of long work."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def staged(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            line = _LINE.get()
            if line is None:
                return function(*args, **kwargs)
            line.stages.append((name, time.monotonic()))
            try:
                return function(*args, **kwargs)
            finally:
                line.stages.pop()

        return staged

    return decorate
