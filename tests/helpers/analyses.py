"""Analyses made of rows, without a program."""

from __future__ import annotations

from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.core.size import Size
from costax.program.tree import Row


def analysis_of(work: dict[str, int], params: dict[str, int] | None = None) -> Analysis:
    rows = {Row(tuple(s.split("/")), "forward", "add", "a.py:3"): Cost.arithmetic("f32", n) for s, n in work.items()}
    sizes = {(tuple(s.split("/")), "f32"): Size(n, 4 * n) for s, n in params.items()} if params else None
    return Analysis("model", Cost.sum(rows.values()), parameters=sizes, saved_rows=rows)
