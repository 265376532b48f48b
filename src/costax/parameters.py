"""Parameters: how many, how large, and in which scope each is used first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costax.analysis import Size
from costax.trace import Program
from costax.tree import Node, Scope


def by_scope(program: Program, jaxpr: Any, tree: Node) -> Mapping[tuple[Scope, str], Size] | None:
    """Return the size of the parameters by (scope, dtype), or None where nobody said which inputs are parameters."""
    if program.parameters is None:
        return None
    sizes: dict[tuple[Scope, str], Size] = {}
    for parameter in program.parameters:
        key = ((), parameter.operand.dtype)
        sizes[key] = sizes.get(key, Size()) + Size(parameter.operand.size, parameter.operand.nbytes)
    return sizes
