"""Mutations: other arguments and other results."""

from __future__ import annotations

import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct, lax

from mutations.drafts import F32, DoesNotApplyError, Draft, fitted, is_float, leaves_of, mutation, on_leaves, pick


@mutation
def _tree_of_results(rng: random.Random, draft: Draft) -> Any:
    fn = on_leaves(draft)

    def tree(*leaves: Any) -> Any:
        result = jax.tree.leaves(fn(*leaves))
        sums = [x.sum() for x in result if is_float(x)]
        return {"first": result[0], "again": (result[0], *result), "sums": sums, "argument": leaves[-1], "one": 1.0}

    return tree, tuple(jax.tree.leaves(draft.args))


@mutation
def _unused_arguments(rng: random.Random, draft: Draft) -> Any:
    fn = on_leaves(draft)

    def some_unused(unused: Any, *leaves: Any) -> Any:
        wasted = jnp.sin(unused["a"]) @ unused["a"].T
        del wasted
        return fn(*leaves)

    unused = {"a": ShapeDtypeStruct((3, 5), F32), "b": ShapeDtypeStruct((2,), jnp.int32)}
    return some_unused, (unused, *jax.tree.leaves(draft.args))


@mutation
def _some_results_unused(rng: random.Random, draft: Draft) -> Any:
    fn, args = on_leaves(draft), tuple(jax.tree.leaves(draft.args))
    n = len(jax.tree.leaves(jax.eval_shape(fn, *args)))
    if n < 2:
        raise DoesNotApplyError
    kept = sorted(rng.sample(range(n), rng.randint(1, n - 1)))
    return lambda *leaves: pick(jax.tree.leaves(fn(*leaves)), kept), args


@mutation
def _donated(rng: random.Random, draft: Draft) -> Any:
    """Donate every argument whose shape a result has."""
    fn, args = on_leaves(draft), tuple(jax.tree.leaves(draft.args))
    shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(jax.eval_shape(fn, *args))]
    donated: list[int] = []
    for i, leaf in enumerate(args):
        if (leaf.shape, leaf.dtype) in shapes:
            shapes.remove((leaf.shape, leaf.dtype))
            donated.append(i)
    if not donated:
        raise DoesNotApplyError
    return jax.jit(fn, donate_argnums=tuple(donated)), args


@mutation
def _constants(rng: random.Random, draft: Draft) -> Any:
    """Put constants in the place of some arguments."""
    leaves, places, _ = leaves_of(draft, lambda leaf: leaf.dtype in (F32, jnp.int32) and leaf.size > 0)
    if len(leaves) < 2:
        raise DoesNotApplyError
    chosen = rng.sample(places, rng.randint(1, min(len(places), len(leaves) - 1)))
    kind = rng.choice(("ones", "range"))
    fixed = {i: _constant(leaves[i], kind) for i in chosen}
    fn, free = on_leaves(draft), [i for i in range(len(leaves)) if i not in fixed]

    def called(*given: Any) -> Any:
        values = fixed | dict(zip(free, given, strict=True))
        return fn(*pick(values, range(len(leaves))))

    return called, tuple(pick(leaves, free))


def _constant(leaf: Any, kind: str) -> Any:
    if kind == "ones":
        return jnp.ones(leaf.shape, leaf.dtype)
    return jnp.asarray(np.resize(np.linspace(0, 1.7, leaf.size), leaf.shape), leaf.dtype)


@mutation
def _arguments_made_inside(rng: random.Random, draft: Draft) -> Any:
    """Make one argument of others: a reshaped iota, or the first argument again."""
    leaves, places, _ = leaves_of(draft)
    if len(leaves) < 2:
        raise DoesNotApplyError
    chosen, fn = rng.choice(places), on_leaves(draft)
    spec = leaves[chosen]
    again = rng.random() < 0.5

    def called(*given: Any) -> Any:
        floats = [x for x in given if is_float(x)]
        own = fitted(floats[:1], spec) if floats and again else jnp.arange(spec.size).reshape(spec.shape)
        return fn(*given[:chosen], jnp.sqrt(own.astype(spec.dtype)), *given[chosen:])

    return called, tuple(leaves[:chosen] + leaves[chosen + 1 :])


@mutation
def _barrier(rng: random.Random, draft: Draft) -> Any:
    fn = on_leaves(draft)

    def guarded(*leaves: Any) -> Any:
        return lax.optimization_barrier(fn(*lax.optimization_barrier(leaves)))

    return guarded, tuple(jax.tree.leaves(draft.args))
