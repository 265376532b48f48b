"""A program that is being mutated: its arguments leaf by leaf, its size, and the table of mutations."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct

# What compiles in less than a second: equations, elements of one array, and loops inside loops.
_MOST_EQUATIONS, _MOST_ELEMENTS, _DEEPEST = 150, 20_000, 3
F32 = jnp.float32


class Draft(NamedTuple):
    """A program: what was done to it, the function, and its abstract arguments."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]


Mutation = Callable[[random.Random, Draft], tuple[Callable[..., Any], tuple[Any, ...]]]
MUTATIONS: dict[str, Mutation] = {}
"""Name to mutation, a function of the random numbers and the draft; the other files of this package fill it."""


class DoesNotApplyError(Exception):
    """A mutation has nothing to change in a program."""


def mutation(fn: Mutation) -> Mutation:
    """Register a mutation under its name."""
    MUTATIONS[fn.__name__.strip("_")] = fn
    return fn


# Size.


@contextlib.contextmanager
def warnings_ignored() -> Iterator[None]:
    """Ignore what jax and libraries warn of; the tests make errors of warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_small(draft: Draft) -> bool:
    """Say whether a program does something, and compiles in about a second."""
    with warnings_ignored():
        jaxpr = jax.make_jaxpr(draft.fn)(*draft.args).jaxpr
    return bool(jaxpr.eqns) and _size(jaxpr, 0) <= _MOST_EQUATIONS


def _size(jaxpr: Any, depth: int) -> int:
    """Return how many equations a jaxpr has, with those in it; too many where it does not compile, or takes long."""
    # jax lowers no forward-mode derivative of a custom_vjp, and says so after tracing.
    if any(eqn.primitive.name == "custom_lin" for eqn in jaxpr.eqns):
        return _MOST_EQUATIONS + 1
    sizes = [var.aval.size for eqn in jaxpr.eqns for var in eqn.outvars if hasattr(var.aval, "size")]
    if depth > _DEEPEST or max(sizes, default=0) > _MOST_ELEMENTS:
        return _MOST_EQUATIONS + 1
    return sum(1 + _inner_size(eqn, depth) for eqn in jaxpr.eqns)


def _inner_size(eqn: Any, depth: int) -> int:
    inner = depth + (eqn.primitive.name in ("while", "scan", "cond"))
    return sum(_size(each, inner) for value in eqn.params.values() for each in _jaxprs(value))


def _jaxprs(value: Any) -> Iterator[Any]:
    for each in value if isinstance(value, tuple | list) else (value,):
        each = getattr(each, "jaxpr", each)
        if hasattr(each, "eqns"):
            yield each


# Leaves of arguments and results.


def is_float(x: Any) -> bool:
    """Say whether an array or a number is floating-point."""
    return jnp.issubdtype(getattr(x, "dtype", type(x)), jnp.floating)


def leaves_of(draft: Draft, accept: Callable[[Any], bool] = is_float) -> tuple[list[Any], list[int], Any]:
    """Return the leaves of the arguments, the places of those that are accepted, and the tree."""
    leaves, tree = jax.tree.flatten(draft.args)
    places = [i for i, leaf in enumerate(leaves) if accept(leaf)]
    if not places:
        raise DoesNotApplyError
    return leaves, places, tree


def on_leaves(draft: Draft) -> Callable[..., Any]:
    """Return the program as a function of the leaves of its arguments."""
    tree = jax.tree.structure(draft.args)
    return lambda *leaves: draft.fn(*jax.tree.unflatten(tree, leaves))


def on_floats(draft: Draft) -> tuple[Callable[[list[Any], Any], Any], list[int]]:
    """Return the program as a function of its floating-point leaves and of all leaves, and the places of the former."""
    _, places, tree = leaves_of(draft)

    def call(floats: list[Any], leaves: Any) -> Any:
        leaves = list(leaves)
        for i, value in zip(places, floats, strict=True):
            leaves[i] = value
        return draft.fn(*jax.tree.unflatten(tree, leaves))

    return call, places


def summed(result: Any) -> Any:
    """Return the sum of all floating-point results, in f32."""
    floats = [x for x in jax.tree.leaves(result) if is_float(x)]
    if not floats:
        raise DoesNotApplyError
    return sum(jnp.asarray(x, F32).sum() for x in floats)


def scalar_of(draft: Draft) -> tuple[Callable[[list[Any], Any], Any], list[int]]:
    """Return the sum of the results, a function as that of `on_floats`, and the places of the floating-point leaves."""
    call, places = on_floats(draft)
    return lambda floats, leaves: summed(call(floats, leaves)), places


def pick(values: Any, places: Iterable[int]) -> list[Any]:
    """Return the values at some places."""
    return [values[i] for i in places]


def widened(leaf: Any, axis: int, n: int) -> ShapeDtypeStruct:
    """Return the shape and dtype with one more axis."""
    return ShapeDtypeStruct((*leaf.shape[:axis], n, *leaf.shape[axis:]), leaf.dtype)


def fitted(result: Any, like: Any) -> Any:
    """Return the floating-point results in the shape of another array: repeated or cut."""
    flat = jnp.concatenate([jnp.ravel(x).astype(like.dtype) for x in jax.tree.leaves(result) if is_float(x)])
    return jnp.resize(flat, like.shape)
