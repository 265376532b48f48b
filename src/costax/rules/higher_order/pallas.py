"""Pallas kernels: a jaxpr that runs once for each point of a grid, or on each core of a device."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from costax.core.cost import Count
from costax.core.equation import KERNEL, Body, Equation
from costax.core.polynomial import Polynomial
from costax.rules.registry import body_rule, whole_operands
from costax.rules.traits import OPAQUE


@body_rule("pallas_call", traits=OPAQUE)
def pallas_call(eqn: Equation) -> Sequence[Body]:
    """The kernel runs once for each point of the grid. If an extent of the grid is not known, that is a symbol.

    XLA: a custom call, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    return [Body(eqn.params["jaxpr"], _grid_points(eqn), KERNEL, loop=True)]


def _grid_points(eqn: Equation) -> Count | None:
    # The extents that the program computes are the first inputs of the equation, in the order of the grid.
    computed = 0
    points: Count = 1
    for size in eqn.params["grid_mapping"].grid:
        extent: Count | None = size
        if not isinstance(size, int | Polynomial):
            extent = eqn.known[computed] if computed < len(eqn.known) else None
            computed += 1
        if extent is None:
            return None
        points *= extent
    return points


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
    return [Body(eqn.params["jaxpr"])]


@body_rule("core_map", traits=OPAQUE)
def core_map(eqn: Equation) -> Sequence[Body]:
    """Every core of the mesh of a device runs the body.

    XLA: a custom call, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    return [_on_cores(eqn.params["jaxpr"], eqn.params["mesh"])]


@body_rule("mpmd_map", traits=OPAQUE)
def mpmd_map(eqn: Equation) -> Sequence[Body]:
    """Every core of each mesh runs the body of that mesh.

    XLA: a custom call for each, -1 FLOP; on TPU its `cost_estimate`, if it has one.
    """
    return [_on_cores(jaxpr, mesh) for jaxpr, mesh in zip(eqn.params["jaxprs"], eqn.params["meshes"], strict=True)]


def _on_cores(jaxpr: Any, mesh: Any) -> Body:
    sizes = dict(mesh.shape)
    return Body(jaxpr, prod(sizes.values()), KERNEL, loop=True, axis_sizes=sizes)
