"""Replica groups: which devices communicate with each other in a collective. XLA has three notations.

A module lists the devices of each group, or gives an iota that is reshaped, transposed and split into rows, or (since
jaxlib 0.12) names axes of a mesh. The list is read in `records`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

from costax.hlo.errors import malformed
from costax.hlo.proto import decode

Groups = tuple[tuple[int, ...], ...]

MAX_DEVICES: Final = 2**20
"""No machine has more devices; a file with more is damaged."""
MAX_AXES: Final = 64
"""Meshes of real modules have a handful of axes."""


def iota(raw: Any, where: str) -> Groups:
    """Return the groups of an iota: `iota(n)` reshaped, transposed, and split into rows; () for an empty message."""
    extents = tuple(raw.reshape)
    order = tuple(raw.transpose) or tuple(range(len(extents)))
    if not extents:
        return ()
    if sorted(order) != list(range(len(extents))) or prod(extents) != raw.groups * raw.devices:
        raise malformed(f"{raw.groups} groups of {raw.devices} devices do not fit {list(extents[:8])}", where=where)
    return _cut(extents, order, raw.devices, where)


def of_mesh(raw: Any, where: str) -> Groups:
    """Return the groups of devices that differ only along named mesh axes or parts of them; () for an empty message."""
    sizes = [axis.size for axis in raw.mesh.axes]
    if not sizes:
        return ()
    # Split each axis into three: the factor that varies slower than the named part, the named part, and the factor
    # that varies faster.
    extents = [part for size in sizes for part in (1, 1, size)]
    named: list[int] = []
    for axis in raw.axes:
        if not 0 <= axis.index < len(sizes):
            raise malformed(f"A mesh of {len(sizes)} axes has no axis {axis.index}", where=where)
        size = sizes[axis.index]
        slower, part = (axis.part.before, axis.part.size) if axis.HasField("part") else (1, size)
        if slower < 1 or part < 1 or size % (slower * part):
            raise malformed(f"An axis of {size} has no part of {part} after {slower}", where=where)
        extents[3 * axis.index : 3 * axis.index + 3] = (slower, part, size // (slower * part))
        named.append(3 * axis.index + 1)
    order = [i for i in range(len(extents)) if i not in named] + named
    groups = _cut(extents, order, prod(extents[i] for i in named), where)
    devices = _devices(raw.mesh, where)
    return tuple([tuple([devices[i] for i in group]) for group in groups]) if devices else groups


def _devices(mesh: Any, where: str) -> Sequence[int]:
    """Return the device at each position of a mesh; () where they are in order.

    A mesh has a list of them, or an iota that is reshaped and transposed: `[2,4]T(1,0)` is 0, 4, 1, 5, 2, 6, 3, 7.
    """
    total = prod(axis.size for axis in mesh.axes)
    listed = tuple(mesh.device_ids)
    extents = tuple(mesh.order.reshape)
    if extents and not listed:
        order = tuple(mesh.order.transpose) or tuple(range(len(extents)))
        if sorted(order) != list(range(len(extents))) or prod(extents) != total:
            raise malformed(f"A mesh of {total} devices does not fit {list(extents[:8])}", where=where)
        (listed,) = _cut(extents, order, total, where)
    if listed and sorted(listed) != list(range(total)):
        raise malformed(f"A mesh of {total} devices does not list each of them once", where=where)
    return listed


def members(raw: Any, where: str = "") -> int:
    """Return how many devices the groups or pairs of an instruction name, from device 0 on; 0 if it names none.

    raw: the message of the instruction. No list of the groups is made: a damaged file could ask for a very long one.
    """
    older = raw.collective_device_list
    groups = [decode("ReplicaGroup", group, where) for group in raw.replica_groups or older.replica_groups]
    pairs = [decode("SourceTarget", pair, where) for pair in raw.source_target_pairs]
    named = [device for group in groups for device in group.replica_ids]
    named += [device for pair in pairs for device in (pair.source, pair.target)]
    iota_groups = decode("IotaReplicaGroups", raw.iota_groups or older.iota, where)
    sizes = [axis.size for axis in decode("MeshGroups", raw.mesh_groups, where).mesh.axes]
    of_mesh_axes = prod(sizes) if 0 < len(sizes) <= MAX_AXES else 0
    return max(1 + max(named, default=-1), iota_groups.groups * iota_groups.devices, of_mesh_axes)


def _cut(extents: Sequence[int], order: Sequence[int], row: int, where: str) -> Groups:
    total = prod(extents)
    if not (0 < total <= MAX_DEVICES and 0 < row <= total):
        raise malformed(f"A mesh of {'x'.join(map(str, extents[:8]))} devices", where=where)
    devices = [0]
    for axis in order:
        stride = prod(extents[axis + 1 :])
        devices = [base + i * stride for base in devices for i in range(extents[axis])]
    return tuple(tuple(devices[i : i + row]) for i in range(0, total, row))
