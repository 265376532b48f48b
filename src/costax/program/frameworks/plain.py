"""Plain functions: the caller states which arguments are parameters."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from costax.program.frameworks.bound import Bound, arguments, within


def bind(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None) -> Bound:
    """Return the function unchanged. Its parameters are those of `params_argnums`, or of a flax `TrainState`."""
    if params_argnums is not None:
        return Bound(fn, args, kwargs, arguments(params_argnums, len(args)))
    flax = sys.modules.get("flax.training.train_state")
    states = [i for i, arg in enumerate(args) if flax is not None and isinstance(arg, flax.TrainState)]
    return Bound(fn, args, kwargs, within(*(f"0/{i}/params" for i in states)) if states else None)
