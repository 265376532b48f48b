"""Mutations: loops around a program, and branches with it."""

from __future__ import annotations

import random
from typing import Any

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct, lax

from mutations.drafts import F32, Draft, is_float, leaves_of, mutation, on_leaves, pick, scalar_of, summed, widened


@mutation
def _map(rng: random.Random, draft: Draft) -> Any:
    leaves, places, _ = leaves_of(draft, lambda leaf: True)
    stacked = rng.sample(places, rng.randint(1, len(places)))
    n, fn = rng.randint(2, 5), on_leaves(draft)
    args = [widened(leaf, 0, n) if i in stacked else leaf for i, leaf in enumerate(leaves)]

    def mapped(*leaves: Any) -> Any:
        def one(rows: Any) -> Any:
            return fn(*[rows.get(i, leaf) for i, leaf in enumerate(leaves)])

        return lax.map(one, {i: leaves[i] for i in stacked})

    return mapped, tuple(args)


@mutation
def _scan_steps(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    n, reverse, unroll = rng.randint(2, 7), rng.random() < 0.3, rng.choice((1, 1, 2))

    def run(*leaves: Any) -> Any:
        def step(floats: list[Any], rate: Any) -> Any:
            total = scalar(floats, leaves)
            return [(x - rate * jnp.sin(total)).astype(x.dtype) for x in floats], total

        return lax.scan(step, pick(leaves, places), jnp.linspace(0, 1, n), reverse=reverse, unroll=unroll)

    return run, tuple(jax.tree.leaves(draft.args))


@mutation
def _descent_in_scan(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    n = rng.randint(2, 6)

    def run(*leaves: Any) -> Any:
        def step(floats: list[Any], _: None) -> Any:
            value, slopes = jax.value_and_grad(scalar)(floats, leaves)
            return [x - (0.1 * g).astype(x.dtype) for x, g in zip(floats, slopes, strict=True)], value

        return lax.scan(step, pick(leaves, places), None, length=n)

    return run, tuple(jax.tree.leaves(draft.args))


@mutation
def _fori_loop(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    n = rng.randint(2, 5)

    def run(*leaves: Any) -> Any:
        def body(i: Any, floats: list[Any]) -> Any:
            return [(x + scalar(floats, leaves) / (i + 1)).astype(x.dtype) for x in floats]

        return lax.fori_loop(0, n, body, pick(leaves, places))

    return run, tuple(jax.tree.leaves(draft.args))


@mutation
def _while_loop(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    limit = rng.choice((0.5, 10.0))

    def run(*leaves: Any) -> Any:
        def body(state: Any) -> Any:
            steps, floats, total = state
            return steps + 1, [(x * 0.9).astype(x.dtype) for x in floats], total + scalar(floats, leaves)

        start = jnp.int32(0), pick(leaves, places), F32(0)
        return lax.while_loop(lambda state: (state[0] < 9) & (state[2] < limit), body, start)

    return run, tuple(jax.tree.leaves(draft.args))


@mutation
def _cond(rng: random.Random, draft: Draft) -> Any:
    fn, args = on_leaves(draft), tuple(jax.tree.leaves(draft.args))
    result = jax.eval_shape(fn, *args)
    other = rng.choice(("zeros", "program"))

    def zeros(*leaves: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), result)

    def changed(*leaves: Any) -> Any:
        return fn(*[jnp.sin(x) if is_float(x) else x for x in leaves])

    def branch(chosen: Any, *leaves: Any) -> Any:
        return lax.cond(chosen, fn, zeros if other == "zeros" else changed, *leaves)

    return branch, (ShapeDtypeStruct((), jnp.bool_), *args)


@mutation
def _switch(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)
    n = rng.randint(2, 4)

    def choose(index: Any, *leaves: Any) -> Any:
        branches = [
            lambda floats: scalar(floats, leaves),
            lambda floats: 2 * summed([jnp.exp(x) for x in floats]),
            lambda floats: scalar([-x for x in floats], leaves) - 1,
            lambda floats: F32(0),
        ]
        return lax.switch(index, branches[:n], pick(leaves, places))

    return choose, (ShapeDtypeStruct((), jnp.int32), *jax.tree.leaves(draft.args))
