"""Progress of long work: the running stages and their seconds, on one line of the terminal's standard error.

A function is declared a stage where it is defined, `@stage("compiling")`. Stages are shown inside the context
`shown()`, and cost nothing outside it. A stage inside another stage is shown on the same line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import Final, ParamSpec, TextIO, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Seconds before the line appears: shorter work ends before anyone could read it.
_DELAY: Final = 0.4
_INTERVAL: Final = 0.1
# Seconds after which a stage is worth a line in a pipe.
_LONG: Final = 3.0
_CLEAR: Final = "\r\x1b[K"


class _Line:
    """The progress line of a terminal: the names of the running stages, and the seconds since each began."""

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
                self.write(f"{_CLEAR}{text}")
                self.written = True

    def write(self, text: str) -> None:
        # A closed pipe or a full disk must not end the work whose progress it is.
        with suppress(OSError):
            self.stream.write(text)
            self.stream.flush()

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        if self.written:
            self.write(_CLEAR)


class _Announcements(_Line):
    """The stages in a pipe or a file: one line for each that takes long, without control characters."""

    def _run(self) -> None:
        announced: set[float] = set()
        while not self.done.wait(_INTERVAL):
            now = time.monotonic()
            for name, begun in list(self.stages):
                if now - begun > _LONG and begun not in announced:
                    announced.add(begun)
                    self.write(f"costax: {name} ...\n")


_LINE: ContextVar[_Line | None] = ContextVar("line", default=None)


@contextmanager
def shown(stream: TextIO | None = None) -> Generator[None]:
    """Show the stages that run in this context on a stream, by default standard error.

    Off a terminal, as in a pipe, each stage that takes seconds is a line of its own, unless the environment variable
    COSTAX_QUIET is set.
    """
    terminal = stream or sys.stderr
    # pythonw, Python without a console on Windows, sets sys.stderr to None.
    if not terminal or (os.environ.get("COSTAX_QUIET") and not terminal.isatty()):  # pyright: ignore[reportUnnecessaryComparison]
        yield
        return
    line = _Line(terminal) if terminal.isatty() else _Announcements(terminal)
    token = _LINE.set(line)
    line.thread.start()
    try:
        yield
    finally:
        _LINE.reset(token)
        line.close()


def stage(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that declares a function a stage of long work under this name."""

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
