"""Paths of the arguments of a `jax.stages.Traced`, from its tree and from the names that jax gave them.

`Traced.args_info` would rebuild the classes of the user with other leaves than arrays, which a class that checks its
fields refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

# A step in a name of jax: `.w`, `['layer']` or `[0]`, and `[<flat index 0>]` for a class without names.
_STEP = re.compile(r"""\.(\w+)|\['([^']*)'\]|\["([^"]*)"\]|\[(\d+)\]|\[<flat index (\d+)>\]""")


def argument_count(traced: Any) -> int:
    """Return how many positional arguments a traced function has."""
    return len(traced._in_tree.children()[0].children())


def leaf_count(traced: Any) -> int:
    """Return how many arrays the arguments of a traced function have."""
    return traced._in_tree.num_leaves


def argument_paths(traced: Any) -> list[str]:
    """Return the path of each array: `0/1/layer/w` in the second argument, `1/x/w` in the keyword argument `x`."""
    every: Sequence[str | None] = traced.jaxpr.jaxpr.debug_info.arg_names
    count = leaf_count(traced)
    # The names of constants come first.
    names = every[len(every) - count :] if len(every) >= count else repeat(None, count)
    return ["/".join(_named(path, name)) for path, name in zip(_paths(traced._in_tree), names, strict=True)]


def donated_leaves(traced: Any) -> list[bool]:
    """Return whether each array among the arguments is donated."""
    every: Sequence[bool] = traced._params["donated_invars"]
    return [bool(flag) for flag in every[len(every) - leaf_count(traced) :]]


def _paths(tree: Any) -> Iterator[tuple[str, ...]]:
    """Yield the path of each leaf: keys of dictionaries, else positions."""
    node, children = tree.node_data(), tree.children()
    if node is None:
        return iter([()] * tree.num_leaves)
    kind, data = node
    keys = data if kind is dict else range(len(children))
    return chain.from_iterable(
        ((str(key), *path) for path in _paths(child)) for key, child in zip(keys, children, strict=True)
    )


def _named(path: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    """Return a path with jax's names for the steps inside the argument: fields of a class have a name only there."""
    # The first two steps are the argument: (0, 1) is `args[1]`.
    steps = ["".join(groups) for groups in _STEP.findall(name or "")]
    inside = len(path) - 2
    return path if inside <= 0 or len(steps) < inside else (*path[:2], *steps[-inside:])
