"""Branches: one of several jaxprs runs."""

from __future__ import annotations

from collections.abc import Sequence

from costax.core.equation import Body, Equation
from costax.rules.registry import body_rule


@body_rule("cond")
def cond(eqn: Equation) -> Sequence[Body]:
    """One branch runs. Every branch's cost is kept, and the costliest (by operations, then bytes) is in the total.

    An index that the program fixes chooses its branch, and so does a platform: the branch for CPUs, where
    `jax.lax.platform_dependent` has one, else the default one.
    XLA: HandleConditional takes, for each property on its own, the maximum over the branches.
    """
    branches = eqn.params["branches"]
    inputs = tuple(range(1, len(eqn.inputs)))
    index = _for_cpus(eqn.params.get("branches_platforms") or ())
    if index is None and len(eqn.known):
        index = eqn.known[0]
    if index is None:
        return [Body(branch, name=f"branch_{i}", inputs=inputs, choice=True) for i, branch in enumerate(branches)]
    taken = min(max(index, 0), len(branches) - 1)
    return [Body(branch, int(i == taken), f"branch_{i}", inputs) for i, branch in enumerate(branches)]


def _for_cpus(platforms: Sequence[Sequence[str] | None]) -> int | None:
    # jax takes the first branch that names the platform, or that names none.
    return next((i for i, names in enumerate(platforms) if names is None or "cpu" in names), None)
