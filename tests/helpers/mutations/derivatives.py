"""Mutations: the transformations of jax."""

from __future__ import annotations

import random
from typing import Any

import jax
import jax.numpy as jnp

from mutations.drafts import (
    DoesNotApplyError,
    Draft,
    leaves_of,
    mutation,
    on_floats,
    on_leaves,
    pick,
    scalar_of,
    summed,
    widened,
)


@mutation
def _vmap(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: True)
    batched = set(rng.sample(places, rng.randint(1, len(places))))
    n, back = rng.randint(2, 4), rng.random() < 0.3
    fn = on_leaves(draft)
    axes = [(leaf.ndim if back else 0) if i in batched else None for i, leaf in enumerate(leaves)]
    args = [leaf if axis is None else widened(leaf, axis, n) for leaf, axis in zip(leaves, axes, strict=True)]
    return jax.vmap(fn, tuple(axes)), tuple(args)


@mutation
def _grad(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    return lambda *leaves: jax.grad(scalar)(pick(leaves, places), leaves), tuple(jax.tree.leaves(draft.args))


@mutation
def _value_and_grad(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    rate = rng.choice((0.1, 1e-3))

    def step(*leaves: Any) -> Any:
        value, slopes = jax.value_and_grad(scalar)(pick(leaves, places), leaves)
        return value, [x - (rate * g).astype(x.dtype) for x, g in zip(pick(leaves, places), slopes, strict=True)]

    return step, tuple(jax.tree.leaves(draft.args))


@mutation
def _jvp(rng: random.Random, draft: Draft) -> Any:
    call, places = on_floats(draft)

    def tangent(*leaves: Any) -> Any:
        floats = pick(leaves, places)
        return jax.jvp(lambda floats: call(floats, leaves), (floats,), ([jnp.cos(x) for x in floats],))

    return tangent, tuple(jax.tree.leaves(draft.args))


@mutation
def _vjp(rng: random.Random, draft: Draft) -> Any:
    call, places = on_floats(draft)

    def cotangent(*leaves: Any) -> Any:
        result, back = jax.vjp(lambda floats: call(floats, leaves), pick(leaves, places))
        return result, back(result)

    return cotangent, tuple(jax.tree.leaves(draft.args))


@mutation
def _jacobian(rng: random.Random, draft: Draft) -> Any:
    call, places = on_floats(draft)
    leaves = jax.tree.leaves(draft.args)
    chosen = min(places, key=lambda i: leaves[i].size)
    if leaves[chosen].size > 12:
        raise DoesNotApplyError
    mode = rng.choice((jax.jacfwd, jax.jacrev))

    def jacobian(*leaves: Any) -> Any:
        def of_one(x: Any) -> Any:
            return call([x if i == chosen else leaves[i] for i in places], leaves)

        return mode(of_one)(leaves[chosen])

    return jacobian, tuple(leaves)


@mutation
def _hessian_vector_product(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    forward_over_reverse = rng.random() < 0.7

    def product(*leaves: Any) -> Any:
        floats = pick(leaves, places)
        slope = jax.grad(lambda floats: scalar(floats, leaves))
        if forward_over_reverse:
            return jax.jvp(slope, (floats,), (floats,))[1]
        return jax.grad(lambda floats: summed([(a * b) for a, b in zip(slope(floats), floats, strict=True)]))(floats)

    return product, tuple(jax.tree.leaves(draft.args))


@mutation
def _linearize(rng: random.Random, draft: Draft) -> Any:
    call, places = on_floats(draft)

    def twice(*leaves: Any) -> Any:
        floats = pick(leaves, places)
        _, linear = jax.linearize(lambda floats: call(floats, leaves), floats)
        return linear(floats), linear([x * 2 for x in floats])

    return twice, tuple(jax.tree.leaves(draft.args))


@mutation
def _checkpoint_gradient(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    policies = jax.checkpoint_policies
    policy = rng.choice(
        (
            None,
            policies.dots_saveable,
            policies.nothing_saveable,
            policies.everything_saveable,
            policies.dots_with_no_batch_dims_saveable,
        )
    )
    stages = rng.randint(1, 2)

    def loss(floats: list[Any], leaves: Any) -> Any:
        remat = jax.checkpoint(scalar, policy=policy)
        total = remat(floats, leaves)
        for _ in range(stages - 1):
            total = total * remat([(x * jnp.tanh(total)).astype(x.dtype) for x in floats], leaves)
        return total

    return lambda *leaves: jax.grad(loss)(pick(leaves, places), leaves), tuple(jax.tree.leaves(draft.args))
