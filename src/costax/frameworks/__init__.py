"""Modules of the neural-network libraries: their parameters, and one scope per layer while tracing.

No library is imported here: a module is recognised by the modules that are loaded already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """A target as a plain function of plain arguments.

    parameters: says of a leaf's path in `(args, kwargs)` (such as `0/0/params/w`) whether it is a parameter; None
    where nobody knows. scopes: a context in which every layer puts its path on the name stack.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    parameters: Callable[[str], bool] | None = None
    scopes: Callable[[], AbstractContextManager[Any]] = nullcontext


def bind(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None) -> Bound:
    """Return the target as a plain function: modules are initialised abstractly, and know their parameters."""
    if params_argnums is None:
        return Bound(fn, args, kwargs)
    numbers = (params_argnums,) if isinstance(params_argnums, int) else tuple(params_argnums)
    prefixes = tuple(f"0/{number}/" for number in numbers)
    return Bound(fn, args, kwargs, lambda path: f"{path}/".startswith(prefixes))
