"""Machines to compile for: their names, and the description that a compiler needs of each.

A name is `tpu:v5e` for one chip, `tpu:v5e:2x4` for a slice of eight, `tpu:v5e:2x4:3` for three such slices, `cuda:h100`
for one GPU, `cuda:h100:8` for eight in one host and `cuda:h100:2x8` for two such hosts.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from costax.errors import TargetError
from costax.performance.hardware import CompilerFacts, Device
from costax.performance.hardware import devices as known_devices


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to compile for.

    platform: jax's name, `tpu` or `cuda`. devices: the number that jax sees. topology, options: the arguments with
    which the plugin describes the machine. memory: bytes of one device, where the compiler does not check them itself.
    domain: how many devices in order the fast links join: those of a slice, or of a host. links: the names of the links
    inside of a domain and between domains.
    """

    name: str
    platform: str
    devices: int
    topology: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    memory: int | None = None
    domain: int = 0
    links: tuple[str, str] = ("", "")

    @property
    def slices(self) -> int:
        """How many domains the machine has."""
        return self.devices // self.domain if self.domain else 1

    def link(self, groups: Sequence[Sequence[int]]) -> str:
        """Return the links between the devices of each group: one name, or both joined by "and".

        groups: of devices that communicate with each other, by their numbers in the program.
        """
        domain = self.domain or self.devices
        inside = any(len({x for x in group if x // domain == group[0] // domain}) > 1 for group in groups)
        across = any(len({x // domain for x in group}) > 1 for group in groups)
        return " and ".join(name for name, used in zip(self.links, (inside, across), strict=True) if used)


def _targets() -> Mapping[str, Device]:
    """Return the devices that a compiler can be told of, by the name of the target. Their files say what it is told."""
    return {device.compile_for: device for device in known_devices().values() if device.compile_for and device.compiler}


def names() -> tuple[str, ...]:
    """Return the names of single chips and GPUs; a shape may follow each."""
    return ("cpu", *sorted(_targets(), key=lambda name: (name.startswith("cuda"), name)))


def machine(name: str) -> Machine | None:
    """Return the machine of a name; None for the CPU of this machine. Raises TargetError for an unknown name."""
    if name == "cpu":
        return None
    platform, _, rest = name.partition(":")
    model, colon, shape = rest.partition(":")
    device = _targets().get(f"{platform}:{model}")
    if device is not None and device.compiler is not None:
        make = _tpu if platform == "tpu" else _gpus
        return make(name, device, device.compiler, shape if colon else "1")
    similar = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    raise TargetError(
        f"costax cannot compile for {name!r}: the machine is unknown.",
        why=f"Known are {', '.join(names())}. A TPU may have a shape (tpu:v5e:2x4), a GPU a number (cuda:h100:8).",
        cure=f"Did you mean {similar[0]}?" if similar else "Use one of these names.",
    )


def of_size(name: str, devices: int) -> str:
    """Return the name of a machine of the same model with a number of devices; GPUs stand in hosts of eight.

    Of a TPU whose chip is two devices it is the least number of chips.
    """
    platform, _, rest = name.partition(":")
    model = rest.partition(":")[0]
    device = _targets().get(f"{platform}:{model}")
    chips = -(-devices // device.jax_devices) if device is not None else devices
    if device is None or chips == 1:
        return name
    if platform == "cuda":
        return f"cuda:{model}:{devices // 8}x8" if devices > 8 and devices % 8 == 0 else f"cuda:{model}:{devices}"
    side = next(n for n in range(int(chips**0.5), 0, -1) if chips % n == 0)
    third = "x1" if device.link is not None and device.link.axes == 3 else ""
    return f"tpu:{model}:{side}x{chips // side}{third}"


def _tpu(name: str, device: Device, told: CompilerFacts, shape: str) -> Machine:
    shape, colon, number = shape.partition(":")
    (slices,) = _extents(name, number, 1, "2") if colon else (1,)
    dimensions = device.link.axes if device.link else 1
    extents = _extents(name, shape, dimensions, "2x4" if dimensions == 2 else "2x2x4")
    extents = (*extents, *[1] * (dimensions - len(extents)))
    # A single chip is a part of a host; libtpu fails unless its bounds say so.
    options: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if prod(extents) == 1 else {}
    if told.configuration:
        options["chip_config_name"] = told.configuration
    if slices > 1:
        options["num_slices"] = slices
    topology, each = f"{told.topology}:{'x'.join(map(str, extents))}", prod(extents) * device.jax_devices
    return Machine(name, "tpu", each * slices, topology, options, domain=each, links=("ICI", "DCN"))


def _gpus(name: str, device: Device, told: CompilerFacts, shape: str) -> Machine:
    extents = _extents(name, shape, 2, "2x8")
    hosts, each = extents if len(extents) == 2 else (1, *extents)
    options = {"target_config": _config(device, told), "topology": f"1x{hosts}x{each}"}
    memory = int(device.capacity.value) if device.capacity else None
    return Machine(name, "cuda", hosts * each, "", options, memory, each, (told.link, "network"))


def _extents(name: str, shape: str, most: int, example: str) -> tuple[int, ...]:
    parts = shape.split("x")
    if len(parts) > most or not all(part.isascii() and part.isdigit() and 0 < int(part) < 10_000 for part in parts):
        raise TargetError(
            f"Invalid shape {shape!r} in {name!r}.",
            why=f"The shape of this machine has up to {most} extent{'s' if most > 1 else ''}, joined by x.",
            cure=f"Use for example {name.rpartition(':')[0]}:{example}.",
        )
    return tuple(map(int, parts))


def _config(device: Device, told: CompilerFacts) -> str:
    """Return the GpuTargetConfigProto of a GPU, as text. XLA rejects fields that it does not know."""
    shared = int(device.on_chip["smem_per_sm"].value)
    assert device.bandwidth is not None
    assert device.capacity is not None
    # A block may use all shared memory of a multiprocessor except 1 KiB; on Volta and Turing all of it.
    optin = shared - 1024 if told.capability >= (8, 0) else shared
    # Tensor cores of Hopper need instructions that later architectures drop.
    extension = "feature_extension: ACCELERATED_FEATURES" if told.capability >= (9, 0) else ""
    return f"""
gpu_device_info {{
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  core_count: {device.on_chip["sms"].value:g} fpus_per_core: {told.lanes} clock_rate_ghz: {told.clock / 1e9:g}
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {optin}
  memory_bandwidth: {int(device.bandwidth.value)} l2_cache_size: {int(device.on_chip["l2"].value)}
  device_memory_size: {int(device.capacity.value)}
  cuda_compute_capability {{ major: {told.capability[0]} minor: {told.capability[1]} {extension} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
device_description_str: "{device.device_kinds[0] if device.device_kinds else device.name}"
"""
