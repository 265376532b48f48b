"""Cost: how much of each kind of work, for each dtype.

A cost is a sparse vector over (kind, dtype). It adds and scales; `macs`, `flops`, `ops` and the rest are
projections of it, so a convention is a choice of weights and never a second count. Counts are exact Python
integers (or anything that adds and multiplies like one).
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Mapping
from typing import Any, Final

from costax.core import dtypes
from costax.core.display import Displayed

Count = int

MAC: Final = "mac"
PADDING_MAC: Final = "padding_mac"
ARITHMETIC: Final = "arithmetic"
TRANSCENDENTAL: Final = "transcendental"
INTEGER: Final = "integer"
COMPARE: Final = "compare"
SELECT: Final = "select"
CONVERT: Final = "convert"
BYTES_READ: Final = "bytes_read"
BYTES_WRITTEN: Final = "bytes_written"
BYTES_SENT: Final = "bytes_sent"

KINDS: Final[Mapping[str, str]] = {
    MAC: "multiply-accumulates of a contraction, taps on padding included",
    PADDING_MAC: "the part of `mac` that touches only padding",
    ARITHMETIC: "floating-point adds, subtracts, multiplies, divides, negates, minima, maxima, roundings",
    TRANSCENDENTAL: "exp, log, tanh, erf, pow, sqrt, sin ..., once per element",
    INTEGER: "arithmetic and logic on integers and booleans",
    COMPARE: "comparisons and predicates",
    SELECT: "choices between values",
    CONVERT: "changes of dtype",
    BYTES_READ: "bytes of operands read, without fusion",
    BYTES_WRITTEN: "bytes of results written, without fusion",
    BYTES_SENT: "bytes that leave a device in collectives",
}
_OPS: Final = (ARITHMETIC, TRANSCENDENTAL, INTEGER, COMPARE, SELECT, CONVERT)


class Cost(Displayed):
    """An immutable sparse vector of counts over (kind, dtype).

    counts: the number of operations of each kind on each dtype, such as {("mac", "bf16"): 96}.

    >>> step = Cost.arithmetic("f32", 10) + Cost.macs_of("f32", 4)
    >>> (step * 3).flops, step.macs, step.ops
    (54, 4, 18)
    """

    __slots__ = ("_counts",)
    _counts: dict[tuple[str, str], Count]

    def __init__(self, counts: Mapping[tuple[str, str], Count] | None = None) -> None:
        """Take counts by (kind, dtype); zeros are dropped."""
        object.__setattr__(self, "_counts", {k: n for k, n in (counts or {}).items() if n != 0})

    # Constructors, which rules call. Each takes the dtype in which the work is done, and a count.

    @classmethod
    def of(cls, kind: str, dtype: str, count: Count) -> Cost:
        """Return `count` units of one kind.

        Args:
            kind: Such as "mac", "arithmetic" or "compare".
            dtype: In which the work is done, such as "f32".
            count: How many.
        """
        return cls({(kind, dtype): count})

    @classmethod
    def macs_of(cls, dtype: str, macs: Count, padding: Count = 0) -> Cost:
        """Return multiply-accumulates; `padding` of them touch only padding.

        Args:
            dtype: In which the work is done, such as "f32".
            macs: How many, those on padding included.
            padding: How many of them touch only padding.
        """
        return cls({(MAC, dtype): macs, (PADDING_MAC, dtype): padding})

    @classmethod
    def arithmetic(cls, dtype: str, count: Count) -> Cost:
        """Return elementary arithmetic: FLOPs on a floating dtype, integer OPs on the others.

        Args:
            dtype: In which the work is done, such as "f32".
            count: How many.
        """
        return cls({(ARITHMETIC if dtypes.is_floating(dtype) else INTEGER, dtype): count})

    @classmethod
    def transcendental(cls, dtype: str, count: Count) -> Cost:
        """Return transcendental operations.

        Args:
            dtype: In which the work is done, such as "f32".
            count: How many.
        """
        return cls({(TRANSCENDENTAL, dtype): count})

    @classmethod
    def integer(cls, dtype: str, count: Count) -> Cost:
        """Return integer or logical operations.

        Args:
            dtype: In which the work is done, such as "f32".
            count: How many.
        """
        return cls({(INTEGER, dtype): count})

    @classmethod
    def compare(cls, dtype: str, count: Count) -> Cost:
        """Return comparisons of operands of this dtype.

        Args:
            dtype: Of the operands.
            count: How many.
        """
        return cls({(COMPARE, dtype): count})

    @classmethod
    def select(cls, dtype: str, count: Count) -> Cost:
        """Return selections of values of this dtype.

        Args:
            dtype: Of the values.
            count: How many.
        """
        return cls({(SELECT, dtype): count})

    @classmethod
    def convert(cls, dtype: str, count: Count) -> Cost:
        """Return conversions to this dtype.

        Args:
            dtype: Of the result.
            count: How many.
        """
        return cls({(CONVERT, dtype): count})

    @classmethod
    def sent(cls, dtype: str, nbytes: Count) -> Cost:
        """Return bytes that each device sends in a collective.

        Args:
            dtype: Of the elements.
            nbytes: How many bytes.
        """
        return cls({(BYTES_SENT, dtype): nbytes})

    # Algebra.

    def __add__(self, other: Cost) -> Cost:
        """Add count by count."""
        if not other._counts:
            return self
        counts = dict(self._counts)
        for key, count in other._counts.items():
            counts[key] = counts.get(key, 0) + count
        return Cost(counts)

    def __sub__(self, other: Cost) -> Cost:
        """Subtract count by count; a difference may hold negative counts."""
        return self + other * -1

    def __mul__(self, times: Count) -> Cost:
        """Scale every count."""
        return self if times == 1 else Cost({key: count * times for key, count in self._counts.items()})

    __rmul__ = __mul__

    def divided(self, parts: int) -> Cost:
        """Return the cost of one of equal parts, each count rounded up.

        Args:
            parts: How many.

        >>> Cost.macs_of("f32", 10).divided(4).macs
        3
        """
        return self if parts == 1 else Cost({key: -(-count // parts) for key, count in self._counts.items()})

    def __eq__(self, other: object) -> bool:
        """Compare count by count."""
        return isinstance(other, Cost) and self._counts == other._counts

    def __hash__(self) -> int:
        """Hash the counts."""
        return hash(frozenset(self._counts.items()))

    def __bool__(self) -> bool:
        """Say whether anything is counted."""
        return bool(self._counts)

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise AttributeError: several equations may share one cost."""
        raise AttributeError(f"a Cost is immutable; add or scale it instead of setting {name!r}")

    def __reduce__(self) -> tuple[type[Cost], tuple[dict[tuple[str, str], Count]]]:
        """Pickle by the counts."""
        return Cost, (self._counts,)

    def __repr__(self) -> str:
        """Show the counts that are not 0, over all dtypes, and the dtypes; `print` shows those of each dtype."""
        counts = [f"{name}={count}" for name in _SHOWN if (count := getattr(self, name))]
        of = ", ".join(dict.fromkeys(dtype for _, dtype in sorted(self._counts)))
        return f"Cost({', '.join(counts)}; {of})" if counts else "Cost()"

    @staticmethod
    def sum(costs: Iterable[Cost]) -> Cost:
        """Add many costs in one pass.

        Args:
            costs: Any number of costs; none give the cost 0.
        """
        counts: dict[tuple[str, str], Count] = {}
        for cost in costs:
            for key, count in cost._counts.items():
                counts[key] = counts.get(key, 0) + count
        return Cost(counts)

    # Projections.

    def items(self) -> ItemsView[tuple[str, str], Count]:
        """Return the ((kind, dtype), count) pairs."""
        return self._counts.items()

    def of_kind(self, kind: str) -> Count:
        """Return the count of one kind over all dtypes.

        Args:
            kind: Such as "mac", "arithmetic" or "compare".
        """
        return sum(count for (k, _), count in self._counts.items() if k == kind)

    def by_dtype(self) -> dict[str, Cost]:
        """Return one cost for each dtype; their sum is this cost."""
        parts: dict[str, dict[tuple[str, str], Count]] = {}
        for (kind, dtype), count in self._counts.items():
            parts.setdefault(dtype, {})[kind, dtype] = count
        return {dtype: Cost(part) for dtype, part in sorted(parts.items())}

    @property
    def macs(self) -> Count:
        """Multiply-accumulates of contractions, padding included, of every dtype."""
        return self.of_kind(MAC)

    @property
    def padding_macs(self) -> Count:
        """The MACs that touch only padding."""
        return self.of_kind(PADDING_MAC)

    @property
    def flops(self) -> Count:
        """Floating-point operations: 2 a MAC plus arithmetic. Integer work is in `ops` alone."""
        return sum(
            2 * count if kind == MAC else count
            for (kind, dtype), count in self._counts.items()
            if kind in (MAC, ARITHMETIC) and dtypes.is_floating(dtype)
        )

    @property
    def transcendentals(self) -> Count:
        """Transcendental operations, once per element."""
        return self.of_kind(TRANSCENDENTAL)

    @property
    def ops(self) -> Count:
        """Elementary operations on any dtype: 2 a MAC, 1 for each operation of another kind."""
        counts = self._counts.items()
        return sum(2 * count if kind == MAC else count for (kind, _), count in counts if kind == MAC or kind in _OPS)

    @property
    def bytes_read(self) -> Count:
        """Bytes of operands, as if every equation read them from memory."""
        return self.of_kind(BYTES_READ)

    @property
    def bytes_written(self) -> Count:
        """Bytes of results, as if every equation wrote them to memory."""
        return self.of_kind(BYTES_WRITTEN)

    @property
    def bytes_unfused(self) -> Count:
        """Traffic without fusion: bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written

    @property
    def collective_bytes(self) -> Count:
        """Bytes sent by collectives."""
        return self.of_kind(BYTES_SENT)


ZERO: Final = Cost()

# The sum of the bytes is that of two others.
_SHOWN: Final = (
    *("macs", "padding_macs", "flops", "transcendentals", "ops"),
    *("bytes_read", "bytes_written", "collective_bytes"),
)

FIELDS: Final[Mapping[str, str]] = {
    "macs": "multiply-accumulates (MAC)",
    "padding_macs": "MACs that touch only padding (MAC)",
    "flops": "floating-point operations, a MAC is 2 (FLOP)",
    "transcendentals": "transcendental operations (1 per element)",
    "ops": "elementary operations on any dtype (OP)",
    "bytes_read": "bytes read, without fusion (B)",
    "bytes_written": "bytes written, without fusion (B)",
    "bytes_unfused": "bytes read and written, without fusion (B)",
    "collective_bytes": "bytes sent by collectives (B)",
}
