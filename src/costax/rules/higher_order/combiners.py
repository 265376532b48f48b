"""Combiners: a small jaxpr that combines two elements and runs once for each pair.

Its operands are in registers, so the bytes are counted for the equation and none for the combiner.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from costax.core.cost import Count
from costax.core.equation import Body, Equation
from costax.core.polynomial import maximum
from costax.rules.registry import body_rule, whole_operands
from costax.rules.traits import NO_TRAITS, REDUCTION, Traits


def scattered(eqn: Equation) -> tuple[Count, Count]:
    """Indices and updates are read; the updated elements are read and written: 3 * updates + indices.

    Source: XLA HandleScatter, which reads the updated elements of a plain scatter too.
    """
    _, indices, *updates = eqn.inputs[len(eqn.outputs) - 1 :]
    updated = sum(update.nbytes for update in updates)
    return indices.nbytes + 2 * updated, updated


def _fused(jaxpr: Any, times: Count, name: str = "combiner") -> Body:
    return Body(jaxpr, times, name, fused=True)


@body_rule("reduce", traffic=whole_operands, traits=REDUCTION)
def reduce(eqn: Equation) -> Sequence[Body]:
    """n elements are reduced to one by n - 1 runs of the combiner, for each output element.

    XLA: HandleReduce, the same.
    """
    return [_fused(eqn.params["jaxpr"], maximum(eqn.inputs[0].size - eqn.out.size, 0))]


@body_rule("scatter-add", "scatter", traffic=scattered, traits=Traits(in_place=True, partial=True, reads_once=True))
@body_rule(
    "scatter-sub",
    "scatter-mul",
    "scatter-min",
    "scatter-max",
    traffic=scattered,
    traits=Traits(in_place=True, partial=True),
)
def scatter(eqn: Equation) -> Sequence[Body]:
    """The combiner runs once for each element of the updates; a plain scatter replaces and computes nothing.

    XLA: HandleScatter, the same. The arithmetic on indices is in equations of its own.
    """
    combiner, updates = eqn.params.get("update_jaxpr"), eqn.inputs[-1]
    return [] if combiner is None or eqn.name == "scatter" else [_fused(combiner, updates.size)]


@body_rule("reduce_window", traffic=whole_operands, traits=REDUCTION.but(windowed=True))
def reduce_window(eqn: Equation) -> Sequence[Body]:
    """A window of w elements is reduced by w - 1 runs of the combiner, for each output element, padding included.

    XLA: HandleReduceWindow, the same.
    """
    window = prod(eqn.params["window_dimensions"])
    return [_fused(eqn.params["jaxpr"], maximum(window - 1, 0) * eqn.out.size)]


@body_rule("select_and_scatter", traffic=whole_operands, traits=NO_TRAITS)
def select_and_scatter(eqn: Equation) -> Sequence[Body]:
    """For each source element a window of w is searched by w - 1 runs of the selection, and one scatter adds.

    XLA: HandleSelectAndScatter, the same; the CPU compiler expands it into a loop first.
    """
    source, window = eqn.inputs[1], prod(eqn.params["window_dimensions"])
    return [
        _fused(eqn.params["select_jaxpr"], maximum(window - 1, 0) * source.size, "select"),
        _fused(eqn.params["scatter_jaxpr"], source.size, "scatter"),
    ]
