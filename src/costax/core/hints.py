"""Hints for the reader that asked: a program in Python reads names of Python, a terminal reads options of commands."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_SHELL: ContextVar[bool] = ContextVar("shell", default=False)


@contextmanager
def for_a_shell() -> Generator[None]:
    """Give hints for a command line in this context; the command line of costax runs inside it."""
    token = _SHELL.set(True)
    try:
        yield
    finally:
        _SHELL.reset(token)


def hint(python: str, shell: str) -> str:
    """Return the first text in a Python program, and the second one in a command line.

    >>> hint("trips={'while': 10}", "--trips while=10")
    "trips={'while': 10}"
    """
    return shell if _SHELL.get() else python
