"""A count before and after, and the names of two programs in one order: what the differences of programs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costax.core.cost import Count
from costax.core.polynomial import Polynomial


@dataclass(frozen=True, slots=True)
class Change:
    """The value of one field of one layer in the program before and in the program after."""

    before: Count
    after: Count

    @property
    def delta(self) -> Count:
        """After minus before."""
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """After divided by before; None if the value before is 0, or if they are different formulas."""
        if self.symbolic:
            return 1.0 if self.before == self.after else None
        return self.after / self.before if self.before else None

    @property
    def symbolic(self) -> bool:
        """Whether a value is a formula of symbols."""
        return isinstance(self.before, Polynomial) or isinstance(self.after, Polynomial)


def merged_names(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return every name once, in the order of `first`; a name of `second` alone follows its predecessor in `second`.

    For example `[stem, head]` and `[stem, block, head]` give `[stem, block, head]`.
    """
    merged = list(dict.fromkeys(first))
    position = 0
    for name in dict.fromkeys(second):
        if name in merged:
            position = merged.index(name) + 1
        else:
            merged.insert(position, name)
            position += 1
    return merged
