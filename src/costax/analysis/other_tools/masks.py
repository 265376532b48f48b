"""Masks: which keys each query of an attention sees, read from the program's own mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costax.analysis.other_tools.index_functions import Known


@dataclass(frozen=True, slots=True)
class Mask:
    """Which keys the queries see. All queries together have `queries` x `keys` pairs.

    causal: no query sees a later key. window: each query sees so many keys, itself included, and no earlier ones;
    0 without a window. sequences: the lengths of the sequences if queries only see their own sequence, a tuple for each
    element of the batch; () for one sequence. masked: the program masks scores. known: the program fixes the mask.
    """

    causal: bool = False
    window: int = 0
    sequences: tuple[tuple[int, ...], ...] = ()
    masked: bool = False
    known: bool = True

    @property
    def chunked(self) -> bool:
        """Whether the sequences are chunks of one length; the last may be shorter."""
        return (
            all(len(set(lengths[:-1])) <= 1 and lengths[-1] <= lengths[0] for lengths in self.sequences)
            and len(set(self.sequences)) == 1
        )


UNMASKED = Mask()
UNKNOWN = Mask(masked=True, known=False)


def read_mask(allowed: Sequence[Known], keys_axis: int) -> Mask:
    """Return the mask that is the conjunction of some arrays, which are true where a query sees a key.

    allowed: over the axes of the scores, of equal shapes. keys_axis: the axis of the keys. The rows of a few queries
    decide: a window moves with its query, a sequence does not.
    """
    shape = allowed[0].shape
    length = shape[keys_axis]
    candidates = [axis for axis in range(len(shape)) if axis != keys_axis and shape[axis] == length]
    rows = [_Rows(allowed, keys_axis, axis) for axis in candidates]
    varying = next((r for r in reversed(rows) if r.varies()), None)
    if varying is None:
        return Mask(masked=True, known=bool(rows) and rows[-1].full())
    return varying.mask()


class _Rows:
    """The rows of a mask: for a query and an element of the batch, which keys it sees."""

    def __init__(self, allowed: Sequence[Known], keys_axis: int, queries_axis: int) -> None:
        self.allowed, self.keys_axis, self.queries_axis = allowed, keys_axis, queries_axis
        self.shape = allowed[0].shape
        self.length = self.shape[keys_axis]

    def row(self, query: int, batch: int = 0) -> Any:
        index: list[Any] = [np.array(0)] * len(self.shape)
        if 0 not in (self.keys_axis, self.queries_axis):
            index[0] = np.array(batch)
        index[self.queries_axis], index[self.keys_axis] = np.array(query), np.arange(self.length)
        seen = np.ones(self.length, bool)
        for part in self.allowed:
            seen &= np.broadcast_to(np.asarray(part.at(tuple(index))).astype(bool), seen.shape)
        return seen

    def varies(self) -> bool:
        return any(not np.array_equal(self.row(0), self.row(query)) for query in {self.length // 2, self.length - 1})

    def full(self) -> bool:
        return bool(self.row(0).all())

    def interval(self, query: int, batch: int = 0) -> tuple[int, int] | None:
        """Return the first and the last key that a query sees; None if there are gaps."""
        (seen,) = np.nonzero(self.row(query, batch))
        if not len(seen) or seen[-1] - seen[0] + 1 != len(seen):
            return None
        return int(seen[0]), int(seen[-1])

    def mask(self) -> Mask:
        last = self.length - 1
        some = sorted({0, 1, last // 3, last // 2, last - 1, last} & set(range(self.length)))
        intervals = {query: self.interval(query) for query in some}
        if any(interval is None for interval in intervals.values()):
            return UNKNOWN
        spans = {query: span for query, span in intervals.items() if span is not None}
        causal = all(end == query for query, (_, end) in spans.items())
        first = spans[last][0]
        if causal and first == 0:
            return Mask(causal=True, masked=True)
        if causal and last and spans[last - 1][0] == first - 1:
            return Mask(causal=True, window=last - first + 1, masked=True)
        batch = self.shape[0] if 0 not in (self.keys_axis, self.queries_axis) else 1
        sequences = tuple(self.sequences(number, causal) for number in range(batch))
        if not all(sequences):
            return UNKNOWN
        return Mask(causal=causal, sequences=sequences, masked=True)

    def sequences(self, batch: int, causal: bool) -> tuple[int, ...]:
        """Return the lengths of the sequences, from the last to the first query; () if they are none."""
        lengths: list[int] = []
        end = self.length - 1
        while end >= 0:
            span = self.interval(end, batch)
            # The first query of a sequence sees the same first key as the last one.
            if span is None or span[1] != end or self.interval(span[0], batch) != (span[0], span[0] if causal else end):
                return ()
            lengths.append(end - span[0] + 1)
            end = span[0] - 1
        return tuple(reversed(lengths))
