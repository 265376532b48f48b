"""equinox: a module is a pytree and an argument like any other. Leaves that are not arrays become constants.

As with `eqx.filter_jit`, Python numbers are static, for example `inference=False` of a BatchNorm.
Parameters are the floating-point array leaves of modules, except those inside optax states (the moments).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from costax import _jax
from costax._jax import pytrees
from costax.program.frameworks.bound import Bound, arguments, class_of, is_optax, within
from costax.program.frameworks.scopes import ModuleLibrary


def bind(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None
) -> Bound | None:
    """Bind a module or a function of modules, with `eqx.filter_jit` or not; None for other targets."""
    equinox = sys.modules.get("equinox")
    if equinox is None:
        return None
    if isinstance(fn, equinox.Module):
        wrapper = _is_wrapper(class_of(fn))
        name = str(
            getattr(getattr(fn, "__wrapped__", None) if wrapper else class_of(fn), "__name__", class_of(fn).__name__)
        )
        if wrapper and not any(map(pytrees.is_array, pytrees.leaves(fn))):
            return _bound(equinox, _renamed(fn, name), args, kwargs, params_argnums)
        return _bound(equinox, _renamed(_call, name), (fn, *args), kwargs, _shifted(params_argnums))
    if _modules(equinox, (args, kwargs)):
        return _bound(equinox, fn, args, kwargs, params_argnums)
    return None


def library() -> ModuleLibrary | None:
    """Return the description of equinox for the layer scopes; None if equinox is not loaded.

    equinox adds a scope with the class name for each call (`eqx.nn.Linear`). The attribute path is more precise, so
    the scope of equinox is removed.
    """
    equinox = sys.modules.get("equinox")
    return None if equinox is None else ModuleLibrary(equinox.Module, _methods, _original, _is_wrapper)


def _methods(cls: type) -> list[str]:
    return ["__call__"] if hasattr(vars(cls).get("__call__"), "__get__") else []


def _original(cls: type, attribute: Any) -> Any:
    return _jax.without_named_scope(attribute) if cls.__module__.startswith("equinox.nn") else attribute


def _is_wrapper(cls: type) -> bool:
    """Return whether a class of equinox is a wrapper and not a layer, such as a function under `filter_jit`."""
    return cls.__module__.partition(".")[0] == "equinox" and not cls.__module__.startswith("equinox.nn")


def _bound(
    equinox: Any,
    fn: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    params_argnums: int | Sequence[int] | None,
) -> Bound:
    if params_argnums is not None:
        parameters = arguments(params_argnums, len(args))
    else:
        parameters = within(*_inexact_leaves(equinox, (tuple(args), dict(kwargs))))
    return Bound(fn, args, kwargs, parameters, eager=True, module=True)


def _call(module: Any, /, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _renamed(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    function.__name__ = name
    return function


def _shifted(numbers: int | Sequence[int] | None) -> int | Sequence[int] | None:
    """Return argument numbers increased by one, because the module became the first argument."""
    if numbers is None:
        return None
    return tuple(n + (n >= 0) for n in ((numbers,) if isinstance(numbers, int) else numbers))


def _modules(equinox: Any, tree: Any) -> list[Any]:
    leaves = pytrees.leaves(tree, is_leaf=lambda x: isinstance(x, equinox.Module))
    return [leaf for leaf in leaves if isinstance(leaf, equinox.Module)]


def _inexact_leaves(equinox: Any, tree: Any) -> list[str]:
    """Return the paths of the floating-point arrays of modules in a pytree, except those in optax states."""
    paths: list[str] = []
    for start, value in pytrees.leaf_paths(tree, is_leaf=lambda x: isinstance(x, equinox.Module) or is_optax(x)):
        if isinstance(value, equinox.Module):
            paths += [f"{start}/{path}" for path, leaf in pytrees.leaf_paths(value) if _is_inexact(leaf)]
    return paths


def _is_inexact(leaf: Any) -> bool:
    return pytrees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
