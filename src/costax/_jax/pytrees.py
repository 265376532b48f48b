"""Pytrees: jax's functions with type annotations, and paths of leaves as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

_tree: Any = jax.tree
_tree_util: Any = jax.tree_util
_jax: Any = jax
IsLeaf = Callable[[Any], bool]


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], Any]:
    """Return the leaves of a pytree and its structure."""
    return _tree.flatten(tree, is_leaf)


def unflatten(structure: Any, leaves: Iterable[Any]) -> Any:
    """Return the pytree of a structure and its leaves."""
    return _tree.unflatten(structure, leaves)


def leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """Return the leaves of a pytree."""
    return _tree.leaves(tree, is_leaf)


def leaf_paths(tree: Any, is_leaf: IsLeaf | None = None) -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) of a pytree.

    >>> list(leaf_paths({"layer": [1, 2]}))
    [('layer/0', 1), ('layer/1', 2)]
    """
    for path, leaf in _tree_util.tree_flatten_with_path(tree, is_leaf)[0]:
        yield _tree_util.keystr(path, simple=True, separator="/"), leaf


def items(mapping: Any) -> Iterable[tuple[Any, Any]]:
    """Return the (key, value) pairs of an untyped mapping."""
    return mapping.items()


def shapes_of(function: Callable[..., Any], *args: Any) -> Any:
    """Return the shapes and dtypes of a function's results, without running the function."""
    return _jax.eval_shape(function, *args)


def is_array(leaf: Any) -> bool:
    """Say whether a leaf is an array or describes one: it has a shape and a dtype, and is not a class."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)


def random_key(implementation: str | None = None) -> Any:
    """Return the shape and dtype of a typed PRNG key, by default of jax's default implementation."""
    return shapes_of(lambda: jax.random.key(0, impl=implementation))


def shaped(leaf: Any) -> Any:
    """Return the shape and dtype of an array or a tracer; return any other leaf unchanged."""
    return _jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array(leaf) else leaf
