"""What a call returns: functions whose call computes nothing, and results whose arrays jax would not see.

Nothing that reads such a result would keep the work of its arrays: it would count as dead code, and the program as 0.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, cast

from costax import _jax
from costax._jax import pytrees
from costax.errors import InputError

# How deep in objects of other classes arrays are looked for.
_DEPTH: Final = 3
# A call of such a function only makes an object that would compute when something iterates over it or awaits it.
_LAZY: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("an async function", inspect.iscoroutinefunction),
    ("an async generator function", inspect.isasyncgenfunction),
    ("a generator function", inspect.isgeneratorfunction),
)


def check_computes(fn: Any, name: str) -> None:
    """Raise InputError for an async function or a generator function, without a call."""
    if _jax.is_jitted(fn):
        fn = inspect.unwrap(fn)
    function: Any = fn
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    if not inspect.isroutine(function):
        function = getattr(cast("Any", type(function)), "__call__", function)  # noqa: B004
    kind = next((kind for kind, applies in _LAZY if applies(function)), "")
    if kind:
        code = getattr(function, "__code__", None)
        raise InputError(
            f"`{name}` is {kind}: a call of it computes nothing.",
            where=f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "",
            why="jax traces what one call computes, so everything in it would count as 0.",
            cure="Pass a plain function with the same computation, without async and yield.",
        )


def arrays_of(result: Any, name: str) -> list[Any]:
    """Return the arrays and numbers of a result; strings, functions and other constants are left out.

    Raises InputError if an object that jax does not know as a container holds arrays, or would make them later.
    """
    leaves: list[Any] = pytrees.leaves(result)
    arrays = [x for x in leaves if pytrees.is_array(x) or isinstance(x, (bool, int, float, complex))]
    for leaf in leaves if len(arrays) < len(leaves) else ():
        if inspect.iscoroutine(leaf):
            leaf.close()
        is_lazy = hasattr(leaf, "__next__") or hasattr(leaf, "__await__") or hasattr(leaf, "__anext__")
        if is_lazy or (not pytrees.is_array(leaf) and _holds_tracers(leaf, _DEPTH)):
            kind = type(leaf).__qualname__
            raise InputError(
                f"`{name}` returns a value of type {kind}, which jax does not know as a container of arrays.",
                why="The work of the arrays in it would count as dead code.",
                cure="Return the arrays, or a tuple or dict of them"
                + ("." if is_lazy else f", or register the class: jax.tree_util.register_dataclass({kind})."),
            )
    return arrays


def _holds_tracers(value: Any, depth: int) -> bool:
    if _jax.is_tracer(value):
        return True
    return depth > 0 and any(_holds_tracers(leaf, depth - 1) for part in _parts(value) for leaf in pytrees.leaves(part))


def _parts(value: Any) -> Iterator[Any]:
    """Yield what an object that is no container of jax holds: attributes, or the variables of a function's closure."""
    if isinstance(value, type | ModuleType):
        return
    holder: Any = value
    if isinstance(value, functools.partial):
        yield from (holder.args, holder.keywords)
    yield from list(getattr(holder, "__dict__", {}).values())
    for base in type(holder).__mro__:
        slots = vars(base).get("__slots__", ())
        yield from (getattr(holder, name, None) for name in ((slots,) if isinstance(slots, str) else slots))
    for cell in getattr(holder, "__closure__", None) or ():
        # An empty cell has no contents.
        yield getattr(cell, "cell_contents", None)
