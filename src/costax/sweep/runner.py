"""Execution of a sweep: sends points to processes and writes results to the file, even if processes die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from concurrent.futures.process import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from costax.core.interrupts import noted
from costax.core.listing import shown
from costax.errors import SweepError, SweepInterrupted
from costax.sweep.conditions import conditions
from costax.sweep.grid import Point, key_of, points_of
from costax.sweep.journal import Journal
from costax.sweep.progress import Progress
from costax.sweep.results import Sweep
from costax.sweep.worker import Result, analyzed

# How many points are submitted to an executor at a time, for each of its processes; _WINDOW if their number is unknown.
_AHEAD: Final = 4
_WINDOW: Final = 256
# How often a point may be in work when a process of the local pool dies, before the point is tried alone.
_TRIES: Final = 2


def sweep(
    make: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
    executor: Executor | None = None,
    progress: bool = True,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    retry_errors: bool = False,
    **options: Any,
) -> Sweep:
    """Analyse `make(**point)` at every point of a grid, and return the results.

    Args:
        make: A function that returns (fn, args), (fn, args, kwargs) or a costax.Target. It must be a function of a
            module that other processes can import; otherwise all points are analysed in this process.
        grid: A dict of lists, whose combinations are the points, or an iterable of dicts.
        executor: A `concurrent.futures.Executor`, such as that of a cluster; it stays open. By default, a pool of
            `workers` local processes (one for each core).
        progress: Show a bar, or a line every ten seconds in a pipe, on standard error.
        out: A .jsonl or .parquet file, to which each result is written at once. Points that the file has already
            are not analysed again; failed points are, with `retry_errors`. A file of another function, other
            sources, options or versions of costax and jax is refused.
        workers: The number of local processes; by default one for each core.
        retry_errors: Whether points that failed are analysed again.
        options: The options of `analyze` except static arguments.

    The result of a point that fails is its error. Raises SweepError if the grid or the file is not valid, or the
    executor dies; the attribute `sweep` of the error then has the results so far.
    """
    points = points_of(grid)
    journal = Journal(out, conditions(make, options))
    done = {key for key, result in journal.results.items() if not (retry_errors and result["error"])}
    pending = [point for point in points if key_of(point) not in done]
    complete = False
    try:
        with (
            Progress(len(points), len(points) - len(pending), shown=progress) as shown,
            noted() as interrupted,
        ):
            run = _Run(make, options, journal, shown, interrupted)
            if pending:
                run.all(pending, executor, workers)
        complete = True
    except SweepError as error:
        error.sweep = _ordered(journal, points)  # type: ignore[attr-defined]
        raise
    except KeyboardInterrupt as interrupt:
        raise SweepInterrupted(len(journal.results), len(points), journal.path and journal.lines) from interrupt
    finally:
        journal.close(complete=complete)
    return _ordered(journal, points)


def _ordered(journal: Journal, points: Sequence[Point]) -> Sweep:
    keys = map(key_of, points)
    return Sweep(shown(tuple(journal.results[key] for key in keys if key in journal.results)))


class _Run:
    def __init__(
        self,
        make: Callable[..., Any],
        options: Mapping[str, Any],
        journal: Journal,
        shown: Progress,
        interrupted: threading.Event,
    ) -> None:
        self.make, self.options, self.journal, self.shown = make, options, journal, shown
        self.interrupted = interrupted
        # By fingerprint of a program: its counts, and the results of points that wait for these counts.
        self.programs: dict[str, Result] = {}
        self.same: dict[str, list[Result]] = {}

    def all(self, points: Sequence[Point], executor: Executor | None, workers: int | None) -> None:
        if executor is not None:
            unfinished = self.through(executor, points, None, _window(executor))
            if unfinished:
                raise self.died(executor, unfinished)
            self.unclaimed(executor)
            return
        count = workers or os.cpu_count() or 1
        if min(count, len(points)) == 1 or not _can_be_sent(self.make, self.options):
            for point in points:
                self.record(analyzed(self.make, point, self.options))
            return
        with tempfile.TemporaryDirectory(prefix="costax-sweep-") as claims:
            self.in_pools(points, min(count, len(points)), claims)

    def in_pools(self, points: Sequence[Point], workers: int, claims: str) -> None:
        """Analyse the points in a local pool, and in a new pool after each death of a process.

        The death of one process breaks the whole pool, and all points in work are lost with it.
        """
        remaining = list(points)
        lost: dict[str, int] = {}
        while remaining:
            with _pool(workers, claims) as pool:
                broken = self.through(pool, remaining, claims, _AHEAD * workers)
            # Any of the lost points may have killed the process. A point that is lost repeatedly runs in a pool of its
            # own, so that only the point at fault gets an error.
            remaining = list[Point]()
            for point in broken:
                key = key_of(point)
                lost[key] = lost.get(key, 0) + 1
                if lost[key] >= _TRIES:
                    with _pool(1, claims) as alone:
                        broken_alone = self.through(alone, [point], None, 1)
                    if broken_alone:
                        self.record(_dead(point))
                else:
                    remaining.append(point)
            shutil.rmtree(claims, ignore_errors=True)
            Path(claims).mkdir(exist_ok=True)
            # The process that claimed these programs may be dead, so their points are analysed again.
            for results in self.same.values():
                remaining += [result["point"] for result in results]
            self.same.clear()

    def unclaimed(self, executor: Executor) -> None:
        """Analyse the points whose program another process claimed and never finished."""
        waiting = [result["point"] for results in self.same.values() for result in results]
        self.same.clear()
        if waiting and self.through(executor, waiting, None, _window(executor)):
            raise self.died(executor, waiting)

    def through(self, executor: Executor, points: Sequence[Point], claims: str | None, window: int) -> list[Point]:
        """Analyse points with an executor, at most `window` at a time; return the points that are lost if it breaks."""
        queue = deque(points)
        under_way: dict[Future[Result], Point] = {}
        broken: list[Point] = []
        try:
            while queue or under_way:
                while queue and len(under_way) < window and not broken:
                    point = queue.popleft()
                    try:
                        under_way[executor.submit(analyzed, self.make, point, self.options, claims)] = point
                    except (BrokenExecutor, RuntimeError):
                        broken.append(point)
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    point = under_way.pop(future)
                    try:
                        self.record(future.result())
                    except (BrokenExecutor, CancelledError):
                        broken.append(point)
                    except Exception as error:  # of the executor itself: a lost worker, a value that cannot be pickled
                        if type(error).__module__.startswith(("distributed", "dask")):
                            broken.append(point)
                        else:
                            self.record({"point": point, "error": f"{type(error).__name__}: {error}", "program": None})
        finally:
            for future in under_way:
                future.cancel()
        return [*broken, *queue]

    def record(self, result: Result) -> None:
        """Write a result to the file, or keep it back until the counts of the same program are known."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        fingerprint = result.get("same_as")
        if fingerprint is not None:
            known = self.programs.get(fingerprint)
            if known is None:
                self.same.setdefault(fingerprint, []).append(result)
                return
            result = {**known, **{name: result[name] for name in ("point", "seconds", "process")}, "analysed": False}
        self.journal.add(result)
        self.shown.advance(result)
        program = result.get("program")
        if program is not None and result.get("analysed"):
            self.programs[program] = result
            for same_program in self.same.pop(program, ()):
                self.record(same_program)

    def died(self, executor: Executor, unfinished: Sequence[Point]) -> SweepError:
        done = len(self.journal.results)
        in_file = "" if self.journal.path is None else f" and in {str(self.journal.lines)!r}"
        return SweepError(
            f"The executor {type(executor).__name__} died before {len(unfinished)} points were analysed; "
            f"the first of them is {dict(unfinished[0])}.",
            why=f"The attribute `sweep` of this error has {done} results{in_file}.",
            cure="Run the sweep again with the same `out`: it continues with the missing points.",
        )


