"""Ahead-of-time compilation for devices that this machine does not have, from a description of their topology.

Tested with jax 0.8.2, 0.10.2 and 0.12.0.1.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from costax._jax.hlo import XlaError
from costax._jax.stages import memory_sizes
from costax._jax.versions import VERSION

# jaxlib's extension modules have no type annotations.
_compiler: Any = importlib.import_module("jax._src.compiler")
_mlir: Any = importlib.import_module("jax._src.interpreters.mlir")
_pxla: Any = importlib.import_module("jax._src.interpreters.pxla")
_xla: Any = importlib.import_module("jaxlib._jax")
_ir: Any = importlib.import_module("jaxlib.mlir.ir")
_topologies: Any = importlib.import_module("jax.experimental.topologies")


def portable_program(lowered: Any) -> tuple[bytes, Mapping[str, Any]]:
    """Return a lowered program in a form that another process can compile: (StableHLO bytecode, compile settings).

    The bytecode keeps the operation names. The settings are plain values: which inputs and outputs the compiler may
    shard as it likes, whether the arguments are one tuple, and the user's compiler options.
    """
    lowering = lowered._lowering
    compile_args = lowering.compile_args
    inputs, outputs = _pxla.get_prop_to_input_output(
        compile_args["in_shardings"], compile_args["out_shardings"], len(compile_args["ordered_effects"])
    )
    options = {"inputs": list(inputs), "outputs": list(outputs), "tupled": bool(compile_args["tuple_args"])}
    overrides = {key: value for key, value in getattr(lowering, "_compiler_options_kvs", ())}
    return _mlir.module_to_bytecode(lowered.compiler_ir("stablehlo")), {**options, "overrides": overrides}


def partitions(lowered: Any) -> int:
    """Return the number of devices of a lowered program."""
    attributes = lowered.compiler_ir("stablehlo").operation.attributes
    return attributes["mhlo.num_partitions"].value if "mhlo.num_partitions" in attributes else 1


def assigned_devices(lowered: Any) -> int | None:
    """Return how many devices a lowered program names; None where its mesh is abstract, which names none."""
    named = getattr(lowered._lowering, "_device_list", ())
    return None if named is None else len(named) or partitions(lowered)


def meshes(lowered: Any) -> tuple[Mapping[str, int], ...]:
    """Return the meshes of a lowered program as axis sizes by name; each has all devices of the program, in order."""
    sizes_by_mesh: list[Mapping[str, int]] = []
    for op in lowered.compiler_ir("stablehlo").body.operations:
        if op.operation.name == "sdy.mesh":
            axes = re.search(r"<\[([^\]]*)\](?!, device_ids)", str(op))
            sizes = {name: int(size) for name, size in re.findall(r'"([^"]+)"=(\d+)', axes[1])} if axes else {}
            if sizes and sizes not in sizes_by_mesh:
                sizes_by_mesh.append(sizes)
    return tuple(sizes_by_mesh)


def compile_ahead_of_time(
    platform: str, topology: str, description: Mapping[str, Any], program: bytes, settings: Mapping[str, Any]
) -> Any:
    """Compile StableHLO for a topology of devices; the executable has `hlo_modules()` but cannot run here.

    topology, description: for `jax.experimental.topologies`. program, settings: as `portable_program` returns them.
    """
    devices = _topologies.get_topology_desc(platform=platform, topology_name=topology, **description).devices
    client = devices[0].client
    with _mlir.make_ir_context():
        module = _ir.Module.parse(program)
        count = module.operation.attributes["mhlo.num_partitions"].value
        overrides = {**_without_autotuning(platform), **settings["overrides"]}
        used = np.array(devices[:count], dtype=object)
        options = _compiler.get_compile_options(
            num_replicas=1,
            num_partitions=count,
            device_assignment=used.reshape(1, count),
            env_options_overrides=overrides,
            backend=client,
        )
        options.parameter_is_tupled_arguments = settings["tupled"]
        build = options.executable_build_options
        build.allow_spmd_sharding_propagation_to_parameters = settings["inputs"]
        build.allow_spmd_sharding_propagation_to_output = settings["outputs"]
        device_list = _xla.DeviceList(tuple(used))
        return client.compile(module, executable_devices=device_list, compile_options=options)


def _without_autotuning(platform: str) -> Mapping[str, Any]:
    """Return options that turn autotuning off: before jax 0.10 it needs a GPU to time kernels on."""
    return {"xla_gpu_autotune_level": 0} if platform == "cuda" and VERSION < (0, 10) else {}


def compiled_memory(executable: Any) -> Mapping[str, int]:
    """Return the memory analysis of an executable from `compile_ahead_of_time`, in bytes."""
    return memory_sizes(executable.get_compiled_memory_stats())


def compiled_cost(executable: Any) -> Mapping[str, float] | None:
    """Return the compiler's own cost dictionary of an executable; None if the compiler has none (GPU)."""
    try:
        cost: Any = executable.cost_analysis()
    except XlaError as error:
        if "UNIMPLEMENTED" in str(error):
            return None
        raise
    return cast("list[Any]", cost)[0] if isinstance(cost, list) else cost
