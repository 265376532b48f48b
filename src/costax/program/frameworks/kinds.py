"""The module class of each scope. Other tools count by module class, where costax counts equations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from costax import _jax

Kinds = dict[tuple[str, ...], str]

_COLLECTED: ContextVar[Kinds | None] = ContextVar("kinds", default=None)


@contextmanager
def collected() -> Generator[Kinds]:
    """Return a context that collects the class name of every module that is called in it, by scope."""
    kinds: Kinds = {}
    token = _COLLECTED.set(kinds)
    try:
        with ExitStack() as stack:
            for name, library in (("flax.linen", "flax.linen"), ("haiku", "haiku")):
                if name in sys.modules:
                    stack.enter_context(sys.modules[library].intercept_methods(_intercepted))
            yield kinds
    finally:
        _COLLECTED.reset(token)


def note(module: Any) -> None:
    """Record the class of a module for the current scope."""
    kinds = _COLLECTED.get()
    scope = _jax.current_scope() if kinds is not None else ()
    if kinds is not None and scope:
        kinds.setdefault(scope, type(module).__name__)


def _intercepted(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name == "__call__":
        note(context.module)
    return call(*args, **kwargs)
