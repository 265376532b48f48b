"""haiku: a transformed function is initialised abstractly and applied. Its parameters are the result of `init`.

haiku itself adds one scope for each module to the name stack.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from costax._jax import pytrees
from costax.errors import TargetError
from costax.program.frameworks.bound import Bound, abstract_init, within


def bind(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None
) -> Bound | None:
    """Bind the result of `hk.transform` and similar functions, or its `apply`, jitted or not; else return None."""
    hk = sys.modules.get("haiku")
    if hk is None:
        return None
    if isinstance(fn, (hk.Transformed, hk.TransformedWithState, hk.MultiTransformed, hk.MultiTransformedWithState)):
        return _applied(
            fn, args, kwargs, with_state=isinstance(fn, (hk.TransformedWithState, hk.MultiTransformedWithState))
        )
    original = inspect.unwrap(fn) if callable(fn) else fn
    is_apply = str(getattr(original, "__module__", "")).startswith("haiku._src") and "apply_fn" in getattr(
        original, "__qualname__", ""
    )
    return Bound(fn, args, kwargs, within("0/0")) if is_apply and args and params_argnums is None else None


def _applied(transformed: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, with_state: bool) -> Bound:
    function = transformed.apply
    if not callable(function):
        functions = pytrees.leaves(function)
        if len(functions) != 1:
            raise TargetError(
                f"The multi-transformed haiku function has {len(functions)} apply functions.",
                why="Each apply function has its own arguments and its own cost.",
                cure="Analyse one of them with its parameters: params = jax.eval_shape(f.init, key, x), "
                "then costax.analyze(f.apply.encode)(params, key, x).",
            )
        function = functions[0]
    key = pytrees.random_key()
    initial = abstract_init(transformed.init, key, args, kwargs)
    variables = tuple(initial) if with_state else (initial,)
    needs_key = "rng" in inspect.signature(function).parameters
    return Bound(
        function,
        (*variables, *((key,) if needs_key else ()), *args),
        kwargs,
        within("0/0"),
        eager=True,
        module=True,
    )
