"""Machines to compile for: their names, and the description that a compiler needs of each.

A name is `tpu:v5e` for one chip, `tpu:v5e:2x4` for a slice of eight, `tpu:v5e:2x4:3` for three such slices, `cuda:h100`
for one GPU, `cuda:h100:8` for eight in one host and `cuda:h100:2x8` for two such hosts.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, NamedTuple

from costax.errors import TargetError


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


class _Tpu(NamedTuple):
    """A generation of TPUs: its name in libtpu, the dimensions of its slices, and the devices of a chip in jax."""

    name: str
    dimensions: int
    devices: int = 1
    configuration: str = ""


# The names are those of libtpu 0.0.42. The two cores of a v4 chip work as one, as they do in the cloud.
_TPUS: Final[Mapping[str, _Tpu]] = {
    "v2": _Tpu("v2", 2, 2),
    "v3": _Tpu("v3", 2, 2),
    "v4": _Tpu("v4", 3, configuration="megacore"),
    "v5e": _Tpu("v5e", 2),
    "v5p": _Tpu("v5p", 3),
    "v6e": _Tpu("v6e", 2),
    "v7x": _Tpu("tpu7x", 3, 2),
}


class _Gpu(NamedTuple):
    """The description of a GPU for XLA. Sizes in bytes, bandwidth in bytes per second; shared: of a multiprocessor."""

    description: str
    capability: tuple[int, int]
    multiprocessors: int
    fpus: int
    bandwidth: int
    l2: int
    ghz: float
    memory: int
    shared: int
    link: str = "NVLink"


# Source: the specifications that XLA ships (xla/backends/gpu/target_config/specs), and NVIDIA's data sheets for H200.
_GPUS: Final[Mapping[str, _Gpu]] = {
    "a100": _Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 2039 * 10**9, 40 << 20, 1.41, 84987740160, 167936),
    "h100": _Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 3352320 * 10**6, 50 << 20, 1.98, 84942979072, 233472),
    "h200": _Gpu("NVIDIA H200", (9, 0), 132, 128, 4800 * 10**9, 50 << 20, 1.98, 141 * 10**9, 233472),
    "b200": _Gpu("NVIDIA B200", (10, 0), 148, 128, 7672320 * 10**6, 132644864, 1.965, 191514411008, 233472),
    "l4": _Gpu("NVIDIA L4", (8, 9), 58, 128, 300096 * 10**6, 48 << 20, 2.04, 23633920000, 102400, "PCIe"),
}


def names() -> tuple[str, ...]:
    """Return the names of single chips and GPUs; a shape may follow each."""
    return ("cpu", *(f"tpu:{name}" for name in _TPUS), *(f"cuda:{name}" for name in _GPUS))


def machine(name: str) -> Machine | None:
    """Return the machine of a name; None for the CPU of this machine. Raises TargetError for an unknown name."""
    if name == "cpu":
        return None
    platform, _, rest = name.partition(":")
    model, colon, shape = rest.partition(":")
    if platform == "tpu" and model in _TPUS:
        return _tpu(name, _TPUS[model], shape if colon else "1")
    if platform == "cuda" and model in _GPUS:
        return _gpus(name, _GPUS[model], shape if colon else "1")
    similar = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    raise TargetError(
        f"costax cannot compile for {name!r}: the machine is unknown.",
        why=f"Known are {', '.join(names())}. A TPU may have a shape (tpu:v5e:2x4), a GPU a number (cuda:h100:8).",
        cure=f"Did you mean {similar[0]}?" if similar else "Use one of these names.",
    )


def _tpu(name: str, tpu: _Tpu, shape: str) -> Machine:
    shape, colon, number = shape.partition(":")
    (slices,) = _extents(name, number, 1, "2") if colon else (1,)
    extents = _extents(name, shape, tpu.dimensions, "2x4" if tpu.dimensions == 2 else "2x2x4")
    extents = (*extents, *[1] * (tpu.dimensions - len(extents)))
    # A single chip is a part of a host; libtpu fails unless its bounds say so.
    options: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if prod(extents) == 1 else {}
    if tpu.configuration:
        options["chip_config_name"] = tpu.configuration
    if slices > 1:
        options["num_slices"] = slices
    topology, each = f"{tpu.name}:{'x'.join(map(str, extents))}", prod(extents) * tpu.devices
    return Machine(name, "tpu", each * slices, topology, options, domain=each, links=("ICI", "DCN"))


def _gpus(name: str, gpu: _Gpu, shape: str) -> Machine:
    extents = _extents(name, shape, 2, "2x8")
    hosts, each = extents if len(extents) == 2 else (1, *extents)
    options = {"target_config": _config(gpu), "topology": f"1x{hosts}x{each}"}
    return Machine(name, "cuda", hosts * each, "", options, gpu.memory, each, (gpu.link, "network"))


def _extents(name: str, shape: str, most: int, example: str) -> tuple[int, ...]:
    parts = shape.split("x")
    if len(parts) > most or not all(part.isascii() and part.isdigit() and 0 < int(part) < 10_000 for part in parts):
        raise TargetError(
            f"Invalid shape {shape!r} in {name!r}.",
            why=f"The shape of this machine has up to {most} extent{'s' if most > 1 else ''}, joined by x.",
            cure=f"Use for example {name.rpartition(':')[0]}:{example}.",
        )
    return tuple(map(int, parts))


def _config(gpu: _Gpu) -> str:
    """Return the GpuTargetConfigProto of a GPU, as text. XLA rejects fields that it does not know."""
    # A block may use all shared memory of a multiprocessor except 1 KiB.
    optin = gpu.shared - 1024
    # Tensor cores of Hopper need instructions that later architectures drop.
    extension = "feature_extension: ACCELERATED_FEATURES" if gpu.capability >= (9, 0) else ""
    return f"""
gpu_device_info {{
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  core_count: {gpu.multiprocessors} fpus_per_core: {gpu.fpus} clock_rate_ghz: {gpu.ghz}
  shared_memory_per_block: 49152 shared_memory_per_core: {gpu.shared} shared_memory_per_block_optin: {optin}
  memory_bandwidth: {gpu.bandwidth} l2_cache_size: {gpu.l2} device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} {extension} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
device_description_str: "{gpu.description}"
"""
