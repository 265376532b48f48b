"""The table of programs to mutate."""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Callable
from typing import Any

import jax

import costax
from corpus import abstract
from corpus import programs as corpus_programs
from mutations.drafts import Draft, is_small, warnings_ignored

SOURCES: dict[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]] = {}
"""Name to a function that makes a program and its arguments; `examples`, `libraries` and the corpus fill it."""


def source(name: str, needs: str = "") -> Callable[[Any], Any]:
    """Register a function that makes a program, where the modules that it needs are installed."""

    def register(make: Any) -> Any:
        if all(importlib.util.find_spec(module) for module in needs.split()):
            SOURCES[name] = make
        return make

    return register


@functools.cache
def sources() -> tuple[str, ...]:
    """Return the names of every program that can be mutated."""
    for each in corpus_programs(devices=1):
        if each.family not in ("sharded", "kernels") and all(map(importlib.util.find_spec, each.needs)):
            SOURCES[each.name] = each.make
    return tuple(sorted(SOURCES))


@functools.cache
def made(name: str) -> Draft | None:
    """Return a program to mutate; None where its module is not installed."""
    try:
        with warnings_ignored():
            fn, args = SOURCES[name]()
    except ModuleNotFoundError:
        return None
    return Draft(name, fn, abstract(args))


def random_source(rng: random.Random) -> Draft:
    """Return a program of a random family: half of the corpus are one-line expressions of one family."""
    family = rng.choice(sorted({_family(name) for name in sources()}))
    names = [name for name in sources() if _family(name) == family]
    rng.shuffle(names)
    return next(draft for name in names if (draft := made(name)) is not None and is_small(draft))


def _family(name: str) -> str:
    return name.split("/")[0]


def linen(module: Any, spec: str, **options: Any) -> Any:
    """Return the `apply` of a module of flax.linen, and the shapes of its variables and of its argument."""
    x = costax.spec(spec)
    variables = jax.eval_shape(lambda key, x: module.init(key, x, **options), costax.spec("u32[2]"), x)
    return lambda variables, x: module.apply(variables, x, **options), (variables, x)
