"""Interrupts during long work: Ctrl-C raises KeyboardInterrupt, or ends the process of a command at once.

Python runs the handler of a signal between two of its own instructions, and XLA compiles for minutes without one. In a
notebook KeyboardInterrupt is therefore raised when the compiler returns. A command has a process of its own, so while
XLA compiles the system ends the process at the signal, and a guard (`costax.core.guards`) does what is left to do.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from costax.core.guards import ENDS_AT_ONCE, guarded

# Seconds after which an interrupt that cannot be raised is sent again.
_RETRY: Final = 0.02
_NOTED: ContextVar[threading.Event | None] = ContextVar("noted", default=None)


class Terminated(SystemExit):
    """The end of a command by a signal; a program of the user that calls `sys.exit` raises SystemExit itself."""


@contextmanager
def noted() -> Generator[threading.Event]:
    """Return an event that is set at Ctrl-C, while Ctrl-C raises KeyboardInterrupt as always.

    An interrupt that arrives where it cannot be raised is sent again soon after (`postponed`). In a thread other than
    the main thread, and where the user has another handler, nothing changes.
    """
    outer, own = _NOTED.get(), threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if outer is not None or not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield outer or own
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        own.set()
        if not postponed(number, frame):
            signal.default_int_handler(number, frame)

    token = _NOTED.set(own)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield own
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _NOTED.reset(token)


def postponed(number: int, frame: FrameType | None) -> bool:
    """Send a signal again soon if its handler must not raise an exception in a frame; say whether that is so.

    Python prints and drops an exception that is raised in a callback of the garbage collector, and jax has one. The
    process aborts at an exception that is raised while jaxlib is imported: its C++ code calls Python's.
    """
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks or str(frame.f_globals.get("__name__")).partition(".")[0] == "jaxlib":
            threading.Timer(_RETRY, signal.raise_signal, (number,)).start()
            return True
        frame = frame.f_back
    return False


@contextmanager
def while_compiling() -> Generator[None]:
    """Mark a call of XLA that may take long: the process of a command ends at SIGINT, SIGTERM and SIGHUP at once.

    Elsewhere KeyboardInterrupt is raised at the end of the block. Python would raise it in jax's C++ code when the
    compiler returns, and some versions of jax then crash at the end of the process.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield
    elif ENDS_AT_ONCE.get() and os.name == "posix":
        # A signal that is ignored, as in a process that a shell started in the background, stays so.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if callable(signal.getsignal(n))]
        with guarded(), _handled_by(signal.SIG_DFL, numbers):
            yield
    elif handler is not signal.default_int_handler and _NOTED.get() is None:
        yield
    else:
        arrived: list[int] = []

        def note(number: int, _: FrameType | None) -> None:
            arrived.append(number)

        try:
            with _handled_by(note, [signal.SIGINT]):
                yield
        finally:
            if arrived:
                signal.raise_signal(signal.SIGINT)


@contextmanager
def _handled_by(handler: Any, numbers: Sequence[int]) -> Generator[None]:
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
