"""Overlap: how much of each collective the computation between its start and its end hides.

XLA's schedule of a device is played once: kernels run one after the other; a collective begins when its start is
reached and the collectives before it are through, for they share the links; and the device waits at its end until it is
through. What the device waits is exposed, the rest is hidden. A collective of a single instruction is exposed as a
whole. All seconds are predicted, those of the kernels and those of the collectives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from costax.core.cost import Count
from costax.performance.roofline import KernelTime


@dataclass(slots=True)
class _Sequence:
    """A scheduled computation.

    depth: of the loops around it. kernels: positions of its own kernels. inner: the position of each kernel in a loop
    in it, and the number of that loop in the schedule.
    """

    runs: Count
    depth: int = 0
    kernels: list[int] = field(default_factory=list[int])
    inner: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def hidden_seconds(parts: Sequence[KernelTime]) -> list[float]:
    """Return for each kernel the seconds of one run that other kernels hide; 0 for anything but a collective."""
    sequences: dict[int, _Sequence] = {}
    for position, part in enumerate(parts):
        last = len(part.kernel.places) - 1
        for depth, place in enumerate(part.kernel.places):
            sequence = sequences.setdefault(place.computation, _Sequence(place.runs))
            sequence.depth = max(sequence.depth, depth)
            if depth == last:
                sequence.kernels.append(position)
            else:
                sequence.inner.append((position, place.start))
    hidden = [0.0] * len(parts)
    # What is hidden in a loop is no time of the loop for the collectives around it.
    for sequence in sorted(sequences.values(), key=lambda sequence: -sequence.depth):
        if any(_is_asynchronous(parts[position]) for position in sequence.kernels):
            for position, seconds in _played(sequence, parts, hidden).items():
                hidden[position] = seconds
    return hidden


def between(parts: Sequence[KernelTime], position: int) -> float:
    """Return the seconds of the computation that the schedule has between start and end of a collective, for one run.

    A loop between them counts with all of its iterations.
    """
    places = parts[position].kernel.places
    if not places or places[-1].done <= places[-1].start:
        return 0.0
    own = places[-1]
    seconds = 0.0
    for part in parts:
        for place in part.kernel.places:
            inside = place.computation == own.computation and own.start < place.start < own.done
            if inside and part.kernel.collective is None:
                seconds += part.seconds / max(place.runs, 1)
    return seconds


def _is_asynchronous(part: KernelTime) -> bool:
    places = part.kernel.places
    return part.kernel.collective is not None and bool(places) and places[-1].done > places[-1].start


def _played(sequence: _Sequence, parts: Sequence[KernelTime], hidden: Sequence[float]) -> dict[int, float]:
    """Return the hidden seconds of each collective of a sequence, by its position."""
    loops: dict[int, float] = defaultdict(float)
    for position, start in sequence.inner:
        part = parts[position]
        loops[start] += (part.timing.expected - hidden[position]) * part.kernel.times / max(sequence.runs, 1)
    steps: list[tuple[int, str, int]] = [(start, "loop", start) for start in loops]
    for position in sequence.kernels:
        place = parts[position].kernel.places[-1]
        if parts[position].kernel.collective is None:
            steps.append((place.start, "kernel", position))
        else:
            steps.append((place.start, "begin", position))
            steps.append((place.done, "end", position))
    clock = links_free = 0.0
    # When each collective occupies the links.
    busy: dict[int, tuple[float, float]] = {}
    waited: dict[int, float] = {}
    for _, what, position in sorted(steps):
        if what == "loop":
            clock += loops[position]
        elif what == "kernel":
            clock += parts[position].timing.expected
        elif what == "begin":
            begin = max(clock, links_free)
            links_free = begin + parts[position].timing.expected
            busy[position], waited[position] = (begin, links_free), 0.0
        else:
            end = busy[position][1]
            # While the device waits, the links finish this collective and those before it.
            for other, (first, last) in busy.items():
                waited[other] += max(0.0, min(last, end) - max(first, clock))
            clock = max(clock, end)
    return {position: max(parts[position].timing.expected - seconds, 0.0) for position, seconds in waited.items()}
