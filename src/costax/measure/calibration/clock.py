"""Processor time of a program: what all threads of this process compute, without what other processes do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from costax import _jax

# A sample repeats a short program for so long.
_LEAST: Final = 2e-3
_MOST_CALLS: Final = 20
_THREADS: Final = Path("/proc/self/task")


def processor_seconds() -> float:
    """Return the processor seconds that all threads of this process have taken so far.

    The clock of a process on Linux has what another running thread takes only since its last tick, every 1 to 10 ms,
    which is longer than many programs; the clocks of the threads themselves are exact.
    """
    return sum(seconds.values()) if (seconds := _thread_seconds()) else time.process_time()


def sample(run: Callable[[], Any]) -> float:
    """Return the processor seconds of one call, after a call that brings its data back into the caches."""
    start = time.perf_counter()
    _jax.block_until_ready(run())
    calls = max(1, min(_MOST_CALLS, int(_LEAST / max(time.perf_counter() - start, 1e-6))))
    before = processor_seconds()
    for _ in range(calls):
        _jax.block_until_ready(run())
    return (processor_seconds() - before) / calls


def share(run: Callable[[], Any]) -> float:
    """Return how many threads share the work of one call: the time of all of them over that of the busiest.

    The threads' own clocks tell, for wall time depends on other processes. 1 where the system has no such clocks.
    """
    before = _thread_seconds()
    _jax.block_until_ready(run())
    spent = [seconds - before.get(thread, 0.0) for thread, seconds in _thread_seconds().items()]
    return sum(spent) / max(spent) if spent and max(spent) > 0 else 1.0


def _thread_seconds() -> Mapping[int, float]:
    """Return the processor seconds of each thread, by its number in the system; {} where no clock tells."""
    found: dict[int, float] = {}
    for name in os.listdir(_THREADS) if _THREADS.is_dir() else ():
        thread = int(name)
        # The number of a thread's clock on Linux, which pthread_getcpuclockid returns.
        with suppress(OSError):  # the thread ended
            found[thread] = time.clock_gettime((~thread << 3) | 6)
    return found
