"""Branches: one of several jaxprs runs."""

from __future__ import annotations

from collections.abc import Sequence

from costax.equation import Body, Equation
from costax.registry import body_rule


@body_rule("cond")
def cond(eqn: Equation) -> Sequence[Body]:
    """One branch runs. Every branch's cost is kept, and the costliest (by operations, then bytes) is in the total.

    An index that the program fixes chooses its branch.
    XLA: HandleConditional takes, for each property on its own, the maximum over the branches.
    """
    branches = eqn.params["branches"]
    inputs = tuple(range(1, len(eqn.inputs)))
    index = eqn.known[0] if len(eqn.known) else None
    if index is None:
        return [Body(branch, name=f"branch_{i}", inputs=inputs, choice=True) for i, branch in enumerate(branches)]
    taken = min(max(index, 0), len(branches) - 1)
    return [Body(branch, int(i == taken), f"branch_{i}", inputs) for i, branch in enumerate(branches)]
