"""The kernels of a compiled program: those of its module, each with the scope of the equation that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costax.compare.stage_costs import AttributedCost
from costax.performance.compiled_kernels import ExecutedInstruction, of_module
from costax.performance.kernels import Kernel
from costax.program.tree import FORWARD

if TYPE_CHECKING:
    from costax.compare.stage_costs import StageCost


def of_compiled(stage: StageCost) -> list[Kernel]:
    """Return the kernels of a compiled program; `times` of a kernel in a loop is the number of its iterations."""
    collectives = {collective.name: collective for collective in stage.collectives}
    return of_module(stage.replay.module, [_executed(cost) for cost in stage.instruction_costs], collectives)


def _executed(cost: AttributedCost) -> ExecutedInstruction:
    site = cost.call_site
    scope, direction = (site.scope, site.direction or FORWARD) if site is not None else ((), "")
    return ExecutedInstruction(
        cost.computation,
        cost.instruction,
        cost.executed,
        cost.actual,
        scope,
        direction,
        work=cost.work,
        owned=site is not None,
    )
