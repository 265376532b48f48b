"""Collectives that cross the network between hosts: how many members share a host, and the time of the network part.

The GPUs of a host are joined by fast links, and each has a network card to the other hosts. A collective over several
hosts first works inside each host, then among GPUs of the same rank in different hosts, each through its own card; the
two parts are pipelined, so the slower one counts. Source: NCCL's hierarchical and rail-optimised rings and trees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil, log2, prod
from typing import Final

from costax.core.cost import Count

# The share of the bandwidth of a network card that a large collective reaches. Source: NCCL all-reduce on hosts of
# eight 400 Gbit/s cards, bus bandwidth of 360 to 370 GB/s (stas00/ml-engineering, network/benchmarks).
SHARE: Final = 0.9
# Seconds for a message to another host and back into NCCL's next step.
HOP: Final = 10e-6


def members_of_host(axes: Sequence[str], mesh: Mapping[str, int], members: int, hosts_of: int) -> int:
    """Return how many members of a group along mesh axes are in one host.

    Devices have the order of the mesh, its last axis fastest. Without the axes in the mesh, members are neighbours.

    >>> mesh = {"data": 8, "model": 8}
    >>> members_of_host(["model"], mesh, 8, 8), members_of_host(["data"], mesh, 8, 8), members_of_host([], {}, 64, 8)
    (8, 1, 8)
    """
    if not axes or any(axis not in mesh for axis in axes):
        return min(members, hosts_of)
    names = list(mesh)
    strides = {name: prod(mesh[other] for other in names[i + 1 :]) for i, name in enumerate(names)}
    places = (sum(place) for place in product(*(range(0, mesh[axis] * strides[axis], strides[axis]) for axis in axes)))
    return max(1, sum(place < hosts_of for place in places))


def seconds(kind: str, nbytes: Count, members: int, in_host: int, send: float, *, at_peak: bool = False) -> float:
    """Return the seconds that the network takes of a collective.

    kind, nbytes, members: those of `collective_time.seconds`. in_host: members in one host. send: bytes per second of
    the card of one GPU. at_peak: at its full rate, without latency.

    >>> round(seconds("all-reduce", 2**30, 64, 8, 50e9, at_peak=True) * 1e3, 2)
    5.28
    """
    hosts = ceil(members / in_host)
    if hosts < 2:
        return 0.0
    whole, rate = float(nbytes), send * (1.0 if at_peak else SHARE)
    if kind == "permute":
        moved, steps = whole / rate, 1.0
    elif kind == "all-to-all":
        moved, steps = whole * (members - in_host) / members / rate, 1.0
    else:
        times = 2 if kind == "all-reduce" else 1
        moved, steps = times * whole * (members - 1) / members / (in_host * rate), times * log2(hosts)
    return moved + (0.0 if at_peak else steps * HOP)
