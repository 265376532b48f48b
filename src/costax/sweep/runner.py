"""Running a sweep: points out to processes, results back into the file, whatever becomes of the one or the other."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from concurrent.futures.process import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from costax.errors import SweepError
from costax.sweep.grid import Point, key_of, points_of
from costax.sweep.journal import Journal
from costax.sweep.progress import Progress
from costax.sweep.results import Sweep
from costax.sweep.worker import Result, analyzed

# How many points wait in an executor at a time, for each of its processes.
_AHEAD: Final = 4
_WINDOW: Final = 256
# How often the local pool may lose a process before the point is blamed that it had.
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

    make: returns (fn, args), (fn, args, kwargs) or a costax.Target. It is sent to other processes, so it is a function
    of a module; one that cannot be sent is analysed in this process.
    grid: a dict of lists, of which every combination is a point, or an iterable of dicts.
    executor: any `concurrent.futures.Executor`, a cluster's too; by default a pool of `workers` local processes (one
    for each core). It stays open. progress: a bar on a terminal, a line now and then in a pipe, on standard error.
    out: a .jsonl or .parquet file that takes each result as it comes; points that are in it already are not analysed
    again, those that failed only with `retry_errors`. options: those of `analyze`, but for which arguments are static.
    A point that fails is recorded with its error. Raises SweepError where the executor dies, with what was done kept.
    """
    points = points_of(grid)
    study = getattr(make, "study", None) or f"{getattr(make, '__module__', '')}:{getattr(make, '__qualname__', make)}"
    journal = Journal(out, study)
    done = {key for key, result in journal.results.items() if not (retry_errors and result["error"])}
    waiting = [point for point in points if key_of(point) not in done]
    complete = False
    try:
        with Progress(len(points), len(points) - len(waiting), shown=progress) as shown:
            run = _Run(make, options, journal, shown)
            if waiting:
                run.all(waiting, executor, workers)
        complete = True
    except SweepError as error:
        error.sweep = _ordered(journal, points)  # type: ignore[attr-defined]
        raise
    finally:
        journal.close(complete=complete)
    return _ordered(journal, points)


def _ordered(journal: Journal, points: Sequence[Point]) -> Sweep:
    keys = map(key_of, points)
    return Sweep(tuple(journal.results[key] for key in keys if key in journal.results))


class _Run:
    def __init__(self, make: Callable[..., Any], options: Mapping[str, Any], journal: Journal, shown: Progress) -> None:
        self.make, self.options, self.journal, self.shown = make, options, journal, shown
        # By fingerprint: counts, and the points that wait for them.
        self.programs: dict[str, Result] = {}
        self.same: dict[str, list[Result]] = {}

    def all(self, points: Sequence[Point], executor: Executor | None, workers: int | None) -> None:
        if executor is not None:
            left = self.through(executor, points, None, _window(executor))
            if left:
                raise self.died(executor, left)
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
        """Work through the points in a local pool; where a process dies, the next pool goes on."""
        left = list(points)
        lost: dict[str, int] = {}
        while left:
            with _pool(workers) as pool:
                broken = self.through(pool, left, claims, _AHEAD * workers)
            # Points that were under way with a process that died go one at a time, so that the right one is blamed.
            left = list[Point]()
            for point in broken:
                key = key_of(point)
                lost[key] = lost.get(key, 0) + 1
                if lost[key] >= _TRIES:
                    with _pool(1) as alone:
                        broken_alone = self.through(alone, [point], None, 1)
                    if broken_alone:
                        self.record(_dead(point))
                else:
                    left.append(point)
            shutil.rmtree(claims, ignore_errors=True)
            Path(claims).mkdir(exist_ok=True)
            for results in self.same.values():
                left += [result["point"] for result in results]
            self.same.clear()

    def unclaimed(self, executor: Executor) -> None:
        left = [result["point"] for results in self.same.values() for result in results]
        self.same.clear()
        if left and self.through(executor, left, None, _window(executor)):
            raise self.died(executor, left)

    def through(self, executor: Executor, points: Sequence[Point], claims: str | None, window: int) -> list[Point]:
        """Send points through an executor, a window of them at a time; return those that it broke over."""
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
                    except Exception as error:  # the executor's own: a lost worker, what cannot be sent
                        if type(error).__module__.startswith(("distributed", "dask")):
                            broken.append(point)
                        else:
                            self.record({"point": point, "error": f"{type(error).__name__}: {error}", "program": None})
        finally:
            for future in under_way:
                future.cancel()
        return [*broken, *queue]

    def record(self, result: Result) -> None:
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
            for waiting in self.same.pop(program, ()):
                self.record(waiting)

    def died(self, executor: Executor, left: Sequence[Point]) -> SweepError:
        done = len(self.journal.results)
        kept = "" if self.journal.path is None else f" and in {str(self.journal.lines)!r}"
        return SweepError(
            f"The executor {type(executor).__name__} died: {len(left)} points are not analysed, the first of them "
            f"{dict(left[0])}.",
            why=f"{done} results are kept, in the error's `sweep`{kept}.",
            cure="Run the sweep again with the same `out`: it goes on where it was.",
        )


def _dead(point: Point) -> Result:
    error = "SweepError: the process that analysed it died, each time that it was tried (killed, or out of memory)"
    return {"point": point, "error": error, "program": None, "analysed": False, "seconds": None, "process": None}


def _window(executor: Executor) -> int:
    workers: Any = getattr(executor, "_max_workers", None)
    return _AHEAD * workers if isinstance(workers, int) else _WINDOW


def _can_be_sent(*values: Any) -> bool:
    try:
        pickle.dumps(values)
    except Exception:  # pickle raises whatever an object's own methods do
        return False
    return True


@contextmanager
def _pool(workers: int) -> Generator[Executor]:
    """Return a pool of fresh processes: a fork of a process that runs jax may hang."""
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Import what every point needs, once a process; analyses need no accelerator, and one thread each."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
