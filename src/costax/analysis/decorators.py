"""`costax.budget`: a decorator that checks the cost of a function before the function runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from costax._jax import pytrees
from costax.analysis.analyze import analyze
from costax.analysis.budgets import Budget, check

_P = ParamSpec("_P")
_R = TypeVar("_R")


def budget(
    *, params_argnums: int | tuple[int, ...] | None = None, **limits: int | str | None
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that checks the cost of a function before the first call with each set of argument shapes.

    A call over the budget raises BudgetError and does not run the function.

    Args:
        params_argnums: The positional arguments that are parameters.
        limits: The fields of `Budget`.

    Raises UnitError for a limit that is not a number.
    """
    allowed = Budget(**limits)
    allowed.limits()

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        seen: set[Any] = set()

        @wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            leaves, tree = pytrees.flatten((args, kwargs))
            shapes = [pytrees.shaped(leaf) for leaf in leaves]
            key = (str(tree), tuple(map(str, shapes)))
            if key not in seen:
                positional, keyword = pytrees.unflatten(tree, shapes)
                check(analyze(function, params_argnums=params_argnums)(*positional, **keyword), allowed)
                seen.add(key)
            return function(*args, **kwargs)

        return checked

    return decorate
