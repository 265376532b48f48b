"""The time of a collective on a device: over the links of a host or slice, and over the network between hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from costax.performance import collective_time, hosts
from costax.performance.efficiency import collectives
from costax.performance.hardware import Device
from costax.performance.kernels import CollectiveWork

# The share of a link that a large collective reaches where no table was measured, and seconds of a hop.
_SHARE: Final = 0.8
_HOP: Final = 1e-6
# Measured over expected seconds where nothing was measured: of links, and of the network between hosts.
_SPREAD: Final = (0.8, 1.4)
_NETWORK_SPREAD: Final = (0.9, 1.6)


class LinkTime(NamedTuple):
    """Seconds of a collective. low, high: measured over expected, as quantiles. source: the end of "from ..."."""

    seconds: float
    low: float = 1.0
    high: float = 1.0
    source: str = ""


def collective_on(device: Device, work: CollectiveWork, mesh: Mapping[str, int], *, at_peak: bool = False) -> LinkTime:
    """Return the time of a collective. mesh: sizes of the mesh axes. at_peak: at the rate of the links alone."""
    if device.link is None or work.members <= 1:
        return LinkTime(0.0)
    between = device.network
    in_host = max(1, members_in_host(device, work, mesh))
    crossing = LinkTime(0.0)
    if between is not None and in_host < work.members:
        name, nbytes, send = work.name, work.nbytes, between.send.value
        seconds = hosts.seconds(name, nbytes, work.members, in_host, send, at_peak=at_peak)
        rate = f"network cards of {send / 1e9:.0f} GB/s a GPU, of which {hosts.SHARE:.0%} are reached"
        crossing = LinkTime(seconds, *_NETWORK_SPREAD, rate)
    inside = _inside_host(device, work, mesh, in_host, at_peak) if in_host > 1 else LinkTime(0.0)
    return max(crossing, inside, key=lambda part: part.seconds)


def _inside_host(
    device: Device, work: CollectiveWork, mesh: Mapping[str, int], members: int, at_peak: bool
) -> LinkTime:
    """Return the time of a collective among some of its members, over the links of one host or one slice."""
    measured = None if at_peak else collectives.seconds(device, work.name, float(work.nbytes), members)
    if measured is not None:
        return LinkTime(*measured)
    topology, axes, bandwidth = ring_of(device, work, mesh)
    bandwidth *= 1.0 if at_peak else _SHARE
    hop = 0.0 if at_peak else _HOP
    seconds = collective_time.seconds(
        work.name, work.nbytes, members, bandwidth, topology=topology, axes=axes, latency=hop
    )
    return LinkTime(seconds, *_SPREAD, f"{_SHARE:.0%} of the bandwidth of the links")


def members_in_host(device: Device, work: CollectiveWork, mesh: Mapping[str, int]) -> int:
    """Return how many members of a collective one host holds; all of them where there is no network between hosts."""
    between = device.network
    if between is None:
        return work.members
    if any(name in work.link for name in ("network", "DCN")) and work.members <= between.hosts_of:
        # XLA's groups say that the members are in several hosts.
        return hosts.members_of_host(work.axes, mesh, work.members, between.hosts_of) if mesh else 1
    return hosts.members_of_host(work.axes, mesh, work.members, between.hosts_of)


def ring_of(device: Device, work: CollectiveWork, mesh: Mapping[str, int]) -> tuple[str, int, float]:
    """Return (topology, number of torus axes, bytes per second of a link) of a collective.

    The topology is one of `collective_time.TOPOLOGIES`.
    """
    link = device.link
    assert link is not None
    if link.topology != "torus":
        return "switch", 1, link.send.value
    one = link.send.value / link.links
    # A mesh axis lies along one axis of the torus, so a collective over several mesh axes uses several torus axes at
    # once. A torus axis has a wrap-around link, which makes it a ring, only if it is complete: 16 chips on v5e and v6e,
    # a multiple of 4 on the other TPUs.
    axes = max(1, min(len(work.axes), link.axes))
    whole = 16 if link.axes == 2 else 4
    sizes = [mesh.get(axis, work.members) for axis in work.axes] or [work.members]
    if all(size % whole == 0 for size in sizes):
        return ("bidirectional ring" if axes == 1 else "torus"), axes, one
    # Without a wrap-around link the ring goes there and back over the same links, which halves the bandwidth.
    return ("bidirectional ring" if axes == 1 else "torus"), axes, one / 2
