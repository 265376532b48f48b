"""Which class of module each scope is a call of: what other tools look at where costax looks at the equations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from costax import _jax

Kinds = dict[tuple[str, ...], str]

_FOUND: ContextVar[Kinds | None] = ContextVar("kinds", default=None)


@contextmanager
def collected() -> Generator[Kinds]:
    """Return the class names by scope of the modules that are called while the context is open."""
    found: Kinds = {}
    token = _FOUND.set(found)
    try:
        with ExitStack() as stack:
            for name, library in (("flax.linen", "flax.linen"), ("haiku", "haiku")):
                if name in sys.modules:
                    stack.enter_context(sys.modules[library].intercept_methods(_intercepted))
            yield found
    finally:
        _FOUND.reset(token)


def note(module: Any) -> None:
    """Note that the current scope is a call of a module."""
    found = _FOUND.get()
    scope = _jax.current_scope() if found is not None else ()
    if found is not None and scope:
        found.setdefault(scope, type(module).__name__)


def _intercepted(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name == "__call__":
        note(context.module)
    return call(*args, **kwargs)
