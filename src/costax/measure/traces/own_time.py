"""The own time of events: without the time of the events inside them, which is counted there.

The event of a `while`, `conditional` or `call` lasts as long as all that it runs. On a TPU the events inside lie on the
same line; the runtime of a CPU may run them on other threads. An operation in flight is no work of the device.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from costax.measure.traces.records import Event


def own_times(events: Sequence[Event], inside: Mapping[str, Collection[str]]) -> list[int]:
    """Return the picoseconds of each event of a run without those of the events inside it.

    inside: for each instruction that runs computations, the instructions in them.
    """
    times = [event.duration for event in events]
    by_line: dict[str, list[int]] = defaultdict(list)
    for position, event in enumerate(events):
        if not event.in_flight:
            by_line[event.line].append(position)
    for positions in by_line.values():
        _subtract_nested(events, positions, times)
    _subtract_called(events, inside, times)
    return times


def _subtract_nested(events: Sequence[Event], positions: Sequence[int], times: list[int]) -> None:
    """Subtract the events that lie whole inside another of the same line. Others that overlap run side by side."""
    ordered = sorted(positions, key=lambda i: (events[i].start, -events[i].duration))
    stack: list[int] = []
    for i in ordered:
        event = events[i]
        while stack and not _holds(events[stack[-1]], event):
            stack.pop()
        if stack:
            times[stack[-1]] -= event.duration
        stack.append(i)
    for i in positions:
        # Events side by side inside a third one may overlap each other.
        times[i] = max(times[i], 0)


def _holds(outer: Event, inner: Event) -> bool:
    return outer.start <= inner.start and inner.start + inner.duration <= outer.start + outer.duration


def _subtract_called(events: Sequence[Event], inside: Mapping[str, Collection[str]], times: list[int]) -> None:
    """Give an instruction that runs computations the time in which nothing of them runs, on any line."""
    holders = [i for i, event in enumerate(events) if event.instruction in inside and not event.in_flight]
    if not holders:
        return
    ordered = sorted((e.start, e.start + e.duration, e.instruction) for e in events if not e.in_flight)
    starts = [start for start, _, _ in ordered]
    for i in holders:
        event, called = events[i], inside[events[i].instruction]
        end = event.start + event.duration
        first, last = bisect_left(starts, event.start), bisect_left(starts, end)
        spans = [(start, min(stop, end)) for start, stop, name in ordered[first:last] if name in called]
        if spans:
            times[i] = event.duration - union(spans)


def union(spans: Sequence[tuple[int, int]]) -> int:
    """Return the length that intervals (start, end) cover; the intervals are sorted by start.

    >>> union([(0, 4), (1, 2), (3, 6), (8, 9)])
    7
    """
    covered, reached = 0, None
    for start, end in spans:
        if reached is None or start > reached:
            covered += end - start
            reached = end
        elif end > reached:
            covered += end - reached
            reached = end
    return covered
