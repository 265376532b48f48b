"""The module class and the output shape of each scope.

Other tools count by module class, where costax counts equations. The table by module shows both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from costax import _jax
from costax._jax import pytrees

Kinds = dict[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules that a program calls, by scope.

    kinds: the class name. outputs: the output shape as text. leaves: modules of torch without modules inside.
    operations: the names of torch's operations and functions; empty for a program of another library.
    """

    kinds: Kinds = field(default_factory=Kinds)
    outputs: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    leaves: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    operations: dict[tuple[str, ...], set[str]] = field(default_factory=dict[tuple[str, ...], set[str]])


_COLLECTED: ContextVar[Modules | None] = ContextVar("modules", default=None)


@contextmanager
def collected() -> Generator[Modules]:
    """Return a context that collects every module that is called in it."""
    modules = Modules()
    token = _COLLECTED.set(modules)
    try:
        with ExitStack() as stack:
            for name, library in (("flax.linen", "flax.linen"), ("haiku", "haiku")):
                if name in sys.modules:
                    stack.enter_context(sys.modules[library].intercept_methods(_intercepted))
            yield modules
    finally:
        _COLLECTED.reset(token)


def called(module: Any, call: Callable[[], Any], *, leaf: bool = False) -> Any:
    """Call a module; record its class and the shape of its result for the current scope, if it is the first call."""
    modules = _COLLECTED.get()
    if modules is None:
        return call()
    scope = _jax.current_scope()
    modules.kinds.setdefault(scope, type(module).__name__)
    if leaf:
        modules.leaves.add(scope)
    result = call()
    if scope not in modules.outputs:
        modules.outputs[scope] = next(_shapes(result), "")
    return result


def performed(operation: str) -> None:
    """Record the name of an operation of torch for the current scope."""
    modules = _COLLECTED.get()
    if modules is not None:
        modules.operations.setdefault(_jax.current_scope(), set()).add(operation)


def _shapes(result: Any) -> Iterator[str]:
    """Yield the shape of each array in a result, outermost first."""
    if pytrees.is_array(result):
        yield f"[{', '.join(map(str, result.shape))}]"
    elif isinstance(result, Mapping):
        for inner in cast("Mapping[Any, Any]", result).values():
            yield from _shapes(inner)
    else:
        leaves = pytrees.leaves(result)
        for inner in leaves if len(leaves) != 1 or leaves[0] is not result else ():
            yield from _shapes(inner)


def _intercepted(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name != "__call__":
        return call(*args, **kwargs)
    return called(context.module, partial(call, *args, **kwargs))
