"""Interrupts: a command ends soon after Ctrl-C or SIGTERM, also while XLA compiles.

Python runs the handler of a signal between two of its own instructions. XLA compiles for minutes without one, so a
thread watches the signals too: if Python has not run its handler after half a second, the thread deletes the temporary
folders and ends the process.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from costax.core.unfinished_files import SAVED, TEMPORARY_FOLDERS

# Seconds that Python has to run its own handler.
_PATIENCE: Final = 0.5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def message() -> str:
    """Return the message of an interrupted command: it names the files that the command saved before."""
    kept = f" Saved before: {', '.join(map(repr, SAVED))}." if SAVED else ""
    return f"Interrupted: the command did not finish.{kept}"


@contextmanager
def ending_soon() -> Generator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM SystemExit in this block, or end the process where they cannot.

    In a thread other than the main thread, which cannot set handlers, the block runs as it is.
    """
    SAVED.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = threading.Event()

    def handler(number: int, _: object) -> None:
        handled.set()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in _SIGNALS}
    descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reading, handled), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, previous in before.items():
            signal.signal(number, previous)
        # The end of the pipe ends the watcher.
        os.close(writing)
        watcher.join(_PATIENCE * 2)
        os.close(reading)


def _watch(reading: int, handled: threading.Event) -> None:
    while numbers := os.read(reading, 1):
        if numbers[0] in _SIGNALS and not handled.wait(_PATIENCE):
            _end(numbers[0])


def _end(number: int) -> None:
    """End the process at once: the main thread is in the compiler, and Python's own exit would wait for it."""
    # XLA may write one more module while the folder is deleted.
    for folder in [*TEMPORARY_FOLDERS, *TEMPORARY_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        sys.stderr.write(f"{message()}\n")
        sys.stderr.flush()
    finally:
        os._exit(128 + number)
