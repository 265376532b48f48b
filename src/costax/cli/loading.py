"""From the text of a target to its analysis."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from costax.core.progress import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.analysis.analysis import Analysis


def analysed(target: str, inputs: Sequence[str], trips: Mapping[str, int], on_missing: str, **options: Any) -> Analysis:
    """Load and analyse a target; what it prints while it is imported and traced goes to standard error."""
    from costax.analysis.analyze import UncountedWarning
    from costax.analysis.analyze import analyze as analyze_function
    from costax.program.targets import load_target

    with shown(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        # The tables and the record say it themselves.
        warnings.simplefilter("ignore", UncountedWarning)
        found = load_target(target, inputs)
        analysis = analyze_function(found, trips=trips, on_missing=on_missing, **options)()  # type: ignore[arg-type]
    # `resnet18` says more than the name of the class or function that the factory returned.
    return replace(analysis, name=target.rpartition(":")[2])


def quieten_plugins() -> None:
    """Have jax start the CPU alone: plugins of machines that are not here would only complain that they are not."""
    quiet = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
