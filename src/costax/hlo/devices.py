"""How many devices run a module together, read from each place where XLA or jax writes it.

An executable has a device assignment. HLO text has `num_partitions` and `replica_count` in its first line instead,
StableHLO `mhlo.num_partitions` and `mhlo.num_replicas`; their readers add the device assignment that these numbers
mean. A module that jax lowered has neither, but its meshes, or shardings that list every device. After partitioning
what is left are the groups of collectives, in which each device stands once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from costax.hlo.errors import malformed
from costax.hlo.proto import MESSAGES, decode
from costax.hlo.replica_groups import MAX_AXES, MAX_DEVICES, members
from costax.rules.lowered_names import COLLECTIVE_PRIMITIVES

_MESHES: Final = b"xla.sdy.meshes"
# `mesh = #sdy.mesh<["data"=4, "model"=2]>`; a mesh of one device has no axes.
_MESH: Final = re.compile(r"mesh<\[([^\]]{0,4096})\]")
_AXIS: Final = re.compile(r'\\?"([^"\\]+)\\?"\s*=\s*(\d{1,7})')
# The header of HLO text is its first line, and may have the options in any order.
_HEADER: Final = re.compile(r"^\s*HloModule\b[^\n]*", re.MULTILINE)
_OPTION: Final = re.compile(r"[,\s](num_partitions|replica_count)\s*=\s*(\d{1,7})\b")
_GROUPS: Final = re.compile(r"\b(?:replica_groups|source_target_pairs)=")
_ATTRIBUTE: Final = re.compile(r"\bmhlo\.(num_partitions|num_replicas)\s*=\s*(\d{1,7})\b")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a module: how many it states, None if it states no number; its meshes, each of all devices.

    A mesh is the sizes of its axes by name. partitioned: XLA has split the module over the devices already.
    """

    count: int | None = None
    meshes: tuple[Mapping[str, int], ...] = ()
    partitioned: bool = False


def devices_of(raw: Any, entry: str, instructions: Callable[[], Iterable[tuple[str, Any]]]) -> Devices:
    """Return the devices that a module states. Raises HloError for more than any machine has.

    raw: the message of the module. entry: the name of its entry. instructions: opcode and message of each.
    """
    shardings = [raw.spmd_output_sharding, *raw.spmd_parameters_shardings]
    # The partitioner writes the shardings of the results and arguments, and gives the entry this name.
    partitioned = bool(raw.spmd_parameters_shardings) or entry.endswith("_spmd")
    assigned = decode("DeviceAssignment", raw.device_assignment)
    count = assigned.replica_count * assigned.computation_count
    if count < 1:
        shardings += {message.sharding for _, message in instructions()}
    found = [*_written_meshes(raw.frontend_attributes), *filter(None, map(_mesh, set(shardings)))]
    if count < 1:
        listed = (max(map(_size, found), default=0), max(map(_tiles, shardings), default=0))
        count = next(filter(None, listed), 0) or _of_groups(instructions())
    if count > MAX_DEVICES:
        raise malformed(f"The module runs on {count:,} devices, more than {MAX_DEVICES:,}")
    meshes = tuple(mesh for i, mesh in enumerate(found) if _size(mesh) == count and mesh not in found[:i])
    return Devices(count if count > 0 else None, meshes, partitioned)


def of_hlo_text(hlo: str) -> tuple[int, int] | None:
    """Return (replicas, partitions) of the header of HLO text; None if it says neither."""
    header = _HEADER.search(hlo)
    options = _QUOTED.sub('""', header[0]) if header else ""
    # XLA writes the numbers that are not 1; before optimisation jax does not pass them to XLA.
    alone = "is_scheduled=true" in options and not _GROUPS.search(hlo)
    return _counts(_OPTION.findall(options)) or ((1, 1) if alone else None)


def of_stablehlo_text(stablehlo: str) -> tuple[int, int] | None:
    """Return (replicas, partitions) in the attributes of a StableHLO module; None if it has neither number."""
    # The attributes of the module stand before its first function.
    return _counts(_ATTRIBUTE.findall(stablehlo.partition("func.func")[0]))


def with_devices(hlo: bytes, counts: tuple[int, int] | None) -> bytes:
    """Return a serialised module with a device assignment for (replicas, partitions), if it has none."""
    if counts is None or decode("Module", hlo).device_assignment:
        return hlo
    replicas, partitions = counts
    if replicas * partitions > MAX_DEVICES:
        raise malformed(f"The module runs on {replicas * partitions:,} devices, more than {MAX_DEVICES:,}")
    # jax numbers the devices in this order, and XLA rejects an assignment that leaves a device out.
    of_partitions = [
        MESSAGES["AssignedDevices"](replica_device_ids=range(i, replicas * partitions, partitions)).SerializeToString()
        for i in range(partitions)
    ]
    assignment = MESSAGES["DeviceAssignment"](
        replica_count=replicas, computation_count=partitions, computation_devices=of_partitions
    )
    # Messages of protobuf are merged by writing one after the other.
    return hlo + MESSAGES["Module"](device_assignment=assignment.SerializeToString()).SerializeToString()


def _counts(found: list[tuple[str, str]]) -> tuple[int, int] | None:
    """Return (replicas, partitions); the number that is not written is 1."""
    numbers = {name: int(digits) for name, digits in found if int(digits)}
    if not numbers:
        return None
    return numbers.get("replica_count", numbers.get("num_replicas", 1)), numbers.get("num_partitions", 1)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _size(mesh: Mapping[str, int]) -> int:
    return prod(mesh.values())


def _written_meshes(raw_attributes: bytes) -> list[Mapping[str, int]]:
    """Return the meshes in the attributes of a module that jax lowered."""
    attributes = [decode("Attribute", entry) for entry in decode("Attributes", raw_attributes).entries]
    written = next((_text(x.value) for x in attributes if x.key == _MESHES), "")
    axes = [_AXIS.findall(mesh)[:MAX_AXES] for mesh in _MESH.findall(written)]
    return [{name: int(size) for name, size in mesh} for mesh in axes if mesh]


def _mesh(sharding: bytes) -> Mapping[str, int]:
    """Return the mesh that a sharding names, since jaxlib 0.12; empty if it names none."""
    axes = decode("Sharding", sharding).named.mesh.axes[:MAX_AXES]
    return {_text(axis.name): axis.size for axis in axes if axis.size > 0}


def _tiles(sharding: bytes) -> int:
    """Return how many devices a sharding lists; 0 if it says only "replicated" or "on one device"."""
    whole = decode("Sharding", sharding)
    parts = [whole, *(decode("Sharding", part) for part in whole.tuple_shardings)]
    return max((prod(x.tile_extents) for x in parts if 0 < len(x.tile_extents) <= MAX_AXES), default=0)


def _of_groups(instructions: Iterable[tuple[str, Any]]) -> int:
    collectives = (raw for opcode, raw in instructions if opcode.removesuffix("-start") in COLLECTIVE_PRIMITIVES)
    return max(map(members, collectives), default=0)
