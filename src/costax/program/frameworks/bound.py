"""Bound: a target as a plain function of plain arguments, and helpers that build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costax._jax import pytrees


@dataclass(frozen=True, slots=True)
class Bound:
    """A target as a plain function of plain arguments.

    parameters: a function that returns whether a path in `(args, kwargs)`, such as `0/0/params/w`, is a parameter; None
    if that is not known. eager: the library calls the target outside of `jit`, where Python numbers are not arrays, so
    they become constants. module: the target is or contains a module, so its results need not be arrays.
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
    """Return whether a pytree node is a state of optax. Modules inside such a state are moments, not parameters."""
    return type(node).__module__.partition(".")[0] == "optax"


def within(*prefixes: str) -> Callable[[str], bool]:
    """Return a function that tests whether a path is at or below one of the prefixes.

    >>> test = within("0/0/params")
    >>> test("0/0/params/w"), test("0/0/params"), test("0/0/params_ema/w")
    (True, True, False)
    """
    starts = tuple(f"{prefix}/" for prefix in prefixes)
    return lambda path: f"{path}/".startswith(starts)


def arguments(numbers: int | Sequence[int], count: int) -> Callable[[str], bool]:
    """Return a function that tests whether a path belongs to one of these positional arguments.

    numbers: positions; negative numbers count from the end. count: how many positional arguments there are.
    """
    chosen = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    return within(*(f"0/{number % count if count else number}" for number in chosen))


def abstract_init(init: Callable[..., Any], key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the shapes of `init(key, *args, **kwargs)` without running it; other arguments than arrays stay values."""
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if pytrees.is_array(leaf)}

    def initialise(key: Any, arrays: Mapping[int, Any]) -> Any:
        arguments, named = pytrees.unflatten(tree, [arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
        return init(key, *arguments, **named)

    return pytrees.shapes_of(initialise, key, arrays)
