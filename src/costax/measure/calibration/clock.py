"""Processor time of a program: what all threads of this process compute, without what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from costax import _jax

# A sample repeats a short program for so long.
_LEAST: Final = 2e-3
_MOST_CALLS: Final = 20
_THREADS: Final = Path("/proc/self/task")


def sample(run: Callable[[], Any]) -> float:
    """Return the processor seconds of one call, after a call that brings its data back into the caches."""
    start = time.process_time()
    _jax.block_until_ready(run())
    calls = max(1, min(_MOST_CALLS, int(_LEAST / max(time.process_time() - start, 1e-6))))
    start = time.process_time()
    for _ in range(calls):
        _jax.block_until_ready(run())
    return (time.process_time() - start) / calls


def share(run: Callable[[], Any]) -> float:
    """Return how many threads share the work of one call: the time of all of them over that of the busiest.

    The threads' own clocks tell, for wall time depends on other processes. 1 where the system has no such clocks.
    """
    before = _thread_seconds()
    _jax.block_until_ready(run())
    spent = [seconds - before.get(name, 0.0) for name, seconds in _thread_seconds().items()]
    return sum(spent) / max(spent) if spent and max(spent) > 0 else 1.0


def _thread_seconds() -> Mapping[str, float]:
    found: dict[str, float] = {}
    for file in _THREADS.glob("*/schedstat") if _THREADS.is_dir() else ():
        try:
            found[file.parent.name] = int(file.read_text().split()[0]) * 1e-9
        except (OSError, ValueError, IndexError):
            # The thread ended, or the kernel has no such statistics.
            continue
    return found
