"""The analysis of an HLO module as the contents of a file: Markdown and CSV."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from costax.core import units
from costax.hlo.metadata import Scopes, Sources
from costax.report.formats import escaped, grid, written_csv
from costax.report.hlo_module import PROPERTIES, notes, sums, table

if TYPE_CHECKING:
    from costax.hlo.module_analysis import ModuleAnalysis
    from costax.report.module_record import SavedModule

_COUNTS: Final = ("flops", "transcendentals", "bytes")
HEADINGS: Final = (
    *("scope", "direction", "opcode", "source", "computation", "instruction", "runs"),
    *(f"counted_{name}" for name in _COUNTS),
    *(f"executed_{name}" for name in _COUNTS),
)
"""The columns of the CSV."""


def as_markdown(module: ModuleAnalysis | SavedModule, **choice: Any) -> str:
    """Return the totals, a table and its notes as GitHub-flavoured Markdown. choice: options of `hlo_module.table`."""
    shown = table(module, **choice)
    totals = [
        (name, *(units.exact(count) for count in (module.total[i], module.executed[i])))
        for i, name in enumerate(PROPERTIES)
    ]
    text = [f"# {escaped(module.name)}", "", "An HLO module.", ""]
    text += [*grid(("", "counted", "executed"), totals, numeric_from=1), ""]
    lines = [(escaped(line.label), *line.cells) for line in shown.lines]
    total = tuple(f"**{cell}**" for cell in (shown.total.label, *shown.total.cells))
    text += [*grid((shown.heading, *shown.columns), [*lines, total], numeric_from=1, raw=True), ""]
    text += [f"* {escaped(note)}" for note in notes(module, shown)]
    return "\n".join(text) + "\n"


def as_csv(module: ModuleAnalysis, **choice: Any) -> str:
    """Return one line for each instruction that costs something, with the exact number of every count.

    An instruction of a function that is called from several scopes has one line for each. choice: options of
    `hlo_module.table`; with any of them, return one line for each line of the table.
    """
    if choice:
        chosen = [(label, *cost.counted, *cost.executed) for label, cost in sums(module, **choice)[0]]
        return written_csv((choice.get("by", "scope"), *HEADINGS[-2 * len(_COUNTS) :]), chosen)
    scopes, sources = Scopes(module.replay.module), Sources(module.replay.module)
    cells: list[tuple[Any, ...]] = []
    for site, cost in chain.from_iterable(x.by_site() for x in module.instruction_costs):
        ins = cost.instruction
        scope, direction = scopes.layer(cost.computation, ins, site)
        names = ("/".join(scope), direction, ins.opcode, sources.of(ins), cost.computation.name, ins.name)
        cells.append((*names, cost.runs, *cost.cost.counted, *cost.cost.executed))
    return written_csv(HEADINGS, cells)
