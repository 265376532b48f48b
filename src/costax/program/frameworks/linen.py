"""flax.linen: a module is initialised abstractly and applied. Its parameters are the collection `params`.

linen itself adds one scope for each layer to the name stack.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from costax._jax import pytrees
from costax.program.frameworks.bound import Bound, abstract_init, class_of, within

# Options of `apply` that are not arguments of the method, unless the method has an argument of the same name.
_APPLY_OPTIONS = ("rngs", "method", "mutable", "capture_intermediates")


def bind(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None
) -> Bound | None:
    """Bind a module, a bound module, a method of a bound module or the `apply` of a module, jitted or not.

    None for other targets.
    """
    linen = sys.modules.get("flax.linen")
    if linen is None:
        return None
    if isinstance(fn, linen.Module):
        return _applied(fn, args, kwargs)
    method = fn
    while not isinstance(getattr(method, "__self__", None), linen.Module):
        if not hasattr(method, "__wrapped__"):
            return None
        method = method.__wrapped__
    owner = method.__self__
    if method.__name__ == "apply":
        known = within("0/0/params") if params_argnums is None else None
        return Bound(fn, args, kwargs, known) if known and _has_params(args) else None
    return _applied(owner, args, {**kwargs, "method": method.__name__}) if owner.scope is not None else None


def _has_params(args: Sequence[Any]) -> bool:
    return bool(args) and isinstance(args[0], Mapping) and "params" in args[0]


def _applied(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
    if module.scope is not None:
        module, variables = module.unbind()
    else:
        variables = None
    taken = _argument_names(module, kwargs)
    options = {name: kwargs[name] for name in _APPLY_OPTIONS if name in kwargs and name not in taken}
    inner = {name: value for name, value in kwargs.items() if name not in options}
    rngs = options.pop("rngs", None) or {"params": pytrees.random_key()}
    if variables is None:
        variables = _initialised(module, rngs, args, inner, options)

    # Statistics and caches may be written; a module that only reads them writes nothing.
    options.setdefault("mutable", [name for name in variables if name != "params"])

    def apply(variables: Any, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        return module.apply(variables, *args, rngs=rngs, **options, **kwargs)

    apply.__name__ = type(module).__name__
    return Bound(apply, (variables, rngs, *args), inner, within("0/0/params"), eager=True, module=True)


def _argument_names(module: Any, kwargs: Mapping[str, Any]) -> frozenset[str]:
    method = kwargs.get("method", "__call__")
    function = getattr(class_of(module), method, None) if isinstance(method, str) else method
    return frozenset(inspect.signature(function).parameters) if callable(function) else frozenset()


def _initialised(
    module: Any, rngs: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    method = {"method": options["method"]} if "method" in options else {}
    # linen draws every random stream that is not given from `params`; one key is the key of `params`.
    keys = {"params": pytrees.random_key(), **dict(pytrees.items(rngs))} if isinstance(rngs, Mapping) else rngs
    return abstract_init(partial(module.init, **method), keys, args, kwargs)
