"""Seconds of collectives: ring, both ways round a ring, torus and switch.

n: devices that take part. V: bytes of the whole array: what an all-gather makes, what a reduce-scatter takes, what an
all-reduce reduces; of an all-to-all and a permute what one device holds. W: bytes a second that a device sends over
one link of the ring, or over all of them through a switch. Source of the formulas: Austin et al., How To Scale Your
Model, "Sharded matrices"; Thakur et al. 2005; NCCL's performance notes.
"""

from __future__ import annotations

from typing import Final

from costax.core.cost import Count
from costax.errors import InputError

KINDS: Final = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "permute")
TOPOLOGIES: Final = ("ring", "bidirectional ring", "torus", "switch")


def seconds(
    kind: str,
    nbytes: Count,
    members: int,
    bandwidth: float,
    *,
    topology: str = "ring",
    axes: int = 1,
    latency: float = 0.0,
) -> float:
    """Return the seconds of a collective.

    kind: one of `KINDS`. topology: one of `TOPOLOGIES`; bandwidth: bytes a second of one link in one direction, of a
    switch those of all links of a device together. axes: of the torus, along which all devices take part. latency: of
    one hop. Raises InputError for a kind or topology that nobody knows.

    >>> seconds("all-gather", 8_000_000, 8, 1e9)
    0.007
    >>> seconds("all-reduce", 8_000_000, 8, 1e9, topology="bidirectional ring")
    0.007
    """
    if kind not in KINDS or topology not in TOPOLOGIES:
        raise InputError(
            f"Nobody says how long a {kind!r} over a {topology!r} takes.",
            why=f"Kinds are {', '.join(KINDS)}; topologies are {', '.join(TOPOLOGIES)}.",
            cure="Use one of these.",
        )
    if members <= 1 or not nbytes:
        return 0.0
    return _bytes(kind, float(nbytes), members, topology, axes) / bandwidth + latency * hops(
        kind, members, topology, axes
    )


def _bytes(kind: str, whole: float, n: int, topology: str, axes: int) -> float:
    """Return the bytes that pass the busiest link."""
    part = whole * (n - 1) / n
    # A torus uses both directions of each of its axes at once.
    ways = {"ring": 1, "bidirectional ring": 2, "torus": 2 * axes, "switch": 1}[topology]
    if kind == "permute":
        return whole
    if kind == "all-to-all":
        # On a ring each byte crosses a quarter of it (both ways round) or half of it (one way).
        if topology == "switch":
            return part
        side = n ** (1 / axes) if topology == "torus" else n
        return whole * side / 8 if ways > 1 else whole * (n - 1) / 2
    return part * (2 if kind == "all-reduce" else 1) / ways


def hops(kind: str, members: int, topology: str = "ring", axes: int = 1) -> float:
    """Return how many links a collective crosses one after the other."""
    if kind == "permute" or topology == "switch":
        return 2 if kind == "all-reduce" else 1
    side = members ** (1 / axes) if topology == "torus" else members
    once = axes * (side / 2 if topology != "ring" else side - 1)
    return once * (2 if kind == "all-reduce" else 1)
