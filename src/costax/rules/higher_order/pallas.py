"""Pallas kernels: a jaxpr that runs once for each point of a grid, or on each core of a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from costax import _jax
from costax.core.cost import Count
from costax.core.equation import KERNEL, Body, Equation
from costax.core.polynomial import Polynomial
from costax.rules.known_blocks import KnownBlock
from costax.rules.known_values import CallFrame
from costax.rules.registry import body_rule, whole_operands
from costax.rules.runs import Runs, is_array
from costax.rules.traits import OPAQUE


@body_rule("pallas_call", traits=OPAQUE)
def pallas_call(eqn: Equation) -> Sequence[Body]:
    """The kernel runs once for each point of the grid. If an extent of the grid is not known, that is a symbol.

    A branch of the kernel (`pl.when`) counts as often as it runs, and a loop as often as it iterates, if that depends
    only on the index in the grid, on constants, and on arrays of integers that the program knows, such as the block
    mask of an attention kernel: every point of the grid is tried.
    XLA: a custom call, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    extents = _extents(eqn)
    times = None if None in extents else prod(extents)
    runs = _runs(eqn.params["grid_mapping"], extents)
    values = None if runs is None else _input_values(eqn, runs)
    return [Body(eqn.params["jaxpr"], times, KERNEL, loop=True, runs=runs, values=values)]


def _extents(eqn: Equation) -> list[Any]:
    # The extents that the program computes are the first inputs of the equation, in the order of the grid.
    computed = iter(eqn.known)
    return [
        size if isinstance(size, int | Polynomial) else next(computed, None) for size in eqn.params["grid_mapping"].grid
    ]


def _runs(mapping: Any, extents: Sequence[Count | None]) -> Runs | None:
    if not all(isinstance(extent, int) for extent in extents):
        return None
    # `vmap` adds axes to the grid, which `program_id` in the kernel does not number.
    numbers = iter(range(len(extents)))
    axes = [("vmap", i) if i in mapping.vmapped_dims else next(numbers) for i in range(len(extents))]
    return Runs.of_grid({axis: int(extent or 0) for axis, extent in zip(axes, extents, strict=True)})


def _input_values(eqn: Equation, runs: Runs) -> Callable[[int], Any]:
    """Return a function that returns the known block behind an input of the kernel, or None."""
    mapping = eqn.params["grid_mapping"]
    written = _jax.written_inputs(eqn.params["jaxpr"])

    def array(position: int) -> Any:
        value = eqn.values[mapping.num_dynamic_grid_bounds + position]
        return value if is_array(value) else None

    def table(position: int) -> KnownBlock | None:
        known = None if position in written else array(position)
        return None if known is None else KnownBlock.whole(known)

    def block(position: int) -> KnownBlock | None:
        known = None if position in written else array(position)
        blocks = mapping.block_mappings[position - mapping.num_index_operands]
        extents = _jax.block_extents(blocks)
        if known is None or extents is None or len(extents) != known.ndim:
            return None
        axes = [runs.index(axis) for axis in sorted(runs.axes, key=runs.axes.__getitem__)]
        inputs: Mapping[int, Any] = dict(enumerate([*axes, *map(table, range(mapping.num_index_operands))]))
        index_map = Body(blocks.index_map_jaxpr, runs=runs, values=inputs.get)
        frame = CallFrame(index_map.jaxpr, body=index_map)
        indices = [frame.values(atom) for atom in frame.jaxpr.outvars]
        if any(index is None for index in indices):
            return None
        starts = [index * step for index, (step, _) in zip(indices, extents, strict=True)]
        return KnownBlock(known, starts, tuple(size for _, size in extents))

    def value(position: int) -> KnownBlock | None:
        if position < mapping.num_index_operands:
            return table(position)
        return block(position) if position < mapping.num_index_operands + mapping.num_inputs else None

    return value


@body_rule("cudnn_fusion", traffic=whole_operands, traits=OPAQUE)
def cudnn_fusion(eqn: Equation) -> Sequence[Body]:
    """The function runs once, as one kernel of cuDNN: only its operands and results are read and written.

    XLA: a custom call `__cudnn$fusion` before optimisation, -1 FLOP; then a fusion, whose instructions are counted.
    """
    return [Body(eqn.params["jaxpr"], name=KERNEL, inputs=tuple(range(len(eqn.inputs))), fused=True)]


@body_rule("run_scoped")
def run_scoped(eqn: Equation) -> Sequence[Body]:
    """A function runs once, on memory that is allocated for it and freed after it.

    XLA: inside a custom call, or its references are discharged into values before lowering.
    """
    return [Body(eqn.params["jaxpr"], constants=tuple(range(len(eqn.inputs))))]


@body_rule("core_map", traits=OPAQUE)
def core_map(eqn: Equation) -> Sequence[Body]:
    """Every core of the mesh of a device runs the body; on GPUs, every block of the grid, its warpgroups, or warps.

    Branches and loops count as in `pallas_call`, if they depend only on `axis_index` and on what the program knows.

    XLA: a custom call, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    captured = tuple(range(len(eqn.inputs)))
    return [_on_cores(eqn, eqn.params["jaxpr"], eqn.params["mesh"], constants=captured)]


@body_rule("mpmd_map", traits=OPAQUE)
def mpmd_map(eqn: Equation) -> Sequence[Body]:
    """Every core of each mesh runs the body of that mesh; on GPUs, every block of the grid and its warpgroups.

    Branches and loops count as in `pallas_call`, if they depend only on `axis_index` and on what the program knows. A
    loop over blocks that hardware schedules (`plgpu.dynamic_scheduling_loop`) does the work of each block once.

    XLA: a custom call for each, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    meshes = zip(eqn.params["jaxprs"], eqn.params["meshes"], strict=True)
    return [_on_cores(eqn, jaxpr, mesh) for jaxpr, mesh in meshes]


def _on_cores(eqn: Equation, jaxpr: Any, mesh: Any, constants: tuple[int, ...] = ()) -> Body:
    sizes = dict(mesh.shape)
    runs = Runs.of_grid(sizes, eqn.runs)
    values = None if constants else _whole_inputs(eqn, jaxpr)
    times = prod(sizes.values())
    return Body(jaxpr, times, KERNEL, constants=constants, loop=True, axis_sizes=sizes, runs=runs, values=values)


def _whole_inputs(eqn: Equation, jaxpr: Any) -> Callable[[int], Any]:
    """Return a function that returns the value of an input of a kernel that gets its operands whole, or references."""
    written = _jax.written_inputs(jaxpr)
    inputs = _jax.opened(jaxpr).invars

    def value(position: int) -> Any:
        known = eqn.values[position] if position < len(eqn.inputs) and position not in written else None
        becomes_reference = is_array(known) and _jax.is_reference(inputs[position].aval)
        return KnownBlock.whole(known) if becomes_reference else known

    return value
