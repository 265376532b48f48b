"""flax.nnx: modules are split into state and structure, and merged again inside the trace.

Parameters are the variables of type `nnx.Param`. Statistics, random streams and optimizer states are no parameters.
A variable that several modules share is a single input, so tied parameters count once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import isgeneratorfunction
from types import FunctionType, MethodType
from typing import Any

from costax import _jax
from costax._jax import pytrees
from costax.program.frameworks.bound import Bound, within
from costax.program.frameworks.scopes import ModuleLibrary


def bind(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None
) -> Bound | None:
    """Bind a module, a method of a module, or a function of modules, optimizers and states, jitted or not.

    None for other targets.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return None
    eager = isinstance(fn, nnx.Module)
    if eager:
        fn, args = _call, (fn, *args)
    elif isinstance(fn, MethodType) and isinstance(fn.__self__, nnx.Module):
        fn, args, eager = fn.__func__, (fn.__self__, *args), True
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)), is_leaf=lambda x: isinstance(x, nnx.Pytree))
    objects = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, nnx.Pytree)}
    if not objects or _jax.is_jitted(fn):
        return _of_arrays(nnx, fn, args, kwargs) if params_argnums is None else None
    graph, params, rest = nnx.split(tuple(objects.values()), nnx.Param, ...)

    def function(params: Any, rest: Any, args: Any, kwargs: Any) -> Any:
        merged = nnx.merge(graph, params, rest)
        by_position = dict(zip(objects, merged, strict=True))
        leaves = [by_position.get(i, leaf) for i, leaf in enumerate(tree.flatten_up_to((args, kwargs)))]
        arguments, named = pytrees.unflatten(tree, leaves)
        out = fn(*arguments, **named)
        # Variables that the function has updated are results too.
        return out, nnx.split(merged)[1]

    function.__name__ = type(objects[0]).__name__ if eager else str(getattr(fn, "__name__", "function"))
    others = pytrees.unflatten(tree, [None if i in objects else leaf for i, leaf in enumerate(leaves)])
    is_parameter = within("0/0") if params_argnums is None else _parameters_of(args, objects, params_argnums)
    return Bound(function, (params, rest, *others), {}, is_parameter, eager=eager, module=True)


def library() -> ModuleLibrary | None:
    """Return the description of nnx for the layer scopes; None if nnx is not loaded.

    A call of any public method of a module is a call of a layer.
    """
    nnx = sys.modules.get("flax.nnx")
    return None if nnx is None else ModuleLibrary(nnx.Module, _methods)


def _methods(cls: type) -> list[str]:
    if cls.__module__ in ("flax.nnx.helpers", "flax.nnx.module") and cls.__name__ in ("List", "Dict", "Module"):
        return []
    return [
        name
        for name, value in vars(cls).items()
        if name == "__call__" or (isinstance(value, FunctionType) and name[0] != "_" and not isgeneratorfunction(value))
    ]


def _call(module: Any, /, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _parameters_of(
    args: Sequence[Any], objects: Mapping[int, Any], numbers: int | Sequence[int]
) -> Callable[[str], bool]:
    """Return a function that tests whether a path is a parameter in one of the positional arguments.

    In a module the parameters are the `nnx.Param`s, in any other argument all leaves.
    """
    chosen = {n % len(args) for n in ((numbers,) if isinstance(numbers, int) else numbers)}
    ids = set(map(id, objects.values()))
    inside = {id(leaf) for n in chosen for leaf in pytrees.leaves(args[n], is_leaf=lambda x: id(x) in ids)}
    modules = (f"0/0/{k}" for k, module in enumerate(objects.values()) if id(module) in inside)
    return within(*modules, *(f"0/2/{n}" for n in chosen))


def _of_arrays(nnx: Any, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound | None:
    """Bind a function of states or a jitted function; None if no argument has an `nnx.Param`."""
    leaves = pytrees.leaf_paths((tuple(args), dict(kwargs)), is_leaf=lambda x: isinstance(x, nnx.Variable))
    paths = [path for path, leaf in leaves if isinstance(leaf, nnx.Param)]
    return Bound(fn, args, kwargs, within(*paths), module=True) if paths else None
