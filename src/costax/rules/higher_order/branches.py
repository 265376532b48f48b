"""Branches: one of several jaxprs runs."""

from __future__ import annotations

from collections.abc import Sequence

from costax.core.equation import Body, Equation
from costax.rules.registry import body_rule


@body_rule("cond")
def cond(eqn: Equation) -> Sequence[Body]:
    """One branch runs. The costliest (by operations, then bytes) is counted; the costs of all branches are kept.

    If the program determines the index, its branch is counted. Of `jax.lax.platform_dependent` the branch for CPUs is
    counted, else the default one.
    XLA: HandleConditional takes, for each property on its own, the maximum over the branches.
    """
    branches = eqn.params["branches"]
    inputs = tuple(range(1, len(eqn.inputs)))
    index = _cpu_branch(eqn.params.get("branches_platforms") or ())
    if index is None and len(eqn.known):
        index = eqn.known[0]
    if index is None:
        return [Body(branch, name=f"branch_{i}", inputs=inputs, choice=True) for i, branch in enumerate(branches)]
    # jax clamps the index.
    selected = min(max(index, 0), len(branches) - 1)
    return [Body(branch, int(i == selected), f"branch_{i}", inputs) for i, branch in enumerate(branches)]


def _cpu_branch(platforms: Sequence[Sequence[str] | None]) -> int | None:
    # jax takes the first branch that names the platform, or that names none.
    return next((i for i, names in enumerate(platforms) if names is None or "cpu" in names), None)
