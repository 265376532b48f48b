"""Bound: a target as a plain function of plain arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax._jax import pytrees


@dataclass(frozen=True, slots=True)
class Bound:
    """A target as a plain function of plain arguments.

    parameters: says of a leaf's path in `(args, kwargs)` (such as `0/0/params/w`) whether it is a parameter; None
    where nobody knows. eager: the target is called as its library calls it outside `jit`, where Python numbers are
    not arrays, so they are held static. module: it is or holds a module, so its results need not be arrays.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    parameters: Callable[[str], bool] | None = None
    eager: bool = False
    module: bool = False


def class_of(value: object) -> type[Any]:
    """Return the class of a value."""
    return type(value)


def is_optax(node: Any) -> bool:
    """Say whether a node of a pytree is a state of optax: what looks like a module in it is moments, not parameters."""
    return type(node).__module__.partition(".")[0] == "optax"


def within(*prefixes: str) -> Callable[[str], bool]:
    """Return a test for paths that lie at or below one of these.

    >>> test = within("0/0/params")
    >>> test("0/0/params/w"), test("0/0/params"), test("0/0/params_ema/w")
    (True, True, False)
    """
    starts = tuple(f"{prefix}/" for prefix in prefixes)
    return lambda path: f"{path}/".startswith(starts)


def arguments(numbers: int | Sequence[int], count: int) -> Callable[[str], bool]:
    """Return a test for the leaves of some positional arguments; negative numbers count from the end."""
    chosen = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    return within(*(f"0/{number % count if count else number}" for number in chosen))


def abstract_init(init: Callable[..., Any], key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the shapes of `init(key, *args, **kwargs)`; arguments that are not arrays are passed as they are."""
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if pytrees.is_array(leaf)}

    def initialise(key: Any, given: Mapping[int, Any]) -> Any:
        arguments, named = pytrees.unflatten(tree, [given.get(i, leaf) for i, leaf in enumerate(leaves)])
        return init(key, *arguments, **named)

    return pytrees.shapes_of(initialise, key, arrays)
