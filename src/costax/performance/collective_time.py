"""The time of collectives over a ring, a bidirectional ring, a torus or a switch.

For n devices, V bytes and W bytes per second, a ring all-gather takes V * (n - 1) / n / W and an all-reduce twice as
much. V is the size of the whole array: the result of an all-gather, the operand of a reduce-scatter or an all-reduce;
for an all-to-all and a permute it is the array of one device. W is the rate at which a device sends over one link of
the ring, or over all of its links to a switch. Source of the formulas: Austin et al., How To Scale Your Model, "Sharded
matrices"; Thakur et al. 2005; NCCL's performance notes.
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

    kind: one of `KINDS`. nbytes: bytes of the whole array, see above. members: how many devices take part. bandwidth:
    bytes per second of one link in one direction; for a switch, of all links of a device together. topology: one of
    `TOPOLOGIES`. axes: the number of torus axes that the collective runs along. latency: seconds of one hop. Raises
    InputError for an unknown kind or topology.

    >>> seconds("all-gather", 8_000_000, 8, 1e9)
    0.007
    >>> seconds("all-reduce", 8_000_000, 8, 1e9, topology="bidirectional ring")
    0.007
    """
    if kind not in KINDS or topology not in TOPOLOGIES:
        raise InputError(
            f"There is no formula for the time of a collective {kind!r} over the topology {topology!r}.",
            why=f"The kinds are {', '.join(KINDS)}; the topologies are {', '.join(TOPOLOGIES)}.",
            cure="Use one of these kinds and topologies.",
        )
    if members <= 1 or not nbytes:
        return 0.0
    return _bytes(kind, float(nbytes), members, topology, axes) / bandwidth + latency * hops(
        kind, members, topology, axes
    )


def _bytes(kind: str, whole: float, n: int, topology: str, axes: int) -> float:
    """Return the bytes that pass over the busiest link."""
    # In a ring each device passes on every part of the array but its own.
    part = whole * (n - 1) / n
    # How many links of a device send at once. A torus uses both directions of each axis.
    ways = {"ring": 1, "bidirectional ring": 2, "torus": 2 * axes, "switch": 1}[topology]
    if kind == "permute":
        return whole
    if kind == "all-to-all":
        # An average byte travels half of a ring in one direction, and a quarter of a ring with both directions.
        if topology == "switch":
            return part
        side = n ** (1 / axes) if topology == "torus" else n
        return whole * side / 8 if ways > 1 else whole * (n - 1) / 2
    return part * (2 if kind == "all-reduce" else 1) / ways


def hops(kind: str, members: int, topology: str = "ring", axes: int = 1) -> float:
    """Return how many hops a collective makes one after the other; each adds one latency."""
    if kind == "permute" or topology == "switch":
        return 2 if kind == "all-reduce" else 1
    side = members ** (1 / axes) if topology == "torus" else members
    once = axes * (side / 2 if topology != "ring" else side - 1)
    return once * (2 if kind == "all-reduce" else 1)
