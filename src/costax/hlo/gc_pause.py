"""Pause the cyclic garbage collector while large records are built."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Generator[None]:
    """Return a context without the cyclic garbage collector. This halves the time on 30,000 instructions.

    The records that are built stay alive, so a collection would free nothing, and it would walk every object of jax.
    Reference counting continues. At the end, the collector is on if it was on before.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
