"""Marks: metadata by which an HLO instruction names the equation that it came from.

Before lowering, the name stack of every equation gets a short unique mark, `~12~`. XLA copies name stacks to its
instructions and does not optimise by them, so the marked program compiles to the same code; `compare` checks that both
have the same cost. Each distinct inner jaxpr is marked once, so that a function that several calls share stays shared.
The address of an equation is the marks of the calls around it, followed by its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.core.address import Address

ROOT = "~0~"
"""The mark before those of the equations: names without it are relative to a call."""
MARK = re.compile(r"~(\d+)~")
"""A mark in a name that jax gave to an instruction."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A jaxpr whose equations carry marks, and the mark of each original equation, by the equation's id."""

    jaxpr: Any
    marks: Mapping[int, int]


def mark(jaxpr: Any) -> Marked:
    """Return the jaxpr with every equation marked, those of inner jaxprs included; nothing else changes.

    jaxpr: closed, after dead-code elimination, so that its equations are those of the tree.
    """
    marks: dict[int, int] = {}
    rewritten: dict[int, Any] = {}

    def rewrite(inner: Any, prefix: str = "") -> Any:
        if id(inner) not in rewritten:
            eqns = [marked_equation(eqn, prefix) for eqn in _jax.opened(inner).eqns]
            rewritten[id(inner)] = _jax.with_equations(inner, eqns)
        return rewritten[id(inner)]

    def marked_equation(eqn: Any, prefix: str) -> Any:
        number = marks.setdefault(id(eqn), len(marks) + 1)
        params = {name: _jax.map_jaxprs(value, rewrite) for name, value in eqn.params.items()}
        return _jax.with_scopes(eqn, params, prefix, f"~{number}~")

    return Marked(rewrite(jaxpr, ROOT), marks)


def address(op_name: str, caller: Address) -> Address:
    """Return the address in the name of an instruction.

    A name inside a shared function has no root mark (`~0~`); its marks continue the address of the caller.

    >>> address("jit(f)/~0~/jvp(net)/~3~/while/body/~7~/dot_general", (1,)), address("jit(silu)/~5~/neg", (1, 4))
    ((3, 7), (1, 4, 5))
    """
    # An instruction may have several names, joined by `;`. The first is the innermost.
    _, root, below = op_name.partition(";")[0].rpartition(ROOT)
    marks = tuple(map(int, MARK.findall(below)))
    return marks if root else caller + marks
