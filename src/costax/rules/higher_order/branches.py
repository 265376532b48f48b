"""Branches: one of several jaxprs runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy

from costax import _jax
from costax.core.equation import Body, Equation
from costax.rules.registry import body_rule
from costax.rules.runs import Array, Runs

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy


@body_rule("cond")
def cond(eqn: Equation) -> Sequence[Body]:
    """One branch runs. The costliest (by operations, then bytes) is counted; the costs of all branches are kept.

    If the program determines the index, its branch is counted; in a kernel, each branch as often as the index at the
    points of the grid selects it. Of `jax.lax.platform_dependent` the branch for CPUs is counted, else the default one.
    XLA: HandleConditional takes, for each property on its own, the maximum over the branches.
    """
    branches = eqn.params["branches"]
    inputs = tuple(range(1, len(eqn.inputs)))
    index = _cpu_branch(eqn.params.get("branches_platforms") or ())
    if index is None and len(eqn.known):
        index = eqn.known[0]
    if index is None:
        return _by_run(eqn, branches, inputs)
    # jax clamps the index.
    selected = min(max(index, 0), len(branches) - 1)
    return [Body(branch, int(i == selected), f"branch_{i}", inputs) for i, branch in enumerate(branches)]


def _by_run(eqn: Equation, branches: Sequence[Any], inputs: tuple[int, ...]) -> Sequence[Body]:
    """Return the branches with the runs of the kernel in which the index selects them, or else as a choice."""
    runs = eqn.runs or Runs((), {})
    index: Array = eqn.values[0] if len(eqn.values) else None
    selected = None if index is None else np.clip(index, 0, len(branches) - 1)
    parts = [None if selected is None else runs.where(selected == i) for i in range(len(branches))]
    if None not in parts:
        return [
            Body(branch, runs.share_of(cast("Runs", part)), f"branch_{i}", inputs, runs=part if eqn.runs else None)
            for i, (branch, part) in enumerate(zip(branches, parts, strict=True))
        ]
    # The costliest branch is at least what runs, if all conditions in it are decided for all runs: only where the other
    # branches are empty. Else the sum over runs of the costliest branch may be larger.
    one = sum(bool(_jax.opened(branch).eqns) for branch in branches) <= 1
    return [
        Body(branch, name=f"branch_{i}", inputs=inputs, choice=True, runs=eqn.runs if one else None)
        for i, branch in enumerate(branches)
    ]


def _cpu_branch(platforms: Sequence[Sequence[str] | None]) -> int | None:
    # jax takes the first branch that names the platform, or that names none.
    return next((i for i, names in enumerate(platforms) if names is None or "cpu" in names), None)
