"""What the tables and files of this package show: an analysis, or a comparison that holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.compare.ledgers import Ledgers, Stage

    Shown = Analysis | Ledgers[Stage]


def analysis_of(account: Shown) -> Analysis:
    """Return the analysis, or that of a comparison."""
    value: Any = account
    return getattr(value, "jaxpr", value)
