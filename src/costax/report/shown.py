"""The type of the values that tables and files show: an analysis, or a comparison, which holds an analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.compare.base_comparison import BaseComparison, StageView

    Shown = Analysis | BaseComparison[StageView]


def analysis_of(account: Shown) -> Analysis:
    """Return the analysis itself, or the analysis of a comparison."""
    value: Any = account
    return getattr(value, "jaxpr", value)