def _dead(point: Point) -> Result:
    error = "SweepError: the process that analysed the point died at every attempt (killed, or out of memory)"
    return {"point": point, "error": error, "program": None, "analysed": False, "seconds": None, "process": None}


def _window(executor: Executor) -> int:
    workers: Any = getattr(executor, "_max_workers", None)
    return _AHEAD * workers if isinstance(workers, int) else _WINDOW


def _can_be_sent(*values: Any) -> bool:
    try:
        pickle.dumps(values)
    except Exception:  # pickle may raise any exception of an object's own methods
        return False
    return True


@contextmanager
def _pool(workers: int, claims: str) -> Generator[Executor]:
    """Return a pool of newly started processes, because a fork of a process that runs jax may hang.

    claims: a folder that the processes remove if this one is killed.
    """
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(claims,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(wait=True, cancel_futures=True)


def _start(claims: str) -> None:
    """Prepare a process: an analysis needs no accelerator and one thread; imports happen once."""
    threading.Thread(target=_end_with_parent, args=(claims,), daemon=True).start()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _end_with_parent(claims: str) -> None:
    """End this process when the one that started it ends, however that happens."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _remove(claims)
        os._exit(1)


def _remove(claims: str, seconds: float = 10) -> None:
    """Remove the folder of claims while the processes of the sweep still make folders in it.

    One try may fail: a folder that appears between the listing of its contents and its removal keeps it alive.
    """
    deadline = time.monotonic() + seconds
    while Path(claims).exists() and time.monotonic() < deadline:
        shutil.rmtree(claims, ignore_errors=True)
        time.sleep(0.01)
