"""Mutations: other dtypes and shapes of the arguments."""

from __future__ import annotations

import random
from typing import Any

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct

from mutations.drafts import F32, DoesNotApplyError, Draft, is_float, leaves_of, mutation, on_leaves


@mutation
def _low_precision(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: leaf.dtype == F32)
    dtype = rng.choice((jnp.bfloat16, jnp.float16, jnp.bfloat16))
    chosen = places if rng.random() < 0.6 else rng.sample(places, rng.randint(1, len(places)))
    args = [ShapeDtypeStruct(x.shape, dtype) if i in chosen else x for i, x in enumerate(leaves)]
    return on_leaves(draft), tuple(args)


@mutation
def _mixed_precision(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: leaf.dtype == F32)
    fn, dtype = on_leaves(draft), rng.choice((jnp.bfloat16, jnp.float16))

    def cast(*leaves: Any) -> Any:
        result = fn(*[x.astype(dtype) if i in places else x for i, x in enumerate(leaves)])
        return jax.tree.map(lambda x: x.astype(F32) if is_float(x) else x, result)

    return cast, tuple(leaves)


@mutation
def _int8_weights(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: is_float(leaf) and leaf.ndim > 1)
    fn, chosen = on_leaves(draft), rng.choice(places)
    whole = leaves[chosen]

    def quantised(scale: Any, *leaves: Any) -> Any:
        weights = (leaves[chosen].astype(F32) * scale).astype(whole.dtype)
        return fn(*leaves[:chosen], weights, *leaves[chosen + 1 :])

    scale = ShapeDtypeStruct(whole.shape[-1:], F32)
    args = [ShapeDtypeStruct(whole.shape, jnp.int8) if i == chosen else x for i, x in enumerate(leaves)]
    return quantised, (scale, *args)


@mutation
def _other_integers(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: leaf.dtype == jnp.int32)
    dtype = rng.choice((jnp.int16, jnp.uint8, jnp.uint32))
    return on_leaves(draft), tuple(ShapeDtypeStruct(x.shape, dtype) if i in places else x for i, x in enumerate(leaves))


@mutation
def _other_extent(rng: random.Random, draft: Draft) -> Any:
    """Change one extent everywhere: what had it in common has it still."""
    leaves = jax.tree.leaves(draft.args)
    extents = sorted({n for leaf in leaves for n in leaf.shape if n > 1})
    if not extents:
        raise DoesNotApplyError
    old = rng.choice(extents)
    new = rng.choice([n for n in (1, 2, 3, old - 1, old + 1, 2 * old) if n and n != old])
    args = [ShapeDtypeStruct(tuple(new if n == old else n for n in x.shape), x.dtype) for x in leaves]
    return on_leaves(draft), tuple(args)


@mutation
def _one_leaf_wider(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: leaf.ndim > 0)
    chosen, factor = rng.choice(places), rng.choice((2, 3))
    axis = rng.randrange(leaves[chosen].ndim)
    shape = [n * factor if d == axis else n for d, n in enumerate(leaves[chosen].shape)]
    leaves[chosen] = ShapeDtypeStruct(tuple(shape), leaves[chosen].dtype)
    return on_leaves(draft), tuple(leaves)
