"""Experiments: what jax makes of an equation alone, to prove what it made of it in the program.

A primitive that becomes several operations becomes the same ones wherever it stands. So the equations whose operations
do not cost what their rule says are lowered once more, each with arguments of its own, and counted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

from costax import _jax
from costax.compare.ahead_of_time import Machine
from costax.compare.causes import Pair
from costax.compare.compile import lowering
from costax.compare.emitted import emitted
from costax.compare.lineage import Lineage
from costax.compare.marks import ROOT
from costax.compare.owners import MarkedNames, callers
from costax.errors import CostaxError
from costax.hlo.library_calls import is_idle
from costax.hlo.records import Instruction
from costax.hlo.series import ModuleCost
from costax.program.call_sites import CallSite

# What jax and a primitive raise where an equation makes no program of its own.
_ERRORS = (CostaxError, TypeError, ValueError, NotImplementedError, KeyError, NameError, AttributeError, AssertionError)


def alone(call_sites: Sequence[CallSite], machine: Machine | None = None) -> dict[CallSite, Pair]:
    """Return what the operations of equations cost when jax lowers each by itself; those that it cannot are left out.

    call_sites: of equations without marked bodies. machine: the device to lower for; None for the CPU.
    """
    by_equation: dict[int, list[CallSite]] = defaultdict(list)
    for call_site in call_sites:
        by_equation[id(call_site.node.equation)].append(call_site)
    chosen = [group[0].node.equation for group in by_equation.values()]
    costs = _costs(chosen, machine)
    return {
        call_site: cost
        for group, cost in zip(by_equation.values(), costs, strict=True)
        if cost is not None
        for call_site in group
    }


def _costs(equations: Sequence[Any], machine: Machine | None) -> list[Pair | None]:
    """Return the cost of each equation; of those that cannot be lowered together each is tried alone."""
    if not equations:
        return []
    try:
        return list(_together(equations, machine))
    except _ERRORS:
        if len(equations) == 1:
            return [None]
        half = len(equations) // 2
        return [*_costs(equations[:half], machine), *_costs(equations[half:], machine)]


def _together(equations: Sequence[Any], machine: Machine | None) -> Sequence[Pair]:
    costs = _by_first_mark(ModuleCost.of(emitted(_lowered(equations, machine))))
    return [costs.get(number, Pair()) for number in range(1, len(equations) + 1)]


def _lowered(equations: Sequence[Any], machine: Machine | None) -> Any:
    """Return a program of equations that have nothing to do with each other, each marked with its number."""

    def program(*given: Any) -> list[Any]:
        values = iter(given)
        operands = [[next(values) for _ in equation.invars] for equation in equations]
        return [
            result for equation, own in zip(equations, operands, strict=True) for result in _jax.bind(equation, own)
        ]

    # Literals become arguments too: jax computes what depends on them alone.
    traced = _jax.traced(program, [x.aval for equation in equations for x in equation.invars])
    marked = [
        _jax.with_scopes(equation, equation.params, ROOT, f"~{number}~") for number, equation in enumerate(equations, 1)
    ]
    # To bind a primitive may return its operand, so the equations themselves are lowered.
    return lowering(traced, _jax.separated(traced.jaxpr, marked), "an equation", machine).jax_stage


def _by_first_mark(version: ModuleCost) -> dict[int, Pair]:
    """Return what the instructions with each mark cost, without those that do nothing."""
    names = MarkedNames()
    origins = Lineage(version, names).origins
    costs: dict[int, Pair] = {}
    for key, by_caller in callers(version, origins, names).items():
        costed = version.computations[key]
        working = [ins for ins in costed.computation.instructions if ins.name in costed.costs and is_work(ins)]
        for ins, (caller, times) in product(working, by_caller.items()):
            # One function may be called for equal equations; its names are those of the first.
            number = next(map(int, caller or names.inside(origins[ins.name], caller)), 0)
            costs[number] = Pair.sum((costs.get(number, Pair()), costed.costs[ins.name].scaled(times)[:2]))
    return costs


def is_work(ins: Instruction) -> bool:
    """Say whether an instruction does something: jax puts markers of shardings around the keys of a program."""
    return ins.opcode != "custom-call" or not is_idle(ins)
