"""The time of fused attention on a GPU: of many queries ("prefill") and of one query with a cache ("decode").

Prefill: each block of queries goes over the keys up to its own position, on one multiprocessor. Decode: each head of
the cache is read once from memory, by a kernel whose work grows with the heads. The constants were fitted to measured
tables, those of other devices are the median. The tables have causal attention in bfloat16.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy

from costax.performance.efficiency.products import Hardware

# numpy's types do not say what a function of a number or of an array returns.
np: Any = numpy

PREFILL: Final = (
    *("share", "start", "narrow", "bandwidth_share", "overlap", "block"),
    *("cache_share", "cache_speed"),
)
"""share: of the peak; narrow: what heads of 128 lose; start, block: seconds of the kernel and of a block of queries.
cache_share, cache_speed: operands and results below this share of L2 move at this multiple of the bandwidth."""
DECODE: Final = (
    *("bandwidth_share", "single_share", "start", "split", "overlap", "single", "group", "query"),
    *("wide", "cache_share", "cache_speed", "reuse", "size"),
)
"""bandwidth_share: of the memory's, with grouped heads; single_share: with as many heads in the cache as of queries.
start, split: seconds of the kernel, and for each doubling of the cache beyond 256 positions. single, group, query,
wide: seconds of a multiprocessor for a head of the cache alone, for a grouped one, for each of its queries, and for a
query of a group of more than 32, which is computed alone. cache_share, cache_speed: caches below this share of L2 are
read at this multiple of the bandwidth. reuse: how often a group of more than 32 reads its head. size: how the time
grows from heads of 128."""
# A group of more heads than this runs as if each head had keys and values of its own.
_MOST_OF_GROUP: Final = 32


class Heads(NamedTuple):
    """Sizes of an attention: numbers, or arrays of them. keys: positions of keys and values."""

    batch: Any
    queries: Any
    keys: Any
    heads: Any
    kv_heads: Any
    size: Any


def prefill(values: Any, sizes: Heads, hardware: Hardware, *, causal: bool = True) -> Any:
    """Return the seconds of attention with many queries. values: the constants in the order of `PREFILL`."""
    share, start, narrow, bandwidth_share, overlap, block, cached, speed = values
    one = hardware.peak / hardware.multiprocessors * share
    times: list[Any] = []
    for rows in (64, 128):
        blocks = np.ceil(sizes.queries / rows) * sizes.batch * sizes.heads
        seen = np.minimum((sizes.keys + rows) / 2, sizes.keys) if causal else sizes.keys
        loss = 1 + narrow * 128 / sizes.size
        mean = 4 * rows * np.maximum(seen, 64) * sizes.size / one * loss + block
        longest = 4 * rows * sizes.keys * sizes.size / one * loss + block
        waves = blocks / hardware.multiprocessors
        times.append(np.maximum(waves * mean, longest))
    compute = np.minimum(*times)
    nbytes = 4 * sizes.batch * sizes.size * (sizes.queries * sizes.heads + sizes.keys * sizes.kv_heads)
    hot = 1 / (1 + (nbytes / (cached * hardware.cache)) ** 4)
    memory = nbytes * ((1 - hot) + hot / speed) / (hardware.bandwidth * bandwidth_share)
    return (compute**overlap + memory**overlap) ** (1 / overlap) + start


def decode(values: Any, sizes: Heads, hardware: Hardware) -> Any:
    """Return the seconds of attention with one query. values: the constants in the order of `DECODE`."""
    grouped, alone, start, split, overlap, single, group, query, wide, cached, speed, reuse, growth = values
    batch, keys, heads, kv_heads, size = sizes.batch, sizes.keys, sizes.heads, sizes.kv_heads, sizes.size
    ratio = heads / kv_heads
    nbytes = 4 * batch * size * (keys * kv_heads + heads)
    moved: Any = np.where(ratio > _MOST_OF_GROUP, 4 * batch * keys * size * heads / reuse, nbytes)
    hot = 1 / (1 + (nbytes / (cached * hardware.cache)) ** 4)
    share: Any = np.where(ratio == 1, alone, grouped)
    memory: Any = moved * ((1 - hot) / share + hot / speed) / hardware.bandwidth
    several: Any = np.where(ratio == 1, single * batch * kv_heads, group * batch * kv_heads + query * batch * heads)
    work: Any = np.where(ratio > _MOST_OF_GROUP, wide * batch * heads, several) / hardware.multiprocessors
    work = work * (1 + growth * (size / 128 - 1))
    return (memory**overlap + work**overlap) ** (1 / overlap) + start + split * np.log2(1 + keys / 256)
