"""Attention that is not fused: two products with a softmax between them, and what a fused kernel would take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from costax.core import units
from costax.performance.attention_sizes import FusedAttention
from costax.performance.attention_time import attention_on
from costax.performance.contractions import Contraction
from costax.performance.hardware import Device
from costax.performance.roofline import KernelTime

# Kernels between the two products: masks, maximum, exponential, sum, division, conversions.
_MOST_BETWEEN: Final = 8


class Unfused(NamedTuple):
    """An attention of several kernels. parts: from the first product to the second. sizes: of a fused one."""

    parts: Sequence[KernelTime]
    sizes: FusedAttention
    dtype: str


def found_in(parts: Sequence[KernelTime]) -> Iterator[Unfused]:
    """Yield each attention that is not fused: scores (b, m, n), a softmax of them, and a product that sums over n."""
    first = 0
    while first < len(parts):
        scores = _product(parts[first])
        last = _end(parts, first, scores) if scores else None
        if scores and scores.sizes and last is not None:
            batch, m, n, k = scores.sizes
            sizes = FusedAttention(batch, m, n, 1, 1, k, causal=False, backward=False)
            yield Unfused(parts[first : last + 1], sizes, scores.dtype.partition("*")[0].partition("->")[0])
            first = last
        first += 1


def sentence(device: Device, parts: Sequence[KernelTime]) -> str:
    """Return what the unfused attention of a program takes, and a fused kernel would take; "" if there is none."""
    count, now, fused = 0, 0.0, 0.0
    for one in found_in(parts):
        time = attention_on(device, one.sizes, one.dtype)
        if time is not None:
            times = one.parts[0].kernel.times
            count, now, fused = count + times, now + sum(x.seconds for x in one.parts), fused + time.seconds * times
    if not count or fused > now:
        return ""
    return (
        f"Attention is not fused, in {count} place{'s' if count > 1 else ''}: two products with a softmax between them "
        f"take {units.seconds(now)}; a fused kernel (implementation='cudnn') would take {units.seconds(fused)}, and "
        "less with a causal mask."
    )


def _product(part: KernelTime) -> Contraction | None:
    """Return the batched product of a kernel of the forward pass; None for any other kernel."""
    contractions = part.kernel.contractions
    if len(contractions) != 1 or part.kernel.direction == "backward":
        return None
    (one,) = contractions
    return one if one.kind == "matmul" and one.sizes and one.sizes[0] > 1 else None


def _end(parts: Sequence[KernelTime], first: int, scores: Contraction) -> int | None:
    """Return the number of the kernel whose product sums over the columns of the scores."""
    if not scores.sizes:
        return None
    batch, m, n, _ = scores.sizes
    exponentials = bool(parts[first].kernel.transcendental)
    for number in range(first + 1, min(first + 2 + _MOST_BETWEEN, len(parts))):
        exponentials = exponentials or bool(parts[number].kernel.transcendental)
        values = _product(parts[number])
        if values is not None and values.sizes:
            rows = values.sizes[1:3]
            same = values.sizes[0] == batch and values.sizes[3] == n and m in rows and exponentials
            return number if same else None
    return None
