"""Compiling ahead of time for devices that are only described.

Tried with jax 0.8.2, 0.10.2 and 0.12.0.1.
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

# jax's types say nothing of what lies beyond its Python.
_compiler: Any = importlib.import_module("jax._src.compiler")
_mlir: Any = importlib.import_module("jax._src.interpreters.mlir")
_pxla: Any = importlib.import_module("jax._src.interpreters.pxla")
_xla: Any = importlib.import_module("jaxlib._jax")
_ir: Any = importlib.import_module("jaxlib.mlir.ir")
_topologies: Any = importlib.import_module("jax.experimental.topologies")


def lowered_program(lowered: Any) -> tuple[bytes, Mapping[str, Any]]:
    """Return what crosses to another process: StableHLO as bytecode, with its names, and what jax compiles it with.

    The second part is made of plain values: which inputs and outputs the compiler may shard as it likes, and options.
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
    """Return how many devices a lowered program runs on."""
    attributes = lowered.compiler_ir("stablehlo").operation.attributes
    return attributes["mhlo.num_partitions"].value if "mhlo.num_partitions" in attributes else 1


def meshes(lowered: Any) -> tuple[Mapping[str, int], ...]:
    """Return the meshes that a lowered program names, as sizes by axis; their devices are the program's, in order."""
    sizes_by_mesh: list[Mapping[str, int]] = []
    for op in lowered.compiler_ir("stablehlo").body.operations:
        if op.operation.name == "sdy.mesh":
            axes = re.search(r"<\[([^\]]*)\](?!, device_ids)", str(op))
            sizes = {name: int(size) for name, size in re.findall(r'"([^"]+)"=(\d+)', axes[1])} if axes else {}
            if sizes and sizes not in sizes_by_mesh:
                sizes_by_mesh.append(sizes)
    return tuple(sizes_by_mesh)


def compile_ahead(
    platform: str, topology: str, description: Mapping[str, Any], program: bytes, how: Mapping[str, Any]
) -> Any:
    """Compile StableHLO for devices that are only described; what comes back has `hlo_modules()` and cannot run.

    topology, description: for `jax.experimental.topologies`. how: as `lowered_program` returns it.
    """
    devices = _topologies.get_topology_desc(platform=platform, topology_name=topology, **description).devices
    client = devices[0].client
    with _mlir.make_ir_context():
        module = _ir.Module.parse(program)
        count = module.operation.attributes["mhlo.num_partitions"].value
        overrides = {**_untuned(platform), **how["overrides"]}
        used = np.array(devices[:count], dtype=object)
        options = _compiler.get_compile_options(
            num_replicas=1,
            num_partitions=count,
            device_assignment=used.reshape(1, count),
            env_options_overrides=overrides,
            backend=client,
        )
        options.parameter_is_tupled_arguments = how["tupled"]
        build = options.executable_build_options
        build.allow_spmd_sharding_propagation_to_parameters = how["inputs"]
        build.allow_spmd_sharding_propagation_to_output = how["outputs"]
        chosen = _xla.DeviceList(tuple(used))
        return client.compile(module, executable_devices=chosen, compile_options=options)


def _untuned(platform: str) -> Mapping[str, Any]:
    """Return the options without which a plugin wants a GPU to time kernels on. jax 0.10 and newer want none."""
    return {"xla_gpu_autotune_level": 0} if platform == "cuda" and VERSION < (0, 10) else {}


def compiled_memory(executable: Any) -> Mapping[str, int]:
    """Return the memory analysis of an executable that `compile_ahead` made."""
    return memory_sizes(executable.get_compiled_memory_stats())


def compiled_cost(executable: Any) -> Mapping[str, float] | None:
    """Return the compiler's own cost dictionary of an executable, None where it has none (GPU)."""
    try:
        cost: Any = executable.cost_analysis()
    except XlaError as error:
        if "UNIMPLEMENTED" in str(error):
            return None
        raise
    return cast("list[Any]", cost)[0] if isinstance(cost, list) else cost
