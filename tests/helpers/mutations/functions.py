"""Mutations: functions in functions, and programs with other programs."""

from __future__ import annotations

import functools
import random
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from mutations.drafts import Draft, fitted, is_float, leaves_of, mutation, on_leaves, pick, scalar_of
from mutations.sources import random_source


@mutation
def _called_twice(rng: random.Random, draft: Draft) -> Any:
    """One jitted function, called twice; where its results fit its arguments, the second call takes them."""
    shared, leaves = jax.jit(on_leaves(draft)), tuple(jax.tree.leaves(draft.args))
    leaves_of(draft)

    def twice(*leaves: Any) -> Any:
        first = shared(*leaves)
        spare = {(x.shape, x.dtype): x for x in jax.tree.leaves(first)}
        fed = [spare.get((x.shape, x.dtype), x + 1 if is_float(x) else x) for x in leaves]
        return first, shared(*fed)

    return twice, leaves


@mutation
def _nested_jit(rng: random.Random, draft: Draft) -> Any:
    inner, leaves = jax.jit(on_leaves(draft)), tuple(jax.tree.leaves(draft.args))
    inline = rng.random() < 0.3

    @functools.partial(jax.jit, inline=inline)
    def outer(*leaves: Any) -> Any:
        with jax.named_scope("outer"):
            return jax.tree.map(lambda x: jnp.abs(x) if is_float(x) else x, inner(*leaves))

    return lambda *leaves: (outer(*leaves), inner(*leaves)), leaves


@mutation
def _custom_vjp(rng: random.Random, draft: Draft) -> Any:
    scalar, places = scalar_of(draft)

    @jax.custom_vjp
    def loss(leaves: Any) -> Any:
        return scalar(pick(leaves, places), leaves)

    def backward(leaves: Any, slope: Any) -> Any:
        slopes = [jnp.tanh(x) * slope.astype(x.dtype) if i in places else None for i, x in enumerate(leaves)]
        return (tuple(slopes),)

    loss.defvjp(lambda leaves: (loss(leaves), leaves), backward)

    def gradient(*leaves: Any) -> Any:
        def of_floats(floats: list[Any]) -> Any:
            whole = list(leaves)
            for i, value in zip(places, floats, strict=True):
                whole[i] = jnp.sin(value)
            return loss(tuple(whole))

        return jax.value_and_grad(of_floats)(pick(leaves, places))

    return gradient, tuple(jax.tree.leaves(draft.args))


@mutation
def _composed(rng: random.Random, draft: Draft) -> Any:
    """Feed the results of another program into a floating-point argument of this one."""
    leaves, places, _ = leaves_of(draft)
    other = random_source(rng)
    fn, before, chosen = on_leaves(draft), on_leaves(other), rng.choice(places)
    inputs = tuple(jax.tree.leaves(other.args))
    n = len(inputs)

    def both(*leaves: Any) -> Any:
        first, own = before(*leaves[:n]), list(leaves[n:])
        own[chosen] = own[chosen] * fitted(first, own[chosen])
        return fn(*own)

    return both, (*inputs, *leaves)


@mutation
def _side_by_side(rng: random.Random, draft: Draft) -> Any:
    other = random_source(rng)
    fn, beside = on_leaves(draft), on_leaves(other)
    leaves, inputs = tuple(jax.tree.leaves(draft.args)), tuple(jax.tree.leaves(other.args))
    n = len(leaves)
    return lambda *all_: {"own": fn(*all_[:n]), "other": beside(*all_[n:])}, (*leaves, *inputs)


@mutation
def _descent_with_optax(rng: random.Random, draft: Draft) -> Any:
    optax = import_module("optax")
    scalar, places = scalar_of(draft)
    leaves = tuple(jax.tree.leaves(draft.args))
    name = rng.choice(("adamw", "sgd", "lion", "rmsprop", "adafactor", "lamb"))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), getattr(optax, name)(1e-3))
    state = jax.eval_shape(optimizer.init, pick(leaves, places))

    def step(state: Any, *leaves: Any) -> Any:
        floats = pick(leaves, places)
        value, slopes = jax.value_and_grad(scalar)(floats, leaves)
        updates, state = optimizer.update(slopes, state, floats)
        return optax.apply_updates(floats, updates), state, value

    return step, (state, *leaves)
