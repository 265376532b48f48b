"""Kernels that XLA joins on a GPU, as one: `joints` says which are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from costax.core.cost import Count
from costax.performance.kernels import Kernel


def joined(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels with those of one place as one, where the first of them stands."""
    together: dict[object, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        if kernel.joint:
            together[kernel.joint.place].append(kernel)
    found: list[Kernel] = []
    for kernel in kernels:
        parts = together.pop(kernel.joint.place, []) if kernel.joint else [kernel]
        if len(parts) == 1:
            # The others may be missing where only a part of a program is predicted.
            found.append(kernel)
        elif parts:
            found.append(_one(parts))
    return found


def _one(parts: Sequence[Kernel]) -> Kernel:
    read = sum(_share(part.read, part.joint.read) for part in parts if part.joint)
    written = sum(_share(part.written, part.joint.written) for part in parts if part.joint)
    return replace(
        parts[0],
        name=" & ".join(dict.fromkeys(part.name for part in parts)),
        contractions=tuple(x for part in parts for x in part.contractions),
        vector=_sum(part.vector for part in parts),
        transcendental=_sum(part.transcendental for part in parts),
        read=read,
        written=written,
        weights=min(read, sum(part.weights for part in parts)),
        uncached_bytes=min(read, sum(part.uncached_bytes for part in parts)),
        reduces=any(part.reduces for part in parts),
        transposes=any(part.transposes for part in parts),
        joint=None,
    )


def _share(count: Count, share: float) -> Count:
    return count if share == 1 else round(float(count) * share)


def _sum(counts: Iterable[Mapping[str, Count]]) -> dict[str, Count]:
    total: dict[str, Count] = {}
    for one in counts:
        for dtype, count in one.items():
            total[dtype] = total.get(dtype, 0) + count
    return total
