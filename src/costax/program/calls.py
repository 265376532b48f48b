"""Calls: which equations call a function, and which functions of a large program are not inlined.

XLA inlines every call before it fuses. A program whose functions call each other twice, sixty deep, has 2**60 equations
then. Where inlining makes a program very large, the functions that it calls more than once stay functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from costax import _jax
from costax.core.equation import Body
from costax.program.tree import Node

# Programs of at most so many equations are inlined whole, as XLA does. A training step of ResNet-50 has 6,767.
_MOST_INLINED: Final = 20_000
# Functions of fewer equations are inlined in any program.
_SMALLEST_SHARED: Final = 100

FunctionKey = tuple[int, int]
"""A function: the ids of its jaxpr and of its cost."""


def called(node: Node) -> tuple[Body, Node] | None:
    """Return the body of a call, with its cost; None for any other equation.

    A call runs one body, once, on its own operands. A `shard_map` is a call too: each device runs the body once.
    """
    running = [(b, c) for b, c in zip(node.bodies, node.children, strict=True) if b.choice or c.times]
    if len(running) != 1:
        return None
    body, child = running[0]
    inner = _jax.opened(body.jaxpr)
    once = not (body.loop or body.fused or body.choice) and (child.times == 1 or body.per_device)
    fits = len(inner.outvars) == len(node.equation.outvars) and len(body.inputs) == len(inner.invars)
    return (body, child) if once and fits else None


def function_key(body: Body, child: Node) -> FunctionKey:
    """Return the key of a function: two calls with the same key have the same equations and the same cost."""
    return id(body.jaxpr), id(child)


def shared_functions(nodes: Sequence[Node]) -> frozenset[FunctionKey]:
    """Return the functions that are not inlined: none, unless inlining makes the program very large.

    nodes: the equations of the program.
    """
    calls = _Calls()
    if calls.size(nodes) <= _MOST_INLINED:
        return frozenset()
    return frozenset(key for key, n in calls.sites.items() if n > 1 and calls.sizes[key] >= _SMALLEST_SHARED)


class _Calls:
    """Visits each function once: the size of each after inlining, and the number of its call sites."""

    def __init__(self) -> None:
        self.sizes: dict[FunctionKey, int] = {}
        self.sites: Counter[FunctionKey] = Counter()

    def size(self, nodes: Sequence[Node]) -> int:
        """Return the equations of a sequence after inlining. Bodies of loops and branches are inlined once."""
        total = 0
        for node in nodes:
            call = called(node)
            bodies = [call] if call is not None else list(zip(node.bodies, node.children, strict=True))
            for body, child in bodies:
                key = function_key(body, child)
                visited = key in self.sizes
                if not visited:
                    self.sizes[key] = self.size(child.children)
                if call is not None and not body.per_device:
                    self.sites[key] += 1
                total += self.sizes[key] if call is not None or not visited else 0
            total += call is None
        return total
