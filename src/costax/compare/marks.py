"""Provenance: how an HLO instruction knows the equation that it came from.

Before lowering, the name stack of every equation gets a short unique mark, `~12~`. XLA carries names through
optimisation and does not optimise by them, so the marked program compiles to the same code; a guard compares the
costs of both all the same. Each distinct inner jaxpr is marked once, so that functions that are shared stay shared:
the marks of the call sites and the inner mark together are an equation's address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costax import _jax
from costax.core.address import Address

_ROOT = "~0~"
_MARK = re.compile(r"~(\d+)~")


@dataclass(frozen=True, slots=True)
class Marked:
    """A jaxpr whose equations carry marks, and the mark of each original equation, by the equation's id."""

    jaxpr: Any
    marks: Mapping[int, int]


def mark(jaxpr: Any) -> Marked:
    """Return the jaxpr with every equation marked, those of inner jaxprs too; nothing else changes.

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

    return Marked(rewrite(jaxpr, _ROOT), marks)


def address(op_name: str, caller: Address) -> Address:
    """Return the address that an instruction's name tells; names inside a shared function go on from the caller's.

    >>> address("jit(f)/~0~/jvp(net)/~3~/while/body/~7~/dot_general", (1,)), address("jit(silu)/~5~/neg", (1, 4))
    ((3, 7), (1, 4, 5))
    """
    # Of an instruction that has several names, joined by `;`, the first is the innermost.
    _, root, below = op_name.partition(";")[0].rpartition(_ROOT)
    marks = tuple(map(int, _MARK.findall(below)))
    return marks if root else caller + marks
