"""Modules of the neural-network libraries: their parameters, and one scope per layer while tracing.

No library is imported here: a module is recognised by the libraries that are loaded already.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from costax import _jax
from costax._jax import pytrees
from costax.program.frameworks import equinox, haiku, linen, nnx, plain
from costax.program.frameworks.bound import Bound, arguments, class_of, is_optax
from costax.program.frameworks.kinds import Kinds, collected
from costax.program.frameworks.scopes import Library, layer_scopes

__all__ = ["Bound", "Kinds", "arguments", "bind", "collected", "is_library_file", "scopes"]

# Each returns None for a target that is not its own.
_ADAPTERS = (linen.bind, haiku.bind, nnx.bind, equinox.bind, plain.bind)
_LIBRARIES = ("flax", "equinox", "haiku", "optax")
_NUMBERS: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_NEXT = count()


def bind(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None) -> Bound:
    """Return the target as a plain function: modules are initialised abstractly, and know their parameters."""
    found = (adapter(fn, args, kwargs, params_argnums) for adapter in _ADAPTERS)
    return next(bound for bound in found if bound is not None)


def scopes(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AbstractContextManager[None] | None:
    """Return a context in which the layers of nnx and equinox put their paths on the name stack; None without them.

    jax caches what is traced in it apart from the caller's own traces, by target: another target may call the same
    jitted function from other layers.
    """
    libraries = [library for library in (nnx.library(), equinox.library()) if library]
    return _apart(libraries, fn, args, kwargs) if libraries else None


def is_library_file(filename: str) -> bool:
    """Say whether a file belongs to one of the libraries and not to who uses them."""
    folders = [folder for name in _LIBRARIES if name in sys.modules for folder in sys.modules[name].__path__]
    return filename.startswith(tuple(f"{folder}{os.sep}" for folder in folders))


@contextmanager
def _apart(libraries: Sequence[Library], fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Generator[None]:
    bases = tuple(library.base for library in libraries)
    leaves = pytrees.leaves((args, dict(kwargs)), is_leaf=lambda x: isinstance(x, bases) or is_optax(x))
    roots = Counter(class_of(leaf) for leaf in leaves if isinstance(leaf, bases))
    target = getattr(fn, "__wrapped__", fn) if isinstance(fn, bases) else fn
    target = class_of(target) if isinstance(target, bases) else target
    key = (_number(target), *sorted(_number(cls) for cls in roots))
    twins = [cls for cls, number in roots.items() if number > 1]
    with layer_scopes(libraries, twins), _jax.separate_trace_cache(key):
        yield


def _number(key: Any) -> int:
    """Return a number that stands for a function or class as long as it lives."""
    try:
        return _NUMBERS.setdefault(key, next(_NEXT))
    except TypeError:  # it cannot be hashed, or not referred to weakly
        return next(_NEXT)
