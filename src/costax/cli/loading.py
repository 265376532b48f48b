"""Load the program that TARGET names, and analyse it."""

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
    """Load and analyse a target. What the program prints during import and tracing goes to standard error."""
    import click

    from costax.analysis.analyze import UncountedWarning
    from costax.analysis.analyze import analyze as analyze_function
    from costax.analysis.symbolic import target_at, unmatched
    from costax.cli.options import PARAMS
    from costax.errors import TripsError
    from costax.program.targets import load_target

    context = click.get_current_context(silent=True)
    if context is not None and PARAMS in context.meta:
        options["params_argnums"] = context.meta[PARAMS]
    with shown(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        # Tables and records list the uncounted primitives themselves.
        warnings.simplefilter("ignore", UncountedWarning)
        # Values of --at and --trips belong to sizes with names, or else to loops.
        named = load_target(target, inputs)
        loaded, loops = target_at(named, trips)
        try:
            analysis = analyze_function(loaded, trips=loops, on_missing=on_missing, **options)()  # type: ignore[arg-type]
        except TripsError as error:
            raise unmatched(error, named) from None
    # The name of the factory, `resnet18`, tells more than the name of the function or class that it returned.
    return replace(analysis, name=target.rpartition(":")[2])


def quieten_plugins() -> None:
    """Let jax start only the CPU backend: plug-ins of absent accelerators would print warnings."""
    quiet = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
