"""Modules of neural-network libraries: their parameters, and one scope per layer during tracing.

costax imports none of these libraries. An object can only be a module of a library that the user has imported.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from costax import _jax
from costax._jax import pytrees
from costax.core.source_lines import is_installed
from costax.program.frameworks import equinox, haiku, linen, nnx, plain, pytorch
from costax.program.frameworks.bound import Bound, arguments, class_of, is_optax
from costax.program.frameworks.kinds import Modules, collected
from costax.program.frameworks.pytorch import without_values
from costax.program.frameworks.scopes import ModuleLibrary, layer_scopes
from costax.program.frameworks.torch_state import shape_of

__all__ = [
    "Bound",
    "Modules",
    "abstract",
    "arguments",
    "bind",
    "collected",
    "is_module",
    "own_package",
    "scope_context",
    "without_values",
]

# Each returns None for a target of another library. The order matters: `plain.bind` accepts every target.
_ADAPTERS = (linen.bind, haiku.bind, nnx.bind, equinox.bind, pytorch.bind, plain.bind)
_LIBRARIES = ("flax", "equinox", "haiku", "optax", "torch", "torchax")
# More decorators than any target has; an object of the user may have every attribute, `__wrapped__` too.
_DEEPEST = 100
_NUMBERS: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_NEXT = count()


def bind(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None) -> Bound:
    """Return a target as a plain function of plain arguments; modules are initialised abstractly.

    The result knows which leaves of the arguments are parameters.
    """
    bindings = (adapter(fn, args, kwargs, params_argnums) for adapter in _ADAPTERS)
    return next(bound for bound in bindings if bound is not None)


def scope_context(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AbstractContextManager[None] | None:
    """Return a context in which each call of a layer of nnx, equinox or torch adds its path to jax's name stack.

    None if none of these libraries is loaded. Traces in the context have a cache of their own for each target: another
    target may call the same jitted function from other layers, and a cached trace would have the paths of the first
    target.
    """
    described = (nnx.library(), equinox.library(), pytorch.library())
    libraries = [library for library in described if library]
    return _apart(libraries, fn, args, kwargs) if libraries else None


def own_package(fn: Any) -> str:
    """Return the folder or file of the installed package that defines a target: it is the user's own, or "".

    A target of a framework or of jax has no such package: the user's lines are those that call it.
    """
    # A bound method of a module is the module's: flax defines `model.apply`, and the user the class of `model`.
    for _ in range(_DEEPEST):
        inner = _wrapped(fn)
        if getattr(fn, "__self__", None) is not None or inner is None:
            break
        fn = inner
    owner = getattr(fn, "__self__", None)
    fn = fn if owner is None else owner
    defined = fn if inspect.isfunction(fn) or inspect.isclass(fn) else class_of(fn)
    name = str(getattr(defined, "__module__", "")).partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name in _LIBRARIES or not (is_installed(file) and _jax.is_user_file(file)):
        return ""
    return f"{os.path.dirname(file)}{os.sep}" if hasattr(sys.modules[name], "__path__") else file


def _wrapped(fn: Any) -> Any:
    """Return the function that a partial or a decorated function calls; None for any other target."""
    return fn.func if isinstance(fn, functools.partial) else getattr(fn, "__wrapped__", None)


def is_module(leaf: Any) -> bool:
    """Return whether a value is a module of torch, whose `repr` may have a thousand lines."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(leaf, torch.nn.Module)


def abstract(leaf: Any) -> Any:
    """Return the shape and dtype of a tensor of torch; return any other leaf unchanged."""
    torch = sys.modules.get("torch")
    return shape_of(leaf) if torch is not None and isinstance(leaf, torch.Tensor) else leaf


@contextmanager
def _apart(
    libraries: Sequence[ModuleLibrary], fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Generator[None]:
    bases = tuple(library.base for library in libraries)
    leaves = pytrees.leaves((args, dict(kwargs)), is_leaf=lambda x: isinstance(x, bases) or is_optax(x))
    roots = Counter(class_of(leaf) for leaf in leaves if isinstance(leaf, bases))
    target = getattr(fn, "__wrapped__", fn) if isinstance(fn, bases) else fn
    target = class_of(target) if isinstance(target, bases) else target
    key = (_number(target), *sorted(_number(cls) for cls in roots))
    twins = [cls for cls, number in roots.items() if number > 1]
    fixed = [library for library in libraries if not library.rebuilt]
    modules = [(library, module) for library in fixed for module in pytorch.modules_of(fn, args, kwargs)]
    with layer_scopes(libraries, twins, modules), _jax.separate_trace_cache(key), ExitStack() as others:
        for library in libraries:
            others.enter_context(library.context())
        yield


def _number(key: Any) -> int:
    """Return a number for a function or class that stays the same as long as the object lives."""
    try:
        return _NUMBERS.setdefault(key, next(_NEXT))
    except TypeError:  # the object has no hash, or no weak reference to it is possible
        return next(_NEXT)
